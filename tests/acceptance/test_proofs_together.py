"""What goes wrong among threads, tasks and processes in other caches goes right here: P08, P11, P18, P21, P26."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from acache import DiskTier, FastCache, MemoryTier, TierEvent
from acache.exceptions import RecursiveCallError
from acache.testing import ComputeCounter, Gate
from tests.acceptance.support import run, run_together, running

Make = Callable[[], FastCache]


@pytest.fixture(params=["memory", "memory and disk"])
def make_cache(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Make caches that share whatever can be shared."""
    if request.param == "memory":
        return FastCache
    return lambda: FastCache(MemoryTier(), DiskTier(tmp_path / "c"))


def in_threads(work: Callable[[int], Any], count: int) -> list[Any]:
    """Run ``work(0)``, ``work(1)``, … in threads that begin together."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> Any:
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


# --- P08: no lock while a function runs ---------------------------------------------------------------------------------


async def test_p08_a_function_may_call_itself_and_others(make_cache: Make) -> None:
    """SPEC 13: recursion on other arguments and calls from one memoized function to another wait for nothing."""
    async with make_cache() as cache:

        @cache.memoize
        async def fib(n: int) -> int:
            return n if n < 2 else await fib(n - 1) + await fib(n - 2)

        @cache.memoize
        def plain_fib(n: int) -> int:
            return n if n < 2 else plain_fib(n - 1) + plain_fib(n - 2)

        @cache.memoize
        async def outer(n: int) -> int:
            return await fib(n) + await plain_fib.aio(n)

        with anyio.fail_after(30):
            assert await outer(12) == 288
            assert [fib.cache_info().currsize, plain_fib.cache_info().currsize] == [13, 13]


async def test_p08_a_function_that_waits_for_itself_is_told_so(make_cache: Make) -> None:
    """SPEC 13: recursion on the same arguments is a clear error at once, not a timeout."""
    async with make_cache() as cache:

        @cache.memoize
        async def f(n: int) -> int:
            return await f(n)

        with anyio.fail_after(30), pytest.raises(RecursiveCallError, match="f"):
            await f(1)


async def test_p08_calls_of_other_keys_run_at_the_same_time(make_cache: Make) -> None:
    """SPEC 13: tasks, and threads, that compute different keys are all inside the function together; hits do not wait for them."""
    inside, all_inside = list[int](), Gate("four computations at once")
    barrier = threading.Barrier(4)
    async with make_cache() as cache:

        @cache.memoize
        async def task(n: int) -> int:
            inside.append(n)
            if len(inside) == 4:
                assert await ready(0) == 0
                all_inside.open()
            await all_inside.wait()
            return n

        @cache.memoize
        async def ready(n: int) -> int:
            return n

        @cache.memoize
        def thread(n: int) -> int:
            barrier.wait(30)
            return n

        await ready(0)
        assert await asyncio.gather(*map(task, range(4))) == [0, 1, 2, 3]
        assert await asyncio.to_thread(in_threads, thread, 4) == [0, 1, 2, 3]


FORK = """
cache = FastCache(MemoryTier(), DiskTier(sys.argv[1]))
started, leave = threading.Event(), threading.Event()

@cache.memoize
def slow(n):
    started.set()
    leave.wait(60)
    return n

@cache.memoize
def quick(n):
    return n * 2

