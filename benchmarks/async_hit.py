"""A memory hit of a memoized coroutine function, against async-lru and cachebox."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final, TypeAlias

import async_lru
import cachebox

from acache import FastCache, isolate
from acache.tiers import MemoryTier
from benchmarks.harness import Benchmark, Measure, Run, hits
from benchmarks.result import Bound, Result, ratio

__all__ = ("BENCHMARK",)

#: Entries that each cache may hold.
SIZE: Final = 4096
#: Different arguments of the calls over many keys.
KEYS: Final = 1000
TTL: Final = 600.0
LIMIT: Final = 0.75

Function: TypeAlias = Callable[[Any, Any], Awaitable[Any]]


async def answer(_number: object, text: object) -> object:
    """Stand for a computation."""
    return text


def ours(ttl: float | None) -> Function:
    """Memoize with acache; a cache each, because functions of one identity share their entries."""
    return FastCache(MemoryTier(SIZE)).memoize(ttl=ttl)(answer)


def peers() -> dict[str, Function]:
    """Memoize with the others: as documented, and with what cachebox can leave out left out."""
    lru, bare = cachebox.LRUCache(SIZE), cachebox.LRUCache(SIZE)
    return {
        "async-lru": async_lru.alru_cache(maxsize=SIZE)(answer),
        "cachebox LRU": cachebox.cached(lru)(answer),
        "cachebox LRU, no lock, no copy": cachebox.cached(bare, lock=None, postprocess=None)(answer),
    }


def peers_with_ttl() -> dict[str, Function]:
    """Do the same with a time to live."""
    ttl, bare = cachebox.TTLCache(SIZE, TTL), cachebox.TTLCache(SIZE, TTL)
    return {
        "async-lru, ttl": async_lru.alru_cache(maxsize=SIZE, ttl=TTL)(answer),
        "cachebox TTL": cachebox.cached(ttl)(answer),
        "cachebox TTL, no lock, no copy": cachebox.cached(bare, lock=None, postprocess=None)(answer),
    }


async def run(run: Run) -> Result:
    """Measure the same call again and again, then calls over many keys, then those that take acache's full path."""
    size, rounds = run.pick(10_000, 200), run.pick(41, 3)
    result = Result()
    for group, claim, functions in (
        ("no ttl", "memory hit, async", {"acache": ours(None), **peers()}),
        ("ttl", "memory hit, async, ttl", {"acache, ttl": ours(TTL), **peers_with_ttl()}),
    ):
        measures = {name: await hits(function, size) for name, function in functions.items()}
        samples = await run.in_turns(measures, rounds)
        result.add(group, samples)
        mine, *others = samples.values()
        result.bounds.append(Bound(f"{claim} / best of async-lru and cachebox", ratio(mine, others), LIMIT))
    many = {name: await _many_keys(function, size) for name, function in {"acache": ours(None), **peers()}.items()}
    result.add(f"{KEYS} keys in random order", await run.in_turns(many, rounds))
    result.add("information", await run.in_turns(await _other_paths(max(1, size // 10)), rounds))
    return result


async def _many_keys(function: Function, size: int) -> Measure:
    for number in range(KEYS):
        await function(number, "a")
    numbers = random.Random(1).choices(range(KEYS), k=size)

    async def measure() -> float:
        start = perf_counter()
        for number in numbers:
            await function(number, "a")
        return (perf_counter() - start) / size

    return measure


async def _other_paths(size: int) -> dict[str, Measure]:
    """Return what is dearer: a tuple to take apart, and what builds a key: a list, a scope around the call."""
    in_scope = ours(None)
    with isolate(target="sm90"):
        await in_scope(1, "a")

    async def scoped() -> float:
        with isolate(target="sm90"):
            start = perf_counter()
            for _ in range(size):
                await in_scope(1, "a")
            return (perf_counter() - start) / size

    async def with_argument(argument: object) -> Measure:
        function = ours(None)
        await function(1, argument)

        async def measure() -> float:
            start = perf_counter()
            for _ in range(size):
                await function(1, argument)
            return (perf_counter() - start) / size

        return measure

    return {
        "acache, plain arguments": await hits(ours(None), size),
        "acache, a tuple as argument": await with_argument(("a",)),
        "acache, a list as argument": await with_argument(["a"]),
        "acache, inside isolate()": scoped,
        "the function itself": await hits(answer, size),
    }


BENCHMARK: Final = Benchmark("async-hit", "Memory hit of a memoized async function", run)
