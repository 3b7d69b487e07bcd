"""Calls from plain threads, from several loops and from both kinds of callers at once."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio.to_thread
import pytest

from acache import FastCache, MemoryTier, TierEvent, isolate
from acache.exceptions import BridgeError, CustomParamsEncoderRequiredError, RecursiveCallError
from acache.testing import FaultyTier
from acache.types import Key


class Waiting:
    """A body that says when it runs and waits to be released; its runs are counted."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.release = threading.Event()
        self.runs: list[str] = []

    def __call__(self) -> str:
        self.runs.append(threading.current_thread().name)
        self.started.set()
        assert self.release.wait(10)
        return "made"


def test_threads_share_one_run(cache: FastCache) -> None:
    """Eight threads that ask for one thing at once run it once, in one of those threads."""
    body = Waiting()

    @cache.memoize(version=1)
    def f() -> str:
        return body()

    with ThreadPoolExecutor(8, thread_name_prefix="caller") as pool:
        results = [pool.submit(f) for _ in range(8)]
        assert body.started.wait(10)
        wait_until(lambda: f.cache_info().joined == 0 and in_flight(cache) == 8)
        body.release.set()
        assert [result.result(10) for result in results] == ["made"] * 8
    assert len(body.runs) == 1
    assert body.runs[0].startswith("caller")
    assert (f.cache_info().computed, f.cache_info().joined) == (1, 7)


def in_flight(cache: FastCache) -> int:
    """Count the waiters of all flights."""
    return sum(flight.waiters for flight in cache._engine.flights)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads are about to do, at most ten seconds."""
    pause = threading.Event()
    for _ in range(10_000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("the condition never came true")


async def test_tasks_and_threads_share_one_run(cache: FastCache) -> None:
    """A task, the worker of .aio and plain threads are waiters of one flight."""
    body = Waiting()

    @cache.memoize(version=1)
    def f() -> str:
        return body()

    tasks = [asyncio.create_task(f.aio()) for _ in range(3)]
    threads = [asyncio.create_task(asyncio.to_thread(f)) for _ in range(3)]
    await asyncio.to_thread(wait_until, lambda: in_flight(cache) == 6)
    body.release.set()
    assert await asyncio.gather(*tasks, *threads) == ["made"] * 6
    assert len(body.runs) == 1


def test_a_coroutine_function_from_threads_and_loops(cache: FastCache) -> None:
    """A11: .sync from threads and awaits in two other loops share one run of an async def."""
    started, release = threading.Event(), threading.Event()
    runs: list[int] = []

    @cache.memoize(version=1)
    async def f() -> str:
        runs.append(1)
        started.set()
        while not release.is_set():
            await asyncio.sleep(0.001)
        return "made"

    async def in_loop() -> str:
        return await f()

    def run_loop() -> str:
        return asyncio.run(in_loop())

    with ThreadPoolExecutor(6) as pool:
        results = [pool.submit(f.sync) for _ in range(4)] + [pool.submit(run_loop) for _ in range(2)]
        wait_until(lambda: in_flight(cache) == 6)
        release.set()
        assert [result.result(10) for result in results] == ["made"] * 6
    assert len(runs) == 1


async def test_a12_a_sync_call_that_would_deadlock_is_refused(cache: FastCache) -> None:
    """A12: on a loop's own thread, waiting for a flight of that loop is an error at once."""
    started, release = asyncio.Event(), asyncio.Event()

    @cache.memoize(version=1)
    async def f() -> str:
        started.set()
        await release.wait()
        return "made"

    @cache.memoize(version=1)
    def g() -> str:
        return "made"

    leader = asyncio.create_task(f())
    await started.wait()
    with pytest.raises(BridgeError, match="event loop"):
        f.sync()
    release.set()
    assert await leader == "made"
    assert f.sync() == "made"  # what is in memory needs no loop
    assert g() == "made"  # a plain function may be called anywhere, as without a cache


