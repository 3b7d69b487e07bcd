"""Waking those who wait on futures of several event loops, from any thread."""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

from acache.loops import call_soon
from acache.types import Missing

__all__ = ("is_woken", "running_loop", "wake")

T = TypeVar("T")

#: Seconds between two looks at a loop of another thread, which may have stopped running.
_LOOK: Final = 0.25


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread, if it runs one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def is_woken(future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> bool:
    """Wait for a future that another loop has to set; tell whether it did, or has ended before."""
    strikes = 0
    while not future.done():
        await asyncio.wait({future}, timeout=_LOOK)
        # A loop between two runs does not run either: look twice.
        strikes = 0 if loop.is_running() else strikes + 1
        if not future.done() and (strikes > 1 or loop.is_closed()):
            return False
    return True


def wake(futures: set[asyncio.Future[T | Missing]], outcome: T | Missing) -> None:
    """Wake the waiters: here at once, on other loops by one call for each loop."""
    here = running_loop()
    elsewhere: dict[asyncio.AbstractEventLoop, list[asyncio.Future[T | Missing]]] = {}
    for future in futures:
        elsewhere.setdefault(future.get_loop(), []).append(future)
    for loop, waiting in elsewhere.items():
        if loop is here:
            _set_all(waiting, outcome)
        else:
            call_soon(loop, _set_all, waiting, outcome)  # if it is closed, nobody waits there any more


def _set_all(futures: list[asyncio.Future[T]], outcome: T) -> None:
    for future in futures:
        if not future.done():
            future.set_result(outcome)
