"""How good a stored result still is: pure functions of times and of what a function allows.

::

    created ---- refresh_after, early ---- stale_at ---- + stale_ttl ---- + stale_on_error ----
            FRESH                 DUE               STALE             FALLBACK             DEAD
            served                served, and refreshed               served if nothing    as if it were
                                  behind the caller                   better can be had    not there
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, final

__all__ = ("Ends", "Freshness", "Timing", "begun", "judge", "touched")


class Freshness(Enum):
    """What may be done with an entry that is there."""

    #: Serve it.
    FRESH = auto()
    #: Serve it, and compute it anew behind the caller.
    DUE = auto()
    #: The same; its time is up, and it is served for so long while it is refreshed.
    STALE = auto()
    #: Serve it only if nothing better can be had: computing fails, or takes too long.
    FALLBACK = auto()
    #: Do not serve it.
    DEAD = auto()

    @property
    def is_served(self) -> bool:
        """Whether a caller may have it who computes nothing."""
        return self in _SERVED


@final
@dataclass(frozen=True, slots=True)
class Timing:
    """What a function allows. All in seconds; ``None``: not at all. ``early`` is the beta of XFetch."""

    idle: float | None = None
    refresh_after: float | None = None
    early: float | None = None
    stale_ttl: float | None = None
    stale_on_error: float | None = None

    @property
    def window(self) -> float:
        """How long an entry is kept when its time is up."""
        return max(self.stale_ttl or 0.0, self.stale_on_error or 0.0)

    @property
    def is_plain(self) -> bool:
        """Whether an entry that is there is fresh, for ever or until its tier drops it."""
        return self == _PLAIN

    def attention(self, age: float, left: float, cost: float, draw: float) -> float:
        """Return in how many seconds an entry is no longer simply served; infinite for never.

        ``age`` and ``left`` are the seconds since it was made and until it is stale, ``cost`` those it took to compute, and ``draw``
        a random number in (0, 1]: early refresh is by XFetch (Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache
        Stampede Prevention", VLDB 2015), in which each worker draws how much earlier, in units of the cost, it begins.
        """
        due = math.inf if self.refresh_after is None else self.refresh_after - age
        early = math.inf if self.early is None else left + self.early * cost * math.log(draw)
        return min(left, due, early)


_PLAIN = Timing()
_SERVED = frozenset({Freshness.FRESH, Freshness.DUE, Freshness.STALE})


def judge(timing: Timing, *, age: float, left: float, cost: float, draw: float) -> Freshness:
    """Say how good an entry is; the arguments are those of :meth:`Timing.attention`, ``left`` negative when it is stale."""
    if left <= 0:
        if timing.stale_ttl is not None and -left < timing.stale_ttl:
            return Freshness.STALE
        return Freshness.FALLBACK if -left < timing.window else Freshness.DEAD
    return Freshness.FRESH if timing.attention(age, left, cost, draw) > 0 else Freshness.DUE


@final
class Ends(NamedTuple):
    """When an entry is no longer there, when it is stale before that, and whether each use moves both."""

    expires: float | None
    stale_at: float | None
    sliding: bool = False


def begun(timing: Timing, *, now: float, ttl: float | None) -> Ends:
    """Return the ends of an entry that is made at ``now`` and good for ``ttl`` seconds."""
    expires = None if ttl is None else now + ttl + timing.window
    if timing.idle is not None:
        return touched(timing, now=now, ends=Ends(expires, None))
    return Ends(expires, None if ttl is None or timing.is_plain else now + ttl)


def touched(timing: Timing, *, now: float, ends: Ends) -> Ends:
    """Return the ends of an entry used at ``now``: it is stale ``idle`` seconds later, and not after its own time.

    One that has no time of its own is kept for ``idle`` seconds more: a hot path tells of its uses only now and then.
    """
    if timing.idle is None:
        return ends
    stale_at = now + timing.idle
    if ends.expires is None or ends.sliding:
        expires = stale_at + timing.window + timing.idle
        return Ends(max(expires, ends.expires or expires), stale_at, sliding=True)
    return Ends(ends.expires, min(stale_at, ends.expires - timing.window))
