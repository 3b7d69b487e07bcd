"""Memoized async generator functions: what they yield is recorded, replayed, and shared while it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing, nullcontext
from functools import partial, wraps
from typing import Any, Final

from acache.context import current_scope
from acache.engine import Engine, Route, check_count
from acache.engine.streaming import follow, record_alone
from acache.exceptions import ConfigurationError, ReplayMissError
from acache.memoize.function import Memoized

__all__ = ("MAX_STREAM_BYTES", "check_stream", "collector", "stream_face")

#: Estimated bytes of a stream beyond which it is not stored, if the function does not say otherwise.
MAX_STREAM_BYTES: Final = 64 * 2**20

_MEANINGLESS: Final = (
    *("idle", "refresh_after", "early_refresh", "stale_ttl", "stale_on_error", "soft_timeout", "timeout"),
    *("finish_in_background", "cache_exceptions"),
)


def check_stream(name: str, engine: Engine, options: dict[str, Any]) -> int:
    """Return how many bytes of a stream are stored at most.

    Raises :class:`~acache.exceptions.ConfigurationError` for an option that means nothing for a stream, and for a cache whose
    workers agree on results: what they have passed on already they could not take back.
    """
    _refuse_meaningless(name, options)
    if engine.determinism is not None:
        raise ConfigurationError("memoize", f"{name} is a stream, on which the workers of this cache cannot agree")
    return check_count("max_stream_bytes", name, options.get("max_stream_bytes")) or MAX_STREAM_BYTES


def _refuse_meaningless(name: str, options: Mapping[str, Any]) -> None:
    for option in _MEANINGLESS:
        if options.get(option):
            raise ConfigurationError(
                option, f"{name} is a stream: it is passed on as it comes, and stored when it is over"
            )
    if options.get("flight") not in {None, "process"}:
        raise ConfigurationError("flight", f"{name} is a stream, which runs once for each process")


def collector(function: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., Any]:
    """Return a coroutine function for what ``function`` yields, all at once."""

    @wraps(function)
    async def collect(*args: Any, **kwargs: Any) -> list[Any]:
        async with aclosing(function(*args, **kwargs)) as chunks:
            return [chunk async for chunk in chunks]

    return collect


def stream_face(memoized: Memoized, limit: int) -> Callable[..., AsyncGenerator[Any, None]]:
    """Return the async generator function that callers of a memoized one call.

    Raises :class:`~acache.exceptions.ConfigurationError` for options that were changed to what means nothing for a stream.
    """
    _refuse_meaningless(memoized.recipe.label, memoized.given)
    function = memoized.raw

    @wraps(function)
    async def face(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        source = partial(function, *args, **kwargs)
        async with aclosing(await _begin(memoized, source, limit, args, kwargs)) as chunks:
            async for chunk in chunks:
                yield chunk

    return face


async def _begin(
    memoized: Memoized,
    source: Callable[[], AsyncGenerator[Any, None]],
    limit: int,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> AsyncGenerator[Any, None]:
    """Choose where the chunks of one call come from."""
    engine = memoized.engine
    route = engine.route(memoized.verb, current_scope())
    if route is Route.BYPASS:
        engine.bypass(memoized.recipe.label, memoized.counters)
        return _bypass(memoized, source)
    call = memoized.call_for(args, await memoized.prepare(args, kwargs), kwargs, stores=route is not Route.READ)
    if route is Route.RECORD:
        return record_alone(engine, call, source, limit)
    if route is Route.REFUSE:
        raise ReplayMissError(call.label, call.key)
    if route is Route.REPLAY:
        return _replay(await engine.run(call, route))
    if call.options.decoder is None:
        hit, chunks = engine.run_now(call, route)
        if hit and chunks is not None:
            return _replay(chunks)
    return follow(engine, call, source, limit)


async def _bypass(memoized: Memoized, source: Callable[[], AsyncGenerator[Any, None]]) -> AsyncGenerator[Any, None]:
    async with (
        nullcontext() if memoized.limiter is None else memoized.limiter.hold(),
        aclosing(source()) as chunks,
    ):
        async for chunk in chunks:
            yield chunk


async def _replay(chunks: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for chunk in chunks:
        yield chunk
