"""The engine: one call over flights and tiers.

It knows keys and entries, not functions or decorators. A call that finds nothing in memory joins or starts the flight of
its key; the flight reads the wider tiers, takes the key's host lock, reads again (another process may have been faster),
computes, and publishes. A tier that breaks or a host lock that cannot be had costs time, never the result.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from functools import partial
from typing import Any, final

from acache.config import settings
from acache.context import Scope
from acache.engine.background import Background
from acache.engine.call import Call, Costed, Failure, Found
from acache.engine.deferred import Deferral, DeferredRecording
from acache.engine.determinism import Determinism
from acache.engine.explain import Explanation, explain
from acache.engine.finding import Finder
from acache.engine.freshness import Freshness
from acache.engine.groups import Groups, Origin
from acache.engine.host import HostFlights
from acache.engine.options import Options
from acache.engine.plan import Mode, Route, Step, Verb, plan, step
from acache.engine.reporting import INSERTED, Reporter
from acache.engine.resting import Resting
from acache.engine.storing import Storing, maybe_await, refuse_unrepeatable
from acache.engine.waiting import Waiting, note_failure
from acache.events import Events
from acache.exceptions import (
    CustomResultEncoderRequiredError,
    DeterminismLostError,
    ReplayMissError,
    StrictDeterministicCachingInsertionError,
    StrictDeterministicCachingKeyNotFoundError,
)
from acache.flight import Flight, FlightTable, LeaderLost
from acache.tiers.chain import ChainTier
from acache.types import MISSING, Hit, Key, Written

__all__ = ("Engine",)


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
        self._background = background = Background()
        self._resting = resting = Resting()
        self._reporter = reporter = Reporter(events, self.clock)
        self._report = reporter.report
        self.bypass = reporter.bypassed
        self.groups = Groups(chain, self.flights, reporter)
        self._storing = Storing(chain, self.flights.invalidate, background, determinism, reporter)
        self._finder = finder = Finder(chain, self._storing, background, determinism)
        self.judge = finder.judge
        self._find, self._found = finder.find, finder.found
        #: Look where looking needs no waiting.
        self.peek = finder.peek
        #: Let the time of what is stored for a call begin anew; tell whether there was something to be served.
        self.touch = finder.prolong
        self._waiting = Waiting(self.flights, finder, background, resting, reporter, self.clock)

    def check(self, label: str, options: Options, *, tagged: bool = False) -> None:
        """Raise :class:`~acache.exceptions.ConfigurationError` when the tiers cannot give what ``options`` ask."""
        options.require(label, hosts=bool(self._host), agrees=self.determinism is not None, tagged=tagged)

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
        :class:`~acache.exceptions.DeterminismLostError` for what workers cannot agree on, which is all that is not stored when nothing may be;
        :class:`~acache.exceptions.CustomResultEncoderRequiredError` for a result no tier can encode;
        :class:`~acache.exceptions.RecursiveCallError` for a call that waits for itself.
        """
        if route is Route.RECORD:
            return await self._record(call)
        hit = None if route is Route.REFUSE else self.peek(call)
        if hit is None and route in {Route.REPLAY, Route.STRICT, Route.AGREED}:
            hit = await self._find(call)
        return await self._carry_out(call, route, self._step(call, route, hit), hit)

    async def _carry_out(self, call: Call, route: Route, step: Step, hit: Found | None) -> Any:
        if step is Step.COMPUTE:
            return await self._join(call)
        if step is Step.SERVE_AND_REFRESH:
            self._refresh(call)
        if hit is None or step is Step.REFUSE:
            self._report(call, "missed")
            raise self._miss(call, route)
        return await self._serve(call, hit)

    def run_now(self, call: Call, route: Route) -> tuple[bool, Any]:
        """Do as :meth:`run` if that needs no waiting, and tell whether it did; only for options without a decoder."""
        hit = self.peek(call)
        todo = self._step(call, route, hit)
        if hit is None or todo not in {Step.SERVE, Step.SERVE_AND_REFRESH}:
            return False, None
        if todo is Step.SERVE_AND_REFRESH:
            self._refresh(call)
        try:
            value = call.private(hit.value)
        except CustomResultEncoderRequiredError:
            self._report(call, "failed")
            raise
        self._report(call, "hit", hit)
        if isinstance(value, Failure):
            raise value.again()
        return True, value

    def _step(self, call: Call, route: Route, found: Found | None) -> Step:
        freshness = None if found is None else found.freshness
        aged = freshness not in {None, Freshness.FRESH}
        return step(route, freshness, resting=aged and self._resting.is_resting(call.key, self.clock.monotonic()))

    async def look_up(self, call: Call, route: Route) -> Hit[Any] | None:
        """Return what is stored, decoded; compute nothing, and count it as no call.

        Of a stored exception, the value is one for this caller. Raises
        :class:`~acache.exceptions.StrictDeterministicCachingKeyNotFoundError` where a strict cache holds nothing.
        """
        found = await self._find(call)
        if found is None or not found.freshness.is_served:
            self._report(call, "missed", action="get")
            if route is Route.STRICT:
                raise self._miss(call, route)
            return None
        kept = found.value
        value = kept.again() if isinstance(kept, Failure) else await self._decode(call, kept)
        self._report(call, "hit", found, action="get")
        return Hit(value, found.tier, found.age, found.ttl)

    async def contains(self, call: Call) -> bool:
        """Tell whether there is a result that would be served."""
        found = await self._find(call)
        return found is not None and found.freshness.is_served

    async def put(self, call: Call, value: Any, route: Route, *, replace: bool, cost: float = 0.0) -> bool:
        """Store a result given from outside; with ``replace``, flights of the key lose the right to publish.

        A deterministic cache never replaces. Raises :class:`~acache.exceptions.CustomResultEncoderRequiredError` for a value
        that cannot be stored, unless a warning is to do, and :class:`~acache.exceptions.StrictDeterministicCachingInsertionError` of a strict cache.
        """
        if route is Route.STRICT:
            raise StrictDeterministicCachingInsertionError(call.label, call.key)
        if call.options.encoder is None:
            refuse_unrepeatable(call.label, value)  # which no option excuses
        try:
            written = await self._put(call, value, replace=replace and self.determinism is None, cost=cost)
        except CustomResultEncoderRequiredError:
            self._storing.excuse(call)
            written = Written.FAILED
        if written is not None:
            self._report(call, INSERTED[written], action="insert")
        return written is Written.NEW

    async def _put(self, call: Call, value: Any, *, replace: bool, cost: float) -> Written | None:
        """Write a result given from outside; ``None`` if an option failed, which is an event already."""
        origin = self.groups.complete(call, value, await self.groups.begin(call))
        if origin is None:
            return None
        stored = await self._storing.encode(call, value)
        if isinstance(stored, DeferredRecording):
            deferral = Deferral.of(stored)
            del stored
            stored = await self._storing.final(call, deferral)
        if replace:
            self.flights.invalidate(call.key)
        entry = self._storing.entry(call, value, stored, cost, origin)
        if entry is None:
            return None
        return await self._storing.publish(call, entry, lambda: True, replace=replace)

    async def explain(self, call: Call, prefixes: tuple[str, ...]) -> Explanation:
        """Say whether a call would be served and, if not, which entry comes nearest. See :mod:`acache.engine.explain`.

        Nothing is brought nearer by looking, or counts as used.
        """
        found = await self._finder.look(call, fills=False)
        hit = found is not None and self._finder.freshness(call, found[0]).is_served
        return await explain(self.chain, call, prefixes, hit=hit)

    async def remove(self, key: Key) -> bool:
        """Remove one entry; what is being computed for it now is not stored."""
        self.flights.invalidate(key)
        if self.determinism is not None:
            self.determinism.usage.forget(key)
        return await self.chain.remove(key)

    async def clear(self, prefix: str = "") -> None:
        """Remove every entry whose key begins with ``prefix``; what is being computed for them now is not stored."""
        self.flights.invalidate_all(prefix)
        if self.determinism is not None:
            self.determinism.usage.forget_all(prefix)
        await self.chain.clear(prefix=prefix)
        await self.groups.forget(prefix)

    # --- the flight -----------------------------------------------------------------------------------------------

    async def _join(self, call: Call) -> Any:
        try:
            found, joined = await self._waiting.wait(call, self._fly)
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
            value = self._storing.handed(call, value)
        self._report(call, "joined" if joined else "computed", found)
        return value

    async def _fly(self, call: Call) -> tuple[Found, bool]:
        born = await self.groups.board(call)
        return await self.flights.run(
            call.key,
            call.label,
            lambda flight: self._produce(call, flight),
            blocked=call.blocked,
            born=born,
            stores=call.stores,
        )

    async def _produce(self, call: Call, flight: Flight[Found]) -> Found:
        found = await self._find(call)
        todo = self._step(call, Route.LOOKUP if flight.stores else Route.READ, found)
        if found is not None and todo is not Step.COMPUTE:
            if todo is Step.SERVE_AND_REFRESH:
                self._refresh(call)
            return found
        flight.progress = None if found is None else found.source
        if not self._host or call.options.flight == "process":
            return await self._compute(call, flight, replace=found is not None)
        return await self._compute_on_host(call, flight)

    async def _compute_on_host(self, call: Call, flight: Flight[Found]) -> Found:
        """Compute under the host lock of the key, unless another process has meanwhile."""
        async with self._host.lock(call.key):
            found = await self._find(call)
            if found is not None and found.freshness is Freshness.FRESH:
                return found
            return await self._compute(call, flight, replace=found is not None)

    # --- behind the caller ----------------------------------------------------------------------------------------

    def _refresh(self, call: Call) -> None:
        """Compute a key anew behind the caller, once at a time."""
        behind = call if call.behind is None else dataclasses.replace(call, compute=call.behind, blocked=None)
        self._background.refresh(call.key, partial(self._refresh_now, behind), f"acache:refresh {call.label}")

    async def _refresh_now(self, call: Call) -> None:
        started = self.clock.monotonic()
        call = dataclasses.replace(call, started=started)
        try:
            born = await self.groups.board(call)
            found, _ = await self.flights.run(call.key, call.label, lambda flight: self._renew(call, flight), born=born)
        except Exception:  # noqa: BLE001 - whoever asks for the key when it is no longer served meets the error
            self._resting.fail(call.key, self.clock.monotonic())
            self._report(call, "failed", action="refresh")
        else:
            self._report(call, "computed", found, action="refresh")

    async def _renew(self, call: Call, flight: Flight[Found]) -> Found:
        if not self._host or call.options.flight == "process":
            return await self._compute(call, flight, replace=True)
        return await self._compute_on_host(call, flight)

    async def _compute(self, call: Call, flight: Flight[Found], *, replace: bool) -> Found:
        """Compute and store; a key that fails rests, and one that does not is no longer to."""
        try:
            found = await self._compute_and_keep(call, flight, replace=replace)
        except LeaderLost:
            raise
        except Exception:
            note_failure(self._resting, flight, self.clock.monotonic())
            raise
        self._resting.succeed(call.key)
        return found

    async def _compute_and_keep(self, call: Call, flight: Flight[Found], *, replace: bool) -> Found:
        origin = await self.groups.begin(call, flight)
        async with call.place():
            started = self.clock.monotonic()
            try:
                value, cost = await self._run(call)
            except Exception as error:
                flight.is_noted |= await self._keep_failure(
                    call, flight, error, self.clock.monotonic() - started, origin
                )
                raise
        call = dataclasses.replace(call, stores=self.flights.is_to_store(flight))
        complete = self.groups.complete(call, value, origin) if self._storing.wants(call, value) else None
        if complete is None:
            return Found(value, cost=cost, stored=False)
        flight.landing = True
        try:
            return await self._land(call, flight, value, cost, complete, replace=replace)
        except CustomResultEncoderRequiredError:
            self._storing.excuse(call)
            return Found(value, cost=cost, stored=False)

    async def _keep_failure(
        self, call: Call, flight: Flight[Found], error: Exception, cost: float, origin: Origin
    ) -> bool:
        """Store an exception that is a result, unless there is a value that will still do; tell whether it was stored."""
        is_result, ttl = call.options.exception_ttl(error)
        if not is_result or not self.flights.is_to_store(flight):
            return False
        flight.landing = True
        with self.chain.watching(call.key) as watch:
            found = await self._find(call)
            if found is not None and found.freshness is not Freshness.DEAD and not isinstance(found.value, Failure):
                return False
            entry = self._storing.stamped(call, Failure.of(error), ttl, cost, origin)
            with suppress(CustomResultEncoderRequiredError):  # an exception that cannot be encoded is only raised
                written = await self._storing.publish(call, entry, lambda: flight.holds() and watch.fresh, replace=True)
                return written is Written.NEW
        return False

    async def _land(
        self, call: Call, flight: Flight[Found], value: Any, cost: float, origin: Origin, *, replace: bool
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
        entry = self._storing.entry(call, value, stored, cost, origin)
        replace = replace and self.determinism is None
        written = await self._storing.publish(call, entry, flight.holds, replace=replace)
        if self.determinism is not None and entry is not None and written is not Written.NEW:
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
            origin = await self.groups.begin(call)
            async with call.place():
                value, cost = await self._run(call)
            complete = self.groups.complete(call, value, origin) if self._storing.wants(call, value) else None
            stored = complete is not None and await self._storing.store_over(call, value, cost, complete)
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
        if isinstance(value, Costed):
            value, cost = value
        refuse_unrepeatable(call.label, value)
        return value, cost

    # --- serving --------------------------------------------------------------------------------------------------

    def _miss(self, call: Call, route: Route) -> Exception:
        """Return what a call raises that is not stored and must not be computed."""
        if route is Route.AGREED:
            return DeterminismLostError(call.label, call.key)
        if route is not Route.STRICT or self.determinism is None:
            return ReplayMissError(call.label, call.key)
        return StrictDeterministicCachingKeyNotFoundError(call.label, call.key, self.determinism.why_missing())

    async def _serve(self, call: Call, found: Found) -> Any:
        if isinstance(found.value, Failure):
            self._report(call, "hit", found)
            raise found.value.again()
        try:
            value = await self._decode(call, found.value)
        except Exception:
            self._report(call, "failed")
            raise
        self._report(call, "hit", found)
        return value

    async def _decode(self, call: Call, stored: Any) -> Any:
        value = call.private(stored)
        decoder = call.options.decoder
        return value if decoder is None else await maybe_await(decoder(value))
