"""Waiting for a lock with a time limit, for one lock and for many at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol, TypeAlias, runtime_checkable

import anyio

from acache.exceptions import ConfigurationError, FileLockTimeoutError, LockTimeoutError, UserError
from acache.locks.mutex import Lock
from acache.locks.timeouts import BLOCKING, resolve_timeout

__all__ = (
    "LockRank",
    "Lockable",
    "RankedLocks",
    "acquire_lock",
    "acquire_many_locks",
    "rank_of",
    "unsafe_acquire_lock",
)

#: What tells a lock from all others, and orders it among them: (0, path, "", 0) for a lock file, which processes share.
LockRank: TypeAlias = tuple[int, str, str, int]


class Lockable(Protocol):
    """Something with a name and a lock: every tier."""

    @property
    def name(self) -> str:
        """What orders it among others."""
        ...

    def lock(self, timeout: float | None = None) -> AbstractAsyncContextManager[object]:
        """Hold its lock for an ``async with`` block."""
        ...


@runtime_checkable
class RankedLocks(Protocol):
    """Something whose lock is that of others, or is shared with others."""

    async def ranked_locks(self) -> Mapping[LockRank, Lockable]:
        """Return what has to be locked for it, each under its own rank. Locks nothing."""
        ...


@asynccontextmanager
async def acquire_lock(lock: anyio.Lock | Lock, timeout: float | None = None) -> AsyncGenerator[None]:
    """Hold ``lock`` for an ``async with`` block.

    ``timeout`` is in seconds. Raises :class:`~acache.exceptions.LockTimeoutError` when they are over, and
    :class:`~acache.exceptions.ConfigurationError` for a ``timeout`` or a ``lock`` that is none. Cancelled, it leaves nothing
    taken.

    An ``anyio.Lock`` that this very task holds will not be free before the wait is over: that is the same timeout, at once,
    and with :data:`~acache.locks.BLOCKING` a :class:`~acache.exceptions.UserError`. A lock of acache belongs to no task.
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
    _check(lock)
    is_own = _is_held_here(lock)
    if is_own and seconds is None:
        raise UserError("this task holds the anyio.Lock already: it would wait for itself for ever")
    if not is_own and _acquire_nowait(lock):
        return
    if seconds is None:
        await lock.acquire()
        return
    if seconds and not is_own:
        with anyio.move_on_after(seconds):
            await lock.acquire()
            return
    raise LockTimeoutError(lock, seconds)


@asynccontextmanager
async def acquire_many_locks(*tiers: Lockable, timeout: float | None = None) -> AsyncGenerator[None]:
    """Hold the locks of all ``tiers`` for an ``async with`` block: all of them or, when that fails, none.

    They are taken one after another in an order that does not depend on that of the arguments, so that two callers
    never wait for each other. A chain is its tiers; a tier given twice, and several of one directory, are locked once.
    ``timeout`` seconds bound the whole. Raises :class:`~acache.exceptions.LockTimeoutError` or
    :class:`~acache.exceptions.FileLockTimeoutError`, which tell these seconds and not those that were left for the last one.
    """
    seconds = resolve_timeout(timeout)
    deadline = None if seconds is None else anyio.current_time() + seconds
    locks: dict[LockRank, Lockable] = {}
    for tier in tiers:
        locks.update(await tier.ranked_locks() if isinstance(tier, RankedLocks) else {rank_of(tier): tier})
    async with AsyncExitStack() as stack:
        for _, tier in sorted(locks.items(), key=lambda item: item[0]):
            left = BLOCKING if deadline is None else max(0.0, deadline - anyio.current_time())
            try:
                await stack.enter_async_context(tier.lock(left))
            except (LockTimeoutError, FileLockTimeoutError) as error:
                raise type(error)(tier, error.timeout if seconds is None else seconds) from None
        yield


def rank_of(tier: Lockable) -> LockRank:
    """Return the rank of a lock of ``tier`` alone."""
    # Names and types are the same in every process; the address orders what only this process can tell apart.
    return 1, tier.name, type(tier).__qualname__, id(tier)


def _check(lock: object) -> None:
    if not isinstance(lock, (Lock, anyio.Lock)):
        kind = f"{type(lock).__module__}.{type(lock).__qualname__}"
        raise ConfigurationError("acquire_lock", f"expected an acache.locks.Lock or an anyio.Lock, not a {kind}")


def _is_held_here(lock: anyio.Lock | Lock) -> bool:
    # anyio's lock raises a RuntimeError for its own task, whatever the timeout.
    return isinstance(lock, anyio.Lock) and lock.locked() and lock.statistics().owner == anyio.get_current_task()


def _acquire_nowait(lock: anyio.Lock | Lock) -> bool:
    if isinstance(lock, Lock):
        return lock.acquire_nowait()
    try:
        lock.acquire_nowait()
    except anyio.WouldBlock:
        return False
    return True
