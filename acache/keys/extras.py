"""What an object holds beside what its class declares, and what a key must therefore not be silent about.

An undecorated subclass of a dataclass, or anybody who sets one attribute more, gives an object state that no declared field
shows. Two such objects may differ in nothing else.

Not state: what a cached property left behind, since it was made from the rest; what attrs remembers of a hash; and
``__orig_class__``, which ``Box[int](1)`` has and ``Box(1)`` has not, since parameters of types are erased at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cached_property, partial
from types import FunctionType, MemberDescriptorType
from typing import Any, Final, cast

__all__ = ("derived_names", "extras_of", "has_native_state")

_POINTER: Final = 8
_BOOKKEEPING: Final = frozenset({"__orig_class__", "_attrs_cached_hash"})
_NO_ROOM: Final = frozenset({"__dict__", "__weakref__"})


def extras_of(cls: type, base: type, declared: Collection[str]) -> Callable[[Any], bool]:
    """Return what tells whether an instance of ``cls`` has attributes that are neither ``declared`` nor a ``base``'s own."""
    known = derived_names(cls).union(declared)
    own = cls.__mro__[: cls.__mro__.index(base)]
    slots = [_reader(part, slot) for part in own for slot in _slots(part) if slot not in known]
    has_dict = cls.__dictoffset__ != 0

    def has_extras(value: Any) -> bool:
        return (has_dict and not known.issuperset(value.__dict__)) or any(is_set(value) for is_set in slots)

    return has_extras


def derived_names(cls: type) -> frozenset[str]:
    """Return the names of attributes that instances of ``cls`` may hold and that are no state of theirs."""
    return _BOOKKEEPING.union(*map(_cached_properties, cls.__mro__))


def has_native_state(cls: type, base: type) -> bool:
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


def _cached_properties(part: type) -> Iterator[str]:
    """Yield the names under which ``part`` keeps what it can make again."""
    for name, value in vars(part).items():
        # Other libraries have their own, of the same name and the same meaning.
        if isinstance(value, cached_property) or any(
            kind.__name__ == "cached_property" for kind in type(value).__mro__
        ):
            yield name
    # A slotted attrs class has slots for them, and makes them in a __getattr__ that holds them in a default.
    getter = vars(part).get("__getattr__")
    if "__attrs_attrs__" in vars(part) and isinstance(getter, FunctionType):
        for default in getter.__defaults__ or ():
            if isinstance(default, dict):
                yield from cast("dict[str, object]", default)


def _slots(part: type) -> list[str]:
    """Return the attribute names of the slots that ``part`` itself adds."""
    declared = vars(part).get("__slots__", ())
    names = [declared] if isinstance(declared, str) else list(declared)
    prefix = "_" + part.__name__.lstrip("_")
    mangled = [prefix + name if name.startswith("__") and not name.endswith("__") else name for name in names]
    return [name for name in mangled if name not in _NO_ROOM]


def _reader(part: type, slot: str) -> Callable[[Any], bool]:
    """Return what tells whether an instance's slot is set, past any ``__getattr__`` that would answer for it."""
    descriptor = vars(part).get(slot)
    if isinstance(descriptor, MemberDescriptorType):
        return partial(_holds, descriptor)
    return lambda value: hasattr(value, slot)


def _holds(descriptor: MemberDescriptorType, value: object) -> bool:
    try:
        descriptor.__get__(value, type(value))
    except AttributeError:
        return False
    return True
