"""What the options for time, staleness, timeouts, failures and groups add to a memory hit: one look at the clock."""

from __future__ import annotations

from typing import Any, Final

from acache import FastCache
from acache.tiers import MemoryTier
from benchmarks.harness import Benchmark, Run, hits, hits_now
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


#: The same with tags, one of them made of the arguments.
WITH_TAGS: Final[dict[str, Any]] = {**EVERYTHING, "tags": ("group", "number:{_number}")}
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "no policy": {},
    "ttl": {"ttl": "10m"},
    "every policy": EVERYTHING,
    "every policy and tags": WITH_TAGS,
}


async def answer(_number: object, text: object) -> object:
    """Stand for a computation."""
    return text


def answer_now(_number: object, text: object) -> object:
    """Stand for one that is not async."""
    return text


async def run(run: Run) -> Result:
    """Measure hits of an async and of a plain function without a policy, with a ttl, with all of them, and with tags too."""
    size, rounds = run.pick(10_000, 200), run.pick(41, 3)
    result = Result()
    kinds: tuple[tuple[str, Any, Any], ...] = (("async", answer, hits), ("sync", answer_now, hits_now))
    for kind, function, measured in kinds:
        measures = {
            f"acache, {name}": await measured(FastCache(MemoryTier()).memoize(**given)(function), size)
            for name, given in OPTIONS.items()
        }
        samples = await run.in_turns(measures, rounds)
        result.add(f"memory hit, {kind}", samples)
        plain, _, everything, with_tags = samples.values()
        claim = f"memory hit, {kind}"
        result.bounds.append(Bound(f"{claim}, every policy / none", ratio(everything, [plain]), LIMIT))
        result.bounds.append(Bound(f"{claim}, every policy and tags / none", ratio(with_tags, [plain]), LIMIT))
    return result


BENCHMARK: Final = Benchmark("policies", "Memory hit by its policies", run)
