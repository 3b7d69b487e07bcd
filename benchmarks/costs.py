"""What the other ways through acache cost. Nothing is promised of them: they are here to be watched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any, Final

import async_lru
import cachebox

from acache import FastCache, run_sync
from acache.keys import encode_key
from acache.tiers import DiskTier, MemoryTier
from acache.types import Entry
from benchmarks.harness import Benchmark, Measure, Run, block
from benchmarks.result import Result

__all__ = ("BENCHMARK",)


@dataclass(frozen=True)
class _Flags:
    target: str = "sm90"
    level: int = 2
    defines: tuple[str, ...] = ("A", "B")


async def answer(number: object = 1, text: object = "a") -> object:
    """Stand for a computation."""
    return number, text


def answer_sync(number: object = 1, text: object = "a") -> object:
    """Stand for a computation that awaits nothing."""
    return number, text


async def run(run: Run) -> Result:
    """Measure keys, hits, misses, calls from plain threads, and invalidations of groups."""
    size, rounds = run.pick(300, 5), run.pick(21, 2)
    result = Result()
    async with AsyncExitStack() as stack:
        groups = {
            "the key of a call with": _keys(size),
            "memory hit": await _hits(size),
            "from a plain thread": await _from_threads(size),
            "miss": await _misses(run, stack, max(1, size // 10)),
            "100 at once": await _many(run, stack),
            "invalidate_tags()": await _invalidations(run, stack, size),
        }
        for group, measures in groups.items():
            result.add(group, await run.in_turns(measures, rounds))
    return result


def _keys(size: int) -> dict[str, Measure]:
    key = FastCache().memoize(answer).cache_key
    arguments: dict[str, object] = {
        "1 and a short text": "a",
        "1 KiB of text": "x" * 1024,
        "16 KiB of bytes": b"x" * 16384,
        "a dataclass of 3": _Flags(),
        "a dict of 100": {f"key{number}": number for number in range(100)},
    }
    return {f"acache, {name}": _plain(partial(key, 1, value), size) for name, value in arguments.items()}


async def _hits(size: int) -> dict[str, Measure]:
    cache, tier = FastCache(), MemoryTier()
    memoized, tagged = cache.memoize(answer), cache.memoize(tags="t")(answer)
    await memoized(1, "a")
    await memoized(1, ("a",))
    await tagged(2, "a")
    await tier.set("key", 1)
    return {
        "acache, hot path": block(lambda: memoized(1, "a"), size),
        "acache, hot path, with tags": block(lambda: tagged(2, "a"), size),
        "acache, full path (a tuple as argument)": block(lambda: memoized(1, ("a",)), size),
        "acache, cache_get()": block(lambda: memoized.cache_get(1, "a"), size),
        "acache, get_or_set()": block(lambda: cache.get_or_set("key", answer), size),
        "acache, MemoryTier.get()": block(lambda: tier.get("key"), size),
    }


async def _from_threads(size: int) -> dict[str, Measure]:
    memoized, plain = FastCache().memoize(answer), FastCache().memoize(answer_sync)
    await memoized(1, "a")
    numbers, few = count(), max(1, size // 10)
    return {
        "acache, hit of an async function": _in_thread(lambda: memoized.sync(1, "a"), size),
        "acache, miss of an async function": _in_thread(lambda: memoized.sync(next(numbers), "miss"), few),
        "acache, miss of a plain function": _in_thread(lambda: plain(next(numbers), "miss"), few),
        "acache, run_sync()": _in_thread(lambda: run_sync(answer), few),
    }


async def _misses(run: Run, stack: AsyncExitStack, size: int) -> dict[str, Measure]:
    numbers = count()

    async def on_disk(label: str) -> FastCache:
        tiers = MemoryTier(), DiskTier(run.scratch.directory(label))
        return await stack.enter_async_context(FastCache(*tiers))

    functions: dict[str, Callable[[object], Awaitable[Any]]] = {
        "acache, memory": FastCache().memoize(answer),
        "acache, memory and disk, one flight per process": (await on_disk("process")).memoize(flight="process")(answer),
        "acache, memory and disk, one flight per host": (await on_disk("host")).memoize(answer),
        "async-lru": async_lru.alru_cache(maxsize=None)(answer),
        "cachebox": cachebox.cached(cachebox.LRUCache(0))(answer),
    }
    return {name: block(partial(_call_anew, function, numbers), size) for name, function in functions.items()}


async def _many(run: Run, stack: AsyncExitStack) -> dict[str, Measure]:
    """Measure a hundred entries one by one, and in one round trip; the time is that of all hundred."""
    disk = await stack.enter_async_context(FastCache(DiskTier(run.scratch.directory("many"))))
    memory = FastCache()
    keys = range(100)
    values: dict[int, object] = dict.fromkeys(keys, "x" * 500)
    numbers = count()

    async def load(keys: list[int]) -> dict[int, int]:
        return dict.fromkeys(keys, 1)

    load_many, load_each = memory.memoize_many(load), memory.memoize(answer)
    await load_many(keys)
    await disk.tier.set_many(values)

    def anew() -> list[int]:
        return [next(numbers) for _ in keys]

    return {
        "acache, 100 times DiskTier.get()": block(lambda: _each(disk.tier.get, keys), 1),
        "acache, DiskTier.get_many() of 100": block(lambda: disk.tier.get_many(keys), 1),
        "acache, 100 times DiskTier.set()": block(lambda: _each(partial(disk.tier.set, value="x" * 500), keys), 1),
        "acache, DiskTier.set_many() of 100": block(lambda: disk.tier.set_many(values), 1),
        "acache, memoize_many, 100 hits": block(lambda: load_many(keys), 1),
        "acache, memoize_many, 100 misses": block(lambda: load_many(anew()), 1),
        "acache, 100 misses of memoize in gather()": block(lambda: _gathered(load_each, anew()), 1),
    }


async def _each(function: Callable[[int], Awaitable[Any]], keys: Iterable[int]) -> None:
    for key in keys:
        await function(key)


async def _gathered(function: Callable[[object], Awaitable[Any]], keys: Iterable[int]) -> None:
    await asyncio.gather(*map(function, keys))


async def _invalidations(run: Run, stack: AsyncExitStack, size: int) -> dict[str, Measure]:
    """Measure caches that differ in how many entries have the tag that is invalidated."""
    caches = {f"acache, {count:,} entries in memory": _tagged(count) for count in (1_000, run.pick(1_000_000, 2_000))}
    disk = DiskTier(run.scratch.directory("tags"))
    caches["acache, memory and disk"] = await stack.enter_async_context(FastCache(MemoryTier(), disk))
    return {name: block(partial(cache.invalidate_tags, "t"), size) for name, cache in caches.items()}


def _tagged(count: int) -> FastCache:
    tier, tags = MemoryTier(max_entries=None), ("t",)
    for number in range(count):
        tier.put(encode_key(number), Entry(number, 0.0, tags=tags), replace=True)
    return FastCache(tier)


def _call_anew(function: Callable[[object], Awaitable[Any]], numbers: count[int]) -> Awaitable[Any]:
    return function(next(numbers))


def _plain(call: Callable[[], object], size: int) -> Measure:
    async def measure() -> float:
        return _timed(call, size)

    return measure


def _in_thread(call: Callable[[], object], size: int) -> Measure:
    async def measure() -> float:
        return await asyncio.to_thread(_timed, call, size)

    return measure


def _timed(call: Callable[[], object], size: int) -> float:
    start = perf_counter()
    for _ in range(size):
        call()
    return (perf_counter() - start) / size


BENCHMARK: Final = Benchmark("costs", "What else costs what (nothing is promised)", run)
