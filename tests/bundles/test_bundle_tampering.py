"""No damage to a bundle is served, and none is written over: D11, D12, V7, T2, T4. Opening reads next to nothing."""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from acache.codecs import Signer
from acache.engine.bundles import Bundle
from acache.engine.bundles.format import FOOTER_SIZE, NO_RESULTS, PAGE_REF, PROLOGUE, RECORD, Footer, pack_footer
from acache.engine.bundles.reading import Reader, open_reader
from acache.exceptions import BundleError, EntryRejectedError, ValueUnPicklingError
from acache.files import in_thread
from acache.types import Entry, Key
from tests.bundles.helpers import (
    PICKLE,
    SIGNER,
    CountedFiles,
    FlippedFiles,
    dump,
    entries,
    key,
    load,
    value_of,
    values,
)

both = pytest.mark.parametrize("signer", [None, SIGNER], ids=["unsigned", "signed"])
#: The entries of the bundle that is damaged, in their order.
STORED = dict(sorted(entries("a", "b", "c").items()))


def refusal(path: Path, signer: Signer | None = None) -> str:
    """Return why the bundle is refused when it is opened; fail if it is not."""
    with pytest.raises(BundleError) as caught:
        open_reader_and_close(path, signer)
    return caught.value.reason


def open_reader_and_close(path: Path, signer: Signer | None = None) -> None:
    with open_reader(FlippedFiles(), str(path), signer):
        pass


def rejected(reader: Reader) -> list[Key]:
    """Return the keys whose entries are rejected, and check that all others are as they were stored."""
    found: list[Key] = []
    for each, entry in STORED.items():
        try:
            assert reader.read(each, PICKLE) == entry
        except EntryRejectedError:
            found.append(each)
    return found


def spans(path: Path, signer: Signer | None) -> Iterator[tuple[range, list[Key] | None]]:
    """Yield each part of the file, and which entries are lost with it; ``None``: all, from the beginning."""
    with open_reader(FlippedFiles(), str(path), signer) as reader:
        end = 0
        for record in reader.records():
            end = record.offset + record.size
            yield range(record.offset, end), [Key(record.key.hex())]
        yield range(end, end + len(STORED) * RECORD.size), list(STORED)
        yield range(len(PROLOGUE)), None
        yield range(end + len(STORED) * RECORD.size, path.stat().st_size), None


@both
def test_every_flipped_bit(path: Path, signer: Signer | None) -> None:
    """A wrong bit in an entry costs that entry, one in the index the entries it lists, one elsewhere the bundle (D12)."""
    dump(path, STORED, signer)
    files, seen = FlippedFiles(), 0
    for span, lost in spans(path, signer):
        for bit in range(span.start * 8, span.stop * 8):
            files.bit, seen = bit, seen + 1
            if lost is None:
                with pytest.raises(BundleError):
                    open_reader(files, str(path), signer)
            else:
                with open_reader(files, str(path), signer) as reader:
                    assert rejected(reader) == lost
    assert seen == path.stat().st_size * 8


@both
def test_dump_refuses_damage(path: Path, signer: Signer | None) -> None:
    """A dump finds damage anywhere in the bundle that is there, and leaves it as it is, with nothing beside it."""
    dump(path, STORED, signer)
    content, files = path.read_bytes(), FlippedFiles()
    for bit in range(5, len(content) * 8, 101):
        files.bit = bit
        with pytest.raises(BundleError):
            dump(path, entries("d"), signer, files)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]
    files.bit = -1
    dump(path, entries("d"), signer, files)
    assert load(path, signer) == values(STORED | entries("d"))


@both
def test_every_truncation(path: Path, signer: Signer | None) -> None:
    """A bundle cut at any place, or with bytes behind it, is refused when it is opened, and by a dump (D11)."""
    dump(path, STORED, signer)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        assert refusal(path, signer) in ("corrupt", "unsigned", "signature")
    for behind in (b"\0", content[-FOOTER_SIZE:], content):
        path.write_bytes(content + behind)
        with pytest.raises(BundleError):
            dump(path, entries("d"), signer)
        assert path.read_bytes() == content + behind


@both
def test_bundle_within_a_bundle(path: Path, signer: Signer | None) -> None:
    """A bundle that is cut where a bundle stored in it ends does not pass for that one."""
    inner = path.with_name("inner")
    dump(inner, STORED, signer)
    dump(path, {key("inner"): Entry(inner.read_bytes(), 1.0)}, signer, codec="raw")
    content = path.read_bytes()
    end = content.index(inner.read_bytes()) + inner.stat().st_size
    path.write_bytes(content[:end])
    assert refusal(path, signer) == "corrupt"


@pytest.mark.parametrize("content", [b"", b"{}", b"\xacache\x00", b"rubbish" * 700, bytes(4096), PROLOGUE + bytes(600)])
def test_other_files(path: Path, content: bytes) -> None:
    """What is no bundle is refused, and not written over."""
    path.write_bytes(content)
    path.chmod(0o600)
    assert refusal(path) == "corrupt"
    with pytest.raises(BundleError, match="remove it and dump again"):
        dump(path, STORED)
    assert path.read_bytes() == content


def test_later_format(path: Path) -> None:
    """A bundle of a later format is called that, whatever else is in it, and not written over (D14)."""
    start = PROLOGUE[:6] + b"\x02\x00"
    path.write_bytes(start + zlib.crc32(start).to_bytes(4, "little") + b"whatever comes then")
    path.chmod(0o600)
    assert refusal(path) == refusal(path, SIGNER) == "format"
    with pytest.raises(BundleError, match="later version"):
        dump(path, STORED)
    assert b"whatever" in path.read_bytes()


