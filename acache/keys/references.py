"""Encodings of functions, classes and types: what is known by a name under which it can be found again.

A function that cannot be found under its name (a lambda, a local function, one that was replaced) is refused: its name says
nothing about what it does, and its address nothing to another process.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GenericAlias,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    UnionType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, Final

from acache.keys.walk import Encoder, Refusal, Walk, text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("REFERENCES", "class_name", "encode_reference", "encode_union", "has_its_name", "is_importable")

#: Classes that hide from the module they claim, and where they are.
_ELSEWHERE: Final[Mapping[object, tuple[str, str]]] = {
    type(None): ("types", "NoneType"),
    type(...): ("types", "EllipsisType"),
    type(NotImplemented): ("types", "NotImplementedType"),
}

#: CPython 3.13 moved pathlib's classes to a private module, and 3.14 moved them back.
_MOVED: Final[Mapping[str, str]] = {"pathlib._local": "pathlib"}


def class_name(cls: type) -> tuple[str, str]:
    """Return module and qualname, the same in every version of Python.

    Raises :class:`~acache.keys.walk.Refusal` when the class gives no names.
    """
    module: Any = cls.__module__
    if not isinstance(module, str):
        raise Refusal(cls, "its class has no module")
    return _MOVED.get(module, module), cls.__qualname__


def _claimed(value: Any) -> tuple[str, str] | None:
    """Return the module and the qualname that ``value`` gives itself."""
    if isinstance(value, type) and value in _ELSEWHERE:
        return _ELSEWHERE[value]
    module = getattr(value, "__module__", None)
    if module is None:
        module = getattr(getattr(value, "__objclass__", None), "__module__", None)
    qualname = getattr(value, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(qualname, str)):
        return None
    return _MOVED.get(module, module), qualname


def _find(module: str, qualname: str) -> object:
    found: object = sys.modules.get(module)
    try:
        for name in qualname.split("."):
            found = getattr(found, name)
    except Exception:  # noqa: BLE001 - a module may compute its attributes, and fail in any way
        return None
    return found


def is_importable(value: object) -> bool:
    """Tell whether ``value``, or the memoized function made of it, is what its module holds under its name."""
    name = _claimed(value)
    if name is None:
        return False
    found = _find(*name)
    return found is value or getattr(found, "__acache_wrapped__", found) is value


def has_its_name(cls: type) -> bool:
    """Tell whether the name of ``cls`` leads to it, or to its only instance, as that of ``sys.version_info`` does."""
    found = _find(*class_name(cls))
    return found is cls or type(found) is cls


def encode_reference(value: Any, walk: Walk) -> bytes:  # noqa: ARG001 - an Encoder
    """Encode a function or a class by module and qualname."""
    name = _claimed(value)
    if name is None or not is_importable(value):
        reason = "a lambda, a local function or class, or one that was replaced, cannot be imported by its name"
        raise Refusal(value, reason, pickling=True)
    return b"&" + text(name[0]) + text(name[1])


def _encode_bound(value: Any, walk: Walk) -> bytes:
    """Encode a bound method by its object and its name there."""
    name: str = value.__name__
    if getattr(value.__self__, name, None) != value:
        raise Refusal(value, "a method that its object does not have under its name", pickling=True)
    return walk.record("method", (value.__self__, name))


def _encode_builtin(value: Any, walk: Walk) -> bytes:
    owner = value.__self__
    if owner is None or isinstance(owner, ModuleType):
        return encode_reference(value, walk)
    return _encode_bound(value, walk)


def _encode_alias(value: Any, walk: Walk) -> bytes:
    return walk.record("GenericAlias", (value.__origin__, value.__args__))


def encode_union(value: Any, walk: Walk) -> bytes:
    """Encode ``int | str``, in either order and spelling."""
    return walk.record("Union", (frozenset(value.__args__),))


#: The type of what :func:`functools.lru_cache` makes.
_CachedFunction: Final = type(lru_cache(len))

#: Encoders by exact type.
REFERENCES: Final[Mapping[Any, Encoder]] = {
    type: encode_reference,
    FunctionType: encode_reference,
    BuiltinFunctionType: _encode_builtin,
    MethodDescriptorType: encode_reference,
    ClassMethodDescriptorType: encode_reference,
    WrapperDescriptorType: encode_reference,
    _CachedFunction: encode_reference,
    MethodType: _encode_bound,
    GenericAlias: _encode_alias,
    UnionType: encode_union,
}
