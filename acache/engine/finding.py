"""What is stored for a call, how good it is, and the noting of its use.

A use renews an entry with ``idle=``. It is noted at once in the object that memory holds and, when the end has moved by a
quarter of ``idle`` since that was last done, where other processes look.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, Final, final

from acache.config import settings
from acache.engine.background import Background
from acache.engine.call import Call, Found
from acache.engine.determinism import Determinism
from acache.engine.freshness import Freshness
from acache.engine.judging import Judge
from acache.engine.storing import Storing
from acache.tiers.base import Tier
from acache.tiers.chain import ChainTier
from acache.types import Entry, Hit, Written

__all__ = ("Finder",)

#: The part of ``idle`` by which uses move an end before others are told.
_PART: Final = 0.25


@final
class Finder:
    """Looks for what is stored in one chain of tiers."""

    def __init__(
        self, chain: ChainTier, storing: Storing, background: Background, determinism: Determinism | None
    ) -> None:
        self._chain: Final = chain
        self._storing: Final = storing
        self._background: Final = background
        self._determinism: Final = determinism
        self.judge: Final = Judge(chain.clock)

    def peek(self, call: Call) -> Found | None:
        """Look where looking needs no waiting: into memory, and at what the kernel has of a file."""
        found = self._chain.find_now(call.key, call.options.codec)
        return None if found is None else self.found(call, *found)

    async def find(self, call: Call) -> Found | None:
        """Look into the tiers for what is fresh, and then for what there is."""
        found = await self.find_entry(call)
        return None if found is None else self.found(call, *found)

    async def find_entry(self, call: Call) -> tuple[Entry, Tier] | None:
        """Do as :meth:`find`; what is found is not judged, and not used."""
        return await (self.look(call, fills=True) if call.find is None else call.find(call))

    async def look(self, call: Call, *, fills: bool) -> tuple[Entry, Tier] | None:
        """Return the entry and the tier that had it; ``fills`` says whether the tiers before that have it then, too."""
        key, codec = call.key, call.options.codec
        if not call.options.timing.is_plain:
            fresh = await self._chain.find(
                key, codec, lambda entry: self.freshness(call, entry) is Freshness.FRESH, fills=fills
            )
            if fresh is not None:
                return fresh
        return await self._chain.find(key, codec, fills=fills)

    def freshness(self, call: Call, entry: Entry) -> Freshness:
        """Say how good an entry is for a call."""
        return self.judge.freshness(call.options.timing, entry, call.used)

    def found(self, call: Call, entry: Entry, tier: Tier) -> Found:
        """Judge what was found, and note that it is used."""
        if self._determinism is not None:
            self._determinism.usage.note(call.key, call.options.codec, entry)
        if settings().debug_mutation and tier is self._chain.memory and call.options.shares:
            self._storing.witness.look(call.label, call.key, entry)
        freshness = self.freshness(call, entry)
        idle = call.options.timing.idle
        if idle is not None and freshness in {Freshness.FRESH, Freshness.DUE}:
            self._use(call, entry, idle)
        hit: Hit[Any] = tier.hit(entry)
        return Found(
            entry.value, tier.name, hit.age, entry.cost, freshness=freshness, ttl=hit.ttl, source=(entry, tier)
        )

    async def prolong(self, call: Call) -> bool:
        """Let the time of what is stored begin anew, unless its key is changed meanwhile; tell whether it was done."""
        with self._chain.watching(call.key) as watch:
            found = await self.find_entry(call)
            if found is None or not self.freshness(call, found[0]).is_served:
                return False
            renewed = replace(await self._storing.restamped(call, found[0]), renews=True)
            return await self._storing.publish(call, renewed, lambda: watch.fresh, replace=True) is Written.NEW

    def _use(self, call: Call, entry: Entry, idle: float) -> None:
        memory, told = self._chain.memory, entry.stale_at if entry.told is None else entry.told
        ends = self.judge.use(call.options.timing, entry, self._chain.clock.monotonic())
        entry.expires, entry.stale_at, entry.sliding = ends
        if memory is not None:
            memory.renew(call.key, entry)
        # What was stored by a function that has no idle= may be for ever where others look: they hear of the first use.
        moved = math.inf if told is None or ends.stale_at is None else ends.stale_at - told
        is_due = call.stores and moved >= idle * _PART
        entry.told = ends.stale_at if is_due else told
        if is_due and any(tier is not memory for tier in self._chain.tiers):
            self._background.start(partial(self._tell_use, call, entry), f"acache:touch {call.label}")

    async def _tell_use(self, call: Call, entry: Entry) -> None:
        """Write the use of an entry down where others look, unless they have another one by now, or none."""
        with self._chain.watching(call.key) as watch:
            stored = await self._chain.tiers[-1].read(call.key, call.options.codec)
            if stored is not None and stored.created == entry.created:
                renewed = replace(entry, told=entry.stale_at, renews=True)
                await self._storing.publish(call, renewed, lambda: watch.fresh, replace=True)
