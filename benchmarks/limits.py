"""What a limit costs the writers of a directory: looking, choosing and removing, spread over all writes."""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any, Final

from acache.files import DISK_POLICIES
from acache.tiers import DiskTier
from benchmarks.harness import Benchmark, Measure, Run
from benchmarks.result import Bound, Result, ratio

__all__ = ("BENCHMARK",)

VALUE: Final = os.urandom(1024)
LIMIT: Final = 5.0
UNLIMITED: Final = "acache, no limit"


async def run(run: Run) -> Result:
    """Write new keys of 1 KiB, into directories that are full and into one without a limit."""
    size, entries, rounds = run.pick(1_000, 60), run.pick(2_000, 50), run.pick(9, 2)
    tiers: dict[str, DiskTier] = {}
    options: dict[str, dict[str, Any]] = {
        UNLIMITED: {},
        "acache, far from its limit": {"max_entries": 10_000_000},
        **{f"acache, full, {policy}": {"max_entries": entries, "policy": policy} for policy in DISK_POLICIES},
    }
    for name, given in options.items():
        tiers[name] = DiskTier(run.scratch.directory("limits"), **given)
        for number in range(entries):
            await tiers[name].insert(("first", number), VALUE)
    samples = await run.in_turns({name: _writing(tier, size) for name, tier in tiers.items()}, rounds)
    result = Result()
    result.add("write of a new key", samples)
    claim = "write into a full directory, by the default policy / without a limit"
    result.bounds.append(Bound(claim, ratio(samples["acache, full, sieve"], [samples[UNLIMITED]]), LIMIT))
    for name, tier in tiers.items():
        result.notes.append(f"{name}: {tier.statistics().evictions:,} evictions")
        await tier.aclose()
    return result


def _writing(tier: DiskTier, size: int) -> Measure:
    """Measure blocks of writes; what is done behind their backs meanwhile is in it, as far as it holds them up."""
    turn = 0

    async def measure() -> float:
        nonlocal turn
        turn += 1
        start = perf_counter()
        for number in range(size):
            if not await tier.insert((turn, number), VALUE):
                raise LookupError("an entry was not stored")
        return (perf_counter() - start) / size

    return measure


BENCHMARK: Final = Benchmark("limits", "1 KiB into directories with a limit", run)
