"""Plain functions in worker threads: so many at once, and never a deadlock for want of a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from acache import FastCache, MemoryTier, SyncCache
from acache.bridge import run_in_worker, run_sync
from acache.bridge.working import PLACES, _places


def free_places() -> tuple[float, int]:
    """Return how many places the running loop has, and how many are taken."""
    places = _places.get()
    return places.total_tokens, places.borrowed_tokens


async def test_so_many_at_once() -> None:
    """No more than there are places run at once; the others follow."""
    inside, most, mutex = 0, 0, threading.Lock()
    full, leave = threading.Event(), threading.Event()

    def work() -> None:
        nonlocal inside, most
        with mutex:
            inside += 1
            most = max(most, inside)
            if inside == PLACES:
                full.set()
        assert leave.wait(10)
        with mutex:
            inside -= 1

    working = [asyncio.create_task(run_in_worker(work)) for _ in range(PLACES + 20)]
    assert await asyncio.to_thread(full.wait, 10)
    leave.set()
    await asyncio.gather(*working)
    assert most == PLACES
    assert free_places() == (PLACES, 0)


@pytest.mark.parametrize("error", [ValueError, GeneratorExit, KeyboardInterrupt, SystemExit, StopIteration])
async def test_what_it_raises_is_raised(error: type[BaseException]) -> None:
    """Whatever the function raises is raised where it is awaited, and whoever awaits may still wait as he cleans up."""
    cleaned = False

    def work() -> None:
        raise error

    with pytest.raises(RuntimeError if error is StopIteration else error):
        try:
            await run_in_worker(work)
        finally:
            await asyncio.sleep(0)
            cleaned = True
    assert cleaned


def by_get_or_set(cache: FastCache) -> Callable[[int], Any]:
    """Let a thread ask the sync face for what a plain function makes."""
    face = SyncCache(cache)
    return lambda n: face.get_or_set(("key", n), lambda: n)


def with_a_timeout(cache: FastCache) -> Callable[[int], Any]:
    """Let a thread ask for what it must not make itself, because it may go before the end."""

    @cache.memoize(timeout="20s")
    def f(n: int) -> int:
        return n

    return f


def through_an_async_one(cache: FastCache) -> Callable[[int], Any]:
    """Let a thread ask for an async function that asks for a plain one."""

    @cache.memoize
    def inner(n: int) -> int:
        return n

    @cache.memoize
    async def outer(n: int) -> int:
        value: int = await inner.aio(n)
        return value

    return outer.sync


@pytest.mark.parametrize("way", [by_get_or_set, with_a_timeout, through_an_async_one])
async def test_callers_that_wait_in_all_threads_of_the_application(way: Callable[[FastCache], Any]) -> None:
    """However many worker threads of the application wait for the cache at once, what they wait for has a thread."""
    call, callers = way(FastCache(MemoryTier())), 100
    application = anyio.CapacityLimiter(callers)
    together = threading.Barrier(callers)

    def endpoint(n: int) -> Any:
        together.wait(20)
        return call(n)

    with anyio.fail_after(20):
        found = await asyncio.gather(
            *(anyio.to_thread.run_sync(endpoint, n, limiter=application) for n in range(callers))
        )
        default = [anyio.to_thread.run_sync(call, n + callers) for n in range(callers)]
        assert await asyncio.gather(*default) == [n + callers for n in range(callers)]
    assert found == list(range(callers))
    assert free_places() == (PLACES, 0)


async def test_functions_that_wait_for_others_lend_their_places() -> None:
    """Functions that fill all places and wait, each for another that needs one, get what they wait for."""
    together = threading.Barrier(PLACES)

    def outer(n: int) -> int:
        together.wait(20)
        return run_sync(run_in_worker, lambda: n)

    with anyio.fail_after(20):
        assert await asyncio.gather(*(run_in_worker(lambda n=n: outer(n)) for n in range(PLACES))) == [*range(PLACES)]  # type: ignore[misc]
    assert free_places() == (PLACES, 0)


async def test_functions_that_call_each_other_deeply() -> None:
    """A plain function and an async one that ask for each other go deeper than there are places."""
    cache, depth = FastCache(MemoryTier()), PLACES + 20

    @cache.memoize
    def plain(n: int) -> int:
        return 0 if n == 0 else 1 + int(other.sync(n - 1))

    @cache.memoize
    async def other(n: int) -> int:
        return int(await plain.aio(n))

    with anyio.fail_after(20):
        assert await plain.aio(depth) == depth
    assert free_places() == (PLACES, 0)
