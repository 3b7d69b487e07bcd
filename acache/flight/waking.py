"""Waking those who wait on futures of several event loops, from any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from acache.types import Missing

__all__ = ("call_soon", "running_loop", "wake")

T = TypeVar("T")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread, if it runs one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    """Call ``callback(*args)`` in the thread of ``loop``, from any thread."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:  # closed meanwhile: nobody waits there any more
        return


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
            call_soon(loop, _set_all, waiting, outcome)


def _set_all(futures: list[asyncio.Future[T]], outcome: T) -> None:
    for future in futures:
        if not future.done():
            future.set_result(outcome)
