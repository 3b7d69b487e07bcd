"""Turn a value into bytes and back, and keep every failure to one family of errors.

A codec is trusted with bytes that were verified before (see :mod:`acache.codecs.frame`); it neither checks nor signs.
What comes back equals what went in: a codec refuses a value it would change, at the time it is stored.
"""

from __future__ import annotations

import json
import math
import pickle
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeAlias, cast, final, runtime_checkable

from acache.exceptions import (
    ConfigurationError,
    KeyPicklingError,
    ValueDecodingError,
    ValueEncodingError,
    ValuePicklingError,
    ValueUnPicklingError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = (
    "PICKLE_PROTOCOL",
    "BytesLike",
    "Codec",
    "JsonCodec",
    "PickleCodec",
    "RawCodec",
    "get_codec",
    "try_pickle_key",
    "try_pickle_value",
    "try_unpickle_value",
)

BytesLike: TypeAlias = bytes | bytearray | memoryview

#: Fixed, not ``pickle.DEFAULT_PROTOCOL``: interpreters of different versions share one cache.
PICKLE_PROTOCOL: Final = 5


@runtime_checkable
class Codec(Protocol):
    """What a tier needs of a codec. Instances are stateless: several worker threads call one at the same time."""

    @property
    def name(self) -> str:
        """Identify the codec inside every entry it wrote; an entry of another codec is a miss."""
        ...

    @property
    def data_only(self) -> bool:
        """Promise that decoding runs no code, whatever the bytes are."""
        ...

    def encode(self, value: object, /) -> BytesLike:
        """Return contiguous bytes that nobody changes afterwards.

        Raises :class:`~acache.exceptions.ValueEncodingError` for a value that would not come back equal.
        """
        ...

    def decode(self, data: memoryview, /) -> object:
        """Return the value; ``data`` is only valid during the call.

        Raises :class:`~acache.exceptions.ValueDecodingError`.
        """
        ...


def try_pickle_key(key: object) -> bytes:
    """Pickle an object that is part of a key; raise :class:`~acache.exceptions.KeyPicklingError` if it cannot be."""
    try:
        return pickle.dumps(key, PICKLE_PROTOCOL)
    except Exception as error:  # reducers are user code and raise anything
        raise KeyPicklingError(key, f"pickling it raised {type(error).__name__}") from error


def try_pickle_value(value: object) -> bytes:
    """Pickle a value; raise :class:`~acache.exceptions.ValuePicklingError` if it cannot be."""
    try:
        return pickle.dumps(value, PICKLE_PROTOCOL)
    except Exception as error:
        raise ValuePicklingError(value, PickleCodec.name, f"pickling it raised {type(error).__name__}") from error


def try_unpickle_value(data: BytesLike) -> Any:
    """Unpickle a value; raise :class:`~acache.exceptions.ValueUnPicklingError` for whatever goes wrong.

    Unpickling runs what the bytes say: give it only bytes whose origin is verified.
    """
    try:
        return pickle.loads(data)  # noqa: S301 - the caller verified the bytes
    except Exception as error:  # classes vanish, __setstate__ is user code, lengths lie (MemoryError)
        raise ValueUnPicklingError(PickleCodec.name, f"unpickling it raised {type(error).__name__}") from error


@final
class PickleCodec:
    """Any picklable value. Decoding can run code, so entries that others can write must be signed."""

    __slots__ = ()
    name: str = "pickle"
    data_only: bool = False

    def encode(self, value: object) -> bytes:
        """Pickle ``value``; coroutines, generators and the like refuse that by themselves."""
        return try_pickle_value(value)

    def decode(self, data: memoryview) -> object:
        """Unpickle the value."""
        return try_unpickle_value(data)


@final
class RawCodec:
    """Bytes as they are: ``bytes`` are never copied on the way in, and once on the way out."""

    __slots__ = ()
    name: str = "raw"
    data_only: bool = True

    def encode(self, value: object) -> BytesLike:
        """Return a view of ``bytes``; a ``bytearray`` or ``memoryview`` is copied and will come back as ``bytes``.

        The copy is not waste: a view of a bytearray would forbid its owner to resize it, and would see his changes
        between the checksum and the write.
        """
        if isinstance(value, bytes):
            return memoryview(value)
        if isinstance(value, bytearray):
            return bytes(value)
        if isinstance(value, memoryview):
            return value.tobytes()
        raise ValueEncodingError(value, self.name, "only bytes, bytearray and memoryview are raw")

    def decode(self, data: memoryview) -> object:
        """Copy the bytes out."""
        return bytes(data)


def _refuse_constant(_text: str) -> NoReturn:
    msg = "not a JSON number"
    raise ValueError(msg)


_JSON_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
)
_JSON_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_JSON_ATOMS: Final = frozenset({type(None), bool, int, str})
_TOO_DEEP_OR_TOO_BIG: Final = (ValueError, RecursionError, MemoryError)


