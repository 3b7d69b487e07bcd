"""Encodings of instances of classes: by what the class says they are, and never by a pickle, a repr or an address.

In this order: a function registered for the class or its own ``__cache_key__()``, whichever stands nearer in the MRO; the
name of an enum member; the fields of a dataclass or attrs class that take part in comparison; the content of a subclass
of a known type. Every encoding begins with the class's module and qualname. An object that holds more than its class
declares (:mod:`acache.keys.extras`) is refused: what is left out of a key must have been left out by somebody.

So is an instance of a class that is not found under its name (a local one, one that was replaced), unless it says itself
what it is: another class of that name may do something else with the same fields.

Anything else is refused. Its pickle cannot be shown to be stable: two equal objects differ in it by shared and interned
parts, by the order in which attributes were set, and by what a cached property left behind, so a key made of it would
miss for ever without a sign. Asking for a ``__cache_key__()`` once is kinder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from inspect import getattr_static
from itertools import chain
from typing import Any, Final, NamedTuple

from acache.keys.extras import extras_of, has_native_state
from acache.keys.plain import EXACT
from acache.keys.references import class_name, encode_reference, has_its_name
from acache.keys.walk import Encoder, Refusal, Walk, text

__all__ = ("Fields", "declared_fields", "findable", "keyed", "member", "record", "refuse", "refuse_class", "subclass")

_UNDECLARED: Final = (
    "it has attributes beside its fields, and no __cache_key__() method; declare them as fields, those that make no "
    "difference with compare=False (attrs: eq=False)"
)

_NOT_FOUND: Final = (
    "its class is a local one, or one that was replaced, and cannot be imported by its name; define it at module level, "
    "or register it with register_key_type()"
)

_NOTHING: Final[Mapping[str, object]] = {}


class Fields(NamedTuple):
    """The fields of a class: those that take part in comparison, and all of them."""

    compared: tuple[str, ...] = ()
    declared: frozenset[str] = frozenset()


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


def refuse_class(value: object, walk: Walk) -> bytes:  # noqa: ARG001 - an Encoder
    """Refuse an instance of a class whose name does not lead to it."""
    raise Refusal(value, _NOT_FOUND, pickling=True)


def findable(cls: type, encoder: Encoder) -> Encoder:
    """Encode with ``encoder`` while the name of ``cls`` leads to it, which each instance asks: a module may be loaded anew."""
    if encoder is refuse:
        return refuse
    if not has_its_name(cls):
        return refuse_class
    module, qualname, modules = cls.__module__, cls.__qualname__, sys.modules

    def encode(value: Any, walk: Walk) -> bytes:
        # First where nearly every class is: a third of the cost of the question itself.
        around: Mapping[str, object] = getattr(modules.get(module), "__dict__", _NOTHING)
        if around.get(qualname) is not cls and not has_its_name(cls):
            return refuse_class(value, walk)
        return encoder(value, walk)

    return encode


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


def declared_fields(cls: type[Any]) -> Fields | None:
    """Return the fields of a dataclass or attrs class; ``None`` for another class."""
    if is_dataclass(cls):
        compares = {field.name: field.compare for field in fields(cls)}
    elif (attributes := getattr(cls, "__attrs_attrs__", None)) is not None:
        compares = {attribute.name: bool(attribute.eq) for attribute in attributes}
    else:
        return None
    return Fields(tuple(name for name, compared in compares.items() if compared), frozenset(compares))


def record(cls: type, known: Fields, base: type = object) -> Encoder:
    """Encode instances by their fields; refuse those that hold more than these and what makes them a ``base``."""
    # What an exception holds natively is how it was made and raised.
    if BaseException not in cls.__mro__ and has_native_state(cls, base):
        return refuse
    names = known.compared
    encoded = [text(name) for name in names]
    places = tuple(f"field {name!r} of {_label(cls)}" for name in names)
    head = _head(cls) + b"f%x:" % len(names)
    has_extras = extras_of(cls, base, known.declared)

    def encode(value: Any, walk: Walk) -> bytes:
        try:
            is_more = has_extras(value)
            values = [getattr(value, name) for name in names]
        except Exception as error:  # noqa: BLE001 - a field may be a property, and raise anything
            reason = f"reading its fields raised {type(error).__qualname__}"
            raise Refusal(value, reason, cause=error) from None
        if is_more:
            raise Refusal(value, _UNDECLARED)
        parts = walk.parts(values, places)
        return head + b"".join(chain.from_iterable(zip(encoded, parts, strict=True)))

    return encode


def subclass(cls: type, base: type, encoder: Encoder, declared: Collection[str]) -> Encoder:
    """Encode instances by their content as a ``base``; refuse those that hold more than it and ``declared`` fields."""
    if has_native_state(cls, base):
        return refuse
    has_extras = extras_of(cls, base, declared)
    exact = EXACT.get(base)
    head = _head(cls) + b"s"

    def encode(value: Any, walk: Walk) -> bytes:
        if has_extras(value):
            raise Refusal(value, "it has attributes beside its content, and no __cache_key__() method")
        return head + encoder(value if exact is None else exact(value), walk)

    return encode
