"""Tags of results on their way: no computation that began before an invalidation is joined after it, or stored.

What a call's tags are is known in two steps: those that its arguments make before it begins, those that its result makes at its
end. A caller who comes after an invalidation of one of the first kind does not join a flight that began before it. For the
second kind he does, for nobody knows yet; but what the flight comes to is not stored, as for the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from acache.engine.call import Call
from acache.engine.reporting import Reporter
from acache.files import FLOOR_DIGITS
from acache.flight import Flight, FlightTable
from acache.tiers.chain import ChainTier

__all__ = ("Groups", "Origin")


@final
@dataclass(frozen=True, slots=True)
class Origin:
    """What is to be stored of a result besides itself, and is known before there is one."""

    factors: Mapping[str, str]
    tags: tuple[str, ...] = ()
    born: int = 0


@final
class Groups:
    """The tags of the calls of one cache."""

    def __init__(self, chain: ChainTier, flights: FlightTable, reporter: Reporter) -> None:
        self._reporter: Final = reporter
        self._chain: Final = chain
        self._flights: Final = flights

    async def board(self, call: Call) -> int:
        """Keep a call from joining a flight that began before an invalidation; return with what its own would be born."""
        if call.tags is None:
            return 0
        stamps = self._chain.stamps
        newest = await stamps.newest(call.key[:FLOOR_DIGITS], call.tags.known())
        self._flights.invalidate_if(call.key, lambda flight: flight.born < newest)
        return max(stamps.latest, newest)

    async def begin(self, call: Call, flight: Flight[Any] | None = None) -> Origin:
        """Note what is known of a computation that is about to begin; ``flight`` is younger than what was invalidated till now."""
        factors = call.factors()
        if call.tags is None:
            return Origin(factors)
        tags = call.tags.known()
        born = await self._chain.stamps.now()
        if flight is not None:
            flight.born = max(flight.born, born)
        return Origin(factors, tags, born)

    def complete(self, call: Call, value: Any, origin: Origin) -> Origin | None:
        """Add the tags that are made of the result; ``None`` if that fails: a result without them must not be stored."""
        if call.tags is None:
            return origin
        try:
            tags = call.tags.of(value)
        except Exception as error:  # noqa: BLE001 - the caller has computed a result, and gets it
            self._reporter.not_stored(call, "tags", error)
            return None
        return dataclasses.replace(origin, tags=tuple(dict.fromkeys((*origin.tags, *tags))))

    async def invalidate(self, namespace: str, tags: Iterable[str]) -> None:
        """Kill what has one of ``tags`` in ``namespace`` (its digits), in all tiers and for all who share them."""
        await self._chain.stamps.stamp(namespace, tags)

    async def forget(self, prefix: str) -> None:
        """Do without the stamps of a namespace that was cleared, or of all; part of one keeps them."""
        if len(prefix) <= FLOOR_DIGITS:
            await self._chain.stamps.forget(prefix)
