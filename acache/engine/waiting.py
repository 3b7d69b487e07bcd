"""How long a caller waits for a computation, and what he gets when it takes too long, or fails.

Whoever has waited long enough goes with something stale, if his function allows that and there is something. Memory is asked first,
then the flight, which has looked into all tiers before it began to compute; then the tiers, no longer than the caller would wait:
the tier that hangs may be why it takes so long.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias, final

from acache.clock import Clock
from acache.engine.background import Background
from acache.engine.call import Call, Failure, Found
from acache.engine.finding import Finder
from acache.engine.freshness import Freshness
from acache.engine.patience import end, is_any_done_within
from acache.engine.reporting import Reporter
from acache.engine.resting import Resting
from acache.exceptions import CacheError, ComputeTimeoutError
from acache.flight import Flight, FlightTable

__all__ = ("Waiting", "note_failure")

#: What a flight came to, and whether another caller had begun it.
_Outcome: TypeAlias = tuple[Found, bool]
_Fly: TypeAlias = Callable[[Call], Coroutine[Any, Any, _Outcome]]


def note_failure(resting: Resting, flight: Flight[Any], now: float) -> None:
    """Let the key of a flight rest that failed, or took too long: once, however many wait for it."""
    if not flight.is_noted:
        flight.is_noted = True
        resting.fail(flight.key, now)


@final
class Waiting:
    """Lets the callers of one cache wait."""

    def __init__(
        self,
        flights: FlightTable,
        finder: Finder,
        background: Background,
        resting: Resting,
        reporter: Reporter,
        clock: Clock,
    ) -> None:
        self._flights: Final = flights
        self._finder: Final = finder
        self._background: Final = background
        self._resting: Final = resting
        self._reporter: Final = reporter
        self._clock: Final = clock

    async def wait(self, call: Call, fly: _Fly) -> _Outcome:
        """Return what ``fly(call)`` comes to or, in the place of an error or of more waiting, something stale.

        Raises what the flight raises, and :class:`~acache.exceptions.ComputeTimeoutError`. Cancelled, the caller leaves the flight.
        """
        timeout = call.options.timeout
        until = math.inf if timeout is None else self._clock.monotonic() + timeout
        try:
            return await (self._wait_within(call, fly, until) if call.options.has_limits else fly(call))
        except Exception as error:
            if not _is_outage(call, error):
                raise
            stale = await self._stale(call, until)
            if stale is None:
                raise
            return stale, False

    async def _wait_within(self, call: Call, fly: _Fly, until: float) -> _Outcome:
        flying = asyncio.create_task(fly(call))
        try:
            soft = call.options.soft_timeout
            if soft is not None and not await is_any_done_within(soft, self._clock, flying):
                stale = await self._stale(call, until, flying)
                if stale is not None:
                    self._leave(call, flying)
                    return stale, False
            if await is_any_done_within(max(0.0, until - self._clock.monotonic()), self._clock, flying):
                return await flying
            return await self._time_out(call, flying, until)
        except asyncio.CancelledError:
            await end(flying)
            raise

    async def _time_out(self, call: Call, flying: asyncio.Task[_Outcome], until: float) -> _Outcome:
        flight = self._flights.of(call.key)
        if flight is not None:
            note_failure(self._resting, flight, self._clock.monotonic())
        error = ComputeTimeoutError(call.label, call.options.timeout or 0.0)
        stale = await self._stale(call, until) if _is_outage(call, error) else None
        if call.options.finish_in_background:
            self._leave(call, flying)
        else:
            await end(flying)
        if stale is None:
            raise error
        return stale, False

    def _leave(self, call: Call, flying: asyncio.Task[_Outcome]) -> None:
        """Let a flight go on without its caller; the first to leave tells what it comes to."""
        flight = self._flights.of(call.key)
        if flight is None or not flight.is_followed:
            flying.add_done_callback(lambda task: self._tell(call, task))
        if flight is not None:
            flight.is_followed = True
        self._background.hold(flying)

    def _tell(self, call: Call, flying: asyncio.Task[_Outcome]) -> None:
        if flying.cancelled():
            return
        if flying.exception() is None:
            self._reporter.report(call, "computed", flying.result()[0], action="refresh")
        else:
            self._reporter.report(call, "failed", action="refresh")

    async def _stale(self, call: Call, until: float, flying: asyncio.Task[Any] | None = None) -> Found | None:
        """Look for what would do in the place of a result, until that comes or there is no time left."""
        stale = self._at_hand(call)
        left = until - self._clock.monotonic()
        if stale is not None or left <= 0:
            return stale
        looking = asyncio.create_task(self._finder.find(call))
        try:
            await is_any_done_within(left, self._clock, looking, *([] if flying is None else [flying]))
        finally:
            if not looking.done():
                looking.cancel()
                self._background.hold(looking)  # a tier that hangs need not end at once
        return _usable(looking.result()) if looking.done() else None

    def _at_hand(self, call: Call) -> Found | None:
        """Return what would do and can be had without waiting."""
        stale = _usable(self._finder.peek(call))
        flight = self._flights.of(call.key)
        if stale is None and flight is not None and flight.progress is not None:
            stale = _usable(self._finder.found(call, *flight.progress))
        return stale


def _is_outage(call: Call, error: Exception) -> bool:
    """Tell whether something stale will do in the place of an error: one of ours is about the call, and would be hidden."""
    wanted = call.options.timing.stale_on_error is not None
    return wanted and (not isinstance(error, CacheError) or isinstance(error, ComputeTimeoutError))


def _usable(found: Found | None) -> Found | None:
    if found is None or found.freshness is Freshness.DEAD or isinstance(found.value, Failure):
        return None
    return found
