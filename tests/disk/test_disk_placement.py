"""The thread for small file operations shares the processor of the loop that waits for it, and no outcome is lost for that."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable, Generator
from itertools import pairwise

import pytest

from acache.files import lane, placement
from acache.files.lane import Lane
from acache.files.placement import Companion
from acache.testing import ManualClock

if sys.platform != "linux":
    pytest.skip("only Linux can be told where a thread runs", allow_module_level=True)

#: A thread that is not there.
NOBODY = 0x7FFFFFFF


@pytest.fixture
def worker() -> Generator[int]:
    """Start a thread that does nothing, and return its native identifier."""
    leave, started = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    assert thread.native_id is not None
    yield thread.native_id
    leave.set()
    thread.join()


def pinned(processors: set[int], use: Callable[[], object]) -> None:
    """Call ``use`` in a thread that may run on ``processors`` only."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            os.sched_setaffinity(0, processors)
            use()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def test_a_companion_follows(worker: int) -> None:
    """It runs where its caller does, wherever that is, and where its caller may when it is let go."""
    allowed = os.sched_getaffinity(0)
    companion = Companion(worker)
    for processor in sorted(allowed):
        pinned({processor}, lambda: companion.follow() or pytest.fail("it is not near"))
        assert os.sched_getaffinity(worker) == {processor}
    companion.roam()
    assert os.sched_getaffinity(worker) == allowed
    assert companion.follow()
    assert len(os.sched_getaffinity(worker)) == 1


@pytest.mark.parametrize("current", [None, lambda: -1, lambda: 0])
def test_where_threads_cannot_be_placed_nothing_is_tried(
    current: Callable[[], int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another system, a processor that is not known, or a thread that cannot be placed: it is not near, and nobody is hurt."""
    monkeypatch.setattr(placement, "_current_processor", current)
    companion = Companion(NOBODY)
    assert not companion.follow()
    companion.roam()
    assert not companion.follow()


def test_a_companion_is_let_run_less_where_others_want_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A yield that takes milliseconds is repeated after a rest, which grows to a second, and begins anew after a short one."""
    clock, yields, taken = ManualClock(), list[float](), 0.002

    def give_way() -> None:
        yields.append(clock.monotonic())
        clock.advance(taken)

    monkeypatch.setattr(os, "sched_yield", give_way)
    companion = Companion(NOBODY, clock)
    start = clock.monotonic()
    while clock.monotonic() < start + 10.0:
        companion.let_run()
        clock.advance(0.001)
    rests = [later - sooner - taken for sooner, later in pairwise(yields)]
    assert rests[0] == pytest.approx(0.005, abs=0.002)
    assert rests == sorted(rests)
    assert rests[-1] == pytest.approx(1.0, abs=0.002)
    taken, before = 0.0, len(yields)
    clock.advance(1.0)
    for _ in range(10):
        companion.let_run()
    assert len(yields) == before + 10
    taken = 0.002
    companion.let_run()
    clock.advance(0.006)
    companion.let_run()
    assert len(yields) == before + 12


@pytest.fixture
async def work() -> Lane:
    """Start a lane that no loop but the test's has used."""
    made = Lane()
    await made.run(int)
    return made


async def test_a_lone_call_is_done_near_the_loop(work: Lane) -> None:
    """The thread is placed with its only loop, and let go when there is a second one."""
    thread = await work.run(threading.get_native_id)
    await work.run(int)
    assert len(os.sched_getaffinity(thread)) == 1
    other = asyncio.new_event_loop()
    # A thread of its own, which lets go of the loop at its end: a worker keeps what it ran until it comes to look for more.
    elsewhere = threading.Thread(target=other.run_until_complete, args=(once(work),))
    elsewhere.start()
    await asyncio.to_thread(elsewhere.join)
    await work.run(int)
    assert os.sched_getaffinity(thread) == os.sched_getaffinity(0)
    other.close()
    del other
    gc.collect()
    await work.run(int)
    assert len(os.sched_getaffinity(thread)) == 1


async def once(work: Lane) -> None:
    """Be another loop."""
    await work.run(int)


@pytest.mark.parametrize("done_first", [True, False])
async def test_no_outcome_is_lost_whoever_is_first(
    *, done_first: bool, work: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lone call comes back, whether it is done before the loop goes on or long after: nobody looks by the clock then."""
    go, outbox = threading.Event(), work._outboxes[asyncio.get_running_loop()]

    def let_run(_: Companion) -> None:
        if done_first:
            go.set()
            while not outbox._done:
                os.sched_yield()

    monkeypatch.setattr(Companion, "let_run", let_run)
    future = work.run(go.wait)
    was_done = future.done()
    await asyncio.sleep(0)
    is_done = future.done()
    go.set()
    assert not was_done, "a call takes a round of the loop, however soon it is done"
    assert is_done == done_first
    async with asyncio.timeout(10):
        assert await future


async def test_an_interrupted_turn_loses_no_outcome(work: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the moment the thread is let run ends that wait, and not those to come."""
    with monkeypatch.context() as patch:
        patch.setattr(Companion, "let_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            work.run(int)
    async with asyncio.timeout(10):
        assert await work.run(lambda: 2) == 2


async def test_a_lane_is_idle_when_its_last_call_has_run(work: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was taken out of the queue, and does not run yet, is one that waits."""
    seen: list[bool] = []

    class Watching:
        def monotonic(self) -> float:
            seen.append(work.is_idle)
            return 0.0

    monkeypatch.setattr(lane, "SYSTEM_CLOCK", Watching())
    await work.run(int)
    assert seen == [False]
    while not work.is_idle:
        await asyncio.sleep(0)


def interrupted(_: Companion) -> None:
    """Be interrupted."""
    raise KeyboardInterrupt


async def test_thousands_of_lone_calls_come_back(work: Lane) -> None:
    """Whoever of the loop and the thread is first by a hair, neither waits for the other for ever."""
    async with asyncio.timeout(60):
        for number in range(5_000):
            assert await work.run(lambda number=number: number) == number  # type: ignore[misc]
