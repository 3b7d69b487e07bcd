"""Judge stored entries by the clock: how good one is now, and until when nobody need ask.

The wall clock, which is stored, says only how old an entry was when this process first saw it. From then on the monotonic
clock decides, so a wall clock that jumps makes none fresher, or stale.
"""

from __future__ import annotations

import math
import os
import random
from typing import final

from acache.clock import Clock
from acache.engine.freshness import Ends, Freshness, Timing, judge, touched
from acache.tiers.base import CLOCK_SKEW
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
        if timing.is_plain and entry.stale_at is None:
            return Freshness.FRESH  # its tier would have dropped it
        age, left = self._times(timing, entry, used)
        return judge(timing, age=age, left=left, cost=entry.cost, draw=self._draw(timing, entry))

    def hot_until(self, timing: Timing, entry: Entry, deadline: float | None) -> float | None:
        """Return until when, in monotonic seconds, calls may be served an entry without asking; ``None``: for ever."""
        if timing.is_plain and entry.stale_at is None:
            return deadline
        age, left = self._times(timing, entry, -math.inf)
        if timing.idle is not None:
            # Long before it could be idle too long: then others hear that it is used.
            left = min(left, timing.idle / 2)
        until = self._clock.monotonic() + timing.attention(age, left, entry.cost, self._draw(timing, entry))
        return until if deadline is None else min(until, deadline)

    def use(self, timing: Timing, entry: Entry, moment: float) -> Ends:
        """Return when an entry that was used at ``moment`` (monotonic seconds) ends, by its own wall clock."""
        now = self._clock.monotonic()
        at = entry.created + entry.age(now, self._clock.wall()) + moment - now
        return touched(timing, now=at, ends=Ends(entry.expires, entry.stale_at, entry.sliding))

    def _times(self, timing: Timing, entry: Entry, used: float) -> tuple[float, float]:
        """Return the seconds since an entry was made, and until it is stale."""
        wall = self._clock.wall()
        if entry.anchor is None and entry.created > wall + CLOCK_SKEW:
            return math.inf, math.inf if entry.stale_at is None else -math.inf  # nobody knows when
        age = entry.age(self._clock.monotonic(), wall)
        if entry.stale_at is None:
            return age, math.inf
        stale_at = entry.stale_at
        if timing.idle is not None and used > -math.inf:  # on a hot path, which writes nothing down
            stale_at = max(stale_at, self.use(timing, entry, used).stale_at or stale_at)
        return age, stale_at - entry.created - age

    def _draw(self, timing: Timing, entry: Entry) -> float:
        """Draw from (0, 1] for an early refresh: once for each entry, so that all paths to it agree.

        Forked workers have one seed, and not one process number.
        """
        if timing.early is None:
            return 1.0
        return 1.0 - random.Random(f"{self.seed} {os.getpid()} {entry.created}").random()  # noqa: S311 - no secret
