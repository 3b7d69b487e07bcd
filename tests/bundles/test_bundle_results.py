"""What is dumped is what is loaded: P16, P25; merging, conflicts, and the digest of the results."""

# ruff: noqa: ASYNC240 - these tests look at the disk themselves

from __future__ import annotations

import json
import math
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acache.codecs import Signer, get_codec
from acache.engine.bundles import Bundle, dump_bundle
from acache.exceptions import (
    BundleError,
    ConfigurationError,
    DeterministicCachingIMCDumpConflictError,
    EntryRejectedError,
    FileLockTimeoutError,
    ValueEncodingError,
)
from acache.files import in_thread
from acache.locks import NON_BLOCKING, acquire_flock, file_lock
from acache.testing import ManualClock
from acache.types import Entry, Key
from tests.bundles.helpers import SIGNER, dump, entries, key, load, values

NO_RESULTS = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
GOLDEN = Path(__file__).with_name("golden_bundle_v1.json")


class Plain:
    """Can be pickled, but has no canonical encoding."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.name == other.name

    __hash__ = None  # type: ignore[assignment]  # as for any class with __eq__ alone


@dataclass
class Point:
    """Has a canonical encoding, and is none of JSON's types."""

    x: int
    y: float


VALUES: tuple[object, ...] = (
    *(None, True, 1, -0.0, math.inf, "text", "\ud800", b"bytes", b"", 10**40, 1j),
    *((1, [2, {"three": (4,)}]), {1, 2, "three"}, frozenset({b"x"}), Point(1, 2.5), Plain("p"), len, Key),
    *(bytes(3_000_000), [[1]], {"a": {"b": None}}),
)


async def test_values_come_back(path: Path) -> None:
    """Every value that the codec can store comes back equal and of the same type, with all that is known about it (P16, P25)."""
    stored = {
        key(number): Entry(value, 1.5 + number, None if number % 2 else 2.5, 0.25, ("tag",) * (number % 3), {"f": "d"})
        for number, value in enumerate(VALUES)
    }
    await dump_bundle(path, stored)
    bundle = await Bundle.open(path)
    found = {each: await bundle.read(each) for each in stored}
    assert found == stored
    assert [type(entry and entry.value) for entry in found.values()] == [type(value) for value in VALUES]
    await bundle.aclose()


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
async def test_keys(path: Path, count: int) -> None:
    """All keys are listed once, in order, whether or not they fill their pages; no other key is found."""
    stored = entries(*range(count))
    await dump_bundle(path, stored)
    bundle = await Bundle.open(path)
    assert [found async for found in bundle.keys()] == sorted(stored)  # noqa: SIM118 - a bundle is no dict
    assert len(bundle) == count
    for each in stored:
        assert await bundle.read(each) == stored[each]
    lowest, highest = Key("0" * 64), Key("f" * 64)
    assert [await bundle.read(each) for each in (lowest, highest, key("none"))] == [None] * 3
    await bundle.aclose()


async def test_bundle_says_what_it_is(path: Path) -> None:
    """A bundle shows its path, its size and its digest, which is what the dump returned."""
    digest = await dump_bundle(path, entries("a", "b"))
    bundle = await Bundle.open(os.fspath(path))
    assert (bundle.path, bundle.digest, len(bundle)) == (path, digest, 2)
    assert repr(bundle) == f"Bundle({str(path)!r}, entries=2)"
    await bundle.aclose()


async def test_merge(path: Path) -> None:
    """Dumps add up in any order of keys, across pages; of equal values the one stays that expires later, or else the first."""
    names = list(range(900))
    random.Random(1).shuffle(names)
    everything: dict[Key, Entry] = {}
    for number, start in enumerate(range(0, 900, 300)):
        part = entries(*names[start : start + 310])
        for place, entry in enumerate(part.values()):
            entry.created = float(number)
            entry.expires = (None, 1e12, 1e12 + number, 1e12 - number)[place % 4]
        await dump_bundle(path, part)
        for each, entry in part.items():
            there = everything.setdefault(each, entry)
            if there.expires is not None and (entry.expires or math.inf) > there.expires:
                everything[each] = entry
    assert len({entry.created for entry in everything.values()}) == 3
    bundle = await Bundle.open(path)
    assert {found: await bundle.read(found) async for found in bundle.keys()} == everything  # noqa: SIM118 - as above
    await bundle.aclose()


async def test_pairs_are_as_good_as_a_mapping(path: Path) -> None:
    """Entries may come as pairs, once; of two with one key and one value the first stays."""
    first, second = Entry("v", 1.0), Entry("v", 2.0)
    await dump_bundle(path, iter([(key("a"), first), (key("b"), first), (key("a"), second)]))
    bundle = await Bundle.open(path)
    assert await bundle.read(key("a")) == first
    assert len(bundle) == 2
    await bundle.aclose()


