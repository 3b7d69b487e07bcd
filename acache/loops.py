"""Speaking to event loops of other threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ("call_soon",)


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> bool:
    """Call ``callback(*args)`` in the thread of ``loop``, from any thread; tell whether the loop is still there.

    Raises :class:`RecursionError` where the stack is at its end. That is a :class:`RuntimeError` too, as is what a closed
    loop raises: who took one for the other would let somebody wait for ever.
    """
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RecursionError:
        raise
    except RuntimeError:
        return False
    return True
