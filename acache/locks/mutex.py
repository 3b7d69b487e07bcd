"""A mutex that belongs to no event loop: tasks of any loop and plain threads wait in one queue.

``asyncio.Lock`` and ``anyio.Lock`` work in one loop only, ``threading.Lock`` blocks the loop, and a cache made at
import is used by all of them at once.

There is no inner lock, on purpose. The garbage collector may run a coroutine's clean-up, which releases locks, in
the middle of any statement of any thread, and an inner lock would then wait for itself. Every step is one operation
that the interpreter makes atomic instead: the free mutex is a *token* in a list, which ``pop`` takes and ``append`` puts
back; what happens between a releaser and a waiter is decided by ``dict.setdefault``, for which the first caller wins.

A task whose loop was closed under it never gives back what it holds, nor one whose loop is blocked by a sync call that waits for
just that. So holders that can say who they are leave a
:class:`Holding`, and who waits looks now and then whether one is orphaned, and gives it back in the holder's place.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Literal, final
from weakref import WeakSet

from acache.bridge import is_held_up
from acache.clock import SYSTEM_CLOCK
from acache.exceptions import BridgeError, LockTimeoutError
from acache.locks.timeouts import resolve_timeout
from acache.loops import call_soon

__all__ = ("Holding", "Lock", "LockStatistics", "Turnstile")

#: Seconds between two looks of who waits for holders whose loop was closed.
ORPHAN_CHECK: Final = 0.25


@final
@dataclass(frozen=True, slots=True)
class LockStatistics:
    """The state of a lock at one moment."""

    locked: bool
    tasks_waiting: int


@final
class Holding:
    """One holding of a lock, which ends once: by its holder or, if he is no more, by somebody who waits."""

    __slots__ = ("_loop", "_open", "_turnstile")

    def __init__(self, turnstile: Turnstile) -> None:
        self._loop = asyncio._get_running_loop()  # noqa: SLF001 - in asyncio's __all__; the public twin raises
        self._turnstile = turnstile
        self._open = [None]

    @property
    def is_orphaned(self) -> bool:
        """Whether the loop of the holder was closed."""
        return self._loop is not None and self._loop.is_closed()

    @property
    def is_held_up(self) -> bool:
        """Whether the holder cannot go on before the running code is done."""
        return is_held_up(self._loop)

    def end(self) -> bool:
        """End it; tell whether that was not done before. Who is told so gives the lock back."""
        try:
            self._open.pop()
        except IndexError:
            return False
        self._turnstile.holdings.pop(self, None)
        return True

    def release(self) -> None:
        """Give the lock back, unless somebody did in the holder's place."""
        if self.end():
            self._turnstile.release()


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

    @property
    def is_held_up(self) -> bool:
        """Whether the waiter, having got the lock, cannot go on before the running code is done."""
        return False

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

    def fail(self) -> None:
        """Let the waiter raise, unless it goes on already."""
        if not self.future.done():
            self.future.set_exception(
                BridgeError("a sync call in the thread of an event loop waits for what a task of that very loop holds")
            )

    @property
    def is_held_up(self) -> bool:
        return is_held_up(self._loop)

    @contextmanager
    def looking(self, look: Callable[[], object]) -> Generator[None]:
        """Call ``look()`` every now and then, in a ``with`` block."""
        timer: asyncio.TimerHandle

        def again() -> None:
            nonlocal timer
            look()
            timer = self._loop.call_later(ORPHAN_CHECK, again)

        timer = self._loop.call_later(ORPHAN_CHECK, again)
        try:
            yield
        finally:
            timer.cancel()

    def _wake(self) -> bool:
        with suppress(RecursionError):  # the releaser's stack is at its end: this one sees the offer at its next look
            # In the loop's own thread there is no need to write to its wake-up pipe.
            if asyncio._get_running_loop() is not self._loop:  # noqa: SLF001 - in asyncio's __all__; the public twin raises
                return call_soon(self._loop, self._resume)
            self._resume()
        return True

    def resume_if_offered(self) -> None:
        """Go on, if an offer came whose news did not."""
        if self._fate.get("offered"):
            self._resume()

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

    def wait(self, seconds: float) -> bool:
        return self._gate.acquire(timeout=seconds)

    def _wake(self) -> bool:
        self._gate.release()
        return True


