"""Encodings of Python's own values: constants, numbers, texts, buffers and containers.

These functions are called for exact types only (an instance of a subclass is brought back to its base first), and the few
at the top are what a memoized call pays for, so they take the short way for short values.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from itertools import chain
from struct import Struct
from types import MappingProxyType
from typing import Any, Final

from acache.keys.walk import Encoder, Refusal, Walk

__all__ = ("EXACT", "PLAIN", "encode_int")

_WORD: Final = 1 << 64
_SHORT: Final = 64
_pack = Struct(">d").pack
_NAN: Final = _pack(float("nan"))


def encode_int(value: int, walk: Walk) -> bytes:
    """Encode an integer in hexadecimal: unlike decimal, of any length in linear time."""
    if -_WORD < value < _WORD:
        return b"i%x;" % value
    return walk.payload(b"I", b"%x" % value, value)


def _encode_str(value: str, walk: Walk) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    if len(data) > _SHORT:
        return walk.payload(b"s", data, value)
    return b"s%x:%b" % (len(data), data)


def _double(value: float) -> bytes:
    return _pack(value) if value == value else _NAN  # noqa: PLR0124 - one encoding for every nan


def _encode_float(value: float, walk: Walk) -> bytes:  # noqa: ARG001 - an Encoder
    return b"f" + _double(value)


def _encode_complex(value: complex, walk: Walk) -> bytes:  # noqa: ARG001 - an Encoder
    return b"c" + _double(value.real) + _double(value.imag)


def _encode_bytes(value: bytes, walk: Walk) -> bytes:
    if len(value) <= _SHORT:
        return b"b%x:%b" % (len(value), value)
    return walk.payload(b"b", value, value)


def _encode_bytearray(value: bytearray, walk: Walk) -> bytes:
    return walk.payload(b"a", value, value)


def _encode_memoryview(value: memoryview, walk: Walk) -> bytes:
    # A view is its items' format, its shape and its bytes: what tells it from the object under it.
    try:
        data = value.cast("B") if value.c_contiguous and value.nbytes else memoryview(value.tobytes())
        shape = value.shape
    except (ValueError, TypeError) as error:
        raise Refusal(value, "the view is released, or of a format that has no bytes", cause=error) from None
    return walk.record("memoryview", (value.format, shape)) + walk.payload(b"v", data, value)


def _encode_tuple(value: tuple[object, ...], walk: Walk) -> bytes:
    return b"(%x:%b" % (len(value), b"".join(walk.parts(value, "item {} of tuple")))


def _encode_list(value: list[object], walk: Walk) -> bytes:
    return b"[%x:%b" % (len(value), b"".join(walk.parts(value, "item {} of list")))


def _encode_set(value: set[object], walk: Walk) -> bytes:
    return b"{%x:%b" % (len(value), b"".join(sorted(walk.parts(value, "an item of set"))))


def _encode_frozenset(value: frozenset[object], walk: Walk) -> bytes:
    return b"<%x:%b" % (len(value), b"".join(sorted(walk.parts(value, "an item of frozenset"))))


def _encode_dict(value: Mapping[Any, object], walk: Walk) -> bytes:
    keys = walk.parts(value.keys(), "key {} of dict")
    values = walk.parts(value.values(), "value {} of dict")
    # Sorted as pairs: two keys of one encoding (nan and nan) must not leave their values in insertion order.
    return b"d%x:%b" % (len(keys), b"".join(chain.from_iterable(sorted(zip(keys, values, strict=True)))))


def _encode_mappingproxy(value: MappingProxyType[Any, object], walk: Walk) -> bytes:
    return b"!mappingproxy;" + _encode_dict(value, walk)


def _encode_ordered(value: OrderedDict[Any, object], walk: Walk) -> bytes:
    return walk.record("OrderedDict", value.items())


def _encode_counter(value: Counter[Any], walk: Walk) -> bytes:
    return b"!Counter;" + _encode_dict(value, walk)


def _encode_defaultdict(value: defaultdict[Any, object], walk: Walk) -> bytes:
    # The factory is what a missing key gives, so it is part of the value, as is the length limit of a deque.
    return walk.record("defaultdict", (value.default_factory, dict(value)))


def _encode_deque(value: deque[object], walk: Walk) -> bytes:
    return walk.record("deque", (value.maxlen, list(value)))


def _encode_range(value: range, walk: Walk) -> bytes:
    return walk.record("range", (value.start, value.stop, value.step))


def _encode_slice(value: slice, walk: Walk) -> bytes:
    return walk.record("slice", (value.start, value.stop, value.step))


def _constant(data: bytes) -> Encoder:
    return lambda _value, _walk: data


def _encode_bool(value: bool, walk: Walk) -> bytes:  # noqa: ARG001 - an Encoder
    return b"T;" if value else b"F;"


#: Encoders by exact type.
PLAIN: Final[Mapping[type, Encoder]] = {
    type(None): _constant(b"N;"),
    type(...): _constant(b"!Ellipsis;"),
    type(NotImplemented): _constant(b"!NotImplemented;"),
    bool: _encode_bool,
    int: encode_int,
    float: _encode_float,
    complex: _encode_complex,
    str: _encode_str,
    bytes: _encode_bytes,
    bytearray: _encode_bytearray,
    memoryview: _encode_memoryview,
    tuple: _encode_tuple,
    list: _encode_list,
    set: _encode_set,
    frozenset: _encode_frozenset,
    dict: _encode_dict,
    range: _encode_range,
    slice: _encode_slice,
    MappingProxyType: _encode_mappingproxy,
    OrderedDict: _encode_ordered,
    Counter: _encode_counter,
    defaultdict: _encode_defaultdict,
    deque: _encode_deque,
}


def _rebuilt(cls: Any) -> Callable[[Any], Any]:
    return lambda value: cls(cls.__iter__(value))


#: How the content of an instance of a subclass is read. A subclass may show something else (a text that masks itself when
#: it is printed), and that is not its content.
EXACT: Final[Mapping[type, Callable[[Any], Any]]] = {
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    str: str.__str__,
    bytes: bytes.__bytes__,
    bytearray: bytearray.copy,
    tuple: _rebuilt(tuple),
    list: _rebuilt(list),
    set: _rebuilt(set),
    frozenset: _rebuilt(frozenset),
    dict: dict[Any, Any].copy,
}
