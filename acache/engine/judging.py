"""Judge stored entries by the clock: how good one is now, and until when nobody need ask."""

from __future__ import annotations

import math
import random
from typing import final

from acache.clock import Clock
from acache.engine.freshness import Freshness, Timing, judge
from acache.types import Entry

__all__ = ("Judge",)


@final
class Judge:
    """Judges entries for one cache. ``seed`` tells this worker's draws for early refreshes from those of others."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seed = random.getrandbits(64)

    def freshness(self, timing: Timing, entry: Entry, used: float = -math.inf) -> Freshness:
        """Say how good an entry is, which a hot path served last at ``used`` (monotonic seconds)."""
        if timing.is_plain:
            return Freshness.FRESH  # its tier would have dropped it
        age, left = self._times(entry)
        if timing.idle is not None:
            # Served on the hot path since, which writes nothing down.
            left = max(left, used + timing.idle - self._clock.monotonic())
        return judge(timing, age=age, left=left, cost=entry.cost, draw=self._draw(timing, entry))

    def hot_until(self, timing: Timing, entry: Entry, deadline: float | None) -> float | None:
        """Return until when, in monotonic seconds, calls may be served an entry without asking; ``None``: for ever."""
        if timing.is_plain:
            return deadline
        age, left = self._times(entry)
        if timing.idle is not None:
            # Long before it could be idle too long: then others hear that it is used.
            left = min(left, timing.idle / 2)
        until = self._clock.monotonic() + timing.attention(age, left, entry.cost, self._draw(timing, entry))
        return until if deadline is None else min(until, deadline)

    def _times(self, entry: Entry) -> tuple[float, float]:
        """Return the seconds since an entry was made, and until it is stale."""
        now = self._clock.wall()
        return max(0.0, now - entry.created), math.inf if entry.stale_at is None else entry.stale_at - now

    def _draw(self, timing: Timing, entry: Entry) -> float:
        """Draw from (0, 1] for an early refresh: once for each entry, so that all paths to it agree."""
        return 1.0 if timing.early is None else 1.0 - random.Random(f"{self.seed} {entry.created}").random()  # noqa: S311 - no secret
