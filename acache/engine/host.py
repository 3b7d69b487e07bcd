"""One computation per host: the lock of a key that processes share, and calls that go on without it.

A host lock saves work; nothing is wrong without it. One that cannot be had in time, or given back, is an event. A
computation that comes to its own key once more, through another cache on the same directory, would wait for itself: it
goes on without.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Final, Protocol, final, runtime_checkable

from acache.events import Events, TierEvent, TierOutcome
from acache.tiers.chain import ChainTier
from acache.types import Key

__all__ = ("HostFlights",)

#: What says that a lock cannot be had: a timeout, which is an OSError, a file system, or an executor that is over.
_NO_LOCK: Final = (OSError, RuntimeError)


#: The locks that the running computation holds.
_holding: ContextVar[frozenset[tuple[Path, Key]]] = ContextVar("acache_host_locks", default=frozenset())


@runtime_checkable
class _HostLocks(Protocol):
    """A tier whose users on one host can exclude each other for one key."""

    name: str

    @property
    def path(self) -> Path: ...

    def hold_host_lock(self, key: Key, timeout: float | None = None) -> AbstractAsyncContextManager[object]: ...


@final
class HostFlights:
    """The host locks of one chain of tiers, if any of its tiers has them. ``timeout`` is in seconds."""

    def __init__(self, chain: ChainTier, events: Events, timeout: float) -> None:
        self._locks = next((tier for tier in chain.tiers if isinstance(tier, _HostLocks)), None)
        self._events = events
        self._timeout = timeout

    def __bool__(self) -> bool:
        return self._locks is not None

    @asynccontextmanager
    async def lock(self, key: Key) -> AsyncGenerator[None]:
        """Hold the key's lock of this host; go on without it when it cannot be had, or given back."""
        if self._locks is None or (self._locks.path, key) in _holding.get():
            yield
            return
        held = self._locks.hold_host_lock(key, self._timeout)
        try:
            await held.__aenter__()
        except _NO_LOCK as error:
            self._report(self._locks.name, key, error)
            yield
            return
        before = _holding.set(_holding.get() | {(self._locks.path, key)})
        try:
            yield
        finally:
            with suppress(ValueError):  # an abandoned coroutine is closed in another context
                _holding.reset(before)
            try:
                await held.__aexit__(None, None, None)
            except _NO_LOCK as error:
                self._report(self._locks.name, key, error)

    def _report(self, tier: str, key: Key, error: Exception) -> None:
        outcome: TierOutcome = "timeout" if isinstance(error, TimeoutError) else "failed"
        self._events.emit(TierEvent(tier, "lock", outcome, key, type(error).__name__))