@pytest.mark.parametrize("pages", [1, 1000, 2**63])
def test_footer_that_lies(path: Path, pages: int) -> None:
    """A footer with a true seal over nonsense is refused without reading what it claims (T11)."""
    size = len(PROLOGUE) + FOOTER_SIZE
    path.write_bytes(PROLOGUE + pack_footer(Footer(size, 5, pages, bytes(32), bytes(32)), None))
    path.chmod(0o600)
    assert refusal(path) == "corrupt"


@pytest.mark.parametrize("offset", [0, 2**62, 2**64 - 1])
def test_page_that_lies(path: Path, offset: int) -> None:
    """A root with a true seal that leads nowhere loses the entries, and nothing else happens (T11)."""
    dump(path, STORED)
    with open_reader(FlippedFiles(), str(path), None) as reader:
        page = reader._pages[0]._replace(offset=offset)
        reader._pages[0] = page
        assert rejected(reader) == list(STORED)


def test_frames_of_another_bundle(path: Path) -> None:
    """An entry that was signed for the same key, but in another bundle, is rejected in this one (T4)."""
    other = path.with_name("other")
    dump(path, {key("a"): Entry("mine", 1.0)}, SIGNER)
    dump(other, {key("a"): Entry("theirs"[:4], 1.0)}, SIGNER)
    mine, theirs = path.read_bytes(), other.read_bytes()
    with open_reader(FlippedFiles(), str(path), SIGNER) as reader:
        record = next(reader.records())
    end = record.offset + record.size
    assert len(mine) == len(theirs)
    path.write_bytes(theirs[:end] + mine[end:])
    with open_reader(FlippedFiles(), str(path), SIGNER) as reader, pytest.raises(EntryRejectedError):
        reader.read(key("a"), PICKLE)


def test_truncated_while_open(path: Path) -> None:
    """A bundle that loses its end while it is open loses entries, and nobody waits for ever."""
    dump(path, STORED)
    with open_reader(FlippedFiles(), str(path), None) as reader:
        os.truncate(path, 20)
        assert rejected(reader) == list(STORED)


def test_nothing_is_decoded_before_it_is_verified(path: Path) -> None:
    """A planted pickle is never loaded, though its frame, alone, is valid (T1, T2)."""
    dump(path, {key("a"): Entry(b"\0" * 64, 1.0)}, SIGNER, codec="raw")
    content = path.read_bytes()
    bomb = b"cos\nabort\n(tR.".ljust(64, b"\0")
    path.write_bytes(content.replace(b"\0" * 64, bomb, 1))
    with open_reader(FlippedFiles(), str(path), SIGNER) as reader, pytest.raises(ValueUnPicklingError):
        reader.read(key("a"), PICKLE)


@both
async def test_opening_reads_the_ends_alone(path: Path, signer: Signer | None) -> None:
    """Opening reads prologue, footer and root; one entry costs its page and its frame; a neighbour its frame (D28)."""
    stored = entries(*range(3000))
    await in_thread(dump, path, stored, signer)
    files = CountedFiles()
    bundle = await Bundle.open(path, signer=signer, files=files)
    assert files.reads == [12, 128, 12 * 76]
    assert PAGE_REF.size == 76
    first, second, *_, last = sorted(stored)
    files.reads.clear()
    assert await bundle.read(first) == stored[first]
    page, frame = files.reads
    assert (page, frame < 400) == (256 * 112, True)
    assert await bundle.read(second) == stored[second]
    assert len(files.reads) == 3
    files.reads.clear()
    assert await bundle.read(last) == stored[last]
    assert files.reads[0] == (3000 - 11 * 256) * 112
    await bundle.aclose()


def test_large_entries_are_copied_in_parts(path: Path) -> None:
    """A dump never holds an entry that is there already as a whole, nor reads it twice."""
    dump(path, {key(name): Entry(bytes([name]) * 5_000_000, 1.0) for name in (1, 2)})
    files = CountedFiles()
    dump(path, entries("new"), files=files)
    assert max(files.reads) <= 1 << 20
    assert 10_000_000 < sum(files.reads) < 10_010_000
    assert load(path)[key(2)] == b"\2" * 5_000_000


def test_errors_say_what_to_do() -> None:
    """Each reason has a text that names the path and a way out, and crosses process boundaries."""
    reasons = ("corrupt", "format", "unsigned", "signature", "unsafe", "replaced", "closed")
    texts = {str(BundleError("/a/path", reason)) for reason in reasons}
    assert len(texts) == len(reasons)
    assert [text for text in texts if not text.startswith("bundle /a/path: ")] == []
    again = pickle.loads(pickle.dumps(BundleError("/a/path", "unsafe")))
    assert (str(again), again.path, again.reason) == (str(BundleError("/a/path", "unsafe")), "/a/path", "unsafe")


def test_empty_bundle(path: Path) -> None:
    """A bundle of nothing, which no dump makes, holds nothing."""
    size = len(PROLOGUE) + FOOTER_SIZE
    root = bytes.fromhex(NO_RESULTS)
    path.write_bytes(PROLOGUE + pack_footer(Footer(size, 0, 0, root, root), None))
    path.chmod(0o600)
    assert load(path) == {}
    with open_reader(FlippedFiles(), str(path), None) as reader:
        assert reader.read(key("a"), PICKLE) is None
    dump(path, STORED)
    with open_reader(FlippedFiles(), str(path), None) as reader:
        assert value_of(reader, key("a")) == {"name": "a"}
