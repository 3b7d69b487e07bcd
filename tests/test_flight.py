"""Single flight: one computation per key over tasks, loops and threads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from acache import exceptions
from acache.exceptions import BridgeError, RecursiveCallError
from acache.flight import Flight, FlightTable, LeaderLost
from acache.flight.flight import BLOCKING
from acache.testing import settle
from acache.types import Key
from tests.intruder import at_every_call

KEY = Key("a" * 64)
OTHER = Key("b" * 64)


def key(n: int) -> Key:
    """Return the key number ``n``."""
    return Key(f"{n:064x}")


Produce = Callable[[Flight[Any]], Awaitable[Any]]


class Job:
    """A computation that starts, waits to be released, and counts its runs and cancellations."""

    def __init__(self, result: object = "made", error: BaseException | None = None) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.runs = 0
        self.cancelled = 0
        self._result = result
        self._error = error

    async def __call__(self, flight: Flight[Any]) -> object:
        """Run until released."""
        self.runs += 1
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._error is not None:
            raise self._error
        return self._result


async def start(table: FlightTable, job: Job, key: Key = KEY) -> asyncio.Task[tuple[object, bool]]:
    """Start a caller and return once it waits."""
    task = asyncio.create_task(table.run(key, "f", job))
    await job.started.wait()
    await asyncio.sleep(0)
    return task


async def test_callers_of_one_key_share_one_run() -> None:
    """All callers of a key get the result of one run; only the first one led."""
    table, job = FlightTable(), Job()
    first = await start(table, job)
    rest = [asyncio.create_task(table.run(KEY, "f", job)) for _ in range(20)]
    await asyncio.sleep(0)
    job.release.set()
    assert await first == ("made", False)
    assert await asyncio.gather(*rest) == [("made", True)] * 20
    assert job.runs == 1
    assert len(table) == 0


async def test_keys_do_not_wait_for_each_other() -> None:
    """A flight of another key runs while one is under way."""
    table, slow, quick = FlightTable(), Job(), Job()
    quick.release.set()
    task = await start(table, slow)
    assert await table.run(OTHER, "g", quick) == ("made", False)
    slow.release.set()
    await task


async def test_a1_a_cancelled_leader_leaves_the_run_to_the_waiters() -> None:
    """A1: the computation belongs to the table, not to who began it."""
    table, job = FlightTable(), Job()
    leader = await start(table, job)
    waiter = asyncio.create_task(table.run(KEY, "f", job))
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    job.release.set()
    assert await waiter == ("made", True)
    assert (job.runs, job.cancelled) == (1, 0)


async def test_a2_a_cancelled_waiter_leaves_alone() -> None:
    """A2: one waiter's cancellation is its own."""
    table, job = FlightTable(), Job()
    leader = await start(table, job)
    waiter = asyncio.create_task(table.run(KEY, "f", job))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    job.release.set()
    assert await leader == ("made", False)


async def test_a3_the_last_one_out_cancels_the_run() -> None:
    """A3: when every caller has left, the computation is cancelled and the key is free again."""
    table, job = FlightTable(), Job()
    callers = [await start(table, job), asyncio.create_task(table.run(KEY, "f", job))]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert len(table) == 0
    await asyncio.sleep(0)
    assert job.cancelled == 1
    again = Job("anew")
    again.release.set()
    assert await table.run(KEY, "f", again) == ("anew", False)


async def test_a_landing_flight_is_not_cancelled() -> None:
    """Once the computation is over and only the storing remains, leaving callers do not stop it."""
    table, job = FlightTable(), Job()

    async def land(flight: Flight[Any]) -> object:
        flight.landing = True
        return await job(flight)

    caller = asyncio.create_task(table.run(KEY, "f", land))
    await job.started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    (flight,) = table
    assert "landing" in repr(flight)
    job.release.set()
    assert flight.task is not None
    await flight.task
    assert job.cancelled == 0
    assert len(table) == 0


