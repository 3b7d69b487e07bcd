"""One contract for every codec, and what each refuses."""

from __future__ import annotations

import enum
import inspect
import math
import pickle
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acache.codecs import (
    BytesLike,
    Codec,
    JsonCodec,
    PickleCodec,
    RawCodec,
    get_codec,
    try_pickle_key,
    try_pickle_value,
    try_unpickle_value,
)
from acache.exceptions import (
    ConfigurationError,
    KeyPicklingError,
    ValueDecodingError,
    ValueEncodingError,
    ValuePicklingError,
    ValueUnPicklingError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

CANARY = "canary-4711"
ERRORS = (ValueError, KeyError, EOFError, ImportError, StopIteration, MemoryError, RecursionError, OSError, Exception)


class Point(NamedTuple):
    """A value that is a subclass of another."""

    x: int


class Colour(enum.IntEnum):
    """A value that equals an int and is none."""

    RED = 1


class Stateless:
    """Refuses to be pickled, with the error of the test's choice and the secret in its text."""

    error: ClassVar[type[Exception]] = ValueError

    def __reduce__(self) -> str:
        raise self.error(CANARY)


class Moody:
    """Can be pickled, and raises the error of the test's choice when it is loaded."""

    error: ClassVar[type[Exception]] = ValueError

    def __getstate__(self) -> str:
        return CANARY

    def __setstate__(self, state: str) -> None:
        raise self.error(state)


async def coroutine_function() -> str:
    """Make a coroutine."""
    return CANARY


async def async_generator_function() -> AsyncGenerator[str]:
    """Make an asynchronous generator."""
    yield CANARY


def generator_function() -> Generator[str]:
    """Make a generator."""
    yield CANARY


def nest(depth: int) -> list[Any]:
    """Return a list in a list in a list."""
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


class CodecContract:
    """What every codec keeps; a subclass names the codec and gives values and bytes for it."""

    codec: ClassVar[Codec]
    encoding_error: ClassVar[type[ValueEncodingError]] = ValueEncodingError
    decoding_error: ClassVar[type[ValueDecodingError]] = ValueDecodingError
    good: ClassVar[tuple[object, ...]]
    bad: ClassVar[tuple[object, ...]]
    garbage: ClassVar[tuple[bytes, ...]] = ()

    def refuse(self, value: object) -> ValueEncodingError:
        """Return the error that encoding raises, which is exactly of the codec's class."""
        with pytest.raises(ValueEncodingError) as caught:
            self.codec.encode(value)
        assert type(caught.value) is self.encoding_error
        return caught.value

    def test_it_is_a_codec(self) -> None:
        """A codec fulfils the protocol and is found by its name."""
        assert isinstance(self.codec, Codec)
        assert type(get_codec(self.codec.name)) is type(self.codec)
        assert get_codec(self.codec) is self.codec

    def test_values_come_back(self) -> None:
        """A value comes back equal and of the same type, from whatever buffer holds its bytes."""
        for value in self.good:
            data = self.codec.encode(value)
            for buffer in (bytes(data), bytearray(data)):
                back = self.codec.decode(memoryview(buffer))
                assert type(back) is type(value)
                assert back == value

    def test_threads_share_a_codec(self) -> None:
        """One codec serves several threads at once."""

        def round_trip(value: object) -> bool:
            return self.codec.decode(memoryview(self.codec.encode(value))) == value

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(round_trip, self.good * 50))

    def test_encoding_is_stable(self) -> None:
        """One value has one encoding."""
        for value in self.good:
            assert bytes(self.codec.encode(value)) == bytes(self.codec.encode(value))

    def test_refusals(self) -> None:
        """A value that would not come back equal is refused, by type and not by content."""
        for value in self.bad:
            error = self.refuse(value)
            assert error.codec == self.codec.name
            assert CANARY not in str(error)

    def test_running_code_is_refused(self) -> None:
        """Coroutines, generators and asynchronous generators have no stored form."""
        coroutine = coroutine_function()
        try:
            for value in (coroutine, generator_function(), async_generator_function(), inspect.currentframe()):
                self.refuse(value)
        finally:
            coroutine.close()

    def test_errors_survive_a_process_boundary(self) -> None:
        """An encoding error can be pickled even if its value cannot."""
        error = self.refuse(self.bad[0])
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)

    def test_garbage(self) -> None:
        """Bytes that no codec wrote raise the codec's error, without showing them."""
        for data in self.garbage:
            with pytest.raises(ValueDecodingError) as caught:
                self.codec.decode(memoryview(data))
            assert type(caught.value) is self.decoding_error
            assert CANARY not in str(caught.value)


