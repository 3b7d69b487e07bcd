"""Whether a value can be used more than once. One that cannot is of no use to the second who is served it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Final

from acache.exceptions import ValueEncodingError

__all__ = ("USED_ONCE", "is_used_once", "refuse_used_once")

USED_ONCE: Final = "it can be used only once"

#: Generators and open files are iterators, coroutines and futures are awaitable.
_KINDS: Final = (Iterator, AsyncIterator, Awaitable)


def is_used_once(value: object) -> bool:
    """Tell whether ``value`` is an iterator or something to await; a coroutine is closed, as it will not be awaited."""
    if not issubclass(type(value), _KINDS):
        return False
    if inspect.iscoroutine(value):
        value.close()
    return True


def refuse_used_once(value: object, where: str) -> None:
    """Raise :class:`~acache.exceptions.ValueEncodingError` for what :func:`is_used_once`."""
    if is_used_once(value):
        raise ValueEncodingError(value, where, USED_ONCE)
