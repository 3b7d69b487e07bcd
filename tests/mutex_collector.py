"""A process that leaves calls to the collector, in loops that it closes, and lets that run in the middle of others."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import time
from collections.abc import AsyncGenerator

from acache import FastCache, MemoryTier

SECONDS = 2.0
PATIENCE = 15.0

cache = FastCache(MemoryTier(max_entries=20))
blocked = True


@cache.memoize
async def call(x: object) -> object:
    """Never come to an end while it is blocked."""
    if blocked:
        await asyncio.get_running_loop().create_future()
    return x


@cache.memoize
async def stream(x: object) -> AsyncGenerator[object, None]:
    """Come to its second chunk only when it is not blocked."""
    yield x
    await call(("in a stream", x))
    yield x


async def follow(x: object) -> None:
    """Follow a stream."""
    async for _ in stream(x):
        pass


async def leave(x: object) -> None:
    """Leave calls, and followers of a stream, in the middle."""
    tasks = [asyncio.ensure_future(each) for each in (call(x), call(x), follow(x), follow(x))]
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    for _ in range(8):
        await asyncio.sleep(0)


async def use(n: int) -> None:
    """Ask for the same, while the collector runs at every few allocations."""
    gc.set_threshold(1 + n % 60, 1, 1)
    try:
        await call(n)
        await follow(n)
    finally:
        gc.set_threshold(700, 10, 10)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    logging.disable()
    end, n = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        n += 1
        blocked = True
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave(n))
        loop.close()
        del loop
        blocked = False
        asyncio.run(use(n))
    gc.collect()
    assert len(cache._engine.flights) == 0
    assert cache.tier._watches == {}
