"""Plain functions of users, in worker threads: of one event loop so many at once, not counting those that wait.

A function that makes a sync call of the cache waits for what may need a thread itself. If such functions, or the worker threads
of the application, could take all the places there are, nobody would go on. So the places are the cache's own, and who waits
in one lends it, but for the time in which his thread has something to run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar, cast, final

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

__all__ = ("Loan", "Outcome", "outcome_of", "run_in_worker")

T = TypeVar("T")

#: As many as anyio lets run for one loop.
PLACES: Final = 40

_places: Final[RunVar[CapacityLimiter]] = RunVar("acache_worker_places")


@final
class _Here(threading.local):
    """What this thread is: a worker in one of these places."""

    places: CapacityLimiter | None = None


_here: Final = _Here()


@final
@dataclass(slots=True)
class Outcome(Generic[T]):
    """What a function returned or raised, on its way to another thread."""

    value: T | None = None
    error: BaseException | None = None

    def unwrap(self) -> T:
        """Return what was returned, or raise what was raised."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # its traceback holds this frame: no cycle
        return cast("T", self.value)


def outcome_of(function: Callable[[], T]) -> Outcome[T]:
    """Call ``function`` and keep what it comes to; ``StopIteration`` becomes ``RuntimeError``."""
    try:
        return Outcome(function())
    except StopIteration as error:
        return Outcome(error=_stopped(error))
    except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
        return Outcome(error=error)


def _stopped(error: StopIteration) -> RuntimeError:
    # As for generators (PEP 479): awaiting code would take a StopIteration for its own end.
    converted = RuntimeError("the function raised StopIteration")
    converted.__cause__ = error
    return converted


async def run_in_worker(function: Callable[[], T]) -> T:
    """Run ``function`` in a worker thread of the running loop, in the caller's context, and return or raise what it does.

    Cancelled, the caller goes when the function has ended.
    """
    places = _places.get(None)
    if places is None:
        places = CapacityLimiter(PLACES)
        _places.set(places)
    # An outcome, because an exception that comes with a future is thrown into the coroutine: a GeneratorExit would close it.
    outcome = await anyio.to_thread.run_sync(partial(_work, function, places), limiter=places)
    return outcome.unwrap()


def _work(function: Callable[[], T], places: CapacityLimiter) -> Outcome[T]:
    _here.places = places
    try:
        return outcome_of(function)
    finally:
        _here.places = None


@final
class Loan:
    """The place of the thread that makes this, for as long as it waits. All else happens in the thread of the loop."""

    __slots__ = ("_lent", "_places")

    def __init__(self) -> None:
        self._places = _here.places
        self._lent = False

    def give(self) -> None:
        """Let somebody else have the place; none, if the waiting thread has none of this loop."""
        if self._places is not None and not self._lent and _places.get(None) is self._places:
            self._lent = True
            self._places.total_tokens += 1

    def take_back(self) -> None:
        """Let nobody else come in its stead any more. Idempotent."""
        if self._places is not None and self._lent:
            self._lent = False
            self._places.total_tokens -= 1

    def end(self) -> None:
        """Take it back for good."""
        self.take_back()
        self._places = None
