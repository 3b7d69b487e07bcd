"""A flight, and those who take part in it.

What a flight's computation waits for is known by the seats it has in other flights: so it can be seen who waits for whom.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar, cast, final

from acache import exceptions
from acache.exceptions import BridgeError, CacheError, RecursiveCallError
from acache.types import MISSING, Key, Missing

__all__ = ("BLOCKING", "Flight", "LeaderLost", "Seat", "holds_up")

T = TypeVar("T")


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
        "listed",
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
        #: Whether it is in its table, once it was put there.
        self.listed = True
        #: Whether nobody changed the key since the flight began.
        self.valid = True
        #: Whether the computation is over and only the storing remains: the last waiter's leaving does not stop that.
        self.landing = False
        self.settled = False
        #: What later callers get while the flight goes on; missing: they wait for its end.
        self.interim: T | Missing = MISSING
        #: What those who take part look at before the end, if anything.
        self.progress: Any = None
        #: Where this one's computation waits.
        self.awaited: set[Seat] = set()
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
        later: set[asyncio.Future[T | Missing]] = set()  # first: it may run the collector
        futures, self._futures = self._futures, later
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


@final
class Seat:
    """One caller's place in a flight, and so the news that somebody waits for it."""

    __slots__ = ("blocked", "flight", "leads", "parent")

    def __init__(
        self,
        flight: Flight[Any],
        parent: Flight[Any] | None,
        *,
        blocked: asyncio.AbstractEventLoop | None = None,
        leads: bool = False,
    ) -> None:
        self.flight = flight
        #: The flight whose computation the caller is part of.
        self.parent = parent
        #: The loop that does not run as long as the caller waits.
        self.blocked = blocked
        self.leads = leads

    def take(self) -> None:
        """Let everybody see who waits. Under the mutex."""
        if self.parent is not None:
            self.parent.awaited.add(self)
        if self.blocked is not None:
            BLOCKING.add(self)

    def give_up(self) -> None:
        """Undo :meth:`take`. Under the mutex."""
        if self.parent is not None:
            self.parent.awaited.discard(self)
        BLOCKING.discard(self)

    def circle(self, aboard: tuple[Flight[Any], ...]) -> CacheError | None:
        """Return the error of a caller, part of the computations ``aboard``, who would wait for himself. Under the mutex."""
        flight = self.flight
        if any(each in aboard for each in _needed_for(flight, {})):
            return RecursiveCallError(flight.label, flight.key)
        held_up = _held_up()
        if not held_up:
            return None
        needed = _needed_for(flight, held_up)
        if self.blocked is not None and any(each.loop is self.blocked for each in needed):
            where = "is being computed" if flight.loop is self.blocked else "waits for what is being computed"
            return BridgeError(
                f"{flight.label} {where} on the event loop of this very thread, which this sync call blocks; "
                f"await its .aio() form instead"
            )
        if any(each in aboard for each in needed):
            return BridgeError(
                f"{flight.label} is computed on an event loop that a sync call blocks, which waits for what asks for "
                f"{flight.label} here; await the .aio() form there instead"
            )
        return None


def holds_up(aboard: tuple[Flight[Any], ...], loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether ``loop`` is blocked by a sync call that waits for one of ``aboard``. Under the mutex."""
    held_up = _held_up()
    return any(each in aboard for flight in held_up.get(loop, ()) for each in _needed_for(flight, held_up))


def _held_up() -> dict[asyncio.AbstractEventLoop, list[Flight[Any]]]:
    """Return the loops that are blocked, and the flights that this waits for. Under the mutex."""
    held_up: dict[asyncio.AbstractEventLoop, list[Flight[Any]]] = {}
    for seat in list(BLOCKING):
        if seat.blocked is not None:
            held_up.setdefault(seat.blocked, []).append(seat.flight)
    return held_up


def _needed_for(
    flight: Flight[Any], held_up: Mapping[asyncio.AbstractEventLoop, list[Flight[Any]]]
) -> set[Flight[Any]]:
    """Return the flights that have to settle before ``flight`` can, itself too.

    What blocks an event loop has to settle before the flights of that loop; ``held_up`` says what. Under the mutex.
    """
    found: set[Flight[Any]] = set()
    pending: list[Flight[Any]] = [flight]
    while pending:
        each = pending.pop()
        if not each.settled and each not in found:
            found.add(each)
            # Copies: a finalizer may change what is looked at.
            pending.extend([seat.flight for seat in list(each.awaited)])
            pending.extend(held_up.get(each.loop, ()))
    return found


#: The seats of those who block an event loop.
BLOCKING: Final[set[Seat]] = set()
