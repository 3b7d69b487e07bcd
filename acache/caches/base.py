"""What every cache is: tiers, an engine and the decorators in one hand.

A cache belongs to no event loop and no thread; it may be made at import, used from many loops at once, and goes on working
in the child after a fork.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from acache import config
from acache.bridge import run_in_worker
from acache.callables import is_coroutine_function
from acache.clock import Duration
from acache.context import PLAIN, IsolationSchema, current_scope
from acache.engine import Call, Determinism, Engine, Options, Route, Tagging, look_up_many, put_many
from acache.events import Events
from acache.exceptions import ConfigurationError, KeyEncodingError
from acache.keys import canonical, check_tags, namespace_prefix
from acache.locks.timeouts import resolve_timeout
from acache.memoize import CLOSED, Decorator, ManyDecorator, Memoized, Studio, add_infos, memoized_of, unbound
from acache.stats import CacheInfo, CacheStatistics, CallCounters
from acache.tiers import ChainTier
from acache.types import Hit, Key, Params

__all__ = ("Cache",)

T = TypeVar("T")
K = TypeVar("K")

#: Stands in a key where memoized calls have the digest of their function.
_NO_FUNCTION = hashlib.sha256(b"acache get_or_set").hexdigest()[:12]


class Cache:
    """Results and values over one chain of tiers; :class:`FastCache` and :class:`DeterministicCache` are what one makes."""

    def __init__(
        self, chain: ChainTier, *, namespace: str, host_timeout: float, determinism: Determinism | None = None
    ) -> None:
        if not isinstance(namespace, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not checked
            raise ConfigurationError("namespace", f"expected a text ('' is none), not {type(namespace).__name__}")
        resolve_timeout(host_timeout, "host_timeout")
        self.namespace = namespace
        #: All tiers as one; usable on its own.
        self.tier = chain
        #: Subscribe a sink here to hear of every call and every tier.
        self.events = Events(on_change=self._adjust_gates)
        self.tier.events.add_parent(self.events)
        self._engine = Engine(self.tier, self.events, host_timeout=host_timeout, determinism=determinism)
        self.studio = Studio(self._engine, namespace)
        self._counters = CallCounters()
        studio = self.studio
        #: Serve what is stored, else compute once and store.
        self.memoize = Decorator("memoize", lambda: studio)
        #: The same for a function over a list of keys, key by key.
        self.memoize_many = ManyDecorator(lambda: studio)
        #: Always compute, then store over what is there. (A deterministic cache keeps, and returns, what is there.)
        self.record = Decorator("record", lambda: studio)
        #: Serve what is stored, else raise ``ReplayMissError``; never compute.
        self.replay = Decorator("replay", lambda: studio)
        self._adjust_gates()
        config.on_change(self._adjust_gates)  # held weakly

    def __repr__(self) -> str:
        tiers = ", ".join(tier.name for tier in self.tier.tiers)
        return f"<{type(self).__name__} {tiers} in_flight={len(self._engine.flights)}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of what the tiers hold open. Idempotent; a cache that is used again opens again."""
        await self.tier.aclose()

    # --- results of functions -------------------------------------------------------------------------------------

    async def get(
        self,
        function: Callable[..., Any],
        params: Params,
        *,
        ischema: IsolationSchema | None = None,
        custom_params_encoder: Callable[..., Any] | None = None,
        custom_result_decoder: Callable[[Any], Any] | None = None,
    ) -> Hit[Any] | None:
        """Return what is stored for ``function(*params[0], **params[1])``, or ``None``; compute nothing.

        ``function`` is raw or memoized; options that are not given are those it was memoized with. Raises
        :class:`~acache.exceptions.CustomParamsEncoderRequiredError` for an argument that cannot be part of a key, and
        :class:`~acache.exceptions.ConfigurationError` for an option that cannot be, or ``params`` that are no such pair.
        """
        args, kwargs = _checked(params)
        raw, bound = unbound(function)
        memoized = self._memoized(raw, ischema, custom_params_encoder, decoder=custom_result_decoder)
        return await memoized.cache_get(*bound, *args, **kwargs)

    async def insert(
        self,
        function: Callable[..., Any],
        params: Params,
        result: Any,
        *,
        ischema: IsolationSchema | None = None,
        custom_params_encoder: Callable[..., Any] | None = None,
        custom_result_encoder: Callable[[Any], Any] | None = None,
    ) -> bool:
        """Store ``result`` for a call that has none; tell whether it was stored. Never overwrites.

        Raises as :meth:`get`, and :class:`~acache.exceptions.CustomResultEncoderRequiredError` for a result that a
        tier cannot encode.
        """
        args, kwargs = _checked(params)
        raw, bound = unbound(function)
        memoized = self._memoized(raw, ischema, custom_params_encoder, encoder=custom_result_encoder)
        return await memoized.cache_insert(result, *bound, *args, **kwargs)

    def _memoized(
        self,
        function: Callable[..., Any],
        schema: IsolationSchema | None,
        params_encoder: Callable[..., Any] | None,
        *,
        encoder: Callable[[Any], Any] | None = None,
        decoder: Callable[[Any], Any] | None = None,
    ) -> Memoized:
        known = memoized_of(function)
        if known is None or known.engine is not self._engine:
            raw = function if known is None else known.raw
            known = self.studio.registry.find(raw) or self.studio.memoized(raw, "memoize", {})
        return known.variant(schema, params_encoder, encoder=encoder, decoder=decoder)

    # --- values under keys of one's own ---------------------------------------------------------------------------

    @overload
    async def get_or_set(
        self,
        key: object,
        factory: Callable[[], Awaitable[T]],
        *,
        ttl: Duration | None = None,
        tags: str | Iterable[str] = (),
    ) -> T: ...
    @overload
    async def get_or_set(
        self, key: object, factory: Callable[[], T], *, ttl: Duration | None = None, tags: str | Iterable[str] = ()
    ) -> T: ...
    async def get_or_set(
        self, key: object, factory: Callable[[], Any], *, ttl: Duration | None = None, tags: str | Iterable[str] = ()
    ) -> Any:
        """Return what is stored under ``key``, else what ``factory()`` gives, computed once for all who ask.

        ``key`` is any object that can be encoded. ``factory`` is called in a worker thread unless it is an
        ``async def``; what it returns is awaited if it can be. ``tags`` name the groups that the value belongs to. Raises
        what ``factory`` raises, stores nothing then; and :class:`~acache.exceptions.ConfigurationError` for a factory that cannot be called.
        """
        if not callable(factory):
            raise ConfigurationError(
                "factory", f"expected a function that makes the value, not a {type(factory).__name__}"
            )
        options = Options.build("get_or_set", ttl=ttl)
        texts = check_tags(tags)
        self._engine.check("get_or_set", options, tagged=bool(texts))

        async def compute() -> Any:
            is_async = is_coroutine_function(factory)
            value = factory() if is_async else await run_in_worker(factory)
            return await value if inspect.isawaitable(value) else value

        route = self._engine.route("memoize", current_scope())
        if route is Route.BYPASS:
            self._engine.bypass("get_or_set", self._counters)
            return await compute()
        started = self._engine.clock.monotonic()
        call = Call("get_or_set", self._key(key), compute, options, self._counters, started)
        if texts:
            call = replace(call, tags=Tagging(lambda: texts, lambda _value: ()))
        return await self._engine.run(call, route)

    async def get_many(self, keys: Iterable[K]) -> dict[K, Hit[Any]]:
        """Return what is stored under each of ``keys``, in one round trip for each tier; what has nothing is absent.

        Keys must be hashable; of those that are equal, such as ``1`` and ``True``, the first counts. Raises
        :class:`~acache.exceptions.StrictDeterministicCachingKeyNotFoundError` where a strict cache holds nothing.
        """
        asked = {key: self._key(key) for key in dict.fromkeys(keys)}
        route = self._engine.route("memoize", current_scope())
        if route is Route.BYPASS:
            return {}
        calls = [self._call("get_many", key, Options()) for key in asked.values()]
        found = await look_up_many(self._engine, calls, route)
        return {key: hit for key, hit in zip(asked, found, strict=True) if hit is not None}

    async def set_many(self, values: Mapping[Any, object], *, ttl: Duration | None = None) -> int:
        """Store each value over what is there, in one round trip for each tier; return how many were stored.

        Each is atomic by itself; what computes one of them now is not stored. Raises
        :class:`~acache.exceptions.ValueEncodingError` for the first value that a tier cannot encode, when the others are
        stored; and before anything is, for one that can be used only once. For the first, a deterministic cache raises
        :class:`~acache.exceptions.CustomResultEncoderRequiredError`, and a strict one
        :class:`~acache.exceptions.StrictDeterministicCachingInsertionError` for every value.
        """
        options = Options.build("set_many", ttl=ttl)
        calls = [self._call("set_many", self._key(key), options) for key in values]
        route = self._engine.route("memoize", current_scope())
        if not route.stores:
            return 0
        return await put_many(self._engine, calls, list(values.values()), route)

    def _call(self, label: str, key: Key, options: Options) -> Call:
        return Call(label, key, _never, options, self._counters, self._engine.clock.monotonic())

    async def delete(self, key: object) -> bool:
        """Remove what :meth:`get_or_set` stored under ``key``; what computes it now is not stored."""
        return await self._engine.remove(self._key(key))

    def _key(self, key: object) -> Key:
        try:
            digest = hashlib.sha256(canonical(key)).hexdigest()
        except KeyEncodingError as error:
            error.add_note("get_or_set() takes any object that has a stable encoding, or a __cache_key__() method")
            raise
        return Key(namespace_prefix(self.namespace) + _NO_FUNCTION + digest[:44])

    # --- groups ---------------------------------------------------------------------------------------------------

    async def invalidate_tags(self, *tags: str) -> None:
        """Let every result of this cache's namespace that has one of ``tags`` be computed anew when it is asked for.

        Costs the same however many there are. What computes now is not stored; what is asked for after this returns is
        not computed by who began before, if its tags are known from its arguments. With a disk tier, other processes that share it
        serve old results from their memory for at most a second more; a disk that cannot be written is an event, and they
        never hear. Cancelled, it is done completely or not at all.

        Raises :class:`~acache.exceptions.ConfigurationError` for a tag that is no text, and for a deterministic cache.
        """
        self._engine.check("invalidate_tags", Options(), tagged=True)
        texts = check_tags(tags)
        if texts:
            await self._engine.groups.invalidate(namespace_prefix(self.namespace), texts)

    # --- the whole cache ------------------------------------------------------------------------------------------

    async def clear(self) -> None:
        """Remove every entry of this cache's namespace (without one: every entry); what computes now is not stored."""
        await self._engine.clear(namespace_prefix(self.namespace) if self.namespace else "")

    def lock(self, timeout: float | None = None) -> AbstractAsyncContextManager[object]:
        """Hold the locks of all tiers, on disk too, for an ``async with`` block. Calls do not need it.

        ``timeout`` is in seconds for all together. Raises :class:`~acache.exceptions.LockTimeoutError` or
        :class:`~acache.exceptions.FileLockTimeoutError`, holding none.
        """
        return self.tier.lock(timeout)

    def statistics(self) -> CacheStatistics:
        """Return the counters of this moment: all calls, each function, each tier."""
        functions = self.studio.registry.infos()
        total = CacheInfo(0, 0, None, 0)
        for info in (*functions.values(), self._counters.info()):
            total = add_infos(total, info)
        memory = self.tier.memory
        if memory is not None:
            total = total._replace(maxsize=memory.max_entries, currsize=len(memory))
        tiers = tuple(tier.statistics() for tier in self.tier.tiers)
        total = total._replace(
            expired=sum(tier.expirations for tier in tiers),
            evicted=sum(tier.evictions for tier in tiers),
            invalidated=sum(tier.invalidations for tier in tiers),
            replaced=sum(tier.replacements for tier in tiers),
            corrupt=sum(tier.corruptions for tier in tiers),
        )
        return CacheStatistics(total, functions, tiers, len(self._engine.flights))

    def _adjust_gates(self) -> None:
        """Close the hot paths while somebody listens for every call, or a switch of the process is on."""
        self.studio.open_gates(PLAIN if self._is_plain(config.settings()) else CLOSED)

    def _is_plain(self, settings: config.Settings) -> bool:
        switched = settings.disable or settings.recache or settings.debug_mutation
        return settings.enable and not switched and not self.events.active


def _checked(params: Params) -> Params:
    """Return the arguments of a call. Raises :class:`~acache.exceptions.ConfigurationError` for what cannot be any."""
    match params:
        case ((tuple() | list()) as args, Mapping() as kwargs) if all(map(_is_text, kwargs)):
            return tuple(args), kwargs
        case _:
            detail = "expected a tuple and a mapping, the arguments of a call without and with names: ((1,), {'y': 2})"
            raise ConfigurationError("params", detail)


def _is_text(name: object) -> bool:
    return isinstance(name, str)


async def _never() -> Any:
    raise AssertionError("what is stored is not computed")
