"""The same cache for callers that cannot await: every coroutine method as a plain one, over the bridge."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, cast, final, overload

from acache.bridge import run_sync
from acache.caches.base import Cache
from acache.caches.deterministic import DeterministicCache
from acache.clock import Duration
from acache.context import IsolationSchema
from acache.exceptions import ConfigurationError
from acache.stats import CacheStatistics
from acache.types import Hit, Params

__all__ = ("SyncCache",)

T = TypeVar("T")
K = TypeVar("K")


@final
class SyncCache:
    """Use ``cache`` from plain threads. Methods mean what their namesakes of the cache mean, and block until done.

    ``timeout`` is the seconds each call may take before :class:`~acache.exceptions.BridgeTimeoutError`; ``None``
    is no limit. In a thread that runs an event loop every method raises :class:`~acache.exceptions.BridgeError` at once.
    """

    def __init__(self, cache: Cache, *, timeout: float | None = None) -> None:
        if not isinstance(given := cast("object", cache), Cache):
            raise ConfigurationError("cache", f"expected one, such as FastCache(), not {type(given).__name__}")
        self.cache = cache
        self.timeout = timeout
        #: The decorators serve both kinds of callers already.
        self.memoize = cache.memoize
        self.memoize_many = cache.memoize_many
        self.record = cache.record
        self.replay = cache.replay

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def get(
        self,
        function: Callable[..., Any],
        params: Params,
        *,
        ischema: IsolationSchema | None = None,
        custom_params_encoder: Callable[..., Any] | None = None,
        custom_result_decoder: Callable[[Any], Any] | None = None,
    ) -> Hit[Any] | None:
        """Return what is stored for a call, or ``None``."""
        hit: Hit[Any] | None = self._run(
            partial(
                self.cache.get,
                function,
                params,
                ischema=ischema,
                custom_params_encoder=custom_params_encoder,
                custom_result_decoder=custom_result_decoder,
            )
        )
        return hit

    def insert(
        self,
        function: Callable[..., Any],
        params: Params,
        result: Any,
        *,
        ischema: IsolationSchema | None = None,
        custom_params_encoder: Callable[..., Any] | None = None,
        custom_result_encoder: Callable[[Any], Any] | None = None,
    ) -> bool:
        """Store ``result`` for a call that has none; tell whether it was stored."""
        stored: bool = self._run(
            partial(
                self.cache.insert,
                function,
                params,
                result,
                ischema=ischema,
                custom_params_encoder=custom_params_encoder,
                custom_result_encoder=custom_result_encoder,
            )
        )
        return stored

    @overload
    def get_or_set(
        self,
        key: object,
        factory: Callable[[], Awaitable[T]],
        *,
        ttl: Duration | None = None,
        tags: str | Iterable[str] = (),
    ) -> T: ...
    @overload
    def get_or_set(
        self, key: object, factory: Callable[[], T], *, ttl: Duration | None = None, tags: str | Iterable[str] = ()
    ) -> T: ...
    def get_or_set(
        self, key: object, factory: Callable[[], Any], *, ttl: Duration | None = None, tags: str | Iterable[str] = ()
    ) -> Any:
        """Return what is stored under ``key``, else what ``factory()`` gives, computed once for all who ask."""
        return self._run(partial(self.cache.get_or_set, key, factory, ttl=ttl, tags=tags))

    def get_many(self, keys: Iterable[K]) -> dict[K, Hit[Any]]:
        """Return what is stored under each of ``keys``; what has nothing is absent."""
        found: dict[K, Hit[Any]] = self._run(partial(self.cache.get_many, keys))
        return found

    def set_many(self, values: Mapping[Any, object], *, ttl: Duration | None = None) -> int:
        """Store each value over what is there; return how many were stored."""
        return int(self._run(partial(self.cache.set_many, values, ttl=ttl)))

    def delete(self, key: object) -> bool:
        """Remove what :meth:`get_or_set` stored under ``key``."""
        return bool(self._run(partial(self.cache.delete, key)))

    def invalidate_tags(self, *tags: str) -> None:
        """Let every result that has one of ``tags`` be computed anew when it is asked for."""
        self._run(partial(self.cache.invalidate_tags, *tags))

    def clear(self) -> None:
        """Remove every entry of the cache's namespace."""
        self._run(self.cache.clear)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Serve what the bundle ``path`` holds.

        Raises :class:`~acache.exceptions.ConfigurationError` for a cache that is no :class:`DeterministicCache`.
        """
        self._run(partial(self._deterministic().load, path))

    def dump(self, path: str | os.PathLike[str] | None = None) -> Path | None:
        """Write every result that this process has used into the bundle ``path``, and return the path.

        Raises :class:`~acache.exceptions.ConfigurationError` for a cache that is no :class:`DeterministicCache`.
        """
        written: Path | None = self._run(partial(self._deterministic().dump, path))
        return written

    def close(self) -> None:
        """Let go of what the tiers hold open."""
        self._run(self.cache.aclose)

    def statistics(self) -> CacheStatistics:
        """Return the counters of this moment."""
        return self.cache.statistics()

    @contextmanager
    def lock(self, timeout: float | None = None) -> Generator[None]:
        """Hold the locks of all tiers for a ``with`` block."""
        held = self.cache.lock(timeout)
        self._run(held.__aenter__)
        try:
            yield
        finally:
            self._run(partial(held.__aexit__, None, None, None))

    def _deterministic(self) -> DeterministicCache:
        if isinstance(self.cache, DeterministicCache):
            return self.cache
        raise ConfigurationError("SyncCache", "only a DeterministicCache has results to dump, and bundles to load")

    def _run(self, method: Callable[[], Awaitable[Any]]) -> Any:
        return run_sync(method, timeout=self.timeout)
