"""Nothing of a frame is decoded before all of it is verified."""

from __future__ import annotations

import itertools
import pickle
import zlib
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from acache.codecs import (
    HEADER_SIZE,
    MAX_META,
    Codec,
    FrameHeader,
    Signer,
    decode_frame,
    encode_frame,
    get_codec,
    read_header,
    version_digest,
)
from acache.codecs import frame as frame_module
from acache.exceptions import EntryRejectedError, ValueUnPicklingError
from acache.types import Entry, Key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = Key("0123456789abcdef" * 4)
OTHER_KEY = Key("0" * 64)
VERSION = version_digest(0)
SIGNER = Signer(b"the-key-of-this-cache")
STRANGER = Signer(b"the-key-of-a-stranger")
PROLOGUE_SIZE = 12
KEY_ID = slice(52, 60)

VALUES = (None, b"", b"\x00" * 40, "text", {"a": [1, 2.5, (True, None)], "b": {"c": "d" * 60}}, list(range(40)))
SIGNERS = (None, SIGNER)

both = pytest.mark.parametrize("signer", SIGNERS, ids=["unsigned", "signed"])


class Trap:
    """Stands in for pickle where bytes must not be decoded, and fails the test if they are (T2)."""

    name = "pickle"
    data_only = False

    def encode(self, value: object) -> bytes:
        """Never needed."""
        raise NotImplementedError

    def decode(self, data: memoryview) -> object:
        """Be the alarm."""
        pytest.fail("unverified bytes were decoded")


TRAP: Codec = Trap()
PICKLE = get_codec("pickle")


def encode(value: object, signer: Signer | None = None, key: Key = KEY) -> bytes:
    """Return a frame with tags and factors."""
    entry = Entry(value, 1.7e9, 1.8e9, 0.5, ("tag",), {"factor": "digest"})
    return b"".join(encode_frame(entry, key, codec=PICKLE, version_digest=VERSION, signer=signer))


def reason(
    data: bytes, signer: Signer | None = None, key: Key = KEY, version: bytes = VERSION, codec: Codec = TRAP
) -> str:
    """Return why a frame is rejected; fail if it is believed, or raises another error."""
    try:
        decode_frame(data, key, codec=codec, version_digest=version, signer=signer)
    except EntryRejectedError as error:
        return error.reason
    pytest.fail("a bad frame was believed")


def reseal(data: bytes, signer: Signer | None = None) -> bytes:
    """Return the frame with a new seal, as anybody (or whoever has the key) can make it."""
    body = data[:-32]
    return body + (sha256(body).digest() if signer is None else signer.sign([body]))


def with_meta(data: bytes, meta: bytes, signer: Signer | None = None) -> bytes:
    """Return the frame with other bytes for its meta, sealed."""
    header: FrameHeader = read_header(data)
    rest = data[HEADER_SIZE + header.meta_size :]
    head = frame_module._HEADER.pack(*header._replace(meta_size=len(meta)))
    return reseal(head + meta + rest, signer)


