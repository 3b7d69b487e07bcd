"""Encodings of instances of classes: by what the class says they are, and never by a pickle, a repr or an address.

In this order: a function registered for the class or its own ``__cache_key__()``, whichever stands nearer in the MRO; the
name of an enum member; the fields of a dataclass or attrs class that take part in comparison; the content of a subclass
of a known type. Every encoding begins with the class's module and qualname.

Anything else is refused. Its pickle cannot be shown to be stable: two equal objects differ in it by shared and interned
parts, by the order in which attributes were set, and by what a cached property left behind, so a key made of it would
miss for ever without a sign. Asking for a ``__cache_key__()`` once is kinder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from functools import cached_property
from inspect import getattr_static
from itertools import chain
from typing import Any, Final

from acache.keys.plain import EXACT
from acache.keys.references import class_name, encode_reference
from acache.keys.walk import Encoder, Refusal, Walk, text

__all__ = ("declared_fields", "keyed", "member", "record", "refuse", "subclass")

_POINTER: Final = 8


def _head(cls: type) -> bytes:
    module, qualname = class_name(cls)
    return b"@" + text(module) + text(qualname)


def _label(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def refuse(value: object, walk: Walk) -> bytes:
    """Refuse ``value``, unless it is a memoized function under its own name."""
    if getattr_static(value, "__acache_wrapped__", None) is not None:
        return encode_reference(value, walk)
    reason = "it has no stable encoding: no known or registered type, no __cache_key__() method"
    try:
        value.__reduce_ex__(4)
    except Exception as error:  # noqa: BLE001 - whatever a class raises when it is pickled
        raise Refusal(value, f"{reason}; it cannot be pickled either", cause=error, pickling=True) from None
    raise Refusal(value, reason)


def keyed(cls: type, function: Callable[[Any], object], origin: str) -> Encoder:
    """Encode instances by what ``function`` returns for them; ``origin`` names it in errors."""
    head = _head(cls) + b"k"
    place = (f"the result of {origin}",)

    def encode(value: Any, walk: Walk) -> bytes:
        try:
            result = function(value)
        except Exception as error:  # noqa: BLE001 - user code may raise anything
            raise Refusal(value, f"{origin} raised {type(error).__qualname__}", cause=error) from None
        return head + walk.parts((result,), place)[0]

    return encode


def member(cls: type[Enum]) -> Encoder:
    """Encode enum members by name; flags by value, since a combination has no name of its own."""
    head = _head(cls)
    if issubclass(cls, Flag):
        return lambda value, walk: head + b"v" + walk.encode(value._value_)
    return lambda value, _walk: head + b"n" + text(value._name_)


def declared_fields(cls: type[Any]) -> tuple[str, ...] | None:
    """Return the fields of a dataclass or attrs class that take part in comparison; ``None`` for another class."""
    if is_dataclass(cls):
        return tuple(field.name for field in fields(cls) if field.compare)
    attributes: Any = getattr(cls, "__attrs_attrs__", None)
    return None if attributes is None else tuple(attribute.name for attribute in attributes if attribute.eq)


def record(cls: type, names: tuple[str, ...]) -> Encoder:
    """Encode instances by the attributes ``names``."""
    encoded = [text(name) for name in names]
    places = tuple(f"field {name!r} of {_label(cls)}" for name in names)
    head = _head(cls) + b"f%x:" % len(names)

    def encode(value: Any, walk: Walk) -> bytes:
        try:
            values = [getattr(value, name) for name in names]
        except Exception as error:  # noqa: BLE001 - a field may be a property, and raise anything
            reason = f"reading its fields raised {type(error).__qualname__}"
            raise Refusal(value, reason, cause=error) from None
        parts = walk.parts(values, places)
        return head + b"".join(chain.from_iterable(zip(encoded, parts, strict=True)))

    return encode


def subclass(cls: type, base: type, encoder: Encoder, declared: tuple[str, ...]) -> Encoder:
    """Encode instances by their content as a ``base``; refuse those that hold more than it and ``declared`` fields."""
    own = cls.__mro__[: cls.__mro__.index(base)]
    slots = {slot for part in own for slot in _slots(part)} - set(declared)
    if _has_native_state(cls, base):
        return refuse
    derived = {name for part in own for name, value in vars(part).items() if isinstance(value, cached_property)}
    known = derived.union(declared)
    exact = EXACT.get(base)
    head = _head(cls) + b"s"

    def encode(value: Any, walk: Walk) -> bytes:
        if not known.issuperset(getattr(value, "__dict__", ())) or any(hasattr(value, slot) for slot in slots):
            raise Refusal(value, "it has attributes beside its content, and no __cache_key__() method")
        return head + encoder(value if exact is None else exact(value), walk)

    return encode


def _slots(cls: type) -> list[str]:
    """Return the attribute names of the slots that ``cls`` itself adds."""
    declared = vars(cls).get("__slots__", ())
    names = [declared] if isinstance(declared, str) else list(declared)
    prefix = "_" + cls.__name__.lstrip("_")
    mangled = [prefix + name if name.startswith("__") and not name.endswith("__") else name for name in names]
    return [name for name in mangled if name not in {"__dict__", "__weakref__"}]


def _has_native_state(cls: type, base: type) -> bool:
    """Tell whether instances of ``cls`` have room for what Python code cannot see (an extension's subclass).

    A class body adds a pointer for each slot, and at most one each for ``__dict__`` and ``__weakref__``.
    """
    for part in cls.__mro__[: cls.__mro__.index(base)]:
        below = part.__base__ or object
        pointers = len(_slots(part)) + _adds(part.__dictoffset__, below.__dictoffset__)
        pointers += _adds(part.__weakrefoffset__, below.__weakrefoffset__)
        if part.__basicsize__ > below.__basicsize__ + pointers * _POINTER:
            return True
    return False


def _adds(offset: int, offset_below: int) -> bool:
    return offset != 0 and offset_below == 0
