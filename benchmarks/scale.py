"""A million small entries in memory: how large they are, and what a hit among them costs.

Measured in a process of its own: its resident memory grows by what the entries take. Keys and values are made before, so
what grows is everything else. Entries are as an engine makes them, with their times and costs; keys begin differently,
as those of callers do (a memoized function's begin alike, and take a hundred bytes less).
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, time
from typing import Any, Final

import cachebox

from acache.tiers import MemoryTier
from acache.types import Entry, Key
from benchmarks.harness import Benchmark, Measure, Run, in_turns, no_gc
from benchmarks.result import Bound, Result, Sample, ratio

__all__ = ("BENCHMARK",)

FEW: Final = 1_000
TTL: Final = 3600.0
BYTES_LIMIT: Final = 700.0
SLOWDOWN_LIMIT: Final = 1.5
#: Look-ups of one block: more than the processor's caches can keep from one block to the next.
LOOK_UPS: Final = 100_000
OURS, OURS_TTL = "acache", "acache, ttl"
PEEK, GET = "acache, peek()", "acache, await get()"
LRU: Final = "functools.lru_cache"
_STATM: Final = Path("/proc/self/statm")


@dataclass(slots=True)
class Found:
    """What the child found: bytes of each entry, and seconds of a hit by name and by the number of entries."""

    bytes: dict[str, Sample] = field(default_factory=dict[str, Sample])
    hits: dict[tuple[str, int], Sample] = field(default_factory=dict[tuple[str, int], Sample])


async def run(run: Run) -> Result:
    """Start the child, and make sense of what it says."""
    many, rounds = run.pick(1_000_000, 20_000), run.pick(21, 3)
    run.expect(1)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        found = await asyncio.get_running_loop().run_in_executor(child, measure, many, rounds)
    run.advance()
    result = Result()
    result.add(f"each of {many:,} entries, beyond key and value", found.bytes, "B")
    for size in (FEW, many):
        hits = {name: sample for (name, entries), sample in found.hits.items() if entries == size}
        result.add(f"a hit among {size:,} entries, in random order", hits)
    growth = {
        name: _quotient(sample, found.hits[name, FEW])
        for (name, entries), sample in found.hits.items()
        if entries == many
    }
    for name in (OURS, OURS_TTL):
        claim = f"{name}: bytes of an entry beyond key and value"
        result.bounds.append(Bound(claim, found.bytes[name].median, BYTES_LIMIT, "B"))
    claim = f"slow-down of a hit from {FEW:,} to {many:,} entries / that of {LRU}"
    result.bounds.append(Bound(claim, ratio(growth[PEEK], [growth[LRU]]), SLOWDOWN_LIMIT))
    slowdowns = ", ".join(f"{name} {sample.median:.2f}" for name, sample in growth.items())
    result.notes += ["bytes are growth of the resident memory of a child process", f"slow-downs: {slowdowns}"]
    return result


def _quotient(many: Sample, few: Sample) -> Sample:
    return Sample(tuple(a / b for a, b in zip(many.values, few.values, strict=True)))


# --- in the child -----------------------------------------------------------------------------------------------------


def measure(many: int, rounds: int) -> Found:
    """Fill caches with 1,000 and with ``many`` entries, and look them up."""
    return asyncio.run(_measure(many, rounds))


async def _measure(many: int, rounds: int) -> Found:
    found = Found()
    measures: dict[tuple[str, int], Measure] = {}
    with no_gc():
        digits = random.Random(2)
        keys = [Key(f"{digits.getrandbits(256):064x}") for _ in range(many)]
        texts = [str(key) for key in keys]  # of the exact type that functools.lru_cache is fastest with
        values = [object() for _ in keys]
        for size in (FEW, many):
            fill = _Filling(size, found if size == many else Found())
            tier = await fill.acache(OURS, keys[:size], values[:size], None)
            await fill.acache(OURS_TTL, keys[:size], values[:size], TTL)
            cached = fill.functools(texts[:size], values[:size])
            fill.cachebox(texts[:size], values[:size])
            measures[PEEK, size] = _looking_up(tier.peek, keys[:size])
            measures[LRU, size] = _looking_up(cached, texts[:size])
            measures[GET, size] = _getting(tier, keys[:size])
        found.hits = await in_turns(measures, rounds)
    return found


class _Filling:
    """Fills caches, and notes by how much the process grows for each entry."""

    def __init__(self, size: int, found: Found) -> None:
        self.size = size
        self.found = found
        self.kept: list[object] = []  # a cache that was dropped would make room for the next one

    def note(self, name: str, before: int, cache: object) -> None:
        """Note what was filled."""
        self.found.bytes[name] = Sample(((resident() - before) / self.size,))
        self.kept.append(cache)

    async def acache(self, name: str, keys: list[Key], values: list[object], ttl: float | None) -> MemoryTier:
        before = resident()
        tier = MemoryTier(self.size)
        for key, value in zip(keys, values, strict=True):
            now = time()
            entry = Entry(value, now, None if ttl is None else now + ttl, cost=perf_counter())
            await tier.write(key, entry, replace=True)
        self.note(name, before, tier)
        return tier

    def functools(self, texts: list[str], values: list[object]) -> Callable[[str], object]:
        before = resident()
        given = iter(values)

        @functools.lru_cache(self.size)
        def cached(_key: str) -> object:
            return next(given)

        for text in texts:
            cached(text)
        self.note(LRU, before, cached)
        return cached

    def cachebox(self, texts: list[str], values: list[object]) -> None:
        before = resident()
        cache: Any = cachebox.LRUCache(self.size)
        for text, value in zip(texts, values, strict=True):
            cache[text] = value
        self.note("cachebox LRUCache", before, cache)


def _looking_up(find: Callable[[Any], object], keys: list[Any]) -> Measure:
    order = random.Random(3)

    async def measure() -> float:
        chosen = order.choices(keys, k=LOOK_UPS)
        start = perf_counter()
        for key in chosen:
            find(key)
        return (perf_counter() - start) / LOOK_UPS

    return measure


def _getting(tier: MemoryTier, keys: list[Key]) -> Measure:
    order = random.Random(3)

    async def measure() -> float:
        chosen = order.choices(keys, k=LOOK_UPS)
        start = perf_counter()
        for key in chosen:
            await tier.get(key)
        return (perf_counter() - start) / LOOK_UPS

    return measure


def resident() -> int:
    """Return the bytes of memory that this process has now; where nobody tells, the most it ever had."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


BENCHMARK: Final = Benchmark("scale", "A million small entries in memory", run)
