"""Callers whose own thread does part of the work: where functions run, what they raise, nesting, and leaving."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn

import anyio.to_thread
import pytest

from acache.bridge import RunHere, crossing, drive, in_event_loop, run_sync
from acache.bridge import portal as portal_module
from acache.exceptions import BridgeError
from acache.testing import Gate, settle

LONG = 30.0

variable: ContextVar[str] = ContextVar("variable", default="unset")


async def current_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def run_in_plain_thread(async_fn: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run_sync(async_fn)))
    thread.start()
    thread.join()
    return results[0]


class TestWhere:
    """Which thread does what."""

    def test_functions_run_in_the_calling_thread(self) -> None:
        """The coroutine runs on the portal, what it gives to run_here in the thread that called drive."""

        async def main(run_here: RunHere) -> list[threading.Thread]:
            return [threading.current_thread(), *[await run_here(threading.current_thread) for _ in range(3)]]

        portal, *here = drive(main)
        assert here == [threading.current_thread()] * 3
        assert portal not in here

    async def test_in_a_worker_thread(self) -> None:
        """In a worker thread the coroutine runs on that thread's own loop, the functions in the worker thread."""

        async def main(run_here: RunHere) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
            return asyncio.get_running_loop(), await run_here(threading.current_thread)

        def work() -> bool:
            loop, thread = drive(main)
            return thread is threading.current_thread() and loop is not run_in_plain_thread(current_loop)

        assert await anyio.to_thread.run_sync(work)

    async def test_in_the_thread_of_a_running_loop(self) -> None:
        """A blocked loop's thread is served by the portal, never by its own loop, and still runs the functions."""
        mine, here = asyncio.get_running_loop(), threading.current_thread()

        async def main(run_here: RunHere) -> asyncio.AbstractEventLoop:
            assert await run_here(threading.current_thread) is here
            assert await run_here(in_event_loop)
            return asyncio.get_running_loop()

        assert drive(main) is not mine

    async def test_in_a_worker_thread_that_runs_a_loop(self) -> None:
        """A thread that runs a loop is served by the portal, also when another loop had started it."""

        async def main(run_here: RunHere) -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        async def block() -> asyncio.AbstractEventLoop:
            return drive(main)

        loop = await anyio.to_thread.run_sync(asyncio.run, block())
        assert loop is run_in_plain_thread(current_loop)

    def test_on_the_portal_itself(self) -> None:
        """Code on the portal that blocks it is served by another loop, as deep as it goes, and waits for none."""

        async def main(run_here: RunHere) -> list[asyncio.AbstractEventLoop]:
            return [asyncio.get_running_loop()]

        async def deeper(run_here: RunHere) -> list[asyncio.AbstractEventLoop]:
            return [asyncio.get_running_loop(), *drive(main)]

        async def deepest(run_here: RunHere) -> list[asyncio.AbstractEventLoop]:
            return [asyncio.get_running_loop(), *drive(deeper)]

        loops = drive(deepest)
        assert len(set(loops)) == 3
        assert drive(deepest) == loops


class TestIdlePortals:
    """The loops that blocking calls on the portal need, when they are needed no more."""

    @pytest.fixture(autouse=True)
    def _portals_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
        # What earlier tests have used ends in its own time.
        portals: dict[Any, Any] = {}
        monkeypatch.setattr(portal_module, "_portals", portals)
        monkeypatch.setattr(portal_module, "IDLE", 0.0)
        yield
        portals[None].stop()

    def test_they_end(self) -> None:
        """Below the first, each ends with its thread and its loop once it is idle; a later call has another one."""
        for _ in range(2):
            first, *below = nest(4)
            assert len({first, *below}) == 5
            for thread in below:
                thread.join(LONG)
            assert [thread.is_alive() for thread in below] == [False] * 4
            assert run_sync(current_thread) is first

    def test_many_at_once_and_again(self) -> None:
        """Calls that come while a portal ends get an answer, every time."""
        first = run_sync(current_thread)
        below: set[threading.Thread] = set()
        for _ in range(50):
            above, *threads = nest(2)
            assert above is first
            assert len({first, *threads}) == 3
            below.update(threads)
        for thread in below:
            thread.join(LONG)
        assert not any(thread.is_alive() for thread in below)
        assert run_sync(current_thread) is first

    def test_what_they_run_is_not_cut_short(self) -> None:
        """A task that a call has left behind on such a loop runs to its end, however long; so may it make blocking calls."""
        done, seen = Gate("done"), list[object]()
        left: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, threading.Thread]] = []

        async def linger(go: asyncio.Event) -> None:
            await go.wait()
            seen.append(drive(answer_there))
            done.open()

        async def leave(run_here: RunHere) -> None:
            go = asyncio.Event()
            left.append((asyncio.get_running_loop(), go, threading.current_thread()))
            tasks.add(asyncio.create_task(linger(go)))

        async def call() -> None:
            drive(leave)

        tasks: set[asyncio.Task[None]] = set()
        run_sync(call)
        loop, go, thread = left[0]
        while loop in {portal.loop for portal in portal_module._portals.values()}:
            run_sync(asyncio.sleep, 0)
        assert nest(1)[1] is not thread  # that one serves nobody any more
        assert thread.is_alive()
        loop.call_soon_threadsafe(go.set)
        done.wait_blocking()
        assert seen == [42]
        thread.join(LONG)
        assert not thread.is_alive()


