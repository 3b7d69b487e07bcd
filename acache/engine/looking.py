"""Looking for what is stored for a call: for what is fresh first, in any tier, and then for what there is."""

from __future__ import annotations

from typing import final

from acache.engine.call import Call
from acache.engine.freshness import Freshness
from acache.engine.judging import Judge
from acache.tiers.base import Tier
from acache.tiers.chain import ChainTier
from acache.types import Entry

__all__ = ("Looking",)


@final
class Looking:
    """Looks into one chain of tiers."""

    def __init__(self, chain: ChainTier, judge: Judge) -> None:
        self._chain = chain
        self._judge = judge

    async def find(self, call: Call) -> tuple[Entry, Tier] | None:
        """Return the entry and the tier that had it; with others, if the call is one of many."""
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
        return self._judge.freshness(call.options.timing, entry, call.used)