class TestPickle(CodecContract):
    """Pickle: whatever can be pickled."""

    codec = PickleCodec()
    encoding_error = ValuePicklingError
    decoding_error = ValueUnPicklingError
    good: ClassVar[tuple[object, ...]] = (
        None,
        False,
        0,
        "",
        b"",
        (),
        [],
        {},
        Ellipsis,
        NotImplemented,
        Point(1),
        Colour.RED,
        {1: {2, 3}},
        "\ud800",
    )
    bad: ClassVar[tuple[object, ...]] = (
        Stateless(),
        [Stateless()],
        lambda: CANARY,
        ModuleType(CANARY),
        memoryview(CANARY.encode()),
    )
    garbage = (
        b"",
        b".",
        CANARY.encode(),
        pickle.dumps(CANARY)[:-1],
        b"cno_such_module\nthing\n.",
        b"cbuiltins\n" + CANARY.encode() + b"\n.",
        b"\x80\x63.",
        b"h\x05.",
        b"X\x02\x00\x00\x00\xff\xfe.",
        b"I" + CANARY.encode() + b"\n.",
    )

    def test_runs_code(self) -> None:
        """Pickle does not claim to be data only, and says which protocol it writes."""
        assert not self.codec.data_only
        assert self.codec.encode(1)[:2] == b"\x80\x05"

    @pytest.mark.parametrize("error", ERRORS)
    def test_whatever_reducing_raises(self, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
        """Any exception while pickling is a ValuePicklingError that keeps it as its cause (P04)."""
        monkeypatch.setattr(Stateless, "error", error)
        assert type(self.refuse(Stateless()).__cause__) is error

    @pytest.mark.parametrize("error", ERRORS)
    def test_whatever_loading_raises(self, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
        """Any exception while unpickling is a ValueUnPicklingError that keeps it as its cause (V2, P03)."""
        data = self.codec.encode(Moody())
        monkeypatch.setattr(Moody, "error", error)
        with pytest.raises(ValueUnPicklingError) as caught:
            self.codec.decode(memoryview(data))
        assert type(caught.value.__cause__) is error
        assert CANARY not in str(caught.value)

    def test_class_or_module_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A class that was renamed, and then its module removed, is an error of the same family (V2)."""
        module = ModuleType("acache_vanishing")
        vanishing = type("Vanishing", (), {"__module__": module.__name__})
        module.__dict__["Vanishing"] = vanishing
        monkeypatch.setitem(sys.modules, module.__name__, module)
        data = memoryview(self.codec.encode(vanishing()))
        assert type(self.codec.decode(data)) is vanishing
        del module.__dict__["Vanishing"]
        with pytest.raises(ValueUnPicklingError) as renamed:
            self.codec.decode(data)
        monkeypatch.delitem(sys.modules, module.__name__)
        with pytest.raises(ValueUnPicklingError) as removed:
            self.codec.decode(data)
        assert isinstance(renamed.value.__cause__, AttributeError)
        assert isinstance(removed.value.__cause__, ImportError)

    def test_too_deep(self) -> None:
        """A structure deeper than the stack is refused, not fatal."""
        assert isinstance(self.refuse(nest(100_000)).__cause__, RecursionError)

    def test_exceptions_are_values(self) -> None:
        """An exception instance is a value like any other (V4)."""
        for error in (ValueError("text", 3), KeyError("k"), OSError(2, "no such file")):
            back = self.codec.decode(memoryview(self.codec.encode(error)))
            assert type(back) is type(error)
            assert isinstance(back, Exception)
            assert back.args == error.args

    @pytest.mark.integration
    @pytest.mark.parametrize("opcode", ["8e", "96", "8d"])
    def test_gigabytes_declared(self, opcode: str) -> None:
        """Twelve bytes that declare 6 GiB are an error, in half a GiB of address space (T11)."""
        script = (
            "import resource; from acache.codecs import try_unpickle_value as load\n"
            "from acache.exceptions import ValueUnPicklingError\n"
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))\n"
            f"bomb = bytes.fromhex('8005{opcode}') + (6 << 30).to_bytes(8, 'little') + b'.'\n"
            "assert len(bomb) == 12\n"
            "try: load(bomb)\n"
            "except ValueUnPicklingError: print('mapped')\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "mapped\n"


class TestRaw(CodecContract):
    """Raw: bytes in, bytes out."""

    codec = RawCodec()
    good: ClassVar[tuple[object, ...]] = (b"", b"\x00", CANARY.encode(), bytes(range(256)) * 100)
    bad: ClassVar[tuple[object, ...]] = (CANARY, None, 1, [CANARY.encode()], {CANARY: CANARY}, Stateless())

    def test_only_data(self) -> None:
        """Raw bytes cannot run."""
        assert self.codec.data_only

    def test_bytes_are_not_copied_in(self) -> None:
        """The encoding of bytes is a view of that very object."""
        value = bytes(1000)
        view = self.codec.encode(value)
        assert isinstance(view, memoryview)
        assert view.obj is value

    @pytest.mark.parametrize("value", [bytearray(b"abc"), memoryview(b"abc"), memoryview(b"a-b-c")[::2]])
    def test_other_buffers_come_back_as_bytes(self, value: BytesLike) -> None:
        """A bytearray or memoryview, even one with gaps, comes back as equal bytes."""
        back = self.codec.decode(memoryview(self.codec.encode(value)))
        assert type(back) is bytes
        assert back == value

    def test_a_bytearray_stays_its_owners(self) -> None:
        """The owner of a bytearray may resize it while its encoding is in use, which does not change."""
        value = bytearray(b"abc")
        data = self.codec.encode(value)
        value += b"def"
        assert bytes(data) == b"abc"


class TestJson(CodecContract):
    """JSON: exactly what JSON can hold."""

    codec = JsonCodec()
    good: ClassVar[tuple[object, ...]] = (
        None,
        False,
        True,
        0,
        -(10**300),
        0.1,
        -5e-324,
        "",
        'quote " and \u2028 and \U0001f600 and \x00',
        [],
        {},
        {"": [1, 1.0, None, {"b": [True], "a": {"": "c"}}]},
    )
    bad: ClassVar[tuple[object, ...]] = (
        (CANARY,),
        {CANARY: (1,)},
        {1: CANARY},
        {"a": {None: CANARY}},
        [{CANARY}],
        b"bytes",
        Point(1),
        Colour.RED,
        OrderedDict[str, int](a=1),
        math.nan,
        [math.inf],
        {"x": -math.inf},
        CANARY + "\ud800",
        "\ud83d\ude00",
        {"\udc00": 1},
        10**5000,
        nest(100_000),
        Ellipsis,
        NotImplemented,
        ValueError(CANARY),
        Stateless(),
    )
    garbage = (
        b"",
        b"{",
        b"[1]]",
        b"NaN",
        b"[Infinity]",
        b"\xff",
        b'"\xed\xa0\x80"',
        CANARY.encode(),
        b"[" * 200_000,
        b"9" * 5000,
    )

    def test_only_data(self) -> None:
        """JSON cannot run."""
        assert self.codec.data_only

    def test_what_contains_itself(self) -> None:
        """A structure that contains itself has no end in JSON."""
        loop: list[object] = []
        loop.append(loop)
        self.refuse(loop)

    def test_signed_zero(self) -> None:
        """Minus zero stays minus zero."""
        back = self.codec.decode(memoryview(self.codec.encode(-0.0)))
        assert isinstance(back, float)
        assert math.copysign(1.0, back) == -1.0

    def test_nothing_of_the_document_in_errors(self) -> None:
        """No error carries the document along, as the json module's own do."""
        error = self.refuse(CANARY + "\ud800")
        assert error.__cause__ is None
        assert error.__suppress_context__

    @settings(database=None, deadline=None)
    @given(
        value=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
            lambda inner: (
                st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner)
            ),
        )
    )
    def test_equal_or_refused(self, value: object) -> None:
        """Whatever JSON stores comes back equal and with the same types at every depth; the rest is refused."""
        try:
            data = self.codec.encode(value)
        except ValueEncodingError:
            return
        assert repr(self.codec.decode(memoryview(data))) == repr(value)