async def test_open_bundle_is_a_snapshot(path: Path) -> None:
    """A dump does not change what an open bundle says."""
    old = await dump_bundle(path, entries("a"))
    bundle = await Bundle.open(path)
    await dump_bundle(path, entries("b"))
    assert (len(bundle), bundle.digest) == (1, old)
    assert await bundle.read(key("a")) == entries("a")[key("a")]
    assert await bundle.read(key("b")) is None
    await bundle.aclose()


def state(path: Path) -> tuple[object, ...]:
    """Return what a file is, and what is in it; not when it was read last, which looking changes."""
    status = path.stat()
    times = status.st_mtime_ns, status.st_ctime_ns
    return (
        status.st_ino,
        status.st_mode,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        status.st_size,
        times,
        path.read_bytes(),
    )


@pytest.mark.parametrize("again", [{}, entries("a", "c")], ids=["nothing", "what is there"])
async def test_nothing_new_leaves_the_file_alone(path: Path, again: dict[Key, Entry]) -> None:
    """A dump of nothing, or of nothing new, does not touch the bundle, and says what it holds."""
    digest = await dump_bundle(path, entries("a", "b", "c"))
    before = state(path)
    assert await dump_bundle(path, again) == digest
    assert state(path) == before


async def test_nothing_makes_no_file(path: Path) -> None:
    """A dump of nothing makes no bundle."""
    assert await dump_bundle(path, {}) == NO_RESULTS
    assert not path.exists()


@pytest.mark.parametrize("value", ["other", Plain("p"), b"", None], ids=["text", "object", "bytes", "none"])
async def test_conflict(path: Path, value: object) -> None:
    """Another value under a key that is there is an error that names the key, and the bundle stays as it is."""
    await dump_bundle(path, entries("a", "b"))
    before = state(path)
    with pytest.raises(DeterministicCachingIMCDumpConflictError, match=key("b")):
        await dump_bundle(path, entries("0", "z") | {key("b"): Entry(value, 1.0)})
    assert state(path) == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["results", "results.lock"]


async def test_an_expired_entry_is_absent(path: Path, manual_clock: ManualClock) -> None:
    """What has expired in a bundle gives way to another value; what has not contradicts it."""
    now = manual_clock.wall()
    kept = entries("b") | {key("c"): Entry([1], now, now + 10)}
    await dump_bundle(path, {key("a"): Entry([1], now, now + 10)} | kept, clock=manual_clock)
    before = path.read_bytes()
    newer = {key("a"): Entry([2], now + 9, now + 20)}
    manual_clock.advance(9)
    with pytest.raises(DeterministicCachingIMCDumpConflictError, match=key("a")):
        await dump_bundle(path, newer, clock=manual_clock)
    assert path.read_bytes() == before
    manual_clock.advance(1)
    digest = await dump_bundle(path, newer, clock=manual_clock)
    bundle = await Bundle.open(path)
    assert bundle.digest == digest
    assert {found: await bundle.read(found) async for found in bundle.keys()} == newer | kept  # noqa: SIM118 - as above
    await bundle.aclose()


async def test_damage_never_gives_way(path: Path) -> None:
    """An entry that says it has expired, and is damaged, is not replaced: the dump is refused and changes nothing."""
    await dump_bundle(path, {key("a"): Entry("x" * 99, 1.0, 2.0)})
    content = path.read_bytes()
    damaged = content.replace(b"x" * 99, b"x" * 98 + b"y")
    assert damaged != content
    path.write_bytes(damaged)
    with pytest.raises(BundleError, match="damaged"):
        await dump_bundle(path, {key("a"): Entry("z", 3.0)})
    assert path.read_bytes() == damaged


async def test_a_codec_for_each_entry(path: Path) -> None:
    """Codecs of single entries are used for them alone, in one dump that is refused as a whole."""
    codecs = {key("j"): get_codec("json"), key("r"): get_codec("raw")}
    stored = {key("j"): Entry([1], 1.0), key("r"): Entry(b"raw", 1.0), key("p"): Entry({1}, 1.0)}
    await dump_bundle(path, stored, codecs=codecs)
    bundle = await Bundle.open(path)
    assert [await bundle.read(each, codecs.get(each)) for each in stored] == list(stored.values())
    await bundle.aclose()
    before = path.read_bytes()
    with pytest.raises(DeterministicCachingIMCDumpConflictError):
        await dump_bundle(path, {key("0"): Entry(1, 1.0), key("j"): Entry([2], 1.0)}, codecs=codecs)
    assert path.read_bytes() == before


async def test_factors_of_any_codec(path: Path) -> None:
    """What a key was made of is read whatever codec the value has."""
    await dump_bundle(path, {key("j"): Entry([1], 1.0, factors={"n": "1"}), key("p"): Entry(1, 1.0)}, codec="json")
    bundle = await Bundle.open(path)
    assert [await bundle.factors(key(name)) for name in "jpx"] == [{"n": "1"}, {}, None]
    await bundle.aclose()


