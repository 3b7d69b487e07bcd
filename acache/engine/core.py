"""The engine: one call over flights and tiers.

It knows keys and entries, not functions or decorators. A call that finds nothing in memory joins or starts the flight of
its key; the flight reads the wider tiers, takes the key's host lock, reads again (another process may have been faster),
computes, and publishes. A tier that breaks or a host lock that cannot be had costs time, never the result.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, final, runtime_checkable

from acache.config import settings
from acache.context import Scope
from acache.engine.options import Options
from acache.engine.plan import Route, Verb, plan
from acache.events import CallEvent, CallOutcome, Events, TierEvent, TierOutcome
from acache.exceptions import (
    ConfigurationError,
    CustomResultEncoderRequiredError,
    ReplayMissError,
    ValueEncodingError,
)
from acache.flight import Flight, FlightTable
from acache.stats import CallCounters
from acache.tiers.base import Tier
from acache.tiers.chain import ChainTier
from acache.types import Entry, Hit, Key, Written

__all__ = ("Call", "Engine", "Found")

_log = logging.getLogger("acache")

#: What says that a lock cannot be had: a timeout, which is an OSError, a file system, or an executor that is over.
_NO_LOCK: Final = (OSError, RuntimeError)


@runtime_checkable
class _HostLocks(Protocol):
    """A tier whose users on one host can exclude each other for one key."""

    name: str

    def hold_host_lock(self, key: Key, timeout: float | None = None) -> AbstractAsyncContextManager[object]: ...


@final
@dataclass(frozen=True, slots=True)
class Call:
    """One call, as the engine sees it."""

    label: str
    key: Key
    #: Run the function. Awaited at most once, in the flight's own task.
    compute: Callable[[], Awaitable[Any]]
    options: Options
    counters: CallCounters
    #: When the caller began, by the engine's monotonic clock.
    started: float
    #: The event loop of the thread that is blocked until the call ends, if it runs one.
    blocked: AbstractEventLoop | None = None


@final
@dataclass(frozen=True, slots=True)
class Found:
    """What a flight came to. ``tier`` and ``age`` (seconds) are of the stored entry; ``None`` when it was computed."""

    value: Any
    tier: str | None = None
    age: float | None = None
    cost: float = 0.0


@final
class Engine:
    """Run calls over one chain of tiers.

    ``host_timeout`` is how many seconds a call waits for another process that computes the same key before it computes
    it itself.
    """

    def __init__(self, chain: ChainTier, events: Events, *, host_timeout: float) -> None:
        self.chain = chain
        self.events = events
        self.clock = chain.clock
        self.flights = FlightTable()
        self.host_timeout = host_timeout
        self._host: _HostLocks | None = next((tier for tier in chain.tiers if isinstance(tier, _HostLocks)), None)

    def check(self, label: str, options: Options) -> None:
        """Raise :class:`~acache.exceptions.ConfigurationError` when the tiers cannot give what ``options`` ask."""
        if options.flight == "host" and self._host is None:
            raise ConfigurationError("flight", f"{label} asks for one flight per host, which needs a disk tier")

    def route(self, verb: Verb, scope: Scope) -> Route:
        """Choose the way of a call under the switches of this moment."""
        config = settings()
        return plan(verb, scope, enabled=config.enable and not config.disable, recache=config.recache)

    async def run(self, call: Call, route: Route) -> Any:
        """Carry out one call and return its result; the caller's cancellation leaves the flight to other waiters.

        Raises what the computation raises; :class:`~acache.exceptions.ReplayMissError` for a replay that finds nothing;
        :class:`~acache.exceptions.CustomResultEncoderRequiredError` for a result no tier can encode;
        :class:`~acache.exceptions.RecursiveCallError` for a call that waits for itself.
        """
        if route is Route.RECORD:
            return await self._record(call)
        hit = None if route is Route.REFUSE else self.peek(call)
        if hit is None and route is Route.LOOKUP:
            return await self._join(call)
        if hit is None and route is Route.REPLAY:
            hit = await self._find(call)
        if hit is None:
            self._report(call, "missed")
            raise ReplayMissError(call.label, call.key)
        return await self._serve(call, hit)

    def peek(self, call: Call) -> Found | None:
        """Look where looking needs no waiting: into memory, and at what the kernel has of a file."""
        found = self.chain.find_now(call.key, call.options.codec)
        return None if found is None else self._found(*found)

    def deliver(self, call: Call, hit: Found) -> Any:
        """Return the value of a hit that needed no waiting, and count it; only for options without a decoder."""
        self._report(call, "hit", hit)
        return call.options.private(hit.value)

    def bypass(self, label: str, counters: CallCounters) -> None:
        """Count a call that runs without the cache, and so without a key."""
        self._emit(counters, CallEvent(label, None, "bypassed"))

    async def look_up(self, call: Call) -> Hit[Any] | None:
        """Return what is stored, decoded; compute nothing and count nothing."""
        found = await self.chain.find(call.key, call.options.codec)
        if found is None:
            return None
        hit = found[1].hit(found[0])
        return dataclasses.replace(hit, value=await self._decode(call, hit.value))

    async def put(self, call: Call, value: Any, *, replace: bool, cost: float = 0.0) -> bool:
        """Store a result given from outside; with ``replace``, flights of the key lose the right to publish.

        Raises :class:`~acache.exceptions.CustomResultEncoderRequiredError` for a value no tier can encode.
        """
        entry = await self._entry(call, value, cost)
        if replace:
            self.flights.invalidate(call.key)
        return await self._publish(call, entry, lambda: True, replace=replace) is Written.NEW

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
        if found.tier is not None:
            return await self._serve(call, found)
        self._report(call, "joined" if joined else "computed", found)
        return call.options.private(found.value) if joined else found.value

    async def _produce(self, call: Call, flight: Flight[Found]) -> Found:
        found = await self._find(call)
        if found is not None:
            return found
        if self._host is None or call.options.flight == "process":
            return await self._compute(call, flight)
        async with self._host_lock(self._host, call.key):
            return await self._find(call) or await self._compute(call, flight)

    async def _compute(self, call: Call, flight: Flight[Found] | None) -> Found:
        started = self.clock.monotonic()
        value = await call.compute()
        cost = self.clock.monotonic() - started
        _refuse_unrepeatable(call.label, value)
        if self._wants(call, value):
            if flight is None:
                await self.put(call, value, replace=True, cost=cost)
            else:
                flight.landing = True
                entry = await self._entry(call, value, cost)
                await self._publish(call, entry, flight.holds, replace=False)
        return Found(value, cost=cost)

    async def _record(self, call: Call) -> Any:
        try:
            found = await self._compute(call, None)
        except Exception:
            self._report(call, "failed")
            raise
        self._report(call, "computed", found)
        return found.value

    async def _entry(self, call: Call, value: Any, cost: float) -> Entry:
        """Encode a result and stamp it with the time."""
        encoder, ttl = call.options.encoder, call.options.ttl
        stored = value if encoder is None else await _maybe_await(encoder(value))
        try:
            stored = call.options.private(stored)
        except ValueEncodingError as error:
            raise CustomResultEncoderRequiredError(call.label, str(error)) from error
        now = self.clock.wall()
        return Entry(stored, now, None if ttl is None else now + ttl, cost)

    async def _publish(self, call: Call, entry: Entry, still: Callable[[], bool], *, replace: bool) -> Written:
        try:
            return await self.chain.publish(call.key, entry, replace=replace, codec=call.options.codec, still=still)
        except ValueEncodingError as error:
            raise CustomResultEncoderRequiredError(call.label, str(error)) from error

    @asynccontextmanager
    async def _host_lock(self, host: _HostLocks, key: Key) -> AsyncGenerator[None]:
        """Hold the key's lock of this host; go on without it when it cannot be had, or given back."""
        held = host.hold_host_lock(key, self.host_timeout)
        try:
            await held.__aenter__()
        except _NO_LOCK as error:
            self._report_lock(host, key, error)
            yield
            return
        try:
            yield
        finally:
            try:
                await held.__aexit__(None, None, None)
            except _NO_LOCK as error:
                self._report_lock(host, key, error)

    def _report_lock(self, host: _HostLocks, key: Key, error: Exception) -> None:
        outcome: TierOutcome = "timeout" if isinstance(error, TimeoutError) else "failed"
        self.events.emit(TierEvent(host.name, "lock", outcome, key, type(error).__name__))

    # --- serving --------------------------------------------------------------------------------------------------

    async def _find(self, call: Call) -> Found | None:
        found = await self.chain.find(call.key, call.options.codec)
        return None if found is None else self._found(*found)

    def _found(self, entry: Entry, tier: Tier) -> Found:
        return Found(entry.value, tier.name, max(0.0, self.clock.wall() - entry.created), entry.cost)

    async def _serve(self, call: Call, found: Found) -> Any:
        value = await self._decode(call, found.value)
        self._report(call, "hit", found)
        return value

    async def _decode(self, call: Call, stored: Any) -> Any:
        value = call.options.private(stored)
        decoder = call.options.decoder
        return value if decoder is None else await _maybe_await(decoder(value))

    def _wants(self, call: Call, value: Any) -> bool:
        store_if = call.options.store_if
        if store_if is None:
            return True
        try:
            return bool(store_if(value))
        except Exception as error:  # noqa: BLE001 - the caller has computed a result, and gets it
            _log.warning("store_if of %s failed with %s; the result was not stored", call.label, type(error).__name__)
            return False

    def _report(self, call: Call, outcome: CallOutcome, found: Found | None = None) -> None:
        seconds = self.clock.monotonic() - call.started
        tier, age, cost = (None, None, 0.0) if found is None else (found.tier, found.age, found.cost)
        self._emit(call.counters, CallEvent(call.label, call.key, outcome, tier, age, seconds, cost))

    def _emit(self, counters: CallCounters, event: CallEvent) -> None:
        counters.note(event)
        if self.events.active:
            self.events.emit(event)


async def _maybe_await(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _refuse_unrepeatable(label: str, value: Any) -> None:
    """Refuse a result that only its first user could use."""
    if inspect.iscoroutine(value):
        value.close()  # it will never be awaited, and need not warn of it
    elif not (inspect.isgenerator(value) or inspect.isasyncgen(value) or inspect.isawaitable(value)):
        return
    raise CustomResultEncoderRequiredError(label, f"a {type(value).__name__} can be used only once")