async def test_a12_a_sync_call_on_a_loop_whose_task_computes_the_same(cache: FastCache) -> None:
    """A12: a plain call that would join a flight led from its own thread's loop is refused, not hung."""
    body = Waiting()

    @cache.memoize(version=1)
    def f() -> str:
        return body()

    leader = asyncio.create_task(f.aio())
    await asyncio.to_thread(body.started.wait, 10)
    with pytest.raises(BridgeError, match="this very thread"):
        f()
    body.release.set()
    assert await leader == "made"


@pytest.mark.parametrize("first", ["the thread waits", "the loop calls"])
def test_a12_a_sync_call_over_a_thread_that_waits_for_its_loop_is_refused(cache: FastCache, first: str) -> None:
    """A12: a plain function over an async one deadlocks with the loop that runs that; whoever comes last is told at once."""
    started, called, release = threading.Event(), threading.Event(), threading.Event()

    @cache.memoize(version=1)
    async def inner() -> str:
        await asyncio.to_thread(release.wait, 10)
        return "made"

    @cache.memoize(version=1)
    def outer() -> str:
        started.set()
        assert called.wait(10)
        return inner.sync()

    def go_on() -> None:
        wait_until(lambda: in_flight(cache) == 3)  # the loop's own call among them
        called.set()

    async def main() -> list[BaseException | str]:
        leader = asyncio.create_task(inner())
        thread = asyncio.create_task(asyncio.to_thread(outer))
        await asyncio.to_thread(started.wait, 10)
        if first == "the thread waits":
            called.set()
            while in_flight(cache) < 3:
                await asyncio.sleep(0)
        else:
            threading.Thread(target=go_on).start()
        results: list[BaseException | str] = []
        try:
            results.append(outer())
        except BridgeError as error:
            results.append(error)
        release.set()
        return [*results, *await asyncio.gather(thread, leader, return_exceptions=True)]

    outcome: list[list[BaseException | str]] = []
    # A daemon: nothing could end it if it hung.
    running = threading.Thread(target=lambda: outcome.append(asyncio.run(main())), daemon=True)
    running.start()
    running.join(5)
    release.set()
    (results,) = outcome
    here = BridgeError if first == "the loop calls" else str
    assert [type(result) for result in results] == [BridgeError, here, str]
    assert in_flight(cache) == 0
    assert outer() == "made"


def test_a7_sync_recursion_is_refused(cache: FastCache) -> None:
    """A7: a plain function that asks for its own result gets an error at once."""

    @cache.memoize
    def f(n: int) -> int:
        return f(n)

    with pytest.raises(RecursiveCallError):
        f(1)


def test_a8_sync_recursion_on_other_keys_needs_no_threads(cache: FastCache) -> None:
    """A8: a recursion of plain functions runs in the caller's thread, however deep."""
    threads: set[str] = set()

    @cache.memoize
    def down(n: int) -> int:
        threads.add(threading.current_thread().name)
        return 0 if n == 0 else 1 + down(n - 1)

    assert down(60) == 60
    assert threads == {threading.current_thread().name}


def test_a9_code_that_a_key_calls_may_use_the_cache(cache: FastCache) -> None:
    """A9: no lock is held while __cache_key__ runs, so it may be cached itself."""

    @cache.memoize
    def name_of(n: int) -> str:
        return f"name {n}"

    class Named:
        def __cache_key__(self) -> str:
            return name_of(1)

    @cache.memoize(version=1)
    def f(value: Named) -> str:
        return "made"

    assert f(Named()) == "made"
    assert f(Named()) == "made"
    assert f.cache_info().hits == 1


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


async def test_context_variables_reach_the_body(cache: FastCache) -> None:
    """The body sees its first caller's context, on every way in."""

    @cache.memoize
    def f(n: int) -> str:
        return variable.get()

    @cache.memoize
    async def g(n: int) -> str:
        return variable.get()

    variable.set("mine")
    assert [await f.aio(1), await asyncio.to_thread(f, 2), f(3)] == ["mine"] * 3
    assert [await g(1), await asyncio.to_thread(g.sync, 2)] == ["mine"] * 2


