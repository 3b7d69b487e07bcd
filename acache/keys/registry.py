"""From a class to its encoder: the tables that a walk reads, filled class by class as objects come.

A table is a dict, so that a known class costs one lookup; ``__missing__`` finds the encoder of a new one. Classes that a
module holds are kept for good; local ones only as long as they live, since a program may make any number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from operator import methodcaller
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from acache.exceptions import ConfigurationError
from acache.keys.arrays import numpy_encoder
from acache.keys.instances import declared_fields, findable, keyed, member, record, refuse, refuse_class, subclass
from acache.keys.loose import LOOSE_PLAIN, LOOSE_STANDARD
from acache.keys.plain import PLAIN
from acache.keys.reduction import GraphWalk, placed, reduced
from acache.keys.references import REFERENCES, encode_reference, is_importable
from acache.keys.standard import STANDARD, by_name
from acache.keys.walk import Encoder, Walk

__all__ = ("LooseWalk", "ResultWalk", "TypedWalk", "register_key_type")

T = TypeVar("T")

_registered: Final[WeakKeyDictionary[type, Callable[[Any], object]]] = WeakKeyDictionary()


class _Table(dict[type, Encoder]):
    """Encoders by exact class; a class that is not there is resolved when it is first asked for."""

    def __init__(self, plain: Mapping[type, Encoder], standard: Mapping[str, Encoder]) -> None:
        self._plain = {**REFERENCES, **plain}
        self._standard = standard
        self._local: WeakKeyDictionary[type, Encoder] = WeakKeyDictionary()
        super().__init__(self._plain)

    def __missing__(self, cls: type) -> Encoder:
        encoder = self._local.get(cls)
        if encoder is None:
            encoder = self._resolve(cls)
            # A refusal is not kept: the class may be registered, given its method or its name, later.
            if encoder not in {refuse, refuse_class}:
                (self if is_importable(cls) else self._local)[cls] = encoder
        return encoder

    def forget(self) -> None:
        """Resolve every class anew; a reader that finds the table empty meanwhile does so itself."""
        self._local.clear()
        self.clear()
        self.update(self._plain)

    def _resolve(self, cls: type[Any]) -> Encoder:
        if (encoder := _explicit(cls)) is not None:
            return encoder
        if issubclass(cls, type):
            return encode_reference
        return findable(cls, member(cls)) if issubclass(cls, Enum) else self._structural(cls)

    def _structural(self, cls: type[Any]) -> Encoder:
        known = declared_fields(cls)
        base, encoder = self._nearest(cls)
        if base is cls and encoder is not None:
            return encoder
        by_fields = None if known is None else record(cls, known, base)
        if encoder is None:
            return findable(cls, by_fields or refuse)
        content = subclass(cls, base, encoder, () if known is None else known.declared)
        return findable(cls, content if by_fields is None else _both(by_fields, content))

    def _nearest(self, cls: type) -> tuple[type, Encoder | None]:
        """Return the first class of the MRO whose encoding is known, and its encoder."""
        for base in cls.__mro__:
            encoder = self._plain.get(base) or by_name(base, self._standard) or numpy_encoder(base)
            if encoder is not None:
                return base, encoder
        return object, None


class _Results(_Table):
    """Encoders by exact class for results: no user's word counts for what an object consists of."""

    def _resolve(self, cls: type[Any]) -> Encoder:
        return _named(cls) or self._structural(cls)

    def _structural(self, cls: type[Any]) -> Encoder:
        names = declared_fields(cls)
        base, encoder = self._nearest(cls)
        if encoder is None:
            return reduced(cls) if names is None else placed(record(cls, names))
        return encoder if base is cls else reduced(cls)


def _named(cls: type) -> Encoder | None:
    """Return the encoder of what is known by a name."""
    if issubclass(cls, Enum):
        return member(cls)
    return encode_reference if issubclass(cls, type) else None


def _both(first: Encoder, second: Encoder) -> Encoder:
    return lambda value, walk: b"+" + first(value, walk) + second(value, walk)


def _explicit(cls: type) -> Encoder | None:
    """Return the encoder the user gave: a registered function or ``__cache_key__()``, the nearer one in the MRO."""
    for base in cls.__mro__:
        function = _registered.get(base)
        if function is not None:
            return keyed(cls, function, f"the function registered for {base.__module__}.{base.__qualname__}")
        if vars(base).get("__cache_key__") is not None:
            return keyed(cls, methodcaller("__cache_key__"), "its __cache_key__()")
    return None


TYPED: Final = _Table(PLAIN, STANDARD)
LOOSE: Final = _Table(LOOSE_PLAIN, LOOSE_STANDARD)
RESULTS: Final = _Results(PLAIN, STANDARD)


class TypedWalk(Walk):
    """A walk that tells ``1``, ``True`` and ``1.0`` apart."""

    table = TYPED


class LooseWalk(Walk):
    """A walk that does not."""

    table = LOOSE
    typed = False


class ResultWalk(GraphWalk):
    """A walk over a result, which is all that it consists of."""

    table = RESULTS


def register_key_type(cls: type[T], function: Callable[[T], object]) -> None:
    """Encode instances of ``cls``, and of subclasses that have no nearer way, by what ``function`` returns for them.

    The result may be any encodable object; the instance's class is part of the key beside it. A later registration of
    the same class replaces the earlier one. Raises :class:`~acache.exceptions.ConfigurationError` for a class that acache
    encodes itself and by exact type, such as :class:`int`.
    """
    if cls in PLAIN or cls in REFERENCES:
        raise ConfigurationError(f"register_key_type({cls.__qualname__})", "acache encodes this type itself")
    _registered[cls] = function
    TYPED.forget()
    LOOSE.forget()