async def test_a4_an_exception_reaches_everyone_and_is_not_kept() -> None:
    """A4: all present callers get the error; the next call computes."""
    table, job = FlightTable(), Job(error=ValueError("no"))
    callers = [await start(table, job), *[asyncio.create_task(table.run(KEY, "f", job)) for _ in range(4)]]
    await asyncio.sleep(0)
    job.release.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 5
    with pytest.raises(ValueError, match="no"):
        await table.run(KEY, "f", job)
    assert job.runs == 2


async def test_a16_a_shared_error_does_not_grow_with_its_waiters() -> None:
    """A16: the traceback each waiter sees is the computation's and its own, not everybody's."""
    table, job = FlightTable(), Job(error=ValueError("no"))
    callers = [await start(table, job), *[asyncio.create_task(table.run(KEY, "f", job)) for _ in range(200)]]
    await asyncio.sleep(0)
    job.release.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    lengths = [len(traceback.extract_tb(result.__traceback__)) for result in results if isinstance(result, ValueError)]
    assert len(lengths) == 201
    assert max(lengths) < 10


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
async def test_a5_an_interrupt_reaches_its_leader_and_waiters_get_a_defined_error(error: BaseException) -> None:
    """A5: what is no Exception goes to the leader once; a waiter is told what ended the computation."""
    table, job = FlightTable(), Job(error=error)
    seen: list[BaseException] = []

    async def lead() -> None:
        try:
            await table.run(KEY, "f", job)
        except BaseException as raised:  # noqa: BLE001 - the very thing under test
            seen.append(raised)

    leader = asyncio.create_task(lead())
    await job.started.wait()
    waiter = asyncio.create_task(table.run(KEY, "f", job))
    await asyncio.sleep(0)
    job.release.set()
    await leader
    assert seen == [error]
    with pytest.raises(exceptions.SystemError, match=type(error).__name__):
        await waiter
    assert len(table) == 0


async def test_a7_recursion_on_the_same_key_is_refused() -> None:
    """A7: a computation that asks for its own result gets an error at once."""
    table = FlightTable()

    async def ask_again(flight: Flight[Any]) -> object:
        return await table.run(KEY, "f", ask_again)

    with pytest.raises(RecursiveCallError, match="waits for its own result"):
        await table.run(KEY, "f", ask_again)
    assert len(table) == 0


async def test_a7_recursion_through_a_child_task_is_refused() -> None:
    """A7: a task that the computation starts and awaits is part of it."""
    table = FlightTable()

    async def ask_in_task(flight: Flight[Any]) -> object:
        return await asyncio.create_task(table.run(KEY, "f", ask_in_task))

    with pytest.raises(RecursiveCallError):
        await table.run(KEY, "f", ask_in_task)


async def test_a7_a_circle_of_two_flights_is_refused() -> None:
    """A7: f waits for g while g waits for f: the one who would close the circle is told, on whatever table."""
    one, two = FlightTable(), FlightTable()
    both = asyncio.Event()
    under_way = 0

    def crossing(table: FlightTable, key: Key) -> Produce:
        async def produce(flight: Flight[Any]) -> object:
            nonlocal under_way
            under_way += 1
            if under_way == 2:
                both.set()
            await both.wait()

            async def plain(inner: Flight[Any]) -> object:
                return "never computed"

            return await table.run(key, "crossing", plain)

        return produce

    results = await asyncio.gather(
        one.run(KEY, "f", crossing(two, OTHER)), two.run(OTHER, "g", crossing(one, KEY)), return_exceptions=True
    )
    assert all(isinstance(result, RecursiveCallError) for result in results)
    assert (len(one), len(two)) == (0, 0)


async def test_a8_recursion_on_other_keys_works() -> None:
    """A8: nested computations of different keys run, however deep."""
    table = FlightTable()

    def fib(n: int) -> Produce:
        async def produce(flight: Flight[Any]) -> int:
            if n < 2:
                return n
            left, _ = await table.run(key(n - 1), "fib", fib(n - 1))
            right, _ = await table.run(key(n - 2), "fib", fib(n - 2))
            return int(left + right)

        return produce

    assert (await table.run(key(12), "fib", fib(12)))[0] == 144


