"""What the engine tells of its calls: to their function's counters, and to those who subscribed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, final

from acache.clock import Clock
from acache.engine.call import Call, Found
from acache.engine.freshness import Freshness
from acache.events import CallAction, CallEvent, CallOutcome, Events
from acache.stats import CallCounters
from acache.types import Written

__all__ = ("INSERTED", "Reporter")

_log = logging.getLogger("acache")

#: What an insert came to.
INSERTED: Final[Mapping[Written, CallOutcome]] = {
    Written.NEW: "stored",
    Written.PRESENT: "present",
    Written.FAILED: "failed",
}


@final
class Reporter:
    """Reports for one cache."""

    def __init__(self, events: Events, clock: Clock) -> None:
        self._events: Final = events
        self._clock: Final = clock

    def report(self, call: Call, outcome: CallOutcome, found: Found | None = None, action: CallAction = "call") -> None:
        """Tell that a call, or what was done for it, came to its end."""
        seconds = self._clock.monotonic() - call.started
        tier, age, cost, stored, stale = (None, None, 0.0, None, False)
        if found is not None:
            tier, age, cost, stored = found.tier, found.age, found.cost, found.stored
            stale = found.freshness in {Freshness.STALE, Freshness.FALLBACK}
        event = CallEvent(call.label, call.key, outcome, tier, age, seconds, cost, action, stored, stale)
        self._emit(call.counters, event)

    def bypassed(self, label: str, counters: CallCounters) -> None:
        """Count a call that runs without the cache, and so without a key."""
        self._emit(counters, CallEvent(label, None, "bypassed"))

    def not_stored(self, call: Call, option: str, error: Exception) -> None:
        """Tell that a result was not stored because what the user gave as ``option`` failed: the caller has it anyway."""
        kind = type(error).__name__
        _log.warning("%s of %s failed with %s; the result was not stored", option, call.label, kind)
        if self._events.active:
            reason = f"{option}: {kind}"
            self._events.emit(CallEvent(call.label, call.key, "failed", action="store", reason=reason))

    def _emit(self, counters: CallCounters, event: CallEvent) -> None:
        if event.action == "call":
            counters.note(event)
        if self._events.active:
            self._events.emit(event)
