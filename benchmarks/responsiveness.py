"""How late a ticker on the event loop is while large values are written and read, and while the file system is slow.

The ticker sleeps one millisecond at a time and notes how much longer it slept. For how long the operating system gave its
thread no processor, because other programs had them, is not acache's doing, and is left out where Linux tells.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import diskcache

from acache import FastCache
from acache.testing.files import WatchedFileSystem
from acache.tiers import DiskTier, MemoryTier
from benchmarks.harness import Benchmark, Measure, Run
from benchmarks.result import Bound, Result

__all__ = ("BENCHMARK",)

SIZE: Final = 16 << 20
#: Seconds.
TICK: Final = 0.001
SLOW: Final = 2.0
LIMIT: Final = 0.05
_SCHEDULING: Final = Path("/proc/thread-self/schedstat")


async def run(run: Run) -> Result:
    """Let the ticker run beside each of them."""
    result = Result()
    value = os.urandom(run.pick(SIZE, SIZE >> 4))
    async with AsyncExitStack() as stack:
        works = {"idle": _rest, **await _large(run, stack, value), **await _large_peers(run, stack, value)}
        samples = await run.in_turns({name: _beside(work) for name, work in works.items()}, run.pick(9, 2))
        result.add(f"latest tick, values of {len(value) >> 20} MiB", samples)
        seconds = SLOW / 100 if run.quick else SLOW
        slow = await _slow(run, stack, seconds)
        late = await run.in_turns({"acache, slow file system": _beside(slow)}, 1)
        result.add(f"latest tick, {seconds:g} s for each system call", late)
    result.bounds += [
        Bound(f"{name}: latest tick", sample.worst, LIMIT, "s")
        for name, sample in (*samples.items(), *late.items())
        if name.startswith("acache")
    ]
    if _SCHEDULING.exists():
        result.notes.append("without the time for which the loop's thread waited for a processor")
    return result


def _beside(work: Callable[[], Awaitable[object]]) -> Measure:
    """Measure by how much the latest tick was late while ``work`` ran."""

    async def measure() -> float:
        latest = 0.0

        async def tick() -> None:
            nonlocal latest
            while True:
                waited, slept_at = _waited(), time.perf_counter()
                await asyncio.sleep(TICK)
                late = time.perf_counter() - slept_at - TICK
                latest = max(latest, late - (_waited() - waited))

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(5 * TICK)
        try:
            await work()
            await asyncio.sleep(5 * TICK)  # a tick that is overdue by now is still to be noted
        finally:
            ticking.cancel()
            await asyncio.wait({ticking})
        return latest

    return measure


def _waited() -> float:
    """Return the seconds for which this thread could run and no processor was free; zero where nobody counts them."""
    try:
        return int(_SCHEDULING.read_text(encoding="ascii").split()[1]) * 1e-9
    except FileNotFoundError:
        return 0.0


async def _rest() -> None:
    await asyncio.sleep(0.2)


async def _large(run: Run, stack: AsyncExitStack, value: bytes) -> dict[str, Callable[[], Awaitable[object]]]:
    directory = run.scratch.directory("large")
    tier = DiskTier(directory / "tier")
    stack.push_async_callback(tier.aclose)
    cache = await stack.enter_async_context(FastCache(DiskTier(directory / "cache")))
    through = await stack.enter_async_context(FastCache(MemoryTier(), DiskTier(directory / "through")))

    async def compute(_number: int) -> bytes:
        return value

    on_disk, in_both = cache.memoize(compute), through.memoize(compute)
    numbers = iter(range(1 << 30))

    async def miss_and_hit() -> None:
        number = next(numbers)
        await on_disk(number)
        await on_disk(number)

    return {
        "acache, DiskTier.set": lambda: tier.set("key", value),
        "acache, DiskTier.get": lambda: _found(tier.get("key")),
        "acache, memoized: miss, then hit on disk": miss_and_hit,
        "acache, memoized: miss, memory and disk": lambda: in_both(next(numbers)),
    }


async def _found(hit: Awaitable[object]) -> None:
    if await hit is None:
        raise LookupError("what was just written is not there")


async def _large_peers(run: Run, stack: AsyncExitStack, value: bytes) -> dict[str, Callable[[], Awaitable[object]]]:
    cache: Any = diskcache.Cache(str(run.scratch.directory("diskcache")), eviction_policy="none")
    stack.callback(cache.close)
    return {
        "diskcache in a thread, set": lambda: asyncio.to_thread(cache.set, "key", value),
        "diskcache in a thread, get": lambda: asyncio.to_thread(cache.get, "key"),
    }


class _SlowFiles(WatchedFileSystem):
    """A file system each of whose operations takes ``seconds``."""

    __slots__ = ()

    def __init__(self, seconds: float) -> None:
        super().__init__(lambda _operation: time.sleep(seconds))


async def _slow(run: Run, stack: AsyncExitStack, seconds: float) -> Callable[[], Awaitable[object]]:
    directory: Path = run.scratch.directory("slow")
    # The directories are made, and swept, at full speed: two seconds for each of their calls would show nothing new.
    async with FastCache(DiskTier(directory)) as quick:
        await quick.tier.set("old", b"value")
        await quick.tier.set("new", b"value")
        await asyncio.sleep(0.1)
    tier = DiskTier(directory, files=_SlowFiles(seconds))
    cache = await stack.enter_async_context(FastCache(tier))

    @cache.memoize
    async def compute(number: int) -> int:
        return number

    async def work() -> None:
        await asyncio.gather(tier.get("old"), tier.set("new", b"value"), compute(1))

    return work


BENCHMARK: Final = Benchmark("responsiveness", "Latest tick of a 1 ms ticker on the event loop", run)
