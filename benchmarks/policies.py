"""What the options for time, staleness, timeouts and failures add to a memory hit: one look at the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final

from acache import FastCache
from acache.tiers import MemoryTier
from benchmarks.harness import Benchmark, Measure, Run
from benchmarks.result import Bound, Result, ratio

__all__ = ("BENCHMARK",)

LIMIT: Final = 1.3


def _always(_value: object) -> bool:
    return True


#: Every policy that can be combined; none of them decides anything during the measurement.
EVERYTHING: Final[dict[str, Any]] = {
    "ttl": "10m",
    "jitter": "5s",
    "idle": "5m",
    "refresh_after": "8m",
    "early_refresh": 1.0,
    "stale_ttl": "1m",
    "stale_on_error": "1h",
    "timeout": "30s",
    "soft_timeout": "1s",
    "finish_in_background": True,
    "cache_exceptions": ValueError,
    "store_if": _always,
    "on_unencodable": "warn",
}


async def answer(_number: object, text: object) -> object:
    """Stand for a computation."""
    return text


async def run(run: Run) -> Result:
    """Measure hits of one function without a policy, with a ttl, and with all of them."""
    size, rounds = run.pick(10_000, 200), run.pick(41, 3)
    options: dict[str, dict[str, Any]] = {"no policy": {}, "ttl": {"ttl": "10m"}, "every policy": EVERYTHING}
    measures = {
        f"acache, {name}": await _hits(FastCache(MemoryTier()).memoize(**given)(answer), size)
        for name, given in options.items()
    }
    samples = await run.in_turns(measures, rounds)
    result = Result()
    result.add("memory hit", samples)
    plain, _, everything = samples.values()
    result.bounds.append(Bound("memory hit, every policy / none", ratio(everything, [plain]), LIMIT))
    return result


async def _hits(function: Callable[[Any, Any], Awaitable[Any]], size: int) -> Measure:
    await function(1, "a")

    async def measure() -> float:
        start = perf_counter()
        for _ in range(size):
            await function(1, "a")
        return (perf_counter() - start) / size

    return measure


BENCHMARK: Final = Benchmark("policies", "Memory hit of an async function, by its policies", run)
