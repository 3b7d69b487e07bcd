"""What isolation adds to a memory hit: nothing, unless the environment may be another one for the next call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final, TypeAlias

from acache import FastCache, IsolationSchema, isolate
from acache.tiers import MemoryTier
from benchmarks.harness import Benchmark, Measure, Run, hits
from benchmarks.result import Bound, Result, ratio

__all__ = ("BENCHMARK",)

LIMIT: Final = 1.1
#: Keys say nothing of the environment.
NONE: Final = IsolationSchema(False, False)
#: Keys contain a variable, which is read for every call.
VOLATILE: Final = IsolationSchema(runtime_context={"environment": ("PATH",)})

Function: TypeAlias = Callable[[Any, Any], Awaitable[Any]]


async def answer(_number: object, text: object) -> object:
    """Stand for a computation."""
    return text


def memoized(schema: IsolationSchema | None) -> Function:
    """Memoize under ``schema``; a cache each, because functions of one identity share their entries."""
    return FastCache(MemoryTier()).memoize(ischema=schema)(answer)


async def run(run: Run) -> Result:
    """Measure a plain call with forms of the environment and without, then calls whose key has to be made each time."""
    size, rounds = run.pick(10_000, 200), run.pick(41, 3)
    result = Result()
    plain = await run.in_turns(
        {
            "acache, default schema": await hits(memoized(None), size),
            "acache, no form selected": await hits(memoized(NONE), size),
        },
        rounds,
    )
    result.add("plain call", plain)
    default, bare = plain.values()
    result.bounds.append(Bound("memory hit, default schema / no form selected", ratio(default, [bare]), LIMIT))
    size = max(1, size // 10)
    others = {
        "acache, plain": await hits(memoized(None), size),
        "acache, inside isolate()": await _inside(memoized(None), size),
        "acache, isolate() around each call": await _around_each(memoized(None), size),
        "acache, a volatile form selected": await hits(memoized(VOLATILE), size),
    }
    result.add("information", await run.in_turns(others, rounds))
    return result


async def _inside(function: Function, size: int) -> Measure:
    async def measure() -> float:
        with isolate(target="sm90"):
            return await inner()

    with isolate(target="sm90"):
        inner = await hits(function, size)
    return measure


async def _around_each(function: Function, size: int) -> Measure:
    with isolate(target="sm90"):
        await function(1, "a")

    async def measure() -> float:
        start = perf_counter()
        for _ in range(size):
            with isolate(target="sm90"):
                await function(1, "a")
        return (perf_counter() - start) / size

    return measure


BENCHMARK: Final = Benchmark(
    "isolation", "Memory hit of an async function, by what its key says of the environment", run
)