async def test_a13_a_flight_survives_garbage_collection() -> None:
    """A13: the table holds the task, so a collection during the run does not drop it."""
    table, job = FlightTable(), Job()
    caller = await start(table, job)
    for _ in range(3):
        gc.collect()
    job.release.set()
    assert await caller == ("made", False)


async def test_nobody_joins_what_will_not_be_stored() -> None:
    """Once it is decided that no caller of a flight may store its result, the next caller begins one of his own."""
    table, decided, go = FlightTable(), list[bool](), asyncio.Event()

    async def produce(flight: Flight[int]) -> int:
        decided.append(table.is_to_store(flight))
        await go.wait()
        return len(decided)

    def ask(*, stores: bool) -> asyncio.Task[tuple[int, bool]]:
        return asyncio.ensure_future(table.run(Key("0" * 64), "f", produce, stores=stores))

    asked = [ask(stores=False)]
    await settle()
    asked.append(ask(stores=True))
    await settle()
    asked.append(ask(stores=False))
    await settle()
    go.set()
    assert [(await each)[1] for each in asked] == [False, False, True]
    assert decided == [False, True]


async def test_a17_an_invalidated_flight_may_not_publish_and_is_not_joined() -> None:
    """A17: callers after an invalidation start a new flight; the old one no longer holds."""
    table, old, new = FlightTable(), Job("old"), Job("new")
    first = await start(table, old)
    (flight,) = table
    assert flight.holds()
    table.invalidate(KEY)
    assert not flight.holds()
    second = await start(table, new)
    old.release.set()
    new.release.set()
    assert (await first)[0] == "old"
    assert (await second)[0] == "new"


async def test_a17_invalidate_all_takes_a_prefix() -> None:
    """Only the flights whose key begins with the prefix lose their right to publish."""
    table, one, two = FlightTable(), Job(), Job()
    tasks = [await start(table, one, KEY), await start(table, two, OTHER)]
    flights = {flight.key: flight for flight in table}
    table.invalidate_all("aa")
    assert (flights[KEY].holds(), flights[OTHER].holds()) == (False, True)
    one.release.set()
    two.release.set()
    await asyncio.gather(*tasks)


