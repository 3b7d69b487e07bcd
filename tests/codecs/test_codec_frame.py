"""Frames: what goes in comes out, at what cost, and for how long."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acache.codecs import (
    FORMAT,
    HEADER_SIZE,
    MAX_META,
    BytesLike,
    Codec,
    Signer,
    decode_frame,
    encode_frame,
    get_codec,
    read_header,
    verify_frame,
    version_digest,
)
from acache.exceptions import ConfigurationError, EntryRejectedError, ValueEncodingError, ValueUnPicklingError
from acache.types import Entry, Key

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = Key("0123456789abcdef" * 4)
VERSION = version_digest(0)
SIGNER = Signer(b"golden-signing-key")
PICKLE, RAW, JSON = map(get_codec, ("pickle", "raw", "json"))
GOLDEN = Path(__file__).with_name("golden_frame_v1.json")


def encode(entry: Entry, codec: Codec = PICKLE, signer: Signer | None = None, key: Key = KEY) -> bytes:
    """Return the whole frame."""
    return b"".join(encode_frame(entry, key, codec=codec, version_digest=VERSION, signer=signer))


def decode(data: BytesLike, codec: Codec = PICKLE, signer: Signer | None = None, key: Key = KEY) -> Entry:
    """Read it as :func:`encode` wrote it."""
    return decode_frame(data, key, codec=codec, version_digest=VERSION, signer=signer)


both = pytest.mark.parametrize("signer", [None, SIGNER], ids=["unsigned", "signed"])


class TestRoundTrip:
    """An entry comes back as it was."""

    @both
    @pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
    def test_from_any_buffer(self, buffer: Callable[[bytes], BytesLike], signer: Signer | None) -> None:
        """All of an entry comes back, whatever holds the frame."""
        entry = Entry({"a": [1]}, 12.5, 99.0, 0.25, ("t1", "t2"), {"cuda": "12"})
        assert decode(buffer(encode(entry, signer=signer)), signer=signer) == entry

    @pytest.mark.parametrize("value", [None, False, 0, 0.0, "", b"", (), [], {}, Ellipsis, NotImplemented, KeyError])
    def test_odd_values(self, value: object) -> None:
        """None and all that is falsy or a singleton are values (V4)."""
        back = decode(encode(Entry(value, 0.0))).value
        assert type(back) is type(value)
        assert back == value

    def test_exceptions_are_values(self) -> None:
        """An exception instance is a value (V4)."""
        back = decode(encode(Entry(ValueError("text", 3), 0.0))).value
        assert type(back) is ValueError
        assert back.args == ("text", 3)

    def test_plain_entries_are_small(self) -> None:
        """An entry without tags and factors costs 152 bytes beyond its payload."""
        assert len(encode(Entry(b"", 0.0), RAW)) == 149
        assert len(encode(Entry(None, 0.0))) - len(PICKLE.encode(None)) == 152

    def test_defaults_are_not_shared(self) -> None:
        """Nobody can change the factors that entries without any have in common."""
        factors: Any = decode(encode(Entry(1, 0.0))).factors
        with pytest.raises(TypeError):
            factors["a"] = "b"

    @settings(database=None, deadline=None)
    @given(
        value=st.binary(max_size=300),
        created=st.floats(allow_nan=False),
        expires=st.none() | st.floats(allow_nan=False),
        cost=st.floats(allow_nan=False),
        tags=st.lists(st.text(st.characters())).map(tuple),
        factors=st.dictionaries(st.text(st.characters()), st.text(st.characters())),
        codec=st.sampled_from([PICKLE, RAW]),
        signer=st.sampled_from([None, SIGNER]),
        key=st.binary(min_size=32, max_size=32).map(lambda digest: Key(digest.hex())),
    )
    def test_any_entry(
        self,
        value: bytes,
        created: float,
        expires: float | None,
        cost: float,
        tags: tuple[str, ...],
        factors: dict[str, str],
        codec: Codec,
        signer: Signer | None,
        key: Key,
    ) -> None:
        """Every fact comes back exactly: times to the last bit, texts with surrogates, tags in order."""
        entry = Entry(value, created, expires, cost, tags, factors)
        data = encode(entry, codec, signer, key)
        assert decode(data, codec, signer, key) == entry
        header = verify_frame(data, key, codec=codec, version_digest=VERSION, signer=signer)
        assert repr(header) == repr(read_header(data[:HEADER_SIZE]))  # NaN does not equal itself
        assert header.frame_size == len(data)
        assert header.is_expired(created) == entry.is_expired(created)


class TestCost:
    """Large payloads are not copied about."""

    @both
    def test_encoding_copies_nothing(self, signer: Signer | None) -> None:
        """A raw value of 16 MiB is part of the frame as it is."""
        value = bytes(1 << 24)
        entry = Entry(value, 0.0)
        tracemalloc.start()
        pieces = encode_frame(entry, KEY, codec=RAW, version_digest=VERSION, signer=signer)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16_384
        assert any(isinstance(piece, memoryview) and piece.obj is value for piece in pieces)

    @both
    def test_decoding_copies_once(self, signer: Signer | None) -> None:
        """A raw value of 16 MiB is copied once on the way out."""
        data = encode(Entry(bytes(1 << 24), 0.0), RAW, signer)
        tracemalloc.start()
        entry = decode(data, RAW, signer)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(entry.value) == 1 << 24
        assert peak < (1 << 24) + 16_384


class TestHeader:
    """The fixed part, read on its own."""

    def test_facts(self) -> None:
        """The header says when, until when and how large, without a key or a codec."""
        header = read_header(encode(Entry(b"abc", 1.0, 2.0, 3.0), RAW)[:HEADER_SIZE])
        assert (header.created, header.expires, header.cost, header.payload_size) == (1.0, 2.0, 3.0, 3)
        assert header.version == VERSION
        assert header.key.hex() == KEY
        assert not header.is_expired(1.9)
        assert header.is_expired(2.0)

    def test_never(self) -> None:
        """An entry without an end never expires."""
        header = read_header(encode(Entry(1, 0.0)))
        assert math.isnan(header.expires)
        assert not header.is_expired(math.inf)

    @pytest.mark.parametrize("size", [0, 1, 11, 12, HEADER_SIZE - 1])
    def test_too_short(self, size: int) -> None:
        """Less than a header is corrupt."""
        with pytest.raises(EntryRejectedError, match="corrupt"):
            read_header(encode(Entry(1, 0.0))[:size])

    def test_any_garbage(self) -> None:
        """The files of other programs are corrupt (D13)."""
        for data in (b"\x80\x05N.", b"SQLite format 3\x00" * 40, bytes(4096), b"\xff" * 4096):
            with pytest.raises(EntryRejectedError, match="corrupt"):
                read_header(data)


class TestVersion:
    """What stands for a cache's version."""

    def test_text_and_number(self) -> None:
        """A version is its text: 3 and "3" are one, 3 and 30 are not."""
        assert version_digest(3) == version_digest("3")
        assert len({version_digest(version) for version in (0, 1, 3, 30, -3, "", "v3", "é", "\ud800")}) == 9
        assert all(len(version_digest(version)) == 8 for version in (0, "a text of more than eight bytes"))

    @pytest.mark.parametrize("version", [None, 1.5, (1, 2), b"3", object()])
    def test_unstable(self, version: Any) -> None:
        """A version of a type whose text may change from run to run is refused."""
        with pytest.raises(ConfigurationError, match="version"):
            version_digest(version)