class Turnstile:
    """What lets ``places`` holders in at a time: :class:`Lock` one, :class:`~acache.locks.limiter.Limiter` some."""

    __slots__ = ("__weakref__", "_heirs", "_tokens", "_waiters", "holdings", "places")

    def __init__(self, places: int = 1) -> None:
        self.places = places
        self._renew()
        _locks.add(self)

    def _renew(self) -> None:
        self._tokens: list[None] = [None] * self.places
        # In order of arrival; of the containers that are atomic, the one that loses an inner item in constant time.
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()
        #: Those who were handed the lock and have yet to hear of it.
        self._heirs: dict[_Waiter, None] = {}
        #: Those of its holders that are known.
        self.holdings: dict[Holding, None] = {}

    def acquire_nowait(self) -> bool:
        """Acquire the lock if it is free, without waiting; tell whether it was."""
        return self._take() or (self._end_orphans() and self._take())

    def held(self) -> Holding:
        """Note who has just acquired the lock: the running task, which gives it back by what this returns."""
        holding = Holding(self)
        self.holdings[holding] = None
        return holding

    async def acquire(self) -> None:
        """Acquire the lock, however long it takes. Cancelling the wait leaves nothing taken."""
        if self.acquire_nowait():
            return
        waiter = _TaskWaiter()
        try:
            self._join(waiter)
            self._look(waiter)
            with waiter.looking(partial(self._look, waiter)):
                await waiter.future
            self._heirs.pop(waiter, None)
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
            self._wait_in_thread(waiter, math.inf if seconds is None else seconds)
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

    def _take(self) -> bool:
        try:
            self._tokens.pop()
        except IndexError:
            return False
        return True

    def _end_orphans(self) -> bool:
        """Give back what holders have whose loop was closed; tell whether there were any."""
        ended = [holding for holding in tuple(self.holdings) if holding.is_orphaned and holding.end()]
        for _ in ended:
            self._pass_on()
        return bool(ended)

    def _look(self, waiter: _TaskWaiter) -> None:
        """Give back what orphans hold; let a wait fail that would be for ever: when nobody who is in can go on."""
        waiter.resume_if_offered()
        self._end_orphans()
        having: tuple[Holding | _Waiter, ...] = (*tuple(self.holdings), *tuple(self._heirs))
        if len(having) >= self.places and all(each.is_held_up for each in having):
            waiter.fail()

    def _wait_in_thread(self, waiter: _ThreadWaiter, seconds: float) -> None:
        deadline = SYSTEM_CLOCK.monotonic() + seconds
        while not waiter.wait(max(0.0, min(ORPHAN_CHECK, deadline - SYSTEM_CLOCK.monotonic()))):
            if SYSTEM_CLOCK.monotonic() >= deadline:
                return
            self._end_orphans()

    def _join(self, waiter: _Waiter) -> None:
        self._waiters[waiter] = None
        # A release that came before this saw no waiter: whoever is first in the queue now gets the lock.
        if self._take():
            self._pass_on()

    def _quit(self, waiter: _Waiter) -> bool:
        """Take ``waiter`` out of the queue; tell whether it has got the lock."""
        if waiter.settle():
            self._heirs.pop(waiter, None)
            return True
        self._waiters.pop(waiter, None)
        return False

    def _pass_on(self) -> None:
        while True:
            while self._waiters:
                with suppress(KeyError):  # another thread was faster
                    waiter, _ = self._waiters.popitem(last=False)
                    self._heirs[waiter] = None
                    if waiter.offer():
                        return
                    self._heirs.pop(waiter, None)
            self._tokens.append(None)
            # One who joined just before the append saw no token: look once more, unless somebody else has taken it.
            if not self._waiters or not self._take():
                return


@final
class Lock(Turnstile):
    """A fair mutex for the tasks of any event loops and for plain threads, in any mixture.

    Waiters are served in the order they came, and a release hands the lock to the next one directly. A waiter that
    is cancelled after that passes it on; one whose loop is closed is passed over. It is not re-entrant and may be
    released by another task or thread than the one that acquired it, unless that one calls :meth:`held`. In a child of
    ``os.fork()`` it is free.
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