async def current_thread() -> threading.Thread:
    return threading.current_thread()


async def answer_there(run_here: RunHere) -> int:
    return await run_here(lambda: 42)


def nest(depth: int) -> list[threading.Thread]:
    """Return the thread of the portal, and those of so many below it, from a blocking call within a call."""

    async def descend(run_here: RunHere, depth: int = depth) -> list[threading.Thread]:
        below = drive(partial(descend, depth=depth - 1)) if depth else []
        return [threading.current_thread(), *below]

    return drive(descend)


class TestResults:
    """What functions return and raise."""

    def test_results_go_to_the_coroutine(self) -> None:
        """What a function returns, run_here returns; what the coroutine returns, drive returns."""
        value = object()

        async def main(run_here: RunHere) -> object:
            assert await run_here(lambda: value) is value
            return value

        assert drive(main) is value

    def test_errors_go_to_the_coroutine(self) -> None:
        """What a function raises is raised in the coroutine, which may handle it."""
        error = ValueError("x")

        def fail() -> NoReturn:
            raise error

        async def main(run_here: RunHere) -> BaseException:
            with pytest.raises(ValueError) as caught:
                await run_here(fail)
            return caught.value

        assert drive(main) is error

    def test_unhandled_errors_come_back(self) -> None:
        """What neither handles is raised by drive, the very same object."""
        error = ValueError("x")

        def fail() -> NoReturn:
            raise error

        with pytest.raises(ValueError) as caught:
            drive(lambda run_here: run_here(fail))
        assert caught.value is error

    def test_stop_iteration_is_a_runtime_error(self) -> None:
        """A StopIteration cannot pass through awaiting code, and arrives as the cause of a RuntimeError (A6)."""
        error = StopIteration(1)

        def fail() -> NoReturn:
            raise error

        with pytest.raises(RuntimeError) as caught:
            drive(lambda run_here: run_here(fail))
        assert caught.value.__cause__ is error

    def test_many_at_once_run_one_after_the_other(self) -> None:
        """Functions given at the same time run one at a time, in order."""
        order: list[int] = []

        async def main(run_here: RunHere) -> None:
            await asyncio.gather(*(run_here(lambda number=number: order.append(number)) for number in range(5)))  # type: ignore[misc]  # a default binds the number

        drive(main)
        assert order == [0, 1, 2, 3, 4]


class TestContext:
    """Which context variables a function sees."""

    def test_by_default_the_callers_own(self) -> None:
        """Without a context a function runs in the caller's own: it sees it and may change it."""

        def change() -> str:
            before = variable.get()
            variable.set("changed")
            return before

        token = variable.set("the caller's")
        try:
            assert drive(lambda run_here: run_here(change)) == "the caller's"
            assert variable.get() == "changed"
        finally:
            variable.reset(token)

    def test_a_given_context_is_copied(self) -> None:
        """With a context a function runs in a copy of it: its changes are seen nowhere."""

        def change() -> str:
            before = variable.get()
            variable.set("changed")
            return before

        async def main(run_here: RunHere) -> list[str]:
            variable.set("the coroutine's")
            context = contextvars.copy_context()
            return [await run_here(change, context), await run_here(change, context), variable.get()]

        assert drive(main) == ["the coroutine's"] * 3
        assert variable.get() == "unset"