def in_thread(target: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run ``target`` in a thread; what it returns or raises lands in the list."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(target())
        except BaseException as error:  # noqa: BLE001 - shown by the test
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_a11_loops_in_two_threads_share_a_flight() -> None:
    """A11: a task of another loop joins, and is woken across threads."""
    table = FlightTable()
    runs: list[int] = []
    leading, joined = threading.Event(), threading.Event()

    async def produce(flight: Flight[Any]) -> str:
        runs.append(1)
        leading.set()
        while flight.waiters < 2:
            await asyncio.sleep(0)
        joined.set()
        return "made"

    async def call() -> tuple[object, bool]:
        return await table.run(KEY, "f", produce)

    first, one = in_thread(lambda: asyncio.run(call()))
    assert leading.wait(5)
    second, two = in_thread(lambda: asyncio.run(call()))
    first.join(10)
    second.join(10)
    assert (one, two, len(runs)) == ([("made", False)], [("made", True)], 1)


def test_a_foreign_last_waiter_cancels_across_threads() -> None:
    """The last waiter may be of another loop than the computation's."""
    table = FlightTable()
    leading, cancelled = threading.Event(), threading.Event()

    async def produce(flight: Flight[Any]) -> None:
        leading.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def lead() -> None:
        task = asyncio.create_task(table.run(KEY, "f", produce))
        while next(iter(table), None) is None or next(iter(table)).waiters < 2:  # until the other thread has joined
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(cancelled.wait, 5)

    async def join_and_leave() -> None:
        task = asyncio.create_task(table.run(KEY, "f", produce))
        while next(iter(table)).waiters < 2 and not task.done():
            await asyncio.sleep(0)
        while next(iter(table)).waiters > 1:  # until the leader has left
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    leader, _ = in_thread(lambda: asyncio.run(lead()))
    assert leading.wait(5)
    follower, _ = in_thread(lambda: asyncio.run(join_and_leave()))
    leader.join(10)
    follower.join(10)
    assert cancelled.is_set()


def test_a10_a_closed_loop_leaves_the_key_free() -> None:
    """A10: a flight whose loop was closed under it is taken over by the next loop's caller."""
    table = FlightTable()

    async def hang(flight: Flight[Any]) -> None:
        await asyncio.Event().wait()

    async def begin() -> asyncio.Task[Any]:
        task = asyncio.create_task(table.run(KEY, "f", hang))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(begin())
    assert len(table) == 1

    async def make(flight: Flight[Any]) -> str:
        return "made"

    # The first loop does not run any more: its flight cannot end.
    assert asyncio.run(table.run(KEY, "f", make)) == ("made", False)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a10_a_waiter_takes_over_when_the_leaders_loop_dies() -> None:
    """A10: when a leader's loop ends under its flight, a waiter of another loop computes instead."""
    table = FlightTable()
    leading, leave = threading.Event(), threading.Event()
    runs: list[str] = []

    async def produce(flight: Flight[Any]) -> str:
        runs.append(threading.current_thread().name)
        if len(runs) == 1:
            leading.set()
            await asyncio.Event().wait()
        return "made"

    async def lead_and_die() -> None:
        task = asyncio.create_task(table.run(KEY, "f", produce))
        await asyncio.to_thread(leave.wait, 5)
        del task  # asyncio.run() cancels it, and the flight's task with it

    async def follow() -> tuple[object, bool]:
        task = asyncio.create_task(table.run(KEY, "f", produce))
        while next(iter(table)).waiters < 2:
            await asyncio.sleep(0)
        leave.set()
        return await task

    leader, _ = in_thread(lambda: asyncio.run(lead_and_die()))
    assert leading.wait(5)
    assert asyncio.run(follow()) == ("made", False)
    leader.join(10)
    assert len(runs) == 2


async def test_a_waiter_takes_over_when_the_leader_is_lost() -> None:
    """When the one who was to compute is gone, a waiter computes instead, and nobody is told."""
    table, job = FlightTable(), Job()
    gone = Job(error=LeaderLost())
    leader = await start(table, gone)
    waiter = asyncio.create_task(table.run(KEY, "f", job))
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    gone.release.set()
    await job.started.wait()
    job.release.set()
    assert await waiter == ("made", False)


async def test_a12_a_call_that_blocks_the_leaders_loop_is_refused() -> None:
    """A12: joining a flight of the loop that the caller's thread blocks would be for ever."""
    table, job = FlightTable(), Job()
    leader = await start(table, job)
    with pytest.raises(BridgeError, match="this very thread"):
        await table.run(KEY, "f", job, blocked=asyncio.get_running_loop())
    job.release.set()
    assert await leader == ("made", False)


@pytest.fixture
def elsewhere() -> Iterator[asyncio.AbstractEventLoop]:
    """Run another event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
    """Run ``coroutine`` on a loop of another thread; waiting for it ends."""
    running = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))
    return asyncio.ensure_future(asyncio.wait_for(running, 3))


async def until(condition: Callable[[], bool]) -> None:
    """Let things happen until ``condition()`` holds."""
    async with asyncio.timeout(3):
        while not condition():
            await asyncio.sleep(0)


def no_seat_is_left() -> bool:
    """Tell whether everybody who blocked a loop has left."""
    return not BLOCKING


@pytest.mark.parametrize("depth", [1, 3])
async def test_a12_a_call_that_blocks_a_loop_its_flight_waits_for_is_refused(
    elsewhere: asyncio.AbstractEventLoop, depth: int
) -> None:
    """A12: joining a flight that waits, over however many others, for one of the blocked loop would be for ever."""
    tables, job = [FlightTable() for _ in range(depth)], Job()
    leader = await start(tables[0], job)

    def waiting(level: int) -> Produce:
        async def produce(flight: Flight[Any]) -> Any:
            below = tables[level - 1] if level else tables[0]
            return (await below.run(KEY if level == 0 else key(level), "below", waiting(level - 1)))[0]

        return produce

    outer = on(elsewhere, tables[-1].run(key(depth), "outer", waiting(depth - 1)))
    (flight,) = (each for each in tables[0] if each.key == KEY)
    await until(lambda: flight.waiters == 2)
    with pytest.raises(BridgeError, match="this very thread"):
        await on(elsewhere, tables[-1].run(key(depth), "outer", job, blocked=asyncio.get_running_loop()))
    job.release.set()
    assert (await leader, await outer) == (("made", False), ("made", False))
    assert [len(table) for table in tables] == [0] * depth
    assert no_seat_is_left()


async def before_the_circle(
    table: FlightTable, inner: Job, go: threading.Event, elsewhere: asyncio.AbstractEventLoop
) -> tuple[asyncio.Future[Any], asyncio.Future[Any]]:
    """Start a flight that will wait for the one of ``inner`` once ``go`` is set; return its leader, and who blocks this loop for it."""

    async def outer(flight: Flight[Any]) -> object:
        await asyncio.get_running_loop().run_in_executor(None, go.wait, 3)
        return (await table.run(KEY, "inner", inner))[0]

    first = on(elsewhere, table.run(OTHER, "outer", outer))
    await until(lambda: len(table) == 2)
    blocking = on(elsewhere, table.run(OTHER, "outer", outer, blocked=asyncio.get_running_loop()))
    (flight,) = (each for each in table if each.key == OTHER)
    await until(lambda: flight.waiters == 2)
    return first, blocking


async def test_a12_a_flight_that_comes_to_wait_for_the_blocked_loop_later_is_refused(
    elsewhere: asyncio.AbstractEventLoop,
) -> None:
    """A12: what a sync call waits for may not begin to wait for the loop that it blocks; both are told at once."""
    table, inner, go = FlightTable(), Job(), threading.Event()
    leader = await start(table, inner)
    first, blocking = await before_the_circle(table, inner, go, elsewhere)
    go.set()
    for each in (first, blocking):
        with pytest.raises(BridgeError, match="a sync call blocks"):
            await each
    inner.release.set()
    assert await leader == ("made", False)
    assert len(table) == 0
    assert no_seat_is_left()


async def test_a12_two_loops_that_block_each_other_are_told(elsewhere: asyncio.AbstractEventLoop) -> None:
    """A12: of two sync calls, each of which waits for the other one's loop, one is refused."""
    table, here, there = FlightTable(), Job(), Job()
    leaders = [await start(table, here), on(elsewhere, table.run(OTHER, "there", there))]
    await until(lambda: there.runs == 1)
    one = asyncio.create_task(table.run(OTHER, "there", there, blocked=asyncio.get_running_loop()))
    (flight,) = (each for each in table if each.key == OTHER)
    await until(lambda: flight.waiters == 2)
    with pytest.raises(BridgeError):
        await on(elsewhere, table.run(KEY, "here", here, blocked=elsewhere))
    here.release.set()
    elsewhere.call_soon_threadsafe(there.release.set)
    assert await asyncio.gather(*leaders, one) == [("made", False), ("made", False), ("made", True)]
    assert no_seat_is_left()


async def test_a12_a_loop_that_is_blocked_no_more_is_waited_for(elsewhere: asyncio.AbstractEventLoop) -> None:
    """A12: once the sync call has given up, what it waited for may wait for its loop."""
    table, inner, go = FlightTable(), Job(), threading.Event()
    leader = await start(table, inner)
    first, blocking = await before_the_circle(table, inner, go, elsewhere)
    flights = {each.key: each for each in table}
    await asyncio.sleep(0)  # or it would be cancelled before it begins
    blocking.cancel()
    await until(lambda: flights[OTHER].waiters == 1)
    go.set()
    await until(lambda: flights[KEY].waiters == 2)
    inner.release.set()
    assert (await leader, await first) == (("made", False), ("made", False))


async def test_a7_a_computation_that_waits_twice_for_one_flight_is_still_known_to_wait() -> None:
    """A7: of two tasks of a computation that wait for one flight, the one that leaves does not speak for the other."""
    table, job = FlightTable(), Job()

    async def wait_twice(flight: Flight[Any]) -> object:
        tasks = [asyncio.create_task(table.run(OTHER, "g", ask_back)) for _ in range(2)]
        await job.started.wait()
        tasks[1].cancel()
        await asyncio.sleep(0)
        job.release.set()
        return await tasks[0]

    async def ask_back(flight: Flight[Any]) -> object:
        await job(flight)
        return await table.run(KEY, "f", wait_twice)

    with pytest.raises(RecursiveCallError):
        await asyncio.wait_for(table.run(KEY, "f", wait_twice), 3)
    assert len(table) == 0


async def hang(flight: Flight[Any]) -> None:
    """Never end."""
    await asyncio.get_running_loop().create_future()


def abandoned(table: FlightTable, callers: int = 2) -> list[Coroutine[Any, Any, Any]]:
    """Return what the collector would finalize of callers, and of their flight, whose loop was closed; closing does it."""
    coroutines: list[Coroutine[Any, Any, Any]] = [table.run(KEY, "f", hang) for _ in range(callers)]
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(coroutine) for coroutine in coroutines]
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    (flight,) = table
    assert flight.task is not None
    for task in (*tasks, flight.task):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    coroutine = flight.task.get_coro()
    assert inspect.iscoroutine(coroutine)
    return [*coroutines, coroutine]


