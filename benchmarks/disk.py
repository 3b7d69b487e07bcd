"""Warm reads and first writes of 1 KiB on disk, without a memory tier, against cashews, py-key-value and diskcache.

Each key is used once. All write to the same file system and none waits for the disk itself (``fsync``). py-key-value runs
SQLite on the event loop, which is fast and blocks it; the others take a thread, as acache does for writes.
The bound on writes holds for one task and for many.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import cashews
import diskcache
from key_value.aio.stores.disk import DiskStore

from acache import FastCache
from acache.tiers import DiskTier
from benchmarks.harness import Benchmark, Measure, Run
from benchmarks.result import Bound, Result, Sample, ratio
from benchmarks.scratch import creation_time

__all__ = ("BENCHMARK",)

VALUE: Final = os.urandom(1024)
#: What py-key-value stores: a mapping that JSON can hold.
MAPPING: Final = {"value": "v" * 1024}
#: Keys of one block: enough for the checkpoints that SQLite makes after every few hundred writes to be in each.
BLOCK: Final = 500
#: Tasks that write or read at the same time, where more than one does.
TASKS: Final = 32
READ_LIMIT: Final = 0.5
WRITE_LIMIT: Final = 1.0
TIER, MEMOIZED = "acache DiskTier", "acache, memoized function"
PEERS: Final = ("cashews", "py-key-value", "diskcache in a thread")


@dataclass(frozen=True, slots=True)
class Disk:
    """How one of them stores a value under a key, and how it finds it."""

    put: Callable[[str], Coroutine[Any, Any, object]]
    get: Callable[[str], Coroutine[Any, Any, object]]


async def run(run: Run) -> Result:
    """Write all keys, read all keys; then the same by many tasks at a time."""
    size, rounds = run.pick(BLOCK, BLOCK // 10), run.pick(12, 2)
    result = Result()
    async with AsyncExitStack() as stack:
        disks = {name: await make(run.scratch.directory("disk"), stack) for name, make in MAKERS.items()}
        for disk in disks.values():
            await disk.put("opened")
            await disk.get("opened")
        await asyncio.sleep(0.1)  # what the first write has left to do behind its back
        for title, tasks in (("", 1), (f", {TASKS} tasks at a time", TASKS)):
            writes = await run.in_turns({name: _each(disk.put, size, tasks) for name, disk in disks.items()}, rounds)
            reads = await run.in_turns({name: _each(disk.get, size, tasks) for name, disk in disks.items()}, rounds)
            result.add(f"warm hit{title}", reads)
            result.add(f"first write{title}", writes)
            best = " / best of cashews, py-key-value and diskcache"
            if tasks == 1:
                result.bounds.append(Bound(f"warm disk hit of a tier{best}", _to_best(reads), READ_LIMIT))
            result.bounds.append(Bound(f"first write of a tier{title}{best}", _to_best(writes), WRITE_LIMIT))
        result.add(
            "information", {"creating an empty file there": Sample((creation_time(run.scratch.directory("probe")),))}
        )
    result.notes.append("py-key-value blocks the event loop during each operation")
    return result


def _to_best(samples: dict[str, Sample]) -> float:
    return ratio(samples[TIER], [samples[name] for name in PEERS])


def _each(operation: Callable[[str], Awaitable[object]], size: int, tasks: int) -> Measure:
    """Measure blocks of keys that were not used before; a write or read that fails is an error, not a fast one."""
    block = 0

    async def measure() -> float:
        nonlocal block
        keys = iter([f"{tasks}-{block}-{number}" for number in range(size)])
        block += 1

        async def work() -> None:
            for key in keys:
                if not await operation(key):
                    raise LookupError(f"{key} was not stored, or not found")

        start = perf_counter()
        await (asyncio.gather(*(work() for _ in range(tasks))) if tasks > 1 else work())
        return (perf_counter() - start) / size

    return measure


# --- the contenders ---------------------------------------------------------------------------------------------------


async def _tier(directory: Path, stack: AsyncExitStack) -> Disk:
    tier = DiskTier(directory)
    stack.push_async_callback(tier.aclose)
    return Disk(lambda key: tier.insert(key, VALUE), tier.get)


async def _memoized(directory: Path, stack: AsyncExitStack) -> Disk:
    cache = await stack.enter_async_context(FastCache(DiskTier(directory)))

    @cache.memoize
    async def compute(_key: str) -> bytes:
        return VALUE

    return Disk(compute, compute)


async def _diskcache(directory: Path, stack: AsyncExitStack) -> Disk:
    cache = diskcache.Cache(str(directory), eviction_policy="none")
    stack.callback(cache.close)
    return Disk(lambda key: asyncio.to_thread(cache.set, key, VALUE), lambda key: asyncio.to_thread(cache.get, key))


async def _cashews(directory: Path, stack: AsyncExitStack) -> Disk:
    cache = cashews.Cache()
    cache.setup(f"disk://?directory={directory}&shards=0")
    stack.push_async_callback(cache.close)
    return Disk(lambda key: cache.set(key, VALUE), cache.get)


async def _key_value(directory: Path, stack: AsyncExitStack) -> Disk:
    store = await stack.enter_async_context(DiskStore(directory=directory))

    async def put(key: str) -> bool:
        await store.put(key, MAPPING)
        return True

    return Disk(put, store.get)


MAKERS: Final[dict[str, Callable[[Path, AsyncExitStack], Awaitable[Disk]]]] = {
    TIER: _tier,
    MEMOIZED: _memoized,
    "cashews": _cashews,
    "py-key-value": _key_value,
    "diskcache in a thread": _diskcache,
}

BENCHMARK: Final = Benchmark("disk", "1 KiB on disk, each key once, no memory tier", run)
