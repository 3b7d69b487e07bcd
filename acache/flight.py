"""Single flight: one computation per key, however many tasks, event loops and threads ask for it.

A flight is a task of its own, in a copy of its first caller's context. It belongs to the table, not to that caller: each
waiter holds a count, a cancelled waiter leaves the others alone, and the computation is cancelled when the last one has
left. Waiters wait on futures of their own loops and are woken across threads, so nothing is bound to one loop.

A flight may publish what it computed only while it *holds* (:meth:`Flight.holds`): a delete, clear or set of its key
takes that away and takes the flight out of the table, so that later callers start anew. When a flight's loop dies,
a waiter of another loop takes the flight over.

Every change of the table happens under one mutex, in which nothing waits and no user code runs. It is one for all tables,
because flights of different caches may wait for each other: a caller that would close a circle of waiting flights gets
a :class:`~acache.exceptions.RecursiveCallError` instead of a deadlock.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Generic, TypeVar, cast, final

from acache import exceptions
from acache.exceptions import BridgeError, RecursiveCallError
from acache.types import MISSING, Key, Missing

__all__ = ("Flight", "FlightTable", "LeaderLost", "computing_for", "current_flight", "is_alive", "wake")

T = TypeVar("T")

#: Seconds between two looks at whether another loop's flight is still alive.
FOREIGN_CHECK: Final = 0.25

#: The key of what stands for several flights.
_NOBODY: Final = Key("0" * 64)

_mutex = threading.Lock()
#: The flights whose computation the running code is part of, outermost first.
_aboard: ContextVar[tuple[Flight[Any], ...]] = ContextVar("acache_flights", default=())


class LeaderLost(Exception):  # noqa: N818 - a signal between waiters, never seen by a caller
    """Raised when the one who computed is gone: a waiter takes over."""


@final
class Flight(Generic[T]):
    """One computation under way."""

    __slots__ = (
        "_error",
        "_futures",
        "_traceback",
        "_value",
        "awaited",
        "born",
        "interim",
        "is_followed",
        "is_noted",
        "key",
        "label",
        "landing",
        "loop",
        "progress",
        "settled",
        "stores",
        "task",
        "valid",
        "waiters",
    )

    def __init__(self, key: Key, label: str, loop: asyncio.AbstractEventLoop, born: int = 0) -> None:
        self.key = key
        #: Orders it among what its owner counts.
        self.born = born
        self.label = label
        self.loop = loop
        #: Whether one of those who take part wants its result to be stored.
        self.stores = False
        #: Whether it was noted that it failed, or took too long for somebody.
        self.is_noted = False
        #: Whether somebody who has left tells what it comes to.
        self.is_followed = False
        self.task: asyncio.Task[None] | None = None
        self.waiters = 0
        #: Whether nobody changed the key since the flight began.
        self.valid = True
        #: Whether the computation is over and only the storing remains: the last waiter's leaving does not stop that.
        self.landing = False
        self.settled = False
        #: What later callers get while the flight goes on; missing: they wait for its end.
        self.interim: T | Missing = MISSING
        #: What those who take part look at before the end, if anything.
        self.progress: Any = None
        #: The flights this one's computation waits for.
        self.awaited: set[Flight[Any]] = set()
        #: Each comes to what its waiter gets, or to nothing: then the flight has settled.
        self._futures: set[asyncio.Future[T | Missing]] = set()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._traceback: Any = None

    def __repr__(self) -> str:
        state = "settled" if self.settled else "landing" if self.landing else "under way"
        return f"<Flight {self.label} {self.key[:20]}… {state}, {self.waiters} waiting>"

    def holds(self) -> bool:
        """Tell whether the result may still be published."""
        return self.valid

    def result(self, *, leader: bool) -> T:
        """Return or raise what the flight came to; interrupts meant for the leader alone are translated for others."""
        error = self._error
        if error is None:
            return cast("T", self._value)
        if not leader and not isinstance(error, Exception):
            raise exceptions.SystemError(
                f"the computation of {self.label} was ended by {type(error).__name__}"
            ) from None
        # Every waiter raises the same object: give it back the traceback of the computation, or it would grow by
        # one waiter's frames each time.
        raise error.with_traceback(self._traceback)

    def settle(self, value: T | None, error: BaseException | None) -> set[asyncio.Future[T | Missing]]:
        """Note the end and return the futures to wake. Under the mutex."""
        self.settled = True
        self._value, self._error = value, error
        self._traceback = None if error is None else error.__traceback__
        return self.dismiss()

    def dismiss(self) -> set[asyncio.Future[T | Missing]]:
        """Return the futures of those who wait now, to be woken. Under the mutex."""
        futures, self._futures = self._futures, set()
        return futures

    def add(self, future: asyncio.Future[T | Missing]) -> bool:
        """Let ``future`` be woken at the end; false when nobody has to wait any more. Under the mutex."""
        waits = not self.settled and self.interim is MISSING
        if waits:
            self._futures.add(future)
        return waits

    def discard(self, future: asyncio.Future[T | Missing]) -> None:
        """Forget ``future``. Under the mutex."""
        self._futures.discard(future)

    def reaches(self, others: tuple[Flight[Any], ...]) -> bool:
        """Tell whether this flight is, or waits for, one of ``others`` that has not landed. Under the mutex."""
        seen: set[Flight[Any]] = set()
        pending: list[Flight[Any]] = [self]
        while pending:
            flight = pending.pop()
            if flight in others and not flight.settled:
                return True
            if flight not in seen:
                seen.add(flight)
                pending.extend(flight.awaited)
        return False


@final
class FlightTable:
    """The flights of one cache."""

    __slots__ = ("__weakref__", "_flights")

    def __init__(self) -> None:
        self._flights: dict[Key, Flight[Any]] = {}
        _tables.add(self)

    def __len__(self) -> int:
        return len(self._flights)

    async def run(
        self,
        key: Key,
        label: str,
        produce: Callable[[Flight[T]], Awaitable[T]],
        *,
        blocked: asyncio.AbstractEventLoop | None = None,
        born: int = 0,
        stores: bool = True,
    ) -> tuple[T, bool]:
        """Return what ``produce`` gives, and whether another caller had begun it.

        ``blocked`` is the loop of the thread that waits for this call, if it runs one: joining a flight of that loop
        would be for ever and raises :class:`~acache.exceptions.BridgeError`. A flight that begins is ``born`` so. ``stores`` says whether this
        caller wants the result to be stored. A cancelled caller leaves; the last one to leave cancels ``produce``. Exceptions of ``produce`` reach every waiter.
        """
        while True:
            aboard = _aboard.get()
            flight, leads = self._enter(key, label, blocked, aboard, born=born, stores=stores)
            if leads:
                self._depart(flight, produce)
            try:
                early = await self._wait(flight)
                return (flight.result(leader=leads) if early is MISSING else early), not leads
            except LeaderLost:
                continue
            finally:
                self._leave(flight, aboard)

    @contextmanager
    def board(
        self,
        key: Key,
        label: str,
        produce: Callable[[Flight[T]], Awaitable[T]],
        progress: Callable[[], Any],
        *,
        stores: bool = True,
    ) -> Generator[tuple[Flight[T], bool]]:
        """Take part in the flight of ``key`` for a ``with`` block without waiting for its end; otherwise as :meth:`run`.

        What there is to see of it before the end is ``flight.progress``, which ``progress()`` makes when the flight
        begins; that must not wait.
        """
        aboard = _aboard.get()  # the block may end in another context: an async generator's clean-up has one of its own
        flight, leads = self._enter(key, label, None, aboard, progress, stores=stores)
        if leads:
            self._depart(flight, produce)
        try:
            yield flight, leads
        finally:
            self._leave(flight, aboard)

    def release(self, flight: Flight[T], value: T, interim: T | Missing) -> None:
        """Let those who wait for ``flight`` go with ``value``, while it goes on without them.

        Later callers get ``interim`` at once or, if it is missing, wait for the end.
        """
        with _mutex:
            flight.landing = True
            flight.interim = interim
            futures = flight.dismiss()
        wake(futures, value)

    def is_to_store(self, flight: Flight[Any]) -> bool:
        """Tell whether one of those who take part wants the result to be stored; if not, nobody joins from now on."""
        with _mutex:
            if not flight.stores:
                self._ground(flight)
            return flight.stores

    def ground(self, flight: Flight[Any]) -> None:
        """Take the right to publish from ``flight``; later callers start a new one."""
        with _mutex:
            self._ground(flight)

    def invalidate(self, key: Key) -> None:
        """Take the right to publish from the flight of ``key``: its waiters get its result, later callers a new one."""
        with _mutex:
            self._ground(self._flights.get(key))

    def invalidate_if(self, key: Key, is_late: Callable[[Flight[Any]], bool]) -> None:
        """Do :meth:`invalidate` if there is a flight for which ``is_late`` holds; it is called under the mutex."""
        with _mutex:
            flight = self._flights.get(key)
            if flight is not None and is_late(flight):
                self._ground(flight)

    def invalidate_all(self, prefix: str = "") -> None:
        """Do :meth:`invalidate` for every key that begins with ``prefix``."""
        with _mutex:
            for flight in [flight for key, flight in self._flights.items() if key.startswith(prefix)]:
                self._ground(flight)

    def of(self, key: Key) -> Flight[Any] | None:
        """Return the flight of ``key``, if there is one that callers may join."""
        return self._flights.get(key)

    def __iter__(self) -> Iterator[Flight[Any]]:
        return iter(list(self._flights.values()))

    # --- joining and leaving --------------------------------------------------------------------------------------

    def _enter(
        self,
        key: Key,
        label: str,
        blocked: asyncio.AbstractEventLoop | None,
        aboard: tuple[Flight[Any], ...],
        progress: Callable[[], Any] | None = None,
        born: int = 0,
        *,
        stores: bool,
    ) -> tuple[Flight[Any], bool]:
        loop = asyncio.get_running_loop()
        with _mutex:
            flight = self._flights.get(key)
            if flight is not None and not is_alive(flight, loop):
                self._ground(flight)
                flight = None
            leads = flight is None
            if flight is None:
                flight = self._flights[key] = Flight[Any](key, label, loop, born)
                flight.progress = None if progress is None else progress()
            elif flight.reaches(aboard):
                raise RecursiveCallError(label, key)
            elif flight.loop is blocked:
                raise BridgeError(
                    f"{label} is being computed on the event loop of this very thread, which this sync call blocks; "
                    f"await its .aio() form instead"
                )
            flight.waiters += 1
            flight.stores = flight.stores or stores
            if aboard:
                aboard[-1].awaited.add(flight)
        return flight, leads

    def _leave(self, flight: Flight[Any], aboard: tuple[Flight[Any], ...]) -> None:
        with _mutex:
            if aboard:
                aboard[-1].awaited.discard(flight)
            flight.waiters -= 1
            if flight.waiters or flight.settled or flight.landing:
                return
            self._remove(flight)
            task, loop = flight.task, flight.loop
        if task is None or loop.is_closed():
            return
        if loop is _running_loop():
            task.cancel()
        else:
            _call_soon(loop, task.cancel)

    async def _wait(self, flight: Flight[T]) -> T | Missing:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T | Missing] = loop.create_future()
        with _mutex:
            waits = flight.add(future)
        if not waits:
            return flight.interim
        try:
            if flight.loop is loop:
                await future
            else:
                await self._wait_for_other_loop(flight, future)
        finally:
            with _mutex:
                flight.discard(future)
        return future.result()

    async def _wait_for_other_loop(self, flight: Flight[T], future: asyncio.Future[T | Missing]) -> None:
        strikes = 0
        while not future.done():
            await asyncio.wait({future}, timeout=FOREIGN_CHECK)
            # A loop between two runs is no longer alive either, but may only be between two runs: look twice.
            strikes = 0 if is_alive(flight, None) else strikes + 1
            if not future.done() and (strikes > 1 or flight.loop.is_closed()):
                with _mutex:
                    self._ground(flight)
                raise LeaderLost

    def _depart(self, flight: Flight[T], produce: Callable[[Flight[T]], Awaitable[T]]) -> None:
        # The loop keeps only weak references to tasks: the flight holds this one until it ends.
        flight.task = flight.loop.create_task(self._fly(flight, produce), name=f"acache:{flight.label}")

    # --- computing ------------------------------------------------------------------------------------------------

    async def _fly(self, flight: Flight[T], produce: Callable[[Flight[T]], Awaitable[T]]) -> None:
        _aboard.set((*_aboard.get(), flight))  # the task has a context of its own
        value: T | None = None
        error: BaseException | None = None
        try:
            value = await produce(flight)
        except asyncio.CancelledError as cancelled:
            # Cancelled from outside (its loop is closing): others take over. Raised by the computation itself: its
            # result, like any other exception.
            from_outside = flight.task is not None and flight.task.cancelling() > 0
            error = LeaderLost() if from_outside else cancelled
        except BaseException as raised:  # noqa: BLE001 - each waiter raises it in its own task
            error = raised
        with _mutex:
            self._remove(flight)
            futures = flight.settle(value, error)
        wake(futures, MISSING)

    def _remove(self, flight: Flight[Any]) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _ground(self, flight: Flight[Any] | None) -> None:
        if flight is not None:
            flight.valid = False
            self._remove(flight)

    def forget_all(self) -> None:
        """Start afresh in a forked child: its parent's flights are not its own."""
        self._flights = {}