def begin_and_leave(table: FlightTable) -> None:
    """Call, in a loop that runs, and give up."""

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await table.run(KEY, "f", hang)

    asyncio.run(give_up())


STEPS: dict[str, Callable[[FlightTable], object]] = {
    "invalidate": lambda table: table.invalidate(KEY),
    "invalidate_all": lambda table: table.invalidate_all("a"),
    "invalidate_if": lambda table: table.invalidate_if(KEY, lambda flight: True),
    "run": begin_and_leave,
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("at_once", [1, 3])
def test_a10_callers_are_finalized_in_the_middle_of_a_step(step: str, at_once: int) -> None:
    """A10: callers of a closed loop may leave at any moment, in the thread that is changing the table."""

    def prepare() -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
        table = FlightTable()
        left = abandoned(table)

        def intrude() -> None:
            for _ in range(at_once):
                if left:
                    left.pop().close()

        def check() -> None:
            while left:
                left.pop().close()
            assert len(table) == 0

        return lambda: STEPS[step](table), intrude, check

    thread, outcome = in_thread(lambda: at_every_call(prepare))
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(outcome[0], int), outcome
    assert outcome[0] > 3


async def test_ten_thousand_callers_share_one_run() -> None:
    """A16: a queue of ten thousand waiters on one key costs one run."""
    table, job = FlightTable(), Job()
    callers = [await start(table, job), *[asyncio.create_task(table.run(KEY, "f", job)) for _ in range(9_999)]]
    await asyncio.sleep(0)
    job.release.set()
    assert {result for result, _ in await asyncio.gather(*callers)} == {"made"}
    assert job.runs == 1


@pytest.mark.integration
async def test_x1_a_forked_child_starts_afresh() -> None:
    """X1: a child of fork() has none of its parent's flights and computes for itself."""
    table, job = FlightTable(), Job()
    leader = await start(table, job)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child

        async def make(flight: Flight[Any]) -> bytes:
            return b"child" if len(table) == 1 else b"stale"

        asyncio.events._set_running_loop(None)
        os.write(write, asyncio.new_event_loop().run_until_complete(table.run(KEY, "f", make))[0])
        os._exit(0)
    os.close(write)
    assert await asyncio.to_thread(os.read, read, 10) == b"child"
    os.close(read)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    job.release.set()
    await leader