async def test_isolation_follows_every_way_in(cache: FastCache) -> None:
    """One scope gives one key, whether a call is awaited, bridged or made in a worker thread."""

    @cache.memoize
    def f(n: int) -> int:
        return n

    @cache.memoize
    async def g(n: int) -> int:
        return n

    with isolate(target="sm90"):
        keys = {f.cache_key(1), await asyncio.to_thread(f.cache_key, 1)}
        await f.aio(1)
        await g(1)
        await asyncio.to_thread(f, 1)
        await asyncio.to_thread(g.sync, 1)
        f(1)
    assert len(keys) == 1
    assert (f.cache_info().computed, g.cache_info().computed) == (1, 1)
    assert f.cache_key(1) not in keys


async def test_a_worker_thread_of_a_loop_uses_that_loop(cache: FastCache) -> None:
    """A sync call in a worker thread that anyio started runs its async side on the loop that started it."""
    loops: list[Any] = []

    @cache.memoize
    async def f(n: int) -> int:
        loops.append(asyncio.get_running_loop())
        return n

    assert await anyio.to_thread.run_sync(f.sync, 1) == 1
    assert loops == [asyncio.get_running_loop()]


async def test_a2_a_caller_that_gives_up_leaves_the_others(cache: FastCache) -> None:
    """A2: a timeout of one caller is its own; the computation goes on for the others."""
    started, release = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    @cache.memoize
    async def f() -> str:
        runs.append(1)
        started.set()
        await release.wait()
        return "made"

    patient = asyncio.create_task(f())
    await started.wait()
    with anyio.move_on_after(0.01) as scope:
        await f()
    assert scope.cancelled_caught
    release.set()
    assert await patient == "made"
    assert len(runs) == 1


async def test_a3_the_last_caller_to_leave_cancels_and_the_key_is_free(cache: FastCache) -> None:
    """A3: when all callers are gone the computation is cancelled, nothing is stored, and the next call computes."""
    started = asyncio.Event()
    cancelled: list[int] = []

    @cache.memoize
    async def f() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise
        return "never"

    callers = [asyncio.create_task(f()) for _ in range(3)]
    await started.wait()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await asyncio.sleep(0)
    assert (cancelled, in_flight(cache)) == ([1], 0)
    assert await f.cache_get() is None


async def test_a17_a_result_made_before_an_invalidation_is_not_stored(cache: FastCache) -> None:
    """A17: a flight that began before an invalidate, clear or set of its key does not store its result."""
    started, release = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    @cache.memoize
    async def f() -> int:
        runs.append(1)
        mine = len(runs)
        started.set()
        await release.wait()
        return mine

    async def invalidate() -> None:
        await f.cache_invalidate()

    for change in (invalidate, f.cache_clear, cache.clear):
        before = len(runs)
        started.clear()
        release.clear()
        caller = asyncio.create_task(f())
        await started.wait()
        await change()
        release.set()
        assert await caller == before + 1
        assert await f.cache_get() is None
    started.clear()
    release.clear()
    caller = asyncio.create_task(f())
    await started.wait()
    await f.cache_set(99)
    release.set()
    await caller
    assert await f() == 99


async def test_a17_an_invalidation_waits_for_a_publication_under_way() -> None:
    """A17: a result that is just being stored is gone when the invalidation returns."""
    slow = FaultyTier(MemoryTier(name="slow"))
    cache = FastCache(MemoryTier(), slow)

    @cache.memoize
    async def f() -> int:
        return 1

    hang = slow.hang("write", times=1)
    caller = asyncio.create_task(f())
    await hang.reached.wait()
    invalidating = asyncio.create_task(f.cache_invalidate())
    await asyncio.sleep(0)
    hang.release()
    assert await caller == 1
    await invalidating
    assert await f.cache_get() is None