class TestNesting:
    """A function that calls drive itself."""

    def test_to_a_great_depth_without_more_threads(self) -> None:
        """Calls nest 50 deep in one thread; nothing but the portal's thread is needed."""
        threads = 0

        def descend(depth: int) -> int:
            nonlocal threads
            threads = max(threads, threading.active_count())
            if depth == 0:
                return 0

            async def main(run_here: RunHere) -> int:
                await asyncio.sleep(0)
                return 1 + await run_here(lambda: descend(depth - 1))

            return drive(main)

        assert descend(1) == 1
        before = threading.active_count()
        assert descend(50) == 50
        assert threads == before

    def test_an_error_crosses_every_level(self) -> None:
        """An error at the bottom passes through all levels, the very same object."""
        error = ValueError("x")

        def descend(depth: int) -> NoReturn:
            if depth == 0:
                raise error
            drive(lambda run_here: run_here(lambda: descend(depth - 1)))
            raise AssertionError

        with pytest.raises(ValueError) as caught:
            descend(10)
        assert caught.value is error

    def test_threads_do_not_mix(self) -> None:
        """Each of many threads runs its own functions only (H6)."""
        failures: list[object] = []

        def work() -> None:
            async def main(run_here: RunHere) -> bool:
                threads = await asyncio.gather(*(run_here(threading.current_thread) for _ in range(3)))
                return set(threads) == {caller}

            caller = threading.current_thread()
            failures.extend(() for _ in range(20) if not drive(main))

        threads = [threading.Thread(target=work) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


class TestLeaving:
    """One side goes before the other is done."""

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
    def test_a_function_that_ends_the_call(self, error: BaseException) -> None:
        """An interruption in a function leaves drive at once; the coroutine is cancelled and has cleaned up (A5)."""
        seen: list[str] = []

        def leave() -> NoReturn:
            raise error

        async def main(run_here: RunHere) -> None:
            try:
                await run_here(leave)
            except (BridgeError, asyncio.CancelledError):
                await asyncio.sleep(0)
                seen.append("cleaned up")
                raise

        with pytest.raises(type(error)) as caught:
            drive(main)
        assert caught.value is error
        assert seen == ["cleaned up"]

    def test_others_that_wait_for_the_thread_are_told(self) -> None:
        """Tasks that await a function of a thread that has left get an error, whether it was waiting or is new (A5)."""
        told: list[BaseException | None] = []

        def leave() -> NoReturn:
            raise KeyboardInterrupt

        async def main(run_here: RunHere) -> None:
            async def ask() -> None:
                try:
                    await run_here(leave)
                finally:
                    late.append(run_here)

            tasks.extend(asyncio.ensure_future(ask()) for _ in range(3))
            await asyncio.wait(tasks)

        async def look() -> None:
            await asyncio.wait(tasks)
            told.extend(task.exception() for task in tasks)
            with pytest.raises(BridgeError):
                await late[0](leave)

        tasks: list[asyncio.Future[None]] = []
        late: list[RunHere] = []
        with pytest.raises(KeyboardInterrupt):
            drive(main)
        run_sync(look)
        assert [type(error) for error in told] == [BridgeError] * 3

    def test_a_coroutine_that_does_not_wait(self) -> None:
        """When the coroutine returns, drive does; what it left waiting for the thread gets an error."""
        left: list[asyncio.Future[None]] = []
        ran: list[bool] = []

        async def main(run_here: RunHere) -> int:
            # Started now, but its function comes into the queue after the outcome.
            asyncio.get_running_loop().call_soon(
                lambda: left.append(asyncio.ensure_future(run_here(lambda: ran.append(True))))
            )
            return 1

        async def look() -> None:
            await settle()
            assert isinstance(left[0].exception(), BridgeError)

        assert drive(main) == 1
        run_sync(look)
        assert ran == []

    def test_a_cancelled_wait_drops_the_result(self) -> None:
        """A function that runs while its awaiter is cancelled runs to its end, and the thread goes on serving."""
        running, cancelled, finished = Gate("running"), Gate("cancelled"), list[bool]()

        def slow() -> None:
            running.open()
            cancelled.wait_blocking()
            finished.append(True)

        async def main(run_here: RunHere) -> str:
            task = asyncio.ensure_future(run_here(slow))
            await running.wait()
            task.cancel()
            await asyncio.wait([task])
            cancelled.open()
            return await run_here(lambda: "served")

        assert drive(main) == "served"
        assert finished == [True]

    def test_a_function_whose_awaiter_has_gone_is_not_begun(self) -> None:
        """A function that was cancelled while it waited for the thread is skipped."""
        running, cancelled, begun = Gate("running"), Gate("cancelled"), list[bool]()

        def first() -> None:
            running.open()
            cancelled.wait_blocking()

        async def main(run_here: RunHere) -> None:
            before = asyncio.ensure_future(run_here(first))
            await running.wait()
            behind = asyncio.ensure_future(run_here(lambda: begun.append(True)))
            await settle()
            behind.cancel()
            await asyncio.wait([behind])
            cancelled.open()
            await before

        drive(main)
        assert begun == []

    def test_an_awaiter_on_a_closed_loop_is_no_problem(self) -> None:
        """A function whose awaiter's loop is closed meanwhile runs to its end, and its result goes nowhere."""
        handed, closed = list[RunHere](), Gate("closed")

        def elsewhere() -> None:
            loop = asyncio.new_event_loop()
            waiting = handed[0](closed.wait_blocking)

            async def step() -> None:
                waiting.send(None)

            loop.run_until_complete(step())
            loop.close()
            waiting.close()
            closed.open()

        async def main(run_here: RunHere) -> str:
            handed.append(run_here)
            await asyncio.to_thread(elsewhere)
            return await run_here(lambda: "served")

        assert drive(main) == "served"

    def test_a_function_that_forks_ends_the_call_in_the_child(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Back in a child, whose loop does not exist, drive raises instead of waiting for ever (X1)."""
        pid = os.getpid()
        monkeypatch.setattr(crossing, "os", type("os", (), {"getpid": staticmethod(lambda: pid)}))

        def fork() -> None:
            nonlocal pid
            pid += 1

        with pytest.raises(BridgeError, match="fork"):
            drive(lambda run_here: run_here(fork))
