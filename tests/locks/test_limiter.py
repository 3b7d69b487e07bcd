"""A limiter lets so many in at once, over tasks, loops and threads, and loses no place."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from acache import FastCache, disabled
from acache.exceptions import BridgeError, ConfigurationError
from acache.locks import Limiter, mutex
from acache.testing import Gate, ManualClock, cancel_sweep, settle
from acache.tiers import MemoryTier
from acache.types import Key


class Crowd:
    """Counts who is inside."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.inside = self.most = self.came = 0

    def __enter__(self) -> None:
        with self._mutex:
            self.inside += 1
            self.came += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            self.inside -= 1


# --- the limiter --------------------------------------------------------------------------------------------------


async def test_so_many_and_no_more() -> None:
    """There are as many inside as there are places, and the others follow in the order they came."""
    limiter, gate, order = Limiter(2), Gate(), list[int]()

    async def enter(number: int) -> None:
        async with limiter.hold():
            order.append(number)
            await gate.wait()

    tasks = [asyncio.create_task(enter(number)) for number in range(5)]
    await settle()
    assert order == [0, 1]
    assert limiter.locked()
    assert limiter.statistics().tasks_waiting == 3
    gate.open()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert not limiter.locked()
    with pytest.raises(RuntimeError):
        limiter.release()


async def test_over_loops_and_threads() -> None:
    """Tasks of several loops and plain threads share the places."""
    limiter, crowd = Limiter(3), Crowd()

    async def visit() -> None:
        for _ in range(20):
            async with limiter.hold():
                with crowd:
                    await asyncio.sleep(0)

    def visit_in_thread() -> None:
        for _ in range(20):
            with limiter.hold_sync(), crowd:
                pass

    def visit_in_loop() -> None:
        asyncio.run(visit())

    await asyncio.gather(
        *(visit() for _ in range(4)),
        *(asyncio.to_thread(visit_in_thread) for _ in range(3)),
        *(asyncio.to_thread(visit_in_loop) for _ in range(2)),
    )
    assert crowd.came == 9 * 20
    assert crowd.most <= 3
    assert not limiter.locked()
    assert limiter.statistics().tasks_waiting == 0


async def test_cancelled_anywhere_no_place_is_lost() -> None:
    """Wherever one who waits is cancelled, all places are free in the end."""
    limiter = Limiter(2)

    async def crowded() -> None:
        async def hold() -> None:
            async with limiter.hold():
                await asyncio.sleep(0)

        await asyncio.gather(*(hold() for _ in range(4)))

    async for _ in cancel_sweep(crowded):
        await settle()
        places = [limiter.acquire_nowait() for _ in range(3)]
        assert places == [True, True, False]
        limiter.release()
        limiter.release()


async def test_who_is_inside_comes_in_again() -> None:
    """A place serves what is done further down, and not what goes on after it was given back."""
    limiter, gate, order = Limiter(1), Gate(), list[str]()

    async def later() -> None:
        await gate.wait()
        async with limiter.hold():
            order.append("later")

    async with limiter.hold(), limiter.hold():
        with limiter.hold_sync():
            order.append("inside")
        task = asyncio.create_task(later())
    await limiter.acquire()
    gate.open()
    await settle()
    assert order == ["inside"]
    limiter.release()
    await task
    assert order == ["inside", "later"]


async def test_without_waiting() -> None:
    """Who must not wait is told that there is no place."""
    limiter = Limiter(1)
    async with limiter.hold(wait=False):
        pass
    await limiter.acquire()
    with pytest.raises(BridgeError):
        async with limiter.hold(wait=False):
            pass
    with pytest.raises(BridgeError), limiter.hold_sync(wait=False):
        pass
    limiter.release()


# --- max_concurrency= ---------------------------------------------------------------------------------------------


async def test_computations_of_a_function_are_limited(cache: FastCache) -> None:
    """So many computations run at once; hits and other functions do not wait."""
    crowd, gate = Crowd(), Gate()

    @cache.memoize(max_concurrency=2)
    async def f(x: int) -> int:
        with crowd:
            await gate.wait()
            return x

    @cache.memoize
    async def g(x: int) -> int:
        return x

    await f.cache_set(100, 100)
    tasks = [asyncio.create_task(f(number)) for number in range(6)]
    await settle()
    assert crowd.inside == 2
    assert (await f(100), await g(1)) == (100, 1)
    gate.open()
    assert await asyncio.gather(*tasks) == list(range(6))
    assert crowd.most == 2


async def test_threads_and_tasks_are_limited_together(cache: FastCache) -> None:
    """A plain function runs so often at once, whoever calls it and however."""
    crowd = Crowd()

    @cache.memoize(max_concurrency=2)
    def f(x: int) -> int:
        with crowd:
            threading.Event().wait(0.001)
            return x

    calls = [f.aio(number) for number in range(10)]
    threads = [asyncio.to_thread(f, number) for number in range(10, 20)]
    assert await asyncio.gather(*calls, *threads) == list(range(20))
    assert crowd.most == 2