@pytest.mark.parametrize("place", [5, None, b"bytes"])
async def test_a_path_that_is_none(place: Any) -> None:
    """What is no path is an error that says so."""
    with pytest.raises(ConfigurationError, match="path of a bundle"):
        await dump_bundle(place, {})
    with pytest.raises(ConfigurationError, match="path of a bundle"):
        await Bundle.open(place)


async def test_conflict_within_one_dump(path: Path) -> None:
    """Two values for one key in one dump are a conflict too."""
    pairs = [(key("a"), Entry(1, 1.0)), (key("a"), Entry(True, 1.0))]
    with pytest.raises(DeterministicCachingIMCDumpConflictError, match=key("a")):
        await dump_bundle(path, pairs)
    assert not path.exists()


async def test_equal_values_do_not_conflict(path: Path) -> None:
    """Equal values are one result, however they were built, and the older entry stays."""
    older = {key("a"): Entry({"x": {1, 2, 3}, "y": "ab"}, 1.0), key("b"): Entry(Plain("p"), 1.0)}
    newer = {key("a"): Entry({"y": "".join("ab"), "x": {3, 2, 1}}, 2.0), key("b"): Entry(Plain("p"), 2.0)}
    assert await dump_bundle(path, older) == await dump_bundle(path, newer)
    bundle = await Bundle.open(path)
    assert [await bundle.read(each) for each in older] == list(older.values())
    await bundle.aclose()


def test_digest_is_of_the_results(path: Path) -> None:
    """Times, costs, tags, order, signatures, codecs and the number of dumps do not show in the digest; a value does."""
    results: dict[Key, object] = {key(number): number for number in range(600)}
    plain = dump(path, {each: Entry(value, 1.0) for each, value in results.items()})
    other = path.with_name("other")
    backwards = {each: Entry(results[each], 2.0, 3.0, 4.0, ("t",), {"f": "d"}) for each in reversed(results)}
    dump(other, dict(list(backwards.items())[:50]), SIGNER, codec="json")
    assert dump(other, backwards, SIGNER, codec="json") == plain
    third = path.with_name("third")
    assert dump(third, {each: Entry(value, 1.0) for each, value in (results | {key(7): "7"}).items()}) != plain


async def test_value_that_cannot_be_encoded(path: Path) -> None:
    """A value that the codec refuses is the caller's to hear of, and the bundle stays as it is."""
    await dump_bundle(path, entries("a"))
    before = state(path)
    for value in (lambda: None, Point(1, 2.0)):
        with pytest.raises(ValueEncodingError):
            await dump_bundle(path, entries("b") | {key("c"): Entry(value, 1.0)}, codec="json")
    assert state(path) == before
    assert not list(path.parent.glob(".tmp-*"))


async def test_codec_is_part_of_the_question(path: Path) -> None:
    """An entry that another codec wrote is rejected undecoded; a codec that is none is a mistake."""
    await dump_bundle(path, entries("a"), codec="json")
    bundle = await Bundle.open(path, codec="json")
    assert await bundle.read(key("a")) == entries("a")[key("a")]
    await bundle.aclose()
    bundle = await Bundle.open(path)
    with pytest.raises(EntryRejectedError, match="foreign"):
        await bundle.read(key("a"))
    await bundle.aclose()
    with pytest.raises(ConfigurationError, match="codec"):
        await Bundle.open(path, codec="none")
    with pytest.raises(ConfigurationError, match="codec"):
        await dump_bundle(path, {}, codec="none")


async def test_lock_is_waited_for(path: Path) -> None:
    """A dump waits for the bundle's lock no longer than it is told to; a load needs no lock."""
    await dump_bundle(path, entries("a"))
    async with acquire_flock(file_lock(f"{path}.lock")):
        with pytest.raises(FileLockTimeoutError):
            await dump_bundle(path, entries("b"), timeout=NON_BLOCKING)
        bundle = await Bundle.open(path)
        await bundle.aclose()
    await dump_bundle(path, entries("b"), timeout=NON_BLOCKING)
    assert await in_thread(load, path) == values(entries("a", "b"))


def test_golden(path: Path) -> None:
    """The first format stays what it is, byte for byte, for ever."""
    golden = json.loads(GOLDEN.read_text())
    stored = {key(name): Entry(name * 2, 1.5, 2.5, 0.5, ("t",), {"f": "d"}) for name in ("a", "b", "c")}
    for name, signer in {"plain": None, "signed": Signer(b"golden-signing-key")}.items():
        path.unlink(missing_ok=True)
        assert dump(path, stored, signer) == golden["digest"]
        assert path.read_bytes().hex() == golden[name]
        assert load(path, signer) == values(stored)
