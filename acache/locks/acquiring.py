"""Waiting for a lock with a time limit, for one lock and for many at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

import anyio

from acache.exceptions import LockTimeoutError
from acache.locks.mutex import Lock
from acache.locks.timeouts import BLOCKING, resolve_timeout

__all__ = ("Lockable", "acquire_lock", "acquire_many_locks", "unsafe_acquire_lock")


class Lockable(Protocol):
    """Something with a name and a lock: every tier."""

    @property
    def name(self) -> str:
        """What orders it among others."""
        ...

    def lock(self, timeout: float | None = None) -> AbstractAsyncContextManager[object]:
        """Hold its lock for an ``async with`` block."""
        ...


@asynccontextmanager
async def acquire_lock(lock: anyio.Lock | Lock, timeout: float | None = None) -> AsyncGenerator[None]:
    """Hold ``lock`` for an ``async with`` block.

    ``timeout`` is in seconds. Raises :class:`~acache.exceptions.LockTimeoutError` when they are over, and
    :class:`~acache.exceptions.ConfigurationError` for a ``timeout`` that is none. Cancelled, it leaves nothing taken.
    """
    await unsafe_acquire_lock(lock, timeout)
    holding = lock.held() if isinstance(lock, Lock) else lock
    try:
        yield
    finally:
        holding.release()


async def unsafe_acquire_lock(lock: anyio.Lock | Lock, timeout: float | None = None) -> None:
    """Acquire ``lock``, which the caller has to release; otherwise as :func:`acquire_lock`."""
    seconds = resolve_timeout(timeout)
    if _acquire_nowait(lock):
        return
    if seconds is None:
        await lock.acquire()
        return
    if seconds:
        with anyio.move_on_after(seconds):
            await lock.acquire()
            return
    raise LockTimeoutError(lock, seconds)


@asynccontextmanager
async def acquire_many_locks(*tiers: Lockable, timeout: float | None = None) -> AsyncGenerator[None]:
    """Hold the locks of all ``tiers`` for an ``async with`` block: all of them or, when that fails, none.

    They are taken one after another in an order that does not depend on that of the arguments, so that two callers
    never wait for each other; a tier given twice is locked once. ``timeout`` seconds bound the whole.
    """
    seconds = resolve_timeout(timeout)
    deadline = None if seconds is None else anyio.current_time() + seconds
    distinct = {id(tier): tier for tier in tiers}.values()
    async with AsyncExitStack() as stack:
        for tier in sorted(distinct, key=_rank):
            left = BLOCKING if deadline is None else max(0.0, deadline - anyio.current_time())
            await stack.enter_async_context(tier.lock(left))
        yield


def _rank(tier: Lockable) -> tuple[str, str, int]:
    # Names and types are the same in every process; the address orders what only this process can tell apart.
    return tier.name, type(tier).__qualname__, id(tier)


def _acquire_nowait(lock: anyio.Lock | Lock) -> bool:
    if isinstance(lock, Lock):
        return lock.acquire_nowait()
    try:
        lock.acquire_nowait()
    except anyio.WouldBlock:
        return False
    return True