class TestRefusals:
    """What is not written."""

    def test_value(self) -> None:
        """A value that the codec refuses is the codec's own error."""
        with pytest.raises(ValueEncodingError, match=r"'raw'"):
            encode(Entry("text", 0.0), RAW)

    @pytest.mark.parametrize("facts", [{"tags": (1,)}, {"factors": {"a": 1}}, {"factors": {1: "a"}}])
    def test_facts_that_are_no_texts(self, facts: dict[str, Any]) -> None:
        """Tags and factors that would not be read are not written."""
        with pytest.raises(ValueEncodingError, match="texts"):
            encode(Entry(1, 0.0, **facts))

    def test_too_many_tags(self) -> None:
        """Tags and factors may take a mebibyte, and not a byte more."""
        room = MAX_META - len('["pickle",[""],{}]')
        assert decode(encode(Entry(1, 0.0, tags=("x" * room,)))).tags == ("x" * room,)
        with pytest.raises(ValueEncodingError, match="1048576"):
            encode(Entry(1, 0.0, tags=("x" * (room + 1),)))

    def test_undecodable_payload(self) -> None:
        """A payload that is what was stored, and cannot be loaded, is the codec's error and no rejection (V2)."""

        class NoClassByThatName:
            name = "pickle"
            data_only = False

            def encode(self, value: object) -> bytes:
                return b"cacache\nno_such_class\n."

            def decode(self, data: memoryview) -> object:
                raise AssertionError

        with pytest.raises(ValueUnPicklingError) as caught:
            decode(encode(Entry(1, 0.0), NoClassByThatName()))
        assert not isinstance(caught.value, EntryRejectedError)


ENTRIES: dict[str, tuple[str, Entry]] = {
    "pickle": ("pickle", Entry({"name": "matmul", "size": (128, 64), "none": None}, 1.7e9)),
    "pickle-full": ("pickle", Entry([1, 2.5, b"3"], 1.7e9, 1.8e9, 12.25, ("kernels", "größe"), {"cuda": "12.4"})),
    "json": ("json", Entry({"a": [1, 2.5, None, "é"]}, 1.7e9, None, 0.5, ("t",))),
    "raw": ("raw", Entry(bytes(range(16)), 1.7e9, 1.7e9 + 0.125)),
}


@both
@pytest.mark.parametrize("name", ENTRIES)
class TestGolden:
    """Frames of format 1 as the first release wrote them; the file is never changed, only added to."""

    @staticmethod
    def stored(name: str, signer: Signer | None) -> bytes:
        """Return the stored frame."""
        frames: dict[str, str] = json.loads(GOLDEN.read_text())
        return bytes.fromhex(frames[name if signer is None else f"{name}-signed"])

    def test_decodes_for_ever(self, name: str, signer: Signer | None) -> None:
        """A frame that a release wrote is read by every later one of its format."""
        codec, entry = ENTRIES[name]
        assert decode(self.stored(name, signer), get_codec(codec), signer) == entry

    def test_is_still_written(self, name: str, signer: Signer | None) -> None:
        """The same entry is still written byte for byte, around whatever the codec makes of the value."""
        codec, entry = ENTRIES[name]
        stored = self.stored(name, signer)
        header = read_header(stored)
        payload = stored[HEADER_SIZE + header.meta_size :][: header.payload_size]
        if codec != "pickle":  # other interpreters may pickle in another way
            assert payload == get_codec(codec).encode(entry.value)

        class Stored:
            name = codec
            data_only = False

            def encode(self, value: object) -> bytes:
                return payload

            def decode(self, data: memoryview) -> object:
                raise AssertionError

        assert encode(entry, Stored(), signer) == stored
        assert FORMAT == 1