class Reverse:
    """A user's own codec."""

    name = "reverse"
    data_only = True

    def encode(self, value: object) -> bytes:
        """Store a text backwards."""
        return str(value)[::-1].encode()

    def decode(self, data: memoryview) -> object:
        """Turn it round."""
        return str(data, "utf-8")[::-1]


class TestGetCodec:
    """Finding a codec by name, or taking one."""

    def test_user_codecs(self) -> None:
        """Any object that fulfils the protocol is a codec."""
        codec = Reverse()
        assert get_codec(codec) is codec

    @pytest.mark.parametrize("wrong", ["", "zip", "PICKLE", None, 5, pickle, PickleCodec, Reverse, b"raw"])
    def test_no_codec(self, wrong: Any) -> None:
        """Anything else is a configuration error that lists what exists."""
        with pytest.raises(ConfigurationError, match=r"'pickle', 'raw', 'json'"):
            get_codec(wrong)

    def test_name_must_be_text(self) -> None:
        """A name that is no text cannot be written into entries."""
        codec: Any = Reverse()
        codec.name = 5
        with pytest.raises(ConfigurationError):
            get_codec(codec)


class TestHelpers:
    """The three plain functions."""

    def test_try_pickle_key(self) -> None:
        """A key round-trips; one that cannot be pickled is a KeyPicklingError with its cause."""
        assert pickle.loads(try_pickle_key(("a", 1))) == ("a", 1)
        with pytest.raises(KeyPicklingError) as caught:
            try_pickle_key(lambda: None)
        assert isinstance(caught.value.__cause__, Exception)
        with pytest.raises(KeyPicklingError) as hidden:
            try_pickle_key(Stateless())
        assert CANARY not in str(hidden.value)

    def test_try_pickle_value(self) -> None:
        """A value round-trips; one that cannot be pickled is a ValuePicklingError."""
        assert pickle.loads(try_pickle_value({"a": [1]})) == {"a": [1]}
        with pytest.raises(ValuePicklingError):
            try_pickle_value(lambda: None)

    def test_try_unpickle_value(self) -> None:
        """Any bytes-like object is loaded; garbage is a ValueUnPicklingError."""
        data = try_pickle_value([1, 2])
        assert all(try_unpickle_value(kind(data)) == [1, 2] for kind in (bytes, bytearray, memoryview))
        with pytest.raises(ValueUnPicklingError):
            try_unpickle_value(b"foo")
