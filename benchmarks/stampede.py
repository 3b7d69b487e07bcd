"""Ten thousand tasks that miss on one key at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any, Final

import async_lru
import cachebox

from acache import FastCache
from acache.tiers import DiskTier, MemoryTier
from benchmarks.harness import Benchmark, Measure, Run
from benchmarks.result import Bound, Result

__all__ = ("BENCHMARK",)

TASKS: Final = 10_000
#: Seconds that the computation takes.
WORK: Final = 0.2
LIMIT: Final = 1.0


class Counted:
    """A computation that counts how often it was run for each argument."""

    def __init__(self) -> None:
        self.runs: dict[int, int] = {}

    async def compute(self, number: int) -> int:
        """Take a while."""
        self.runs[number] = self.runs.get(number, 0) + 1
        await asyncio.sleep(WORK)
        return number


async def run(run: Run) -> Result:
    """Measure how much longer all tasks together take than the one computation."""
    tasks, rounds = run.pick(TASKS, 200), run.pick(5, 2)
    result = Result()
    counted: dict[str, Counted] = {}
    measures: dict[str, Measure] = {}
    async with AsyncExitStack() as stack:
        memory = await stack.enter_async_context(FastCache(MemoryTier()))
        tiers = MemoryTier(), DiskTier(run.scratch.directory("stampede"))
        disk = await stack.enter_async_context(FastCache(*tiers))
        wrappers: dict[str, Callable[[Any], Any]] = {
            "acache, memory": memory.memoize(key="{number}", version=1),
            "acache, memory and disk": disk.memoize(key="{number}", version=1),
            "async-lru": async_lru.alru_cache(maxsize=None),
            "cachebox": cachebox.cached(cachebox.LRUCache(0)),
        }
        for name, wrap in wrappers.items():
            counted[name] = Counted()
            measures[name] = _crowd(wrap(counted[name].compute), tasks)
        samples = await run.in_turns(measures, rounds)
    result.add(f"seconds beyond the computation, {tasks} tasks", samples)
    for name in ("acache, memory", "acache, memory and disk"):
        result.bounds.append(Bound(f"{name}: time beyond the run", samples[name].median, LIMIT, "s"))
        result.bounds.append(Bound(f"{name}: runs of one key", max(counted[name].runs.values()), 1))
    return result


def _crowd(function: Callable[[int], Awaitable[int]], tasks: int) -> Measure:
    number = 0

    async def measure() -> float:
        nonlocal number
        number += 1
        start = perf_counter()
        found = await asyncio.gather(*(function(number) for _ in range(tasks)))
        taken = perf_counter() - start
        if set(found) != {number}:
            raise AssertionError("a task was given another's result")
        return taken - WORK

    return measure


BENCHMARK: Final = Benchmark("stampede", "Many tasks on one missing key", run)
