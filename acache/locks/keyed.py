"""One lock per key, for as long as somebody wants it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar, final
from weakref import WeakSet

import anyio

from acache.exceptions import LockTimeoutError
from acache.locks.acquiring import unsafe_acquire_lock
from acache.locks.mutex import Holding, Lock
from acache.locks.timeouts import BLOCKING, resolve_timeout

__all__ = ("KeyedLock",)

K = TypeVar("K", bound=Hashable)


@final
class KeyedLock(Generic[K]):
    """A table of locks by key; a key that nobody holds or waits for takes no room.

    Safe for the tasks of any event loops. ``len()`` is the number of keys in use. In a child of ``os.fork()`` it is empty.
    """

    __slots__ = ("__weakref__", "_locks")

    # Only the one who holds a key's lock takes it out of the table, and whoever acquires a lock looks whether it is
    # still the one in the table. So the table needs no lock of its own, and every step is safe at any moment.

    def __init__(self) -> None:
        self._locks: dict[K, Lock] = {}
        _tables.add(self)

    @asynccontextmanager
    async def hold(self, key: K, timeout: float | None = None) -> AsyncGenerator[None]:
        """Hold the lock of ``key`` for an ``async with`` block.

        ``timeout`` is in seconds, as in :func:`acquire_lock`. Raises :class:`~acache.exceptions.LockTimeoutError`.
        Cancelled, it leaves nothing taken and no key behind.
        """
        holding = await self.acquire(key, timeout)
        try:
            yield
        finally:
            self.release(key, holding)

    async def acquire(self, key: K, timeout: float | None = None) -> Holding:
        """Acquire the lock of ``key``, which the caller has to release; otherwise as :meth:`hold`."""
        seconds = resolve_timeout(timeout)
        deadline = None if seconds is None else anyio.current_time() + seconds
        while True:
            lock = self._locks.get(key) or self._locks.setdefault(key, Lock())
            left = BLOCKING if deadline is None else max(0.0, deadline - anyio.current_time())
            try:
                await unsafe_acquire_lock(lock, left)
            except BaseException as error:
                # If this was the last one interested, nobody else will take the key out of the table.
                if lock.acquire_nowait():
                    self._leave(key, lock)
                if isinstance(error, LockTimeoutError):
                    raise LockTimeoutError(self, seconds or 0.0) from None
                raise
            if self._locks.get(key) is lock:
                return lock.held()
            # Its last holder took it out of the table while this task was joining the queue.
            lock.release()

    def release(self, key: K, holding: Holding) -> None:
        """Release the lock of ``key``, or hand it to the first waiter, unless that was done in the holder's place."""
        lock = self._locks.get(key)
        if holding.end() and lock is not None:
            self._leave(key, lock)

    def locked(self, key: K) -> bool:
        """Tell whether somebody holds ``key``."""
        lock = self._locks.get(key)
        return lock is not None and lock.locked()

    def keys(self) -> tuple[K, ...]:
        """Return the keys in use at this moment."""
        return tuple(self._locks)

    def __len__(self) -> int:
        return len(self._locks)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__}: {len(self)} keys>"

    def _leave(self, key: K, lock: Lock) -> None:
        if not lock.statistics().tasks_waiting and self._locks.get(key) is lock:
            del self._locks[key]
        lock.release()


_tables: WeakSet[KeyedLock[Any]] = WeakSet()


def _empty_tables() -> None:
    for table in tuple(_tables):
        table._locks.clear()  # noqa: SLF001 - the other half of the class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_empty_tables)
