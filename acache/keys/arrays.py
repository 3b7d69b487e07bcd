"""Encodings of numpy arrays, scalars and dtypes, without importing numpy: whoever passes one has imported it.

An array is its dtype, its shape and its elements in C order. Elements are hashed as bytes where the bytes are the value;
Python objects are encoded one by one, and structures field by field, because their padding holds anything.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from acache.keys.references import class_name
from acache.keys.walk import Encoder, Refusal, Walk, text

__all__ = ("numpy_encoder",)

#: dtype kinds whose elements are nothing but their bytes.
_RAW: Final = frozenset("biufcSUmM")
#: Kinds that hold Python objects, or point to texts.
_OBJECTS: Final = frozenset("OT")
#: ``dtype.isbuiltin`` of a type that another library registered.
_FOREIGN: Final = 2
#: ``Py_TPFLAGS_HEAPTYPE``: set for classes made while running, clear for those of an extension module.
_HEAP_TYPE: Final = 1 << 9


def _describe(dtype: Any) -> bytes:
    if dtype.char in "gG":
        raise Refusal(dtype, "long doubles have padding, and differ between machines")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return b"*" + text(repr(tuple(map(int, shape)))) + _describe(base)
    if dtype.names is not None:
        fields = ((name, *dtype.fields[name][:2]) for name in dtype.names)
        described = b"".join(text(name) + b"%x;" % offset + _describe(part) for name, part, offset in fields)
        return b"{%x:%x:%b" % (len(dtype.names), dtype.itemsize, described)
    if dtype.kind == "V" or dtype.isbuiltin == _FOREIGN:
        # Other libraries' number types (bfloat16) share a kind; the scalar's class tells them apart.
        return b"_" + text(dtype.str) + b"".join(map(text, class_name(dtype.type)))
    return b"." + text("T" if dtype.kind == "T" else dtype.str)


def _encode_dtype(value: Any, walk: Walk) -> bytes:  # noqa: ARG001 - an Encoder
    return b"!dtype;" + _describe(value)


def _elements(array: Any, walk: Walk) -> bytes:
    dtype = array.dtype
    if dtype.kind in _OBJECTS:
        return walk.encode(array.reshape(-1).tolist())
    if dtype.names is not None:
        return b"".join(_elements(array[name], walk) for name in dtype.names)
    if dtype.kind not in _RAW and not (dtype.kind == "V" and not dtype.hasobject):
        raise Refusal(array, "arrays of this dtype have no stable bytes")
    flat = array.reshape(-1)
    if not flat.nbytes:
        return b""
    contiguous = flat if flat.flags.c_contiguous else flat.copy()
    return walk.payload(b"v", contiguous.view("u1").data, array)


def _encode_array(value: Any, walk: Walk) -> bytes:
    plain = value.view(sys.modules["numpy"].ndarray)
    shape = text(",".join(map(str, plain.shape)))
    return b"!ndarray;" + _describe(plain.dtype) + shape + _elements(plain, walk)


def _encode_scalar(value: Any, walk: Walk) -> bytes:
    if not walk.typed and value.dtype.kind in "biufc" and value.dtype.char not in "gG":
        return walk.encode(value.item())
    return b"!scalar;" + _encode_array(sys.modules["numpy"].asarray(value), walk)


def numpy_encoder(cls: type) -> Encoder | None:
    """Return the encoder of ``cls`` when numpy itself made that class, else ``None``."""
    numpy: Any = sys.modules.get("numpy")
    # A numpy that is still being imported cannot have made anything.
    if numpy is None or not hasattr(numpy, "dtype"):
        return None
    if cls is numpy.ndarray:
        return _encode_array
    if cls is numpy.generic or (issubclass(cls, numpy.generic) and not cls.__flags__ & _HEAP_TYPE):
        return _encode_scalar
    return _encode_dtype if issubclass(cls, numpy.dtype) else None
