"""The engine: one call over flights and tiers.

It knows keys and entries, not functions or decorators. A call that finds nothing in memory joins or starts the flight of
its key; the flight reads the wider tiers, takes the key's host lock, reads again (another process may have been faster),
computes, and publishes. A tier that breaks or a host lock that cannot be had costs time, never the result.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Mapping
from typing import Any, final

from acache.config import settings
from acache.context import Scope
from acache.engine.call import Call, Found
from acache.engine.deferred import Deferral, DeferredRecording
from acache.engine.determinism import Determinism
from acache.engine.explain import Explanation, explain
from acache.engine.host import HostFlights
from acache.engine.options import Options
from acache.engine.plan import Mode, Route, Verb, plan
from acache.engine.storing import Storing, maybe_await
from acache.events import CallAction, CallEvent, CallOutcome, Events
from acache.exceptions import (
    ConfigurationError,
    CustomResultEncoderRequiredError,
    DeterminismLostError,
    ReplayMissError,
    StrictDeterministicCachingInsertionError,
    StrictDeterministicCachingKeyNotFoundError,
)
from acache.flight import Flight, FlightTable, LeaderLost
from acache.stats import CallCounters
from acache.tiers.base import Tier
from acache.tiers.chain import ChainTier
from acache.types import MISSING, Entry, Hit, Key, Written

__all__ = ("Engine",)

_log = logging.getLogger("acache")


@final
class Engine:
    """Run calls over one chain of tiers.

    ``host_timeout`` is how many seconds a call waits for another process that computes the same key before it computes
    it itself. With ``determinism`` all workers use the first stored result.
    """

    def __init__(
        self, chain: ChainTier, events: Events, *, host_timeout: float, determinism: Determinism | None = None
    ) -> None:
        self.chain = chain
        self.events = events
        self.clock = chain.clock
        self.flights = FlightTable()
        self.determinism = determinism
        self._host = HostFlights(chain, events, host_timeout)
        self._storing = Storing(chain, self.flights.invalidate, determinism)

    def check(self, label: str, options: Options) -> None:
        """Raise :class:`~acache.exceptions.ConfigurationError` when the tiers cannot give what ``options`` ask."""
        if options.flight == "host" and not self._host:
            raise ConfigurationError("flight", f"{label} asks for one flight per host, which needs a disk tier")

    def route(self, verb: Verb, scope: Scope) -> Route:
        """Choose the way of a call under the switches of this moment.

        Raises :class:`~acache.exceptions.DeterministicCachingDisabledError` for a deterministic cache that is switched off.
        """
        mode: Mode = "fast" if self.determinism is None else self.determinism.mode()
        config = settings()
        return plan(verb, scope, enabled=config.enable and not config.disable, recache=config.recache, mode=mode)

    async def run(self, call: Call, route: Route) -> Any:
        """Carry out one call and return its result; the caller's cancellation leaves the flight to other waiters.

        Raises what the computation raises; :class:`~acache.exceptions.ReplayMissError` for a replay that finds nothing, and
        :class:`~acache.exceptions.StrictDeterministicCachingKeyNotFoundError` for any call of a strict cache;
        :class:`~acache.exceptions.CustomResultEncoderRequiredError` for a result no tier can encode;
        :class:`~acache.exceptions.RecursiveCallError` for a call that waits for itself.
        """
        if route is Route.RECORD:
            return await self._record(call)
        hit = None if route is Route.REFUSE else self.peek(call)
        if hit is None and route is Route.LOOKUP:
            return await self._join(call)
        if hit is None and route in {Route.REPLAY, Route.STRICT}:
            hit = await self._find(call)
        if hit is None:
            self._report(call, "missed")
            raise self._strict_miss(call) if route is Route.STRICT else ReplayMissError(call.label, call.key)
        return await self._serve(call, hit)

    def peek(self, call: Call) -> Found | None:
        """Look where looking needs no waiting: into memory, and at what the kernel has of a file."""
        found = self.chain.find_now(call.key, call.options.codec, self._depth())
        return None if found is None else self._found(call, *found)

    def deliver(self, call: Call, hit: Found) -> Any:
        """Return the value of a hit that needed no waiting, and count it; only for options without a decoder."""
        self._report(call, "hit", hit)
        return call.options.private(hit.value)

    def bypass(self, label: str, counters: CallCounters) -> None:
        """Count a call that runs without the cache, and so without a key."""
        self._emit(counters, CallEvent(label, None, "bypassed"))

    async def look_up(self, call: Call, route: Route) -> Hit[Any] | None:
        """Return what is stored, decoded; compute nothing, and count it as no call.

        Raises :class:`~acache.exceptions.StrictDeterministicCachingKeyNotFoundError` where a strict cache holds nothing.
        """
        found = await self.chain.find(call.key, call.options.codec, self._depth())
        if found is None:
            self._report(call, "missed", action="get")
            if route is Route.STRICT:
                raise self._strict_miss(call)
            return None
        self._report(call, "hit", self._found(call, *found), action="get")
        hit = found[1].hit(found[0])
        return dataclasses.replace(hit, value=await self._decode(call, hit.value))

    async def contains(self, key: Key) -> bool:
        """Tell whether there is a live entry."""
        return await self.chain.find(key, None, self._depth()) is not None

    async def put(self, call: Call, value: Any, route: Route, *, replace: bool, cost: float = 0.0) -> bool:
        """Store a result given from outside; with ``replace``, flights of the key lose the right to publish.

        A deterministic cache never replaces. Raises :class:`~acache.exceptions.CustomResultEncoderRequiredError` for a value
        no tier can encode, and :class:`~acache.exceptions.StrictDeterministicCachingInsertionError` of a strict cache.
        """
        if route is Route.STRICT:
            raise StrictDeterministicCachingInsertionError(call.label, call.key)
        replace = replace and self.determinism is None
        stored = await self._storing.encode(call, value)
        if isinstance(stored, DeferredRecording):
            deferral = Deferral.of(stored)
            del stored
            stored = await self._storing.final(call, deferral)
        if replace:
            self.flights.invalidate(call.key)
        written = await self._storing.publish(
            call, self._storing.entry(call, stored, cost), lambda: True, replace=replace
        )
        self._report(call, "stored" if written is Written.NEW else "present", action="insert")
        return written is Written.NEW

    async def explain(self, call: Call, prefixes: tuple[str, ...]) -> Explanation:
        """Say whether a call is stored and, if not, which entry comes nearest. See :mod:`acache.engine.explain`."""
        return await explain(self.chain, call.label, call.key, call.factors(), prefixes)

    async def remove(self, key: Key) -> bool:
        """Remove one entry; what is being computed for it now is not stored."""
        self.flights.invalidate(key)
        return await self.chain.remove(key)

    async def clear(self, prefix: str = "") -> None:
        """Remove every entry whose key begins with ``prefix``; what is being computed for them now is not stored."""
        self.flights.invalidate_all(prefix)
        await self.chain.clear(prefix=prefix)

    # --- the flight -----------------------------------------------------------------------------------------------

    async def _join(self, call: Call) -> Any:
        try:
            found, joined = await self.flights.run(
                call.key, call.label, lambda flight: self._produce(call, flight), blocked=call.blocked
            )
        except Exception:
            self._report(call, "failed")
            raise
        if found.agreed and not joined:
            value = await self._decode(call, found.value)
            self._report(call, "agreed", found)
            return value
        if found.tier is not None:
            return await self._serve(call, found)
        value = found.value
        if found.encoded:
            value = await self._decode(call, value)
        elif joined:
            value = call.options.private(value)
        self._report(call, "joined" if joined else "computed", found)
        return value

    async def _produce(self, call: Call, flight: Flight[Found]) -> Found:
        found = await self._find(call)
        if found is not None:
            return found
        if not self._host or call.options.flight == "process":
            return await self._compute(call, flight)
        async with self._host.lock(call.key):
            return await self._find(call) or await self._compute(call, flight)

    async def _compute(self, call: Call, flight: Flight[Found]) -> Found:
        factors = call.factors()
        value, cost = await self._run(call)
        if not self._storing.wants(call, value):
            return Found(value, cost=cost, stored=False)
        flight.landing = True
        try:
            return await self._land(call, flight, value, cost, factors)
        except CustomResultEncoderRequiredError:
            if call.options.on_unencodable == "raise":
                raise
            self._storing.warn_unencodable(call.label)
            return Found(value, cost=cost, stored=False)

    async def _land(
        self, call: Call, flight: Flight[Found], value: Any, cost: float, factors: Mapping[str, str]
    ) -> Found:
        """Store what was computed, now or later, and return what those who wait are to get."""
        stored = await self._storing.encode(call, value)
        deferred = isinstance(stored, DeferredRecording)
        if deferred:
            deferral = Deferral.of(stored)
            del stored
            later = deferral.interim
            interim = MISSING if later is MISSING else Found(later, cost=cost, encoded=True)
            if self.determinism is None:  # its callers have to agree first
                self.flights.release(flight, Found(value, cost=cost), interim)
            stored = await self._storing.final(call, deferral)
        entry = self._storing.entry(call, stored, cost, factors)
        written = await self._storing.publish(call, entry, flight.holds, replace=False)
        if self.determinism is not None and written is not Written.NEW:
            return await self._agree(call, flight, cost)
        is_stored = written is Written.NEW
        return Found(stored if deferred else value, cost=cost, encoded=deferred, stored=is_stored)

    async def _agree(self, call: Call, flight: Flight[Found], cost: float) -> Found:
        """Return the result that another worker stored first; ours is not to be used."""
        if not flight.holds():
            raise LeaderLost  # the key was invalidated meanwhile: all who wait begin anew
        found = await self._find(call)
        if found is None:
            raise DeterminismLostError(call.label, call.key)
        return dataclasses.replace(found, cost=cost, stored=False, agreed=True)

    async def _record(self, call: Call) -> Any:
        try:
            factors = call.factors()
            value, cost = await self._run(call)
            stored = self._storing.wants(call, value) and await self._storing.store_over(call, value, cost, factors)
        except Exception:
            self._report(call, "failed")
            raise
        self._report(call, "computed", Found(value, cost=cost, stored=stored))
        return value

    async def _run(self, call: Call) -> tuple[Any, float]:
        """Run the function; return its result and the seconds it took."""
        started = self.clock.monotonic()
        value = await call.compute()
        cost = self.clock.monotonic() - started
        _refuse_unrepeatable(call.label, value)
        return value, cost

    # --- serving --------------------------------------------------------------------------------------------------

    def _depth(self) -> int | None:
        return None if self.determinism is None else self.determinism.depth()

    def _strict_miss(self, call: Call) -> Exception:
        detail = "" if self.determinism is None else self.determinism.why_missing()
        return StrictDeterministicCachingKeyNotFoundError(call.label, call.key, detail)

    async def _find(self, call: Call) -> Found | None:
        found = await self.chain.find(call.key, call.options.codec, self._depth())
        return None if found is None else self._found(call, *found)

    def _found(self, call: Call, entry: Entry, tier: Tier) -> Found:
        if self.determinism is not None:
            self.determinism.used[call.key] = call.options.codec
        if settings().debug_mutation and tier is self.chain.memory and call.options.shares:
            self._storing.witness.look(call.label, call.key, entry)
        return Found(entry.value, tier.name, max(0.0, self.clock.wall() - entry.created), entry.cost)

    async def _serve(self, call: Call, found: Found) -> Any:
        value = await self._decode(call, found.value)
        self._report(call, "hit", found)
        return value

    async def _decode(self, call: Call, stored: Any) -> Any:
        value = call.options.private(stored)
        decoder = call.options.decoder
        return value if decoder is None else await maybe_await(decoder(value))

    def _report(
        self, call: Call, outcome: CallOutcome, found: Found | None = None, action: CallAction = "call"
    ) -> None:
        seconds = self.clock.monotonic() - call.started
        tier, age, cost, stored = (None, None, 0.0, None)
        if found is not None:
            tier, age, cost, stored = found.tier, found.age, found.cost, found.stored
        self._emit(call.counters, CallEvent(call.label, call.key, outcome, tier, age, seconds, cost, action, stored))

    def _emit(self, counters: CallCounters, event: CallEvent) -> None:
        if event.action == "call":
            counters.note(event)
        if self.events.active:
            self.events.emit(event)


def _refuse_unrepeatable(label: str, value: Any) -> None:
    """Refuse a result that only its first user could use."""
    if inspect.iscoroutine(value):
        value.close()  # it will never be awaited, and need not warn of it
    elif not (inspect.isgenerator(value) or inspect.isasyncgen(value) or inspect.isawaitable(value)):
        return
    raise CustomResultEncoderRequiredError(label, f"a {type(value).__name__} can be used only once")
