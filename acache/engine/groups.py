"""Tags of results on their way: no computation that began before an invalidation is joined after it, or stored.

What a call's tags are is known in two steps: those that its arguments make before it begins, those that its result makes at its
end. A caller who comes after an invalidation of one of the first kind does not join a flight that began before it. For the
second kind he does, for nobody knows yet; but what the flight comes to is not stored, as for the first.

What needs waiting is asked for by all calls of the moment together. Else the keys of one call for many would each come from a thread
in its own time, and be computed in as many calls of the function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

from acache.engine.batching import Batcher
from acache.engine.call import Call, Tagging
from acache.engine.reporting import Reporter
from acache.files import FLOOR_DIGITS
from acache.flight import Flight, FlightTable
from acache.tiers.chain import ChainTier

__all__ = ("Groups", "Origin")


#: A namespace (its digits), and tags in it.
_Asked: TypeAlias = tuple[str, tuple[str, ...]]


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
        self._newest: Final[Batcher[_Asked, int]] = Batcher("tags", self._read, chain.clock)
        self._now: Final[Batcher[None, int]] = Batcher("tags", self._read_now, chain.clock)

    async def board(self, call: Call) -> int:
        """Keep a call from joining a flight that began before an invalidation; return with what its own would be born."""
        if call.tags is None:
            return 0
        stamps, asked = self._chain.stamps, _asked(call, call.tags)
        newest = stamps.newest_now(*asked)
        if newest is None:
            newest = await self._newest.ask(asked)
        self._flights.invalidate_if(call.key, lambda flight: flight.born < newest)
        return max(stamps.latest, newest)

    async def learn(self, calls: Iterable[Call]) -> None:
        """Read what :meth:`board` will ask for of each of ``calls``, so that they go on in the same moment."""
        asked: list[_Asked] = []
        for call in calls:
            if call.tags is not None:
                with suppress(Exception):  # who boards with tags that cannot be told is told so there
                    asked.append(_asked(call, call.tags))
        if any(self._chain.stamps.newest_now(*question) is None for question in asked):
            await self._read(asked)

    async def begin(self, call: Call, flight: Flight[Any] | None = None) -> Origin:
        """Note what is known of a computation that is about to begin; ``flight`` is younger than what was invalidated till now."""
        factors = call.factors()
        if call.tags is None:
            return Origin(factors)
        tags = call.tags.known()
        born = self._chain.stamps.now_now()
        if born is None:
            born = await self._now.ask(None)
        if flight is not None:
            flight.born = max(flight.born, born)
        return Origin(factors, tags, born)

    async def _read(self, asked: Sequence[_Asked]) -> list[int]:
        stamps = self._chain.stamps
        for namespace in {namespace for namespace, _ in asked}:
            await stamps.newest(namespace, {tag for place, tags in asked if place == namespace for tag in tags})
        return [await stamps.newest(namespace, tags) for namespace, tags in asked]  # which are known now

    async def _read_now(self, asked: Sequence[None]) -> list[int]:
        return [await self._chain.stamps.now()] * len(asked)

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


def _asked(call: Call, tags: Tagging) -> _Asked:
    return call.key[:FLOOR_DIGITS], tags.known()