quick(1)
thread = threading.Thread(target=slow, args=(1,))
thread.start()
started.wait()
pid = os.fork()
if pid == 0:
    leave.set()
    os._exit(0 if (quick(1), quick(2), slow(2)) == (2, 4, 2) else 1)
ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
leave.set()
thread.join()
tell([ended, slow(1), slow(2)])
"""


@pytest.mark.integration
def test_p08_a_forked_child_computes_while_its_parent_does(tmp_path: Path) -> None:
    """A child that was forked in the middle of a call finds nothing locked."""
    assert run(FORK, tmp_path / "c", options=["-W", "ignore::DeprecationWarning"]) == [0, 1, 2]


# --- P11: one computation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [2, 8])
def test_p11_threads_that_ask_together_share_one_run(make_cache: Make, threads: int) -> None:
    """SPEC 13: threads that call with the same arguments at the same time cause one run and get one result."""
    cache, counter = make_cache(), ComputeCounter()

    @cache.memoize
    @counter.wrap
    def make(n: int) -> object:
        for _ in range(100):
            time.sleep(0)  # let the others arrive
        return (n, threading.get_ident())

    @cache.memoize
    @counter.wrap
    async def make_async(n: int) -> object:
        for _ in range(100):
            await asyncio.sleep(0)
        return (n, threading.get_ident())

    for n in range(10):
        for function in (make, make_async.sync):
            assert len(set(in_threads(lambda _, n=n, function=function: function(n), threads))) == 1  # type: ignore[misc]  # bound now
    counter.assert_computed(20)


async def test_p11_tasks_threads_and_loops_share_one_run(make_cache: Make) -> None:
    """SPEC 13: tasks of several event loops and threads together share one run, too."""
    counter, release = ComputeCounter(), Gate("the computation")
    async with make_cache() as cache:

        @cache.memoize
        @counter.wrap
        async def make(n: int) -> int:
            await release.wait()
            return n

        ways: list[Coroutine[Any, Any, Any]] = [make(1), make(1)]
        ways += [asyncio.to_thread(asyncio.run, make(1)), asyncio.to_thread(make.sync, 1)]
        calls = asyncio.gather(*ways)
        while counter.total == 0:
            await asyncio.sleep(0)
        release.open()
        assert await calls == [1] * 4
        counter.assert_computed(1)


# --- P18: one answer ----------------------------------------------------------------------------------------------------


async def test_p18_callers_of_two_caches_agree_now_and_later(tmp_path: Path) -> None:
    """Two caches on one directory, as two processes have them, that compute one key together both serve one result."""
    entered, release = list[str](), Gate("the computation")

    def computing(name: str) -> Callable[[], Coroutine[Any, Any, str]]:
        async def compute() -> str:
            entered.append(name)
            await release.wait()
            return name

        return compute

    async with (
        FastCache(MemoryTier(), DiskTier(tmp_path)) as mine,
        FastCache(MemoryTier(), DiskTier(tmp_path)) as theirs,
    ):
        both = asyncio.gather(mine.get_or_set("key", computing("mine")), theirs.get_or_set("key", computing("theirs")))
        while not entered:
            await asyncio.sleep(0)
        release.open()
        answers = list(await both)
        assert len(set(answers)) == len(entered) == 1
        again = [await cache.get_or_set("key", computing("later")) for cache in (mine, theirs)]
        assert again == answers


OPTIMISED = """
cache, runs = FastCache(), []

@cache.memoize
def f(n):
    runs.append(n)
    return n

@cache.memoize
async def g(n):
    runs.append(n)
    return n

