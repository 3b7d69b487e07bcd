"""The table of a cache's flights, and every step that changes it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar, final
from weakref import WeakSet

from acache.bridge import add_hold_up
from acache.flight.flight import BLOCKING, Flight, LeaderLost, Seat, holds_up
from acache.flight.waking import is_woken, running_loop, wake
from acache.loops import call_soon
from acache.mutexes import make_mutex
from acache.types import MISSING, Key, Missing

__all__ = ("FlightTable", "computing_for", "current_flight")

T = TypeVar("T")

#: The key of what stands for several flights.
_NOBODY: Final = Key("0" * 64)

_mutex: Final = make_mutex()
#: The flights whose computation the running code is part of, outermost first.
_aboard: ContextVar[tuple[Flight[Any], ...]] = ContextVar("acache_flights", default=())


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

        ``blocked`` is the loop of the thread that waits for this call, if it runs one: joining a flight that needs that
        loop would be for ever and raises :class:`~acache.exceptions.BridgeError`; so does what would need it later. A flight
        that begins is ``born`` so. ``stores`` says whether this caller wants the result to be stored. A cancelled caller
        leaves; the last one to leave cancels ``produce``. Exceptions of ``produce`` reach every waiter.
        """
        while True:
            seat = self._enter(key, label, blocked=blocked, born=born, stores=stores)
            flight: Flight[T] = seat.flight
            try:
                if seat.leads:
                    self._depart(flight, produce)
                early = await self._wait(flight)
                return (flight.result(leader=seat.leads) if early is MISSING else early), not seat.leads
            except LeaderLost:
                continue
            finally:
                self._leave(seat)

    @contextmanager
    def board(
        self,
        key: Key,
        label: str,
        produce: Callable[[Flight[T]], Awaitable[T]],
        progress: Callable[[], Any],
        *,
        born: int = 0,
        stores: bool = True,
    ) -> Generator[tuple[Flight[T], bool]]:
        """Take part in the flight of ``key`` for a ``with`` block without waiting for its end; otherwise as :meth:`run`.

        What there is to see of it before the end is ``flight.progress``, which ``progress()`` makes when the flight
        begins; that must not wait.
        """
        # The block may end in another context, as an async generator's clean-up has one of its own: the seat knows it all.
        seat = self._enter(key, label, progress=progress, born=born, stores=stores)
        try:
            if seat.leads:
                self._depart(seat.flight, produce)
            yield seat.flight, seat.leads
        finally:
            self._leave(seat)

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
            for flight in self:
                if flight.key.startswith(prefix):
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
        *,
        blocked: asyncio.AbstractEventLoop | None = None,
        progress: Callable[[], Any] | None = None,
        born: int = 0,
        stores: bool = True,
    ) -> Seat:
        loop, aboard = asyncio.get_running_loop(), _aboard.get()
        with _mutex:
            flight = self._flights.get(key)
            if flight is not None and not (flight.loop is loop or flight.loop.is_running()):
                self._ground(flight)
                flight = None
            new: Flight[Any] | None = None
            if flight is None:
                new = Flight(key, label, loop, born)
                new.progress = None if progress is None else progress()
                flight = self._flights.setdefault(key, new)
            seat = Seat(flight, aboard[-1] if aboard else None, blocked=blocked, leads=flight is new)
            flight.waiters += 1
            flight.stores = flight.stores or stores
            # First, then the look for a circle: of two who close one together, one must see it.
            seat.take()
            closes = not seat.leads and (aboard or blocked is not None)
            error = seat.circle(aboard) if closes else None
            if error is not None:
                seat.give_up()
        if error is not None:
            self._leave(seat)
            raise error
        return seat

    def _leave(self, seat: Seat) -> None:
        flight = seat.flight
        with _mutex:
            seat.give_up()
            flight.waiters -= 1
            if flight.waiters or flight.settled or flight.landing:
                return
            # Who joins in the middle of this, in a finalizer, finds the flight cancelled and begins another one.
            self._remove(flight)
            task, loop = flight.task, flight.loop
        if task is None or loop.is_closed():
            return
        if loop is running_loop():
            task.cancel()
        else:
            call_soon(loop, task.cancel)

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
            elif not await is_woken(future, flight.loop):
                with _mutex:
                    self._ground(flight)
                raise LeaderLost
        finally:
            with _mutex:
                flight.discard(future)
        return future.result()

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
        if flight.listed:  # nothing comes between this and what follows: no call, and nothing is allocated
            flight.listed = False
            del self._flights[flight.key]

    def _ground(self, flight: Flight[Any] | None) -> None:
        if flight is not None:
            flight.valid = False
            self._remove(flight)

    def forget_all(self) -> None:
        """Start afresh in a forked child: its parent's flights are not its own."""
        for flight in self:
            flight.listed = False
        self._flights = {}


def current_flight() -> Flight[Any] | None:
    """Return the flight whose computation the running code is part of, the innermost one."""
    aboard = _aboard.get()
    return aboard[-1] if aboard else None


def _holds_up(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether ``loop`` is blocked by a sync call that waits for a computation which the running code is part of."""
    aboard = _aboard.get()
    if not aboard:
        return False
    with _mutex:
        return holds_up(aboard, loop)


add_hold_up(_holds_up)


@contextmanager
def computing_for(flights: Collection[Flight[Any]], label: str) -> Generator[None]:
    """Let what runs inside be the computation of all of ``flights``: what it waits for, each of them waits for."""
    shared: Flight[Any] = Flight(_NOBODY, label, asyncio.get_running_loop())
    seats = [Seat(shared, flight) for flight in flights]
    with _mutex:
        for seat in seats:
            seat.take()
    before = _aboard.set((shared,))
    try:
        yield
    finally:
        _aboard.reset(before)
        with _mutex:
            shared.settled = True
            for seat in seats:
                seat.give_up()


_tables: WeakSet[FlightTable] = WeakSet()


def _after_fork() -> None:
    BLOCKING.clear()
    for table in list(_tables):
        table.forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