async def test_a_computed_result_is_stored_though_its_callers_left() -> None:
    """Once computed, a result is stored even if nobody waits any more."""
    slow = FaultyTier(MemoryTier(name="slow"))
    cache = FastCache(slow)

    @cache.memoize
    async def f() -> int:
        return 1

    hang = slow.hang("write", times=1)
    caller = asyncio.create_task(f())
    await hang.reached.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    (flight,) = cache._engine.flights
    hang.release()
    assert flight.task is not None
    await flight.task
    hit = await f.cache_get()
    assert hit is not None
    assert hit.value == 1


async def test_a12_a_sync_call_beside_a_write_of_its_own_loop() -> None:
    """A12: a sync call that blocks a loop does not wait for a write of its key that a task of that very loop is at.

    The caller has the result, an event tells that it was not stored, and the write of the task counts.
    """
    below = FaultyTier(MemoryTier(name="below"))
    below.reach = 1
    cache = FastCache(MemoryTier(), below)

    @cache.memoize
    def f(n: int) -> int:
        return n

    hang = below.hang("write", times=1)
    setting = asyncio.create_task(f.cache_set(5, 1))
    await hang.reached.wait()
    hang.release()
    with cache.events.capture() as events:
        assert f(1) == 1
    assert ("chain", "write", "failed", "BridgeError") in [
        (event.tier, event.operation, event.outcome, event.reason) for event in events if isinstance(event, TierEvent)
    ]
    assert await setting
    assert f(1) == 5
    # What was started meanwhile, and outlives the call, is not held up by it.
    assert f(2) == 2
    assert await f.cache_contains(2)


@pytest.mark.parametrize("first", ["the task", "a thread"])
async def test_a12_a_sync_call_that_joins_beside_a_write_of_its_own_loop(first: str) -> None:
    """A12: nor does it wait for a flight that waits for such a write, be that at its work or next in the queue for it."""
    below = FaultyTier(MemoryTier(name="below"))
    below.reach = 1
    cache = FastCache(MemoryTier(), below)
    body = Waiting()

    @cache.memoize(version=1)
    def f() -> str:
        return body()

    def let_go() -> None:
        wait_until(lambda: in_flight(cache) == 2)
        body.release.set()
        hang.release()

    hang = below.hang("write", times=1)
    with ThreadPoolExecutor(3) as pool:
        if first == "a thread":
            pool.submit(asyncio.run, f.cache_set("theirs"))
            await hang.reached.wait()
        setting = asyncio.create_task(f.cache_set("mine"))
        await hang.reached.wait()
        while first == "a thread" and not cache.tier._writing._locks[Key(f.cache_key())].statistics().tasks_waiting:
            await asyncio.sleep(0.001)
        computing = pool.submit(f)
        assert await asyncio.to_thread(body.started.wait, 10)
        pool.submit(let_go)
        with cache.events.capture() as events:
            assert f() == "made"  # blocks the loop; the task cannot go on before
        assert computing.result(10) == "made"
    assert ("chain", "write", "failed", "BridgeError") in [
        (event.tier, event.operation, event.outcome, event.reason) for event in events if isinstance(event, TierEvent)
    ]
    assert await setting
    assert f() == "mine"


def test_a7_recursion_that_is_too_deep_is_an_error_wherever_it_ends() -> None:
    """A7: a plain function that asks for itself until the stack is at its end raises, at whatever call that is; none hangs."""
    cache = FastCache(MemoryTier())

    @cache.memoize
    def deep(n: int, _offset: int) -> int:
        return 1 + deep(n + 1, _offset)

    def padded(offset: int, below: int) -> int:
        return deep(0, offset) if below == 0 else padded(offset, below - 1)

    for offset in range(24):
        # The second, where the stack ended as the key was made.
        with ThreadPoolExecutor(1) as pool, pytest.raises((RecursionError, CustomParamsEncoderRequiredError)):
            pool.submit(padded, offset, offset).result(30)
    assert in_flight(cache) == 0
