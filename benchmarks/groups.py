"""What invalidating a group costs, with few entries and with many: the same."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

from acache import FastCache
from acache.tiers import DiskTier, MemoryTier
from acache.types import Entry, Key
from benchmarks.harness import Benchmark, Measure, Run, block
from benchmarks.result import Bound, Result, ratio

__all__ = ("BENCHMARK",)

LIMIT: Final = 2.0
#: Names of one file; file systems have a limit.
_LINKS: Final = 10_000


async def run(run: Run) -> Result:
    """Invalidate a tag that all entries have, in memory and on disk."""
    few, many = run.pick(1_000, 100), run.pick(100_000, 1_000)
    rounds = run.pick(15, 3)
    result = Result()
    for place, size in (("memory", run.pick(500, 20)), ("disk", run.pick(20, 5))):
        measures: dict[str, Measure] = {}
        for number in (few, many):
            make = _in_memory if place == "memory" else _on_disk
            cache = await make(run, number)
            measures[f"acache, {number:,} entries"] = block(lambda cache=cache: cache.invalidate_tags("group"), size)  # type: ignore[misc]
        samples = await run.in_turns(measures, rounds)
        result.add(f"invalidate_tags(), {place}", samples)
        less, more = samples.values()
        claim = f"invalidate_tags(), {place}, {many:,} entries / {few:,}"
        result.bounds.append(Bound(claim, ratio(more, [less]), LIMIT))
    return result


def _keys() -> Iterator[Key]:
    number = 0
    while True:
        yield Key(sha256(str(number).encode()).hexdigest())
        number += 1


async def _in_memory(_run: Run, number: int) -> FastCache:
    tier = MemoryTier()
    for key in islice(_keys(), number):
        tier.put(key, Entry(None, 0.0, tags=("group",)), replace=False)
    return FastCache(tier)


async def _on_disk(run: Run, number: int) -> FastCache:
    tier = DiskTier(run.scratch.directory("groups"))
    await tier.write(next(_keys()), Entry(None, 0.0, tags=("group",)), replace=False)
    await asyncio.to_thread(_multiply, tier.path, number)
    return FastCache(tier)


def _multiply(directory: Path, number: int) -> None:
    """Give the one file there is many names. Each is as good as any other for who never opens it."""
    (source,) = directory.glob("[0-9a-f][0-9a-f]/*")
    content = source.read_bytes()
    for count, key in enumerate(islice(_keys(), 1, number)):
        target = directory / key[62:] / key[:62]
        target.parent.mkdir(exist_ok=True)
        if count % _LINKS == 0:
            source = target
            source.write_bytes(content)
        else:
            os.link(source, target)


BENCHMARK: Final = Benchmark("groups", "Invalidating a group", run)