f(1), f(1), g.sync(2), g.sync(2)
tell([sys.flags.optimize, runs, f.cache_info().currsize, g.cache_info().currsize])
"""


@pytest.mark.integration
@pytest.mark.parametrize("level", [1, 2])
def test_p18_optimised_code_caches_too(level: int) -> None:
    """No work hides in an assertion: under ``-O`` results reach memory as ever."""
    assert run(OPTIMISED, options=["-" + "O" * level]) == [level, [1, 2], 1, 1]


# --- P21: event loops ---------------------------------------------------------------------------------------------------


async def test_p21_an_async_function_is_cached_by_its_result(make_cache: Make) -> None:
    """A coroutine is awaited once; its result can be awaited as often as one likes, also from another loop."""
    counter = ComputeCounter()
    async with make_cache() as cache:

        @cache.memoize
        @counter.wrap
        async def f(n: int) -> dict[str, int]:
            await asyncio.sleep(0)
            return {"n": n}

        results = [await f(1), await f(1), *await asyncio.gather(f(1), f(1))]
        results += [await asyncio.to_thread(asyncio.run, f(1)), await asyncio.to_thread(f.sync, 1)]
        assert results == [{"n": 1}] * 6
        counter.assert_computed(1)


async def test_p21_a_loop_goes_on_while_threads_compute(make_cache: Make) -> None:
    """While threads are in the middle of calls, its own and others, the loop turns and serves other keys."""
    entered, release = Gate("a thread inside"), Gate("the computation")
    async with make_cache() as cache:

        @cache.memoize
        def slow(n: int) -> int:
            entered.open()
            release.wait_blocking()
            return n

        @cache.memoize
        async def quick(n: int) -> int:
            return n * 2

        thread = asyncio.create_task(asyncio.to_thread(slow, 1))
        await entered.wait()
        joined, led = (asyncio.create_task(slow.aio(n)) for n in (1, 2))
        for turn in range(500):  # a loop that waited for a thread would never get through
            assert await quick(turn % 7) == 2 * (turn % 7)
            await asyncio.sleep(0)
        assert not joined.done()
        assert not led.done()
        release.open()
        assert [await thread, await joined, await led] == [1, 1, 2]


# --- P26: a peer that stopped -------------------------------------------------------------------------------------------

HOLDER = """
async def for_ever():
    print("computing", flush=True)
    await asyncio.Event().wait()

async def main():
    cache = FastCache(MemoryTier(), DiskTier(sys.argv[1]))
    await cache.get_or_set("stored", lambda: "by the peer")
    async with cache.lock():
        ready()
        await cache.get_or_set("contended", for_ever)
asyncio.run(main())
"""


@pytest.mark.integration
async def test_p26_a_stopped_peer_holds_up_only_what_it_computes(tmp_path: Path) -> None:
    """A peer that is stopped with the cache's lock and a key's: hits and other keys do not notice, that key is waited for once."""

    async def value(text: str) -> str:
        return text

    async with running(HOLDER, tmp_path) as (peer,):
        peer.go()
        assert await peer.hear() == "computing"
        peer.process.send_signal(signal.SIGSTOP)
        async with FastCache(MemoryTier(), DiskTier(tmp_path), host_timeout=0.2) as cache:
            with cache.events.capture() as events:
                for _ in range(2):  # from disk, then from memory
                    assert await cache.get_or_set("stored", partial(value, "again")) == "by the peer"
                assert await cache.get_or_set("other", partial(value, "mine")) == "mine"
                assert timeouts(events) == []
                for _ in range(2):
                    assert await cache.get_or_set("contended", partial(value, "mine")) == "mine"
                assert timeouts(events) == ["lock"]


def timeouts(events: list[Any]) -> list[str]:
    return [event.operation for event in events if isinstance(event, TierEvent) and event.outcome == "timeout"]


TEAM = """
runs = Path(sys.argv[2])

def compute(number):
    (runs / f"{number}-{os.getpid()}").touch()
    return [number, os.getpid()]

async def main():
    cache = FastCache(MemoryTier(), DiskTier(sys.argv[1]))
    ready()
    values = [await cache.get_or_set(["job", n], lambda n=n: compute(n)) for n in range(50)]
    await cache.aclose()
    tell(values)
asyncio.run(main())
"""


@pytest.mark.integration
async def test_p26_processes_share_one_computation(tmp_path: Path) -> None:
    """Processes that ask for the same things at the same time run each once, and all have the same answers."""
    (tmp_path / "runs").mkdir()
    answers = await run_together(TEAM, tmp_path / "c", tmp_path / "runs", count=4)
    assert answers == [answers[0]] * 4
    assert [number for number, _ in answers[0]] == list(range(50))
    assert len(list((tmp_path / "runs").iterdir())) == 50