def current_flight() -> Flight[Any] | None:
    """Return the flight whose computation the running code is part of, the innermost one."""
    aboard = _aboard.get()
    return aboard[-1] if aboard else None


@contextmanager
def computing_for(flights: Collection[Flight[Any]], label: str) -> Generator[None]:
    """Let what runs inside be the computation of all of ``flights``: what it waits for, each of them waits for."""
    shared: Flight[Any] = Flight(_NOBODY, label, asyncio.get_running_loop())
    with _mutex:
        for flight in flights:
            flight.awaited.add(shared)
    before = _aboard.set((shared,))
    try:
        yield
    finally:
        _aboard.reset(before)
        with _mutex:
            shared.settled = True
            for flight in flights:
                flight.awaited.discard(shared)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_alive(flight: Flight[Any], here: asyncio.AbstractEventLoop | None) -> bool:
    """Tell whether the loop of ``flight`` runs, which it does if it is ``here``."""
    return flight.loop is here or flight.loop.is_running()


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:  # closed meanwhile: nobody waits there any more
        return


def wake(futures: set[asyncio.Future[T | Missing]], outcome: T | Missing) -> None:
    """Wake the waiters: here at once, on other loops by one call for each loop."""
    here = _running_loop()
    elsewhere: dict[asyncio.AbstractEventLoop, list[asyncio.Future[T | Missing]]] = {}
    for future in futures:
        elsewhere.setdefault(future.get_loop(), []).append(future)
    for loop, waiting in elsewhere.items():
        if loop is here:
            _set_all(waiting, outcome)
        else:
            _call_soon(loop, _set_all, waiting, outcome)


def _set_all(futures: list[asyncio.Future[T]], outcome: T) -> None:
    for future in futures:
        if not future.done():
            future.set_result(outcome)


_tables: weakref.WeakSet[FlightTable] = weakref.WeakSet()


def _after_fork() -> None:
    global _mutex  # noqa: PLW0603 - another thread of the parent may have held it
    _mutex = threading.Lock()
    for table in list(_tables):
        table.forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
