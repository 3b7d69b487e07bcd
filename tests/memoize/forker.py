"""Processes that fork a cache; the exit code is 0 if both sides find what they should."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable

from acache import FastCache, MemoryTier
from acache.engine import Timing
from acache.testing import Gate, ManualClock
from acache.types import Entry
from tests.forking import fork_and_run


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def during_a_refresh() -> int:
    """Fork while a thread's refresh is under way: the child refreshes that key as if nothing were."""
    clock, go, parent, runs = ManualClock(), Gate("the end of the refresh"), os.getpid(), list[int]()
    cache = FastCache(MemoryTier(clock=clock))

    @cache.memoize(ttl=1000, refresh_after=10)
    def f(n: int) -> int:
        runs.append(os.getpid())
        if len(runs) > 1 and os.getpid() == parent:
            go.wait_blocking()
        return len(runs)

    f(1)
    clock.advance(11)
    f(1)
    wait_for(lambda: len(runs) == 2)
    assert len(cache._engine._background) == 1

    def child() -> None:
        assert len(cache._engine._background) == 0
        assert f(1) == 1
        wait_for(lambda: f(1) == 3)
        assert runs == [parent, parent, os.getpid()]
        wait_for(lambda: len(cache._engine._background) == 0)

    code = fork_and_run(child)
    assert len(cache._engine._background) == 1
    go.open()
    wait_for(lambda: f(1) == 2)
    return code


def in_a_loop() -> int:
    """Fork inside an event loop with a refresh under way on it: the child refreshes on a loop of its own."""
    clock, runs = ManualClock(), list[int]()
    cache = FastCache(MemoryTier(clock=clock))
    status = 1

    async def main() -> None:
        nonlocal status
        go = asyncio.Event()

        @cache.memoize(ttl=1000, refresh_after=10)
        async def f(n: int) -> int:
            runs.append(os.getpid())
            if len(runs) == 2:
                await go.wait()
            return len(runs)

        await f(1)
        clock.advance(11)
        assert await f(1) == 1
        while len(runs) < 2:
            await asyncio.sleep(0)

        def child() -> None:
            assert f.sync(1) == 1
            wait_for(lambda: f.sync(1) == 3)

        status = await asyncio.to_thread(fork_and_run, child)
        go.set()
        while await f(1) != 2:
            await asyncio.sleep(0)

    asyncio.run(main())
    return status


def draws() -> int:
    """Draw in children of one process: each has draws of its own, and one process draws the same again."""
    judge = FastCache(MemoryTier())._engine.judge
    timing, entry = Timing(early=1.0), Entry(None, created=0.0, cost=1.0)
    seen = {judge._draw(timing, entry)}
    assert judge._draw(timing, entry) in seen
    for _ in range(4):
        reader, writer = os.pipe()

        def child(writer: int = writer) -> None:
            os.write(writer, repr(judge._draw(timing, entry)).encode())

        assert fork_and_run(child) == 0
        seen.add(float(os.read(reader, 100)))
    assert len(seen) == 5
    return 0


SCENARIOS = {scenario.__name__: scenario for scenario in (during_a_refresh, in_a_loop, draws)}

if __name__ == "__main__":
    raise SystemExit(SCENARIOS[sys.argv[1]]())
