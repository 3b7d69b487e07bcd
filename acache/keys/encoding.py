"""One object to bytes that are the same in every process, on every machine and for every equal object.

Equal means of equal types and values, at any depth: ``1``, ``True``, ``1.0`` and ``"1"`` differ, as do ``0.0`` and ``-0.0``,
and texts in different Unicode forms; every ``nan`` is the same. The order of dicts and sets, identity, interning, sharing,
``PYTHONHASHSEED`` and the version of Python do not show. Two different objects never have the same encoding.

What is refused and why: see :mod:`acache.keys.instances` (objects) and :mod:`acache.keys.references` (functions).
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from acache.exceptions import KeyEncodingError
from acache.keys.registry import LooseWalk, ResultWalk, TypedWalk
from acache.keys.walk import Refusal
from acache.types import Key

if TYPE_CHECKING:
    from acache.keys.walk import Walk

__all__ = ("STACK_REASON", "canonical", "canonical_result", "encode_key")

STACK_REASON: Final = "it is nested too deeply for what is left of the stack"

#: Separates these keys from those of memoized calls. A change of any encoding changes the number.
_DOMAIN: Final = b"acache key 1\0"


def canonical(obj: object, *, typed: bool = True) -> bytes:
    """Return the canonical encoding of ``obj``.

    With ``typed=False`` numbers that compare equal are encoded equally. Raises
    :class:`~acache.exceptions.KeyEncodingError`, which names the place and the type of what was refused, for an object
    without a stable encoding and for one beyond the limits of :mod:`acache.keys.limits`;
    :class:`~acache.exceptions.KeyPicklingError` when not even a pickle of it would say which object it is.
    """
    return _encode(obj, TypedWalk() if typed else LooseWalk())


def canonical_result(obj: object) -> bytes:
    """Return the canonical encoding of ``obj`` as a result: of all that it consists of, whatever it says it is.

    As :func:`canonical` for objects of known types. Others are what pickle would be told of them; a ``__cache_key__()``, and
    what is registered for a class, do not count. Raises as :func:`canonical`.
    """
    return _encode(obj, ResultWalk())


def _encode(obj: object, walk: Walk) -> bytes:
    try:
        return walk.table[type(obj)](obj, walk)
    except Refusal as refusal:
        raise refusal.error() from refusal.cause
    except RecursionError:
        raise KeyEncodingError(obj, STACK_REASON) from None


def encode_key(obj: object) -> Key:
    """Return the key that names ``obj`` in every tier; a :class:`~acache.types.Key` is one already.

    Raises what :func:`canonical` raises.
    """
    if type(obj) is Key:
        return obj
    # A digest needs no check, and the check would cost as much as the digest.
    return str.__new__(Key, sha256(_DOMAIN + _encode(obj, TypedWalk())).hexdigest())
