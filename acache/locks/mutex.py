"""A mutex that belongs to no event loop: tasks of any loop and plain threads wait in one queue.

``asyncio.Lock`` and ``anyio.Lock`` work in one loop only, ``threading.Lock`` blocks the loop, and a cache made at
import is used by all of them at once.

There is no inner lock, on purpose. The garbage collector may run a coroutine's clean-up, which releases locks, in
the middle of any statement of any thread, and an inner lock would then wait for itself. Every step is one operation
that the interpreter makes atomic instead: the free mutex is a *token* in a list, which ``pop`` takes and ``append`` puts
back; what happens between a releaser and a waiter is decided by ``dict.setdefault``, for which the first caller wins.
"""

from __future__ import annotations

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, final
from weakref import WeakSet

from acache.exceptions import LockTimeoutError
from acache.locks.timeouts import resolve_timeout

__all__ = ("Lock", "LockStatistics", "Turnstile")


@final
@dataclass(frozen=True, slots=True)
class LockStatistics:
    """The state of a lock at one moment."""

    locked: bool
    tasks_waiting: int


class _Waiter(ABC):
    """Somebody in the queue, and two decisions about it, each made once: was it offered the lock, did it take it."""

    __slots__ = ("_fate",)

    def __init__(self) -> None:
        self._fate: dict[Literal["offered", "taken"], bool] = {}

    def offer(self) -> bool:
        """Hand the lock to this waiter; say no if it has given up, or its loop is closed."""
        if not self._fate.setdefault("offered", True):
            return False
        # If it cannot be woken, the offer is taken back, unless it has been found and taken already.
        return self._wake() or self._fate.setdefault("taken", False)

    def settle(self) -> bool:
        """Stop waiting; tell whether the lock was handed over before that."""
        return self._fate.setdefault("offered", False) and self._fate.setdefault("taken", True)

    @abstractmethod
    def _wake(self) -> bool:
        """Let the waiter go on; say no if it never will."""


@final
class _TaskWaiter(_Waiter):
    __slots__ = ("_loop", "future")

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def _wake(self) -> bool:
        # In the loop's own thread there is no need to write to its wake-up pipe.
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - in asyncio's __all__; the public twin raises
            self._resume()
            return True
        try:
            self._loop.call_soon_threadsafe(self._resume)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _resume(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


@final
class _ThreadWaiter(_Waiter):
    __slots__ = ("_gate",)

    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self, seconds: float | None) -> None:
        self._gate.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))

    def _wake(self) -> bool:
        self._gate.release()
        return True


class Turnstile:
    """What lets ``places`` holders in at a time: :class:`Lock` one, :class:`~acache.locks.limiter.Limiter` some."""

    __slots__ = ("__weakref__", "_tokens", "_waiters", "places")

    def __init__(self, places: int = 1) -> None:
        self.places = places
        self._renew()
        _locks.add(self)

    def _renew(self) -> None:
        self._tokens: list[None] = [None] * self.places
        # In order of arrival; of the containers that are atomic, the one that loses an inner item in constant time.
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()

    def acquire_nowait(self) -> bool:
        """Acquire the lock if it is free, without waiting; tell whether it was."""
        try:
            self._tokens.pop()
        except IndexError:
            return False
        return True

    async def acquire(self) -> None:
        """Acquire the lock, however long it takes. Cancelling the wait leaves nothing taken."""
        if self.acquire_nowait():
            return
        waiter = _TaskWaiter()
        try:
            self._join(waiter)
            await waiter.future
        except BaseException:  # also when the coroutine is closed together with its loop
            if self._quit(waiter):
                self._pass_on()
            raise

    def acquire_sync(self, timeout: float | None = None) -> None:
        """Acquire the lock from a plain thread, which is blocked meanwhile; never call it in an event loop's thread.

        ``timeout`` is in seconds, as in :func:`acquire_lock`. Raises :class:`~acache.exceptions.LockTimeoutError`.
        """
        seconds = resolve_timeout(timeout)
        if self.acquire_nowait():
            return
        waiter = _ThreadWaiter()
        try:
            self._join(waiter)
            waiter.wait(seconds)
        except BaseException:
            if self._quit(waiter):
                self._pass_on()
            raise
        if not self._quit(waiter):
            raise LockTimeoutError(self, seconds or 0.0)

    def release(self) -> None:
        """Release the lock, or hand it to the first waiter.

        Raises :class:`RuntimeError` if nobody holds it. Safe to call from any thread, finalizer or signal handler.
        """
        if len(self._tokens) >= self.places:
            msg = "release of a lock that nobody holds"
            raise RuntimeError(msg)
        self._pass_on()

    def locked(self) -> bool:
        """Tell whether nobody else can have the lock now."""
        return not self._tokens

    def statistics(self) -> LockStatistics:
        """Return a frozen view of the state."""
        return LockStatistics(self.locked(), len(self._waiters))

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = f"locked, {len(self._waiters)} waiting" if self.locked() else "free"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: {state}>"

    def _join(self, waiter: _Waiter) -> None:
        self._waiters[waiter] = None
        # A release that came before this saw no waiter: whoever is first in the queue now gets the lock.
        if self.acquire_nowait():
            self._pass_on()

    def _quit(self, waiter: _Waiter) -> bool:
        """Take ``waiter`` out of the queue; tell whether it has got the lock."""
        if waiter.settle():
            return True
        self._waiters.pop(waiter, None)
        return False

    def _pass_on(self) -> None:
        while True:
            while self._waiters:
                with suppress(KeyError):  # another thread was faster
                    waiter, _ = self._waiters.popitem(last=False)
                    if waiter.offer():
                        return
            self._tokens.append(None)
            # One who joined just before the append saw no token: look once more, unless somebody else has taken it.
            if not self._waiters or not self.acquire_nowait():
                return


@final
class Lock(Turnstile):
    """A fair mutex for the tasks of any event loops and for plain threads, in any mixture.

    Waiters are served in the order they came, and a release hands the lock to the next one directly. A waiter that
    is cancelled after that passes it on; one whose loop is closed is passed over. It is not re-entrant and may be
    released by another task or thread than the one that acquired it. In a child of ``os.fork()`` it is free.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1)


_locks: WeakSet[Turnstile] = WeakSet()


def _renew_locks() -> None:
    # The threads and tasks that held or awaited them do not exist in the child.
    for lock in tuple(_locks):
        lock._renew()  # noqa: SLF001 - the other half of the class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