@final
class JsonCodec:
    """JSON in UTF-8, for exactly what JSON can hold: None, bool, int, finite float, str, list, and dict with str keys.

    Everything else is refused rather than changed: tuples (lists would come back), subclasses and enums, keys that are not text,
    NaN and infinities (no JSON numbers), unpaired surrogates (no UTF-8), and structures that contain themselves.
    """

    __slots__ = ()
    name: str = "json"
    data_only: bool = True

    def encode(self, value: object) -> bytes:
        """Return compact JSON; dicts keep their order."""
        try:
            self._check(value)
            return _JSON_ENCODER.encode(value).encode()
        except _TOO_DEEP_OR_TOO_BIG as error:
            # No user code ran, and a Unicode error carries, and prints, what it failed on: no cause (acache.exceptions).
            raise ValueEncodingError(value, self.name, type(error).__name__) from None

    def decode(self, data: memoryview) -> object:
        """Parse the JSON text."""
        try:
            return _JSON_DECODER.decode(str(data, "utf-8"))
        except _TOO_DEEP_OR_TOO_BIG as error:
            raise ValueDecodingError(self.name, type(error).__name__) from None

    def _check(self, value: object) -> None:
        kind = type(value)
        if kind is dict:
            members = cast("dict[object, object]", value)
            for key in members:
                if type(key) is not str:
                    raise ValueEncodingError(key, self.name, "keys must be str")
            self._check_all(members.values())
        elif kind is list:
            self._check_all(cast("list[object]", value))
        elif kind is float:
            if not math.isfinite(cast("float", value)):
                raise ValueEncodingError(value, self.name, "NaN and infinities are not JSON")
        elif kind not in _JSON_ATOMS:
            raise ValueEncodingError(value, self.name, "it would not come back equal")

    def _check_all(self, items: Iterable[object]) -> None:
        for item in items:
            if type(item) not in _JSON_ATOMS:
                self._check(item)


_BUILT_IN: Final[tuple[Codec, ...]] = (PickleCodec(), RawCodec(), JsonCodec())
_CODECS: Final = {codec.name: codec for codec in _BUILT_IN}


def get_codec(codec: str | Codec) -> Codec:
    """Return the codec of that name, or the codec given, if it is one.

    Raises :class:`~acache.exceptions.ConfigurationError` for an unknown name or an object that is no codec.
    """
    if isinstance(codec, str):
        if codec in _CODECS:
            return _CODECS[codec]
    elif _is_codec(codec):
        return codec
    raise ConfigurationError(
        "codec",
        f"expected one of {', '.join(map(repr, _CODECS))}, or an object with name, data_only, encode and decode",
    )


def _is_codec(candidate: object) -> bool:
    # A codec class has all the attributes too, but is not the instance that is needed.
    return isinstance(candidate, Codec) and not isinstance(candidate, type) and type(candidate.name) is str
