"""One memoized function: from its arguments to a key, from a key to the engine, and everything ``fn.cache_*`` does."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple, final

from acache.bridge import RunHere, drive, in_event_loop, run_in_worker, run_sync
from acache.callables import is_coroutine_function
from acache.context import (
    Isolation,
    IsolationSchema,
    check_schema,
    current_scope,
    isolation,
    isolation_here,
    isolation_now,
)
from acache.engine import Call, Costed, Engine, Explanation, Failure, Options, Route, Tagging, Verb, check_callable
from acache.exceptions import BridgeError, ConfigurationError
from acache.flight import LeaderLost
from acache.keys import KeyRecipe, TagRecipe
from acache.locks import Limiter
from acache.memoize.hot import Cell, Cells, Gate, async_face, sync_face
from acache.stats import CacheInfo, CallCounters
from acache.tiers.base import Tier
from acache.tiers.eviction import DEAD
from acache.types import MISSING, Entry, Hit, Key

__all__ = ("ENTRY_METHODS", "FACE_METHODS", "Memoized", "Prepared")

#: What a memoized function has besides being callable.
FACE_METHODS: Final = (
    "aio",
    "cache_clear",
    "cache_contains",
    "cache_explain",
    "cache_get",
    "cache_info",
    "cache_invalidate",
    "cache_key",
    "cache_parameters",
    "cache_refresh",
    "cache_set",
    "cache_touch",
    "cache_with",
    "sync",
)

#: What functions have too that are called otherwise: over many keys, and with streams for results.
ENTRY_METHODS: Final = tuple(name for name in FACE_METHODS if name.startswith("cache_"))

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Prepared(NamedTuple):
    """A call on its way: its key, and what can say what that was made of, until the function has its arguments."""

    key: Key
    factors: Callable[[], Mapping[str, str]]
    tags: Tagging | None = None


@final
class Memoized:
    """What stands behind the faces that callers see (:mod:`acache.memoize.hot`)."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        verb: Verb,
        recipe: KeyRecipe,
        options: Options,
        given: Mapping[str, Any],
        schema: IsolationSchema,
        params_encoder: Callable[..., Any] | None,
        engine: Engine,
        gate: Gate,
        counters: CallCounters,
        hot: bool,
        skip_self: bool = False,
        limiter: Limiter | None = None,
        find: Callable[[Call], Awaitable[tuple[Entry, Tier] | None]] | None = None,
        raw: Callable[..., Any] | None = None,
        tags: TagRecipe | None = None,
        stream_limit: int | None = None,
        present: Callable[[Memoized], Any],
    ) -> None:
        self.function = function
        #: What was decorated; ``function`` may carry out its calls in its place.
        self.raw = function if raw is None else raw
        #: How many bytes of a stream are stored at most; ``None``: its results are no streams.
        self.stream_limit = stream_limit
        self.is_async = is_coroutine_function(function)
        self.verb: Verb = verb
        self.recipe = recipe
        self.options = options
        #: The options as they were given, for those who change some of them.
        self.given = given
        self.schema = schema
        self.engine = engine
        self.gate = gate
        self.counters = counters
        self.cells = Cells(skip=skip_self)
        engine.chain.removals(recipe.prefix)  # they are counted from now on
        self.limiter = limiter
        #: Looks into the tiers for this call and others together.
        self._find = find
        self._params_encoder = params_encoder
        self._encodes_async = is_coroutine_function(params_encoder)
        self._tags = tags
        #: Makes what callers see of this function, or of it with other options.
        self._present = present
        self.aio = async_face(self, hot=hot)
        self.sync = sync_face(self, hot=hot)

    @property
    def now(self) -> Callable[[], float]:
        """The clock that the deadlines of memory entries are in."""
        return self.engine.clock.monotonic

    def variant(
        self,
        schema: IsolationSchema | None,
        params_encoder: Callable[..., Any] | None,
        *,
        encoder: Callable[[Any], Any] | None = None,
        decoder: Callable[[Any], Any] | None = None,
    ) -> Memoized:
        """Return this function with other forms and coders, where they are given.

        Raises :class:`~acache.exceptions.ConfigurationError`, naming the option, for what is none.
        """
        if schema is None and params_encoder is None and encoder is None and decoder is None:
            return self
        label, options = self.recipe.label, self.options
        check_callable("custom_params_encoder", label, params_encoder)
        check_callable("custom_result_encoder", label, encoder)
        check_callable("custom_result_decoder", label, decoder)
        return self._copy(
            replace(
                options,
                encoder=options.encoder if encoder is None else encoder,
                decoder=options.decoder if decoder is None else decoder,
            ),
            self.given,
            self.schema if schema is None else check_schema(label, schema),
            self._params_encoder if params_encoder is None else params_encoder,
        )

    def _copy(
        self,
        options: Options,
        given: Mapping[str, Any],
        schema: IsolationSchema,
        params_encoder: Callable[..., Any] | None,
    ) -> Memoized:
        return Memoized(
            self.function,
            verb=self.verb,
            recipe=self.recipe,
            options=options,
            given=given,
            schema=schema,
            params_encoder=params_encoder,
            engine=self.engine,
            gate=self.gate,
            counters=self.counters,
            hot=False,
            limiter=self.limiter,
            find=self._find,
            raw=self.raw,
            tags=self._tags,
            stream_limit=self.stream_limit,
            present=self._present,
        )

    # --- keys -----------------------------------------------------------------------------------------------------

    def key(self, args: Args, kwargs: Kwargs) -> Prepared:
        """Make the key of a call without waiting; an async params encoder goes through the bridge."""
        if self._encodes_async:
            return run_sync(self.prepare, args, kwargs)
        params: Any = MISSING
        if self._params_encoder is not None:
            params = self._params_encoder(*args, **kwargs)
            if inspect.isawaitable(params):
                _close(params)
                raise BridgeError(
                    f"the params encoder of {self.recipe.label} is async and not an `async def`: make it one"
                )
        return self._prepared(args, kwargs, isolation_here(self.schema, current_scope()), params)

    async def prepare(self, args: Args, kwargs: Kwargs) -> Prepared:
        """Make the key of a call."""
        isolated = isolation_now(self.schema, current_scope()) or await isolation(self.schema)
        return self._prepared(args, kwargs, isolated, await self._params(args, kwargs))

    async def prepare_many(self, calls: Iterable[Args], kwargs: Kwargs) -> list[Prepared]:
        """Make the keys of calls that differ in ``args``."""
        isolated = isolation_now(self.schema, current_scope()) or await isolation(self.schema)
        return [self._prepared(args, kwargs, isolated, await self._params(args, kwargs)) for args in calls]

    async def _params(self, args: Args, kwargs: Kwargs) -> Any:
        if self._params_encoder is None:
            return MISSING
        params = self._params_encoder(*args, **kwargs)
        return await params if inspect.isawaitable(params) else params

    def _prepared(self, args: Args, kwargs: Kwargs, isolated: Isolation, params: Any) -> Prepared:
        key = self.recipe.digest(args, kwargs, isolated.key, params)
        tags = None
        if self._tags is not None:
            recipe = self._tags
            tags = Tagging(partial(recipe.known, args, kwargs), lambda result: recipe.of(result, args, kwargs))
        return Prepared(key, partial(self.recipe.factors, args, kwargs, isolated.factors, params), tags)

    # --- calls ----------------------------------------------------------------------------------------------------

    async def call_async(self, args: Args, kwargs: Kwargs, cell: Cell | None) -> Any:
        """Carry out a call from a task; a plain function's body runs in a worker thread."""
        started = self.now()
        route = self.engine.route(self.verb, current_scope())
        compute = partial(self._compute, args, kwargs)
        if route is Route.BYPASS:
            return await self._bypass(compute)
        call = self._call(await self.prepare(args, kwargs), compute, started, cell=cell)
        value = await self.engine.run(call, route)
        self._point(cell, call.key)
        return value

    def call_sync(self, args: Args, kwargs: Kwargs, cell: Cell | None) -> Any:
        """Carry out a call from a thread; a plain function's body runs in this very thread."""
        started = self.now()
        route = self.engine.route(self.verb, current_scope())
        if self.is_async:
            return self._call_bridged(args, kwargs, cell, route, started)
        body = partial(self.function, *args, **kwargs)
        if route is Route.BYPASS:
            self.engine.bypass(self.recipe.label, self.counters)
            with nullcontext() if self.limiter is None else self.limiter.hold_sync(wait=not in_event_loop()):
                return body()
        prepared = self.key(args, kwargs)
        hit, value = self._peek(prepared, args, kwargs, route, started, cell)
        if not hit:
            blocked = asyncio.get_running_loop() if in_event_loop() else None

            async def main(run_here: RunHere) -> Any:
                behind = partial(self._compute, args, kwargs)
                # Who may go before the end cannot run the body himself.
                there = behind if self.options.has_limits else partial(_compute_there, run_here, body)
                call = self._call(prepared, there, started, blocked, behind, cell)
                return await self.engine.run(call, route)

            value = drive(main)
        self._point(cell, prepared.key)
        return value

    def _call_bridged(self, args: Args, kwargs: Kwargs, cell: Cell | None, route: Route, started: float) -> Any:
        if route in {Route.LOOKUP, Route.REPLAY} and not self._encodes_async:
            prepared = self.key(args, kwargs)
            hit, value = self._peek(prepared, args, kwargs, route, started, cell)
            if hit:
                self._point(cell, prepared.key)
                return value
        return run_sync(self.call_async, args, kwargs, cell)

    def _peek(
        self, prepared: Prepared, args: Args, kwargs: Kwargs, route: Route, started: float, cell: Cell | None
    ) -> tuple[bool, Any]:
        """Serve a sync call from memory without crossing to a loop, where that needs no waiting."""
        if route not in {Route.LOOKUP, Route.REPLAY} or self.options.decoder is not None:
            return False, None
        call = self._call(prepared, partial(self._compute, args, kwargs), started, cell=cell)
        return self.engine.run_now(call, route)

    async def _bypass(self, compute: Callable[[], Awaitable[Any]]) -> Any:
        """Run the function without the cache; what it computes with is as limited as ever."""
        self.engine.bypass(self.recipe.label, self.counters)
        async with nullcontext() if self.limiter is None else self.limiter.hold():
            value = await compute()
        return value.value if isinstance(value, Costed) else value

    async def _compute(self, args: Args, kwargs: Kwargs) -> Any:
        if self.is_async:
            return await self.function(*args, **kwargs)
        return await run_in_worker(partial(self.function, *args, **kwargs))

    def call_for(self, args: Args, prepared: Prepared, kwargs: Kwargs | None = None, *, stores: bool = True) -> Call:
        """Make a call, whose key is known, for the engine."""
        call = self._call(prepared, partial(self._compute, args, kwargs or {}))
        return call if stores else replace(call, stores=False)

    def _call(
        self,
        prepared: Prepared,
        compute: Callable[[], Awaitable[Any]],
        started: float | None = None,
        blocked: asyncio.AbstractEventLoop | None = None,
        behind: Callable[[], Awaitable[Any]] | None = None,
        cell: Cell | None = None,
    ) -> Call:
        began = self.now() if started is None else started
        return Call(
            self.recipe.label,
            prepared.key,
            compute,
            self.options,
            self.counters,
            began,
            blocked,
            behind,
            used=-math.inf if self.options.timing.idle is None else self._used(cell, prepared.key),
            find=self._find,
            limiter=self.limiter,
            factors=prepared.factors,
            tags=prepared.tags,
        )

    def _used(self, cell: Cell | None, key: Key) -> float:
        """Return when a hot path last led to the entry, in monotonic seconds; the cell knows too when memory had to drop it."""
        memory = self.engine.chain.memory
        node = None if memory is None else memory.node(key)
        return max((DEAD if cell is None else cell.node).used, (node or DEAD).used)

    def _point(self, cell: Cell | None, key: Key) -> None:
        """Lead later calls with the same arguments straight to the entry."""
        memory, stamps = self.engine.chain.memory, self.engine.chain.stamps
        if cell is None or memory is None:
            return
        cell.node = DEAD
        node = memory.node(key)
        entry = None if node is None else node.entry
        # What is stored of an exception is no value.
        if node is None or entry is None or isinstance(entry.value, Failure):
            return
        moment = self.now()
        until = self.engine.judge.hot_until(self.options.timing, entry, node.deadline)
        # What was served only because nothing better could be had was not used.
        if until is not None and moment < until:
            node.used = moment
        if entry.tags:
            # First: an invalidation that comes after the judgement has this cell forgotten.
            self.cells.tagged = True
            if stamps.is_dead_now(key, entry) is not False:
                return
            until = min((end for end in (until, stamps.good_until) if end is not None), default=None)
        cell.until = until
        cell.node = node  # last: whoever sees it sees the other

    # --- what callers ask of one call's entry ---------------------------------------------------------------------

    def _route(self) -> Route:
        return self.engine.route("memoize", current_scope())

    async def cache_get(self, /, *args: Any, **kwargs: Any) -> Hit[Any] | None:
        """Return what is stored for a call, or ``None``; compute nothing. The value may be an exception that is kept."""
        started, route = self.now(), self._route()
        if route is Route.BYPASS:
            return None
        return await self.engine.look_up(self._call(await self.prepare(args, kwargs), _never, started), route)

    async def cache_set(self, value: Any, /, *args: Any, **kwargs: Any) -> bool:
        """Store ``value`` as the result of a call, over what is there; tell whether it was stored."""
        started, route = self.now(), self._route()
        if not route.stores:
            return False
        prepared = await self.prepare(args, kwargs)
        return await self.engine.put(self._call(prepared, _never, started), value, route, replace=True)

    async def cache_insert(self, value: Any, /, *args: Any, **kwargs: Any) -> bool:
        """Store ``value`` as the result of a call that has none; tell whether it was stored."""
        started, route = self.now(), self._route()
        if not route.stores:
            return False
        prepared = await self.prepare(args, kwargs)
        return await self.engine.put(self._call(prepared, _never, started), value, route, replace=False)

    async def cache_contains(self, /, *args: Any, **kwargs: Any) -> bool:
        """Tell whether a call would be a hit."""
        return self._route() is not Route.BYPASS and await self.engine.contains(
            self._call(await self.prepare(args, kwargs), _never)
        )

    async def cache_invalidate(self, /, *args: Any, **kwargs: Any) -> bool:
        """Remove the entry of a call and tell whether there was one; what computes it now is not stored."""
        return await self.engine.remove((await self.prepare(args, kwargs)).key)

    async def cache_refresh(self, /, *args: Any, **kwargs: Any) -> Any:
        """Compute a call now, store it over what is there, and return it; a deterministic cache returns what is there."""
        route = self.engine.route("record", current_scope())
        compute = partial(self._compute, args, kwargs)
        if route is Route.BYPASS:
            return await self._bypass(compute)
        return await self.engine.run(self._call(await self.prepare(args, kwargs), compute), route)

    async def cache_explain(self, /, *args: Any, **kwargs: Any) -> Explanation:
        """Say why a call would be a miss: the nearest stored entry, and the names of what differs. For debugging: it scans."""
        call = self._call(await self.prepare(args, kwargs), _never)
        return await self.engine.explain(call, (self.recipe.prefix, self.recipe.namespace_prefix))

    async def cache_touch(self, /, *args: Any, **kwargs: Any) -> bool:
        """Let the time of a call's entry begin anew, as if it had just been made; tell whether there was one."""
        if not self._route().stores:
            return False
        return await self.engine.touch(self._call(await self.prepare(args, kwargs), _never))

    async def cache_clear(self) -> None:
        """Remove every entry of this function and version; what computes now is not stored."""
        await self.engine.clear(self.recipe.prefix)

    # --- plain ----------------------------------------------------------------------------------------------------

    def cache_with(self, /, **options: Any) -> Any:
        """Return the function as it would be with other options for keeping results: ``f.cache_with(ttl="5s")(x)``.

        It has all that the function has; keys, entries and flights are the same. Raises :class:`~acache.exceptions.ConfigurationError` for an option that is not about
        keeping results, or that cannot be.
        """
        unknown = sorted(options.keys() - Options.names())
        if unknown:
            raise ConfigurationError(
                unknown[0], f"it cannot be changed for one call; these can: {', '.join(sorted(Options.names()))}"
            )
        given = {**self.given, **options}
        built = Options.build(self.recipe.label, **given)
        self.engine.check(self.recipe.label, built)
        return self._present(self._copy(built, given, self.schema, self._params_encoder))

    def cache_key(self, /, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call: 64 hex digits."""
        return self.key(args, kwargs).key

    def cache_info(self) -> CacheInfo:
        """Return the counters of this function, and its share of the memory tier."""
        memory = self.engine.chain.memory
        return self.counters.info(
            maxsize=None if memory is None else memory.max_entries,
            currsize=0 if memory is None else memory.population(self.recipe.prefix),
            removals=self.engine.chain.removals(self.recipe.prefix),
        )

    def cache_parameters(self) -> dict[str, Any]:
        """Return six options of the function (``typed``, ``ttl``, ``flight``, ``codec`` by its name, ``copy``, ``tags``), and ``maxsize``.

        ``maxsize`` is how many entries the memory tier may hold, whatever functions they are of; ``None``: there is no such tier.
        """
        memory = self.engine.chain.memory
        return {
            "maxsize": None if memory is None else memory.max_entries,
            "typed": self.options.typed,
            "ttl": self.options.ttl,
            "flight": self.options.flight,
            "codec": None if self.options.codec is None else self.options.codec.name,
            "copy": self.options.copy,
            "tags": None if self._tags is None else self._tags.given,
        }


async def _compute_there(run_here: RunHere, body: Callable[[], Any]) -> Any:
    """Run a body in the thread that called; another waiter takes over if that thread leaves before it begins."""
    begun = False

    def begin() -> Any:
        nonlocal begun
        begun = True
        return body()

    try:
        # In the flight's context, so that the body is known to be part of the flight.
        return await run_here(begin, copy_context())
    except BridgeError:
        if begun:
            raise
        raise LeaderLost from None


async def _never() -> Any:
    raise AssertionError("a look-up computes nothing")


def _close(awaitable: Any) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
