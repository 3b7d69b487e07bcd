"""What type checkers see of the decorators. Never run: mypy and pyright check it with everything else.

Each ``type: ignore`` is a mistake that both must find: one that they stop finding is an error of its own (mypy's
``warn_unused_ignores``, and the pyright setting below).
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any, assert_type

from acache import FastCache, Hit, SyncCache, memoize, run_sync
from acache.memoize import AsyncMemoized, SyncMemoized
from acache.stats import CacheInfo
from acache.testing import ComputeCounter, SweepStep, cancel_sweep

cache = FastCache()


# --- functions, bare ----------------------------------------------------------------------------------------------


@cache.memoize
async def fetch(number: int, name: str = "x", *, flag: bool = False) -> bytes:
    return b""


@cache.memoize
def compute(number: int, name: str = "x", *, flag: bool = False) -> bytes:
    return b""


async def check_async_function() -> None:
    await assert_type(fetch(1), Coroutine[Any, Any, bytes])
    assert_type(await fetch(1, "y", flag=True), bytes)
    assert_type(await fetch(number=1, name="y"), bytes)
    assert_type(await fetch.aio(1, flag=True), bytes)
    assert_type(fetch.sync(1, flag=True), bytes)
    assert_type(await fetch.cache_get(1, name="y"), Hit[bytes] | None)
    assert_type(await fetch.cache_set(b"", 1, name="y"), bool)
    assert_type(await fetch.cache_contains(1), bool)
    assert_type(await fetch.cache_invalidate(1), bool)
    assert_type(await fetch.cache_refresh(1), bytes)
    assert_type(fetch.cache_key(1), str)
    assert_type(fetch.cache_info(), CacheInfo)
    await fetch.cache_clear()
    await fetch()  # type: ignore[call-arg]
    await fetch("1")  # type: ignore[arg-type]
    await fetch(1, flag="no")  # type: ignore[arg-type]
    await fetch(1, unknown=1)  # type: ignore[call-arg]
    await fetch.aio("1")  # type: ignore[arg-type]
    fetch.sync("1")  # type: ignore[arg-type]
    await fetch.cache_get("1")  # type: ignore[arg-type]
    await fetch.cache_set("no bytes", 1)  # type: ignore[arg-type]


@cache.memoize
def describe(**fields: int) -> str:
    return ""


async def check_keywords() -> None:
    assert_type(describe(self=1), str)
    assert_type(await describe.cache_get(self=1, value=1), Hit[str] | None)
    assert_type(await describe.cache_set("", self=1, value=1), bool)
    assert_type(describe.cache_key(self=1), str)


async def check_sync_function() -> None:
    assert_type(compute(1), bytes)
    assert_type(compute(1, "y", flag=True), bytes)
    assert_type(await compute.aio(1, flag=True), bytes)
    assert_type(compute.sync(1), bytes)
    assert_type(await compute.cache_get(1), Hit[bytes] | None)
    assert_type(await compute.cache_refresh(1), bytes)
    compute()  # type: ignore[call-arg]
    compute("1")  # type: ignore[arg-type]
    compute(1, flag="no")  # type: ignore[arg-type]
    await compute.aio("1")  # type: ignore[arg-type]


def takes_async(function: Callable[[int], Coroutine[Any, Any, bytes]]) -> None: ...


def takes_sync(function: Callable[[int], bytes]) -> None: ...


def check_use_as_values() -> None:
    takes_async(fetch)
    takes_sync(compute)
    takes_async(compute)  # type: ignore[arg-type]
    takes_sync(fetch)  # type: ignore[arg-type]


# --- functions, with options; the other verbs; the default cache ------------------------------------------------------


@cache.memoize(ttl="10m", typed=True, store_if=lambda result: bool(result))  # noqa: PLW0108 - a callable with no name
async def fetch_for_a_while(number: int) -> list[str]:
    return []


@cache.record(ttl=timedelta(minutes=1))
def compute_again(number: int) -> dict[str, int]:
    return {}


@cache.replay
async def replay(number: int) -> str:
    return ""


@memoize
async def by_default(number: int) -> str:
    return ""


@memoize(version=2)
def by_default_with_options(number: int) -> str:
    return ""


async def check_options() -> None:
    assert_type(await fetch_for_a_while(1), list[str])
    assert_type(compute_again(1), dict[str, int])
    assert_type(await replay(1), str)
    assert_type(await by_default(1), str)
    assert_type(by_default_with_options(1), str)
    await fetch_for_a_while("1")  # type: ignore[arg-type]
    compute_again("1")  # type: ignore[arg-type]
    await replay("1")  # type: ignore[arg-type]
    await by_default("1")  # type: ignore[arg-type]
    by_default_with_options("1")  # type: ignore[arg-type]
    cache.memoize(ttl=[])  # type: ignore[call-overload]
    cache.memoize(unknown=1)  # type: ignore[call-overload]


# --- in classes ---------------------------------------------------------------------------------------------------


class Compiler:
    """Every kind of method."""

    @cache.memoize
    async def build(self, source: str) -> bytes:
        return b""

    @cache.memoize(ttl=60)
    def check(self, source: str) -> int:
        return 0

    @classmethod
    @cache.memoize
    async def probe(cls, target: str) -> bytes:
        return b""

    @cache.memoize(ttl=60)
    @classmethod
    def version(cls, target: str) -> str:
        return ""

    @staticmethod
    @cache.memoize
    async def parse(source: str) -> list[str]:
        return []

    @cache.memoize
    @staticmethod
    def count(source: str) -> int:
        return 0


async def check_methods(compiler: Compiler) -> None:
    assert_type(await compiler.build("s"), bytes)
    assert_type(await compiler.build(source="s"), bytes)
    assert_type(await Compiler.build(compiler, "s"), bytes)
    assert_type(compiler.check("s"), int)
    assert_type(await compiler.check.aio("s"), int)
    assert_type(await compiler.build.cache_get("s"), Hit[bytes] | None)
    assert_type(await compiler.build.cache_invalidate("s"), bool)
    await compiler.build(1)  # type: ignore[arg-type]
    await compiler.build()  # type: ignore[call-arg]
    compiler.check(1)  # type: ignore[arg-type]
    await compiler.build.cache_get(1)  # type: ignore[arg-type]


# Of a classmethod and of a staticmethod on an instance the checkers lose track unless it is a plain function; that those
# work is shown by running them.


async def check_staticmethods() -> None:
    assert_type(await Compiler.parse("s"), list[str])
    assert_type(Compiler.count("s"), int)
    await Compiler.parse(1)  # type: ignore[arg-type]
    Compiler.count(1)  # type: ignore[arg-type]


# --- generic functions, the cache itself, the bridge, the testing kit ------------------------------------------------


async def number() -> int:
    return 1


async def check_the_rest(plain: SyncCache) -> None:
    assert_type(await cache.get_or_set("k", number), int)
    assert_type(await cache.get_or_set("k", lambda: "v"), str)
    assert_type(await cache.get(fetch, ((1,), {})), Hit[Any] | None)
    assert_type(await cache.insert(fetch, ((1,), {}), b""), bool)
    assert_type(run_sync(number), int)
    assert_type(plain.get_or_set("k", lambda: "v"), str)
    counted = ComputeCounter().wrap(number)
    assert_type(await counted(), int)
    async for step in cancel_sweep(number):
        assert_type(step, SweepStep[int])


def check_protocols(a: AsyncMemoized[[int], bytes], b: SyncMemoized[[int], bytes]) -> None:
    takes_async(a)
    takes_sync(b)


# --- many keys, and streams ---------------------------------------------------------------------------------------


@cache.memoize_many
async def load(keys: list[int]) -> dict[int, bytes]:
    return {}


@cache.memoize_many(window="1ms", max_batch=100, ttl="10m", max_concurrency=4)
async def load_list(keys: list[str]) -> list[bytes]:
    return []


@cache.memoize_many
def load_sync(keys: list[int]) -> dict[int, bytes]:
    return {}


async def check_many() -> None:
    await assert_type(load([1]), Coroutine[Any, Any, dict[int, bytes]])
    assert_type(await load(range(3)), dict[int, bytes])
    assert_type(await load.one(1), bytes)
    assert_type(load.sync([1]), dict[int, bytes])
    assert_type(await load.cache_get(1), Hit[bytes] | None)
    assert_type(await load.cache_set(b"", 1), bool)
    assert_type(await load_list(["a"]), list[bytes])
    assert_type(await load_list.one("a"), bytes)
    assert_type(load_sync([1]), dict[int, bytes])
    assert_type(load_sync.one(1), bytes)
    assert_type(await load_sync.aio([1]), dict[int, bytes])
    assert_type(await load.cache_with(ttl=5)([1]), dict[int, bytes])
    assert_type(await load.cache_with(ttl=5).one(1), bytes)
    assert_type(await cache.get_many([1, 2]), dict[int, Hit[Any]])
    assert_type(await cache.set_many({1: 2}, ttl="1m"), int)
    await load(["a"])  # type: ignore[list-item]
    await load.one("a")  # type: ignore[arg-type]
    await load_list([1])  # type: ignore[list-item]
    await load.cache_set("no bytes", 1)  # type: ignore[arg-type]


@cache.memoize
async def stream(number: int, *, name: str = "x") -> AsyncGenerator[bytes, None]:
    yield b""


@cache.memoize(ttl=10, max_stream_bytes=1_000)
async def stream_for_a_while(number: int) -> AsyncIterator[str]:
    yield ""


class Streams:
    """Generators may live in classes."""

    @cache.memoize(ignore=("self",))
    async def lines(self, number: int) -> AsyncGenerator[str, None]:
        yield ""


async def check_streams() -> None:
    assert_type(stream(1, name="y"), AsyncGenerator[bytes, None])
    async for chunk in stream(1):
        assert_type(chunk, bytes)
    assert_type(stream_for_a_while(1), AsyncGenerator[str, None])
    assert_type(Streams().lines(1), AsyncGenerator[str, None])
    assert_type(await stream.cache_get(1), Hit[list[bytes]] | None)
    assert_type(await stream.cache_refresh(1), list[bytes])
    assert_type(await stream.cache_invalidate(1, name="y"), bool)
    assert_type(stream.cache_with(ttl=5)(1), AsyncGenerator[bytes, None])
    stream("1")  # type: ignore[arg-type]
    stream()  # type: ignore[call-arg]
    Streams().lines("1")  # type: ignore[arg-type]