def flips(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield each copy of ``data`` with one bit flipped, and the index of the byte."""
    for index in range(start, len(data) if end is None else end):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[index] ^= 1 << bit
            yield index, bytes(flipped)


@both
class TestDamage:
    """Accidents of disks and networks: a miss, always, and nothing decoded."""

    def test_every_truncation(self, signer: Signer | None) -> None:
        """A frame cut at any length, zero too, is corrupt (D11, P02)."""
        for data in (encode(value, signer) for value in VALUES):
            assert {reason(data[:size], signer) for size in range(len(data))} == {"corrupt"}

    def test_every_bit_flip(self, signer: Signer | None) -> None:
        """A frame with any one bit flipped is rejected, and never taken for another format, key or version (D12, P03)."""
        allowed = {"corrupt", "signature"}
        for data in (encode(value, signer) for value in VALUES):
            assert {reason(flipped, signer) for _, flipped in flips(data)} == allowed

    def test_every_byte_set(self, signer: Signer | None) -> None:
        """A frame with any one byte set to all zeros or all ones is rejected, unless the byte was that already."""
        data = encode(VALUES[4], signer)
        for index, byte in itertools.product(range(len(data)), (0, 255)):
            damaged = data[:index] + bytes([byte]) + data[index + 1 :]
            assert damaged == data or reason(damaged, signer) in {"corrupt", "signature"}

    def test_zeroed_tails_and_heads(self, signer: Signer | None) -> None:
        """A frame whose end or beginning was never written is rejected."""
        data = encode(VALUES[4], signer)
        for size in range(1, len(data) + 1):
            assert reason(data[:-size] + bytes(size), signer) in {"corrupt", "signature", "unsigned"}
            assert reason(bytes(size) + data[size:], signer) == "corrupt"

    def test_additions(self, signer: Signer | None) -> None:
        """A frame with anything before or after it, another frame too, is corrupt."""
        data = encode(VALUES[4], signer)
        for more in (b"\x00", b"\n", bytes(4096), data):
            assert reason(data + more, signer) == "corrupt"
            assert reason(more + data, signer) == "corrupt"

    def test_mixed_halves(self, signer: Signer | None) -> None:
        """The beginning of one frame with the end of another of the same size is rejected."""
        one, two = encode("a" * 300, signer), encode("b" * 300, signer)
        assert len(one) == len(two)
        for cut in range(HEADER_SIZE + 60, len(one) - 1):
            assert reason(one[:cut] + two[cut:], signer) in {"corrupt", "signature"}

    def test_declared_sizes(self, signer: Signer | None) -> None:
        """A frame that declares more than there is allocates nothing and is corrupt (T11)."""
        data = encode("x", signer)
        header = read_header(data)
        liars = [header._replace(meta_size=size) for size in (0, MAX_META, MAX_META + 1, 2**32 - 1)]
        liars += [header._replace(payload_size=size) for size in (0, 6 << 30, 2**64 - 1)]
        for liar in liars:
            head = frame_module._HEADER.pack(*liar)
            assert reason(reseal(head + data[HEADER_SIZE:], signer), signer) == "corrupt"

    def test_oversized_meta(self, signer: Signer | None) -> None:
        """A meta larger than is ever written is corrupt, even if it is all there."""
        meta = b'["pickle",["' + b"x" * MAX_META + b'"],{}]'
        assert reason(with_meta(encode("x", signer), meta, signer), signer) == "corrupt"


class TestFormat:
    """A future format is a miss that is never deleted; damage never looks like one."""

    @pytest.mark.parametrize("number", [0, 2, 255, 256, 65535])
    @both
    def test_other_formats(self, number: int, signer: Signer | None) -> None:
        """An entry of another format is told apart by its first 12 bytes, whatever follows them (D14)."""
        start = b"\xacache\x00" + number.to_bytes(2, "little")
        prologue = start + zlib.crc32(start).to_bytes(4, "little")
        for rest in (b"", b"anything at all", encode(1)[PROLOGUE_SIZE:], bytes(4096)):
            assert reason(prologue + rest, signer) == "format"

    def test_damage_is_no_future(self) -> None:
        """No one or two flipped bits of the first 12 bytes make a corrupt entry look like one of another format."""
        data = encode(1)
        for index, once in flips(data, 0, PROLOGUE_SIZE):
            assert reason(once) == "corrupt"
            assert {reason(twice) for _, twice in flips(once, index, PROLOGUE_SIZE) if twice != data} == {"corrupt"}

    def test_number_without_its_check(self) -> None:
        """A format number whose check does not follow it is damage."""
        data = encode(1)
        for number in range(65536):
            if number != 1:
                with pytest.raises(EntryRejectedError, match="corrupt"):
                    read_header(data[:6] + number.to_bytes(2, "little") + data[8:])


class TestIdentity:
    """A good frame in the wrong place is worth nothing."""

    @both
    def test_swapped_entries(self, signer: Signer | None) -> None:
        """An entry moved to the key of another is foreign, in both directions (T4, P15)."""
        assert reason(encode(1, signer, KEY), signer, OTHER_KEY) == "foreign"
        assert reason(encode(1, signer, OTHER_KEY), signer, KEY) == "foreign"

    @both
    def test_moved_with_its_name(self, signer: Signer | None) -> None:
        """Without the key, an entry cannot be rewritten for another place."""
        data = encode(1, signer, OTHER_KEY)
        header = read_header(data)._replace(key=bytes.fromhex(KEY))
        assert reason(frame_module._HEADER.pack(*header) + data[HEADER_SIZE:], signer) in {"corrupt", "signature"}

    @both
    def test_other_version(self, signer: Signer | None) -> None:
        """An entry of another version of the cache is rejected as such."""
        assert reason(encode(1, signer), signer, version=version_digest(1)) == "version"

    @both
    def test_other_codec(self, signer: Signer | None) -> None:
        """An entry of another codec is foreign, with tags and without."""
        plain = encode_frame(Entry(1, 0.0), KEY, codec=PICKLE, version_digest=VERSION, signer=signer)
        for data in (encode(1, signer), b"".join(plain)):
            assert reason(data, signer, codec=get_codec("json")) == "foreign"

    @pytest.mark.parametrize(
        "meta",
        [
            b"",
            b"null",
            b"5",
            b'"abc"',
            b"[]",
            b'["pickle"]',
            b'["pickle",[],{},1]',
            b'["pickle",{},[]]',
            b'["pickle","tag",{}]',
            b'["pickle",[1],{}]',
            b'["pickle",[["tag"]],{}]',
            b'["pickle",[],{"a":1}]',
            b'["pickle",[],null]',
            b"[null,[],{}]",
            b'{"a":1,"b":2,"c":3}',
            b'["pickle",[],{}',
            b"\xff",
            b"[" * 100_000,
            b"9" * 5000,
        ],
    )
    @both
    def test_sealed_nonsense(self, meta: bytes, signer: Signer | None) -> None:
        """A meta that no release writes is corrupt, however well it is sealed."""
        assert reason(with_meta(encode(1, signer), meta, signer), signer) == "corrupt"


class TestSignatures:
    """Who has no key writes nothing that is believed."""

    def test_good(self) -> None:
        """The frames of this class are rejected for what is done to them, not for what they are."""
        entry = decode_frame(encode("v", SIGNER), KEY, codec=PICKLE, version_digest=VERSION, signer=SIGNER)
        assert entry.value == "v"

    def test_unsigned(self) -> None:
        """With a signer, an unsigned entry is rejected."""
        assert reason(encode(1), SIGNER) == "unsigned"

    def test_no_signer(self) -> None:
        """Without a signer, a signed entry cannot be checked and is rejected."""
        assert reason(encode(1, SIGNER)) == "signature"

    def test_signature_stripped(self) -> None:
        """A signed entry made into an unsigned one is unsigned, for a reader with a signer."""
        stripped = bytearray(encode(1, SIGNER))
        stripped[KEY_ID] = bytes(8)
        assert reason(reseal(bytes(stripped)), SIGNER) == "unsigned"

    def test_strangers(self) -> None:
        """The signature of a key that is not listed is worth nothing, under its own id or under ours (T1, T5)."""
        data = encode(1, STRANGER)
        assert reason(data, SIGNER) == "signature"
        renamed = bytearray(data)
        renamed[KEY_ID] = SIGNER.key_id
        assert reason(reseal(bytes(renamed), STRANGER), SIGNER) == "signature"

    def test_checksum_is_no_signature(self) -> None:
        """A checksum in the place of the signature is rejected."""
        assert reason(reseal(encode(1, SIGNER)), SIGNER) == "signature"

    def test_rotation(self) -> None:
        """Old entries verify while their key is listed, new ones carry the new key, and then the old ones are misses (T3)."""
        old, new = Signer(b"k1-k1-k1-k1-k1-k1"), Signer(b"k2-k2-k2-k2-k2-k2")
        rotating = Signer(b"k2-k2-k2-k2-k2-k2", verify=[b"k1-k1-k1-k1-k1-k1"])
        data = encode("v", old)
        entry = decode_frame(data, KEY, codec=PICKLE, version_digest=VERSION, signer=rotating)
        assert entry.value == "v"
        assert read_header(encode("v", rotating)).key_id == new.key_id
        assert reason(data, new) == "signature"


class Planted:
    """Unpickling it leaves a mark in the file system."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return type(self.mark).touch, (self.mark,)


class TestPlanted:
    """An entry that would run code does not, unless somebody with the key wrote it (T1)."""

    def test_the_charge_is_live(self, tmp_path: Path) -> None:
        """With the right signature the mark does appear, so that its absence below means something."""
        mark = tmp_path / "mark"
        decode_frame(encode(Planted(mark), SIGNER), KEY, codec=PICKLE, version_digest=VERSION, signer=SIGNER)
        assert mark.exists()

    def test_nothing_runs(self, tmp_path: Path) -> None:
        """Without it the mark never appears, by any of the ways to plant it."""
        mark = tmp_path / "mark"
        charge = Planted(mark)
        unsigned, signed, stranger = encode(charge), encode(charge, SIGNER), encode(charge, STRANGER)
        victim = encode("x" * 500, SIGNER)
        bare = pickle.dumps(charge)
        attempts = [
            unsigned,
            stranger,
            bare,
            bare + signed[-32:],
            signed[:-1],
            signed[:-32],
            signed[:-32] + bytes(32),
            signed[:-32] + stranger[-32:],
            signed[:-32] + victim[-32:],
            stranger[:52] + SIGNER.key_id + stranger[60:],
            victim[: HEADER_SIZE + 40] + bare + victim[HEADER_SIZE + 40 + len(bare) :],
            encode(charge, SIGNER, OTHER_KEY),
            b"\xacache\x00\x00\x00" + zlib.crc32(b"\xacache\x00\x00\x00").to_bytes(4, "little") + signed[12:],
            reseal(signed),
            *(flipped for _, flipped in flips(signed)),
        ]
        for attempt in attempts:
            reason(attempt, SIGNER, codec=PICKLE)
        assert not mark.exists()

    def test_a_reader_without_a_key(self, tmp_path: Path) -> None:
        """A reader without a signer runs nothing that was moved, cut, changed or signed by others."""
        mark = tmp_path / "mark"
        charge = Planted(mark)
        data = encode(charge)
        for attempt in (encode(charge, STRANGER), encode(charge, None, OTHER_KEY), data[:-1], pickle.dumps(charge)):
            reason(attempt, codec=PICKLE)
        for _, flipped in flips(data):
            reason(flipped, codec=PICKLE)
        assert not mark.exists()


def test_a_verified_bomb_is_an_error() -> None:
    """A sealed payload that declares gigabytes is the codec's error (T11)."""
    data = encode(None)
    header = read_header(data)
    bomb = b"\x80\x05\x8e" + (6 << 30).to_bytes(8, "little") + b"."
    head = frame_module._HEADER.pack(*header._replace(payload_size=len(bomb)))
    meta = data[HEADER_SIZE : HEADER_SIZE + header.meta_size]
    with pytest.raises(ValueUnPicklingError) as caught:
        decode_frame(reseal(head + meta + bomb + bytes(32)), KEY, codec=PICKLE, version_digest=VERSION)
    assert not isinstance(caught.value, EntryRejectedError)
