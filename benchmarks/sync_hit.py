"""A memory hit of a memoized plain function, against cachetools."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import cachebox
import cachetools

from acache import FastCache
from acache.tiers import MemoryTier
from benchmarks.harness import Benchmark, Run, hits_now
from benchmarks.result import Bound, Result, ratio

__all__ = ("BENCHMARK",)

SIZE: Final = 4096
TTL: Final = 600.0
LIMIT: Final = 1.0
CACHETOOLS: Final = "cachetools LRU"

Function: TypeAlias = Callable[[Any, Any], Any]


def answer(_number: object, text: object) -> object:
    """Stand for a computation."""
    return text


async def answer_async(_number: object, text: object) -> object:
    """Stand for a computation that awaits."""
    return text


async def run(run: Run) -> Result:
    """Measure the same call again and again."""
    size, rounds = run.pick(10_000, 200), run.pick(41, 3)
    bridged = FastCache(MemoryTier(SIZE)).memoize(answer_async)
    await bridged(1, "a")
    groups: dict[str, dict[str, Function]] = {
        "no ttl": {
            "acache": FastCache(MemoryTier(SIZE)).memoize(answer),
            CACHETOOLS: cachetools.cached(cachetools.LRUCache[Any, Any](SIZE))(answer),
            "cachebox LRU, no lock, no copy": _cachebox(cachebox.LRUCache(SIZE)),
            "functools.lru_cache": functools.lru_cache(SIZE)(answer),
        },
        "ttl": {
            "acache, ttl": FastCache(MemoryTier(SIZE)).memoize(ttl=TTL)(answer),
            "cachetools TTL": cachetools.cached(cachetools.TTLCache[Any, Any](SIZE, TTL))(answer),
            "cachebox TTL, no lock, no copy": _cachebox(cachebox.TTLCache(SIZE, TTL)),
        },
        "information": {
            "acache, .sync() of an async function": bridged.sync,
            "the function itself": answer,
        },
    }
    result = Result()
    for group, functions in groups.items():
        measures = {name: await hits_now(function, size) for name, function in functions.items()}
        samples = await run.in_turns(measures, rounds)
        result.add(group, samples)
        if CACHETOOLS in samples:
            measured = ratio(samples["acache"], [samples[CACHETOOLS]])
            result.bounds.append(Bound(f"memory hit, sync / {CACHETOOLS}", measured, LIMIT))
    return result


def _cachebox(cache: Any) -> Function:
    memoized: Function = cachebox.cached(cache, lock=None, postprocess=None)(answer)
    return memoized


BENCHMARK: Final = Benchmark("sync-hit", "Memory hit of a memoized plain function", run)
