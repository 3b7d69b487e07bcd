"""The way from the event loop to a thread and back, for calls that block: the lane, or a thread of the executor.

A thread cannot be interrupted. A read that nobody waits for any more may run on; a write may not: it would undo what its
caller does next. So a cancelled write that has begun is waited for, and one that has not never begins.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar, TypeVarTuple, cast, final

from aiofiles.os import wrap

from acache.files.lane import LANE

__all__ = ("in_thread", "in_thread_to_the_end", "long_in_thread", "long_in_thread_to_the_end")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def in_thread(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Call ``function`` in a thread. When this is cancelled the call goes on by itself, and its result is lost."""
    return await _hop(partial(function, *args))


async def in_thread_to_the_end(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Call ``function`` in a thread; cancelled, not at all or completely before the cancellation goes on.

    A second cancellation does not wait: the disk may never answer.
    """
    return await _to_the_end(_hop, partial(function, *args))


async def long_in_thread(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Do as :func:`in_thread` for a call that may take long, and would hold up the small ones of the lane."""
    return await _in_executor(partial(function, *args))


async def long_in_thread_to_the_end(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Do as :func:`in_thread_to_the_end` for a call that takes seconds, which would hold up the small ones of the lane."""
    return await _to_the_end(_in_executor, partial(function, *args))


async def _to_the_end(hop: Callable[[Callable[[], T | None]], Awaitable[T | None]], function: Callable[[], T]) -> T:
    progress = _Progress()
    try:
        return cast("T", await hop(partial(_follow, progress, function)))
    except asyncio.CancelledError:
        await progress.settle()
        raise


def _hop(function: Callable[[], T]) -> Awaitable[T]:
    return LANE.run(partial(_apply, function)) if LANE.is_free else _in_executor(function)


async def _in_executor(function: Callable[[], T]) -> T:
    call = partial(_apply, function)
    begun = False

    def begin() -> T:
        nonlocal begun
        begun = True
        return call()

    try:
        return await cast("Awaitable[T]", _threaded(begin))
    except RuntimeError:
        if begun:
            raise
        # Executors end before the interpreter's last threads do; those may still read and write.
        outcome: T = await LANE.run(call)
        return outcome


def _apply(function: Callable[[], T]) -> T:
    try:
        return function()
    except StopIteration as error:  # a future refuses it, and who awaits it would never wake up
        raise RuntimeError("a call in a thread raised StopIteration") from error


def _call(function: Callable[[], T]) -> T:
    return function()


_threaded: Final = wrap(_call)


def _follow(progress: _Progress, function: Callable[[], T]) -> T | None:
    if not progress.begin():
        return None
    try:
        return function()
    finally:
        progress.end()


@final
class _Progress:
    """How far a call in a thread has come, for the task that gave it up."""

    __slots__ = ("_begun", "_ended", "_given_up", "_lock", "_wake")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = self._ended = self._given_up = False
        self._wake: Callable[[], object] | None = None

    def begin(self) -> bool:
        """Tell whether the call is still wanted. In the thread."""
        with self._lock:
            self._begun = True
            return not self._given_up

    def end(self) -> None:
        """Wake who waits. In the thread."""
        with self._lock:
            self._ended = True
            wake = self._wake
        if wake is not None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                wake()

    async def settle(self) -> None:
        """Forbid the call to begin, or wait for its end. In the task."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._given_up = True
            if self._ended or not self._begun:
                return
            self._wake = partial(loop.call_soon_threadsafe, ended.set)
        await ended.wait()