async def test_waiting_for_a_place_is_no_cost(cache: FastCache, clock: ManualClock) -> None:
    """What computing took begins when it begins."""
    gate = Gate()

    @cache.memoize(max_concurrency=1)
    async def f(x: int) -> int:
        if x == 0:
            await gate.wait()
        clock.advance(1)
        return x

    first = asyncio.create_task(f(0))
    await settle()
    second = asyncio.create_task(f(1))
    await settle()
    clock.advance(100)
    gate.open()
    await asyncio.gather(first, second)
    assert f.cache_info().compute_seconds == 102


async def test_a_cancelled_call_leaves_its_place(cache: FastCache) -> None:
    """Neither one who waits nor one who computes takes a place with him."""
    start = 0

    @cache.memoize(max_concurrency=1)
    async def f(x: int) -> int:
        await asyncio.sleep(0)
        return x

    async def two() -> tuple[int, int]:
        return await asyncio.gather(f(start), f(start + 1))

    async for _ in cancel_sweep(two):
        await settle()
        start += 2
        assert await f(start) == start
        start += 1


async def test_a_function_may_call_itself(cache: FastCache) -> None:
    """A limited function that calls itself does not wait for its own place."""

    @cache.memoize(max_concurrency=1)
    async def fib(n: int) -> int:
        return n if n < 2 else await fib(n - 1) + await fib(n - 2)

    @cache.memoize(max_concurrency=1)
    def fib_sync(n: int) -> int:
        return n if n < 2 else fib_sync(n - 1) + fib_sync(n - 2)

    assert await fib(12) == 144
    assert await asyncio.to_thread(fib_sync, 12) == 144


async def test_a_switched_off_cache_limits_all_the_same(cache: FastCache) -> None:
    """What a function may do at once does not depend on the cache being on."""
    crowd = Crowd()

    @cache.memoize(max_concurrency=2)
    async def f(x: int) -> int:
        with crowd:
            await asyncio.sleep(0)
            return x

    @cache.memoize(max_concurrency=1)
    def g(x: int) -> int:
        with crowd:
            return x

    with disabled():
        assert await asyncio.gather(*(f(number) for number in range(8))) == list(range(8))
        assert g(1) == 1
    assert crowd.most == 2


async def test_verbs_of_one_function_share_the_places(cache: FastCache) -> None:
    """One function, decorated twice, has its places once."""
    crowd = Crowd()

    async def f(x: int) -> int:
        with crowd:
            await asyncio.sleep(0)
            return x

    memoized, recorded = cache.memoize(max_concurrency=1)(f), cache.record(max_concurrency=1)(f)
    await asyncio.gather(memoized(1), recorded(2), memoized(3))
    assert crowd.most == 1


def test_what_is_no_number_of_places_is_refused(cache: FastCache) -> None:
    """``max_concurrency=`` is a whole number from 1 on."""

    async def f() -> None: ...

    for places in (0, -1, True, 1.5, "2"):
        with pytest.raises(ConfigurationError, match="max_concurrency"):
            cache.memoize(max_concurrency=places)(f)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> FastCache:
    return FastCache(MemoryTier(clock=clock))


@pytest.mark.parametrize("places", [1, 2])
async def test_a12_a_sync_call_that_joins_beside_a_place_of_its_own_loop(
    cache: FastCache, monkeypatch: pytest.MonkeyPatch, places: int
) -> None:
    """A12: a loop that is blocked by a call for what waits for a place of that very loop's task gets an error, not a hang.

    If somebody else will leave a place, that is waited for.
    """
    started, done = threading.Semaphore(0), {n: threading.Event() for n in range(3)}
    failed = threading.Event()

    monkeypatch.setattr(mutex, "ORPHAN_CHECK", 0.005)
    looked = threading.Semaphore(0)
    look = Limiter._look

    def counted(limiter: Limiter, waiter: mutex._TaskWaiter) -> None:
        look(limiter, waiter)
        looked.release()

    monkeypatch.setattr(Limiter, "_look", counted)

    @cache.memoize(max_concurrency=places)
    def f(n: int) -> int:
        started.release()
        assert done[n].wait(10)
        return n

    def let_go() -> None:
        pause = threading.Event()
        while not failed.is_set() and sum(flight.waiters for flight in cache._engine.flights) < places + 2:
            pause.wait(0.001)
        while looked.acquire(blocking=False):
            pass
        for _ in range(3 * (places - 1)):
            looked.acquire(timeout=5)
        done[0].set()  # its task cannot go on, and keeps its place
        done[1].set()
        done[2].set()

    with ThreadPoolExecutor(3) as pool:
        mine = asyncio.create_task(f.aio(0))
        assert await asyncio.to_thread(started.acquire, timeout=10)
        others = [pool.submit(f, n) for n in (2, 1)[2 - places :]]
        if places == 2:
            assert await asyncio.to_thread(started.acquire, timeout=10)
        while not cache._engine.flights.of(Key(f.cache_key(1))):
            await asyncio.sleep(0.001)
        pool.submit(let_go)
        if places == 2:
            assert f(1) == 1
            assert [other.result(10) for other in others] == [2, 1]
        else:
            with pytest.raises(BridgeError, match="that very loop"):
                f(1)
            failed.set()
            with pytest.raises(BridgeError, match="that very loop"):
                others[0].result(10)
    assert await mine == 0
    assert f(1) == 1
