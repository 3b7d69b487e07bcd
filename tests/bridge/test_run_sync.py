"""Plain callers: results and errors, context, time limits, interruption, and where the work is done."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import anyio
import anyio.to_thread
import pytest

from acache.bridge import crossing as crossing_module
from acache.bridge import in_event_loop, run_sync
from acache.bridge import portal as portal_module
from acache.exceptions import BridgeError, BridgeTimeoutError, ConfigurationError
from acache.testing import Gate, settle

LONG = 30.0

variable: ContextVar[str] = ContextVar("variable", default="unset")


async def echo(*values: object) -> tuple[object, ...]:
    await asyncio.sleep(0)
    return values


async def current_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def current_thread() -> threading.Thread:
    return threading.current_thread()


def in_threads(count: int, target: Callable[[int], object]) -> None:
    threads = [threading.Thread(target=target, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def interrupted(begun: threading.Event) -> Generator[None]:
    """Send this thread, which is the main one, a SIGINT when it waits for a call that has begun."""
    main = threading.get_ident()

    def interrupt() -> None:
        begun.wait()
        while sys._current_frames()[main].f_code is not crossing_module._Crossing[Any]._serve.__code__:
            time.sleep(0)
        time.sleep(0.02)  # from the line that waits to the wait itself, where alone a signal wakes it
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        thread.join()


class TestResults:
    """What goes in and what comes out."""

    def test_arguments_and_result(self) -> None:
        """Arguments go there and the result comes back, unchanged."""
        value = object()
        assert run_sync(echo, value, 1) == (value, 1)

    def test_any_awaitable_will_do(self) -> None:
        """The function may return any awaitable, not only a coroutine."""

        def later() -> asyncio.Future[int]:
            future = asyncio.get_running_loop().create_future()
            future.set_result(5)
            return future

        assert run_sync(later) == 5

    @pytest.mark.parametrize(
        "error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), asyncio.CancelledError("x")]
    )
    def test_errors_pass_unchanged(self, error: BaseException) -> None:
        """What the coroutine raises is raised here, the very same object, and the loop survives it."""

        async def fail() -> NoReturn:
            raise error

        with pytest.raises(type(error)) as caught:
            run_sync(fail)
        assert caught.value is error
        assert run_sync(echo, 1) == (1,)

    def test_the_traceback_leads_to_the_cause(self) -> None:
        """The traceback of an error reaches the line in the coroutine that raised it."""

        async def fail() -> NoReturn:
            raise ValueError

        with pytest.raises(ValueError) as caught:
            run_sync(fail)
        assert caught.traceback[-1].name == "fail"

    def test_nothing_is_kept_alive(self) -> None:
        """When the call is over, neither its result nor its error is held by anything, not even by a cycle."""

        class Value(Exception):  # noqa: N818 - a result in one call and an error in the other
            pass

        async def make() -> Value:
            return Value()

        async def fail() -> NoReturn:
            raise Value

        references: list[weakref.ref[Value]] = []
        gc.disable()
        try:
            references.append(weakref.ref(run_sync(make)))
            try:
                run_sync(fail)
            except Value as error:
                references.append(weakref.ref(error))
            run_sync(echo)  # the loop has done with what came before
            assert [reference() for reference in references] == [None, None]
        finally:
            gc.enable()

    def test_context_variables_of_the_caller_are_seen(self) -> None:
        """The coroutine runs in a copy of the caller's context: it sees the values, and its own stay there."""

        async def exchange() -> str:
            before = variable.get()
            variable.set("changed")
            return before

        token = variable.set("the caller's")
        try:
            assert run_sync(exchange) == "the caller's"
            assert variable.get() == "the caller's"
        finally:
            variable.reset(token)


class TestWhere:
    """Which loop does the work."""

    def test_plain_threads_share_one_loop(self) -> None:
        """All plain threads of the process use one loop in one thread, also when 100 begin at once (H6)."""
        seen: list[tuple[asyncio.AbstractEventLoop, threading.Thread]] = []
        barrier = threading.Barrier(100)

        def call(number: int) -> None:
            barrier.wait()
            assert run_sync(echo, number) == (number,)
            seen.append((run_sync(current_loop), run_sync(current_thread)))

        in_threads(100, call)
        assert len(seen) == 100
        assert len(set(seen)) == 1
        thread = seen[0][1]
        assert thread.daemon
        assert thread is not threading.current_thread()

    async def test_a_worker_thread_uses_the_loop_that_started_it(self) -> None:
        """In a worker thread of anyio the call goes to the application's own loop."""
        loop = asyncio.get_running_loop()
        assert await anyio.to_thread.run_sync(run_sync, current_loop) is loop

    async def test_a_worker_of_the_standard_library_uses_the_portal(self) -> None:
        """A thread that does not know which loop started it is a plain thread."""
        assert await asyncio.to_thread(run_sync, current_loop) is not asyncio.get_running_loop()

    async def test_context_and_errors_in_a_worker_thread(self) -> None:
        """In a worker thread everything is as in a plain one: context, errors and time limits."""

        async def fail() -> NoReturn:
            raise ValueError(variable.get())

        def work() -> None:
            variable.set("the worker's")
            with pytest.raises(ValueError, match="the worker's"):
                run_sync(fail)
            with pytest.raises(BridgeTimeoutError):
                run_sync(anyio.sleep_forever, timeout=0.01)

        await anyio.to_thread.run_sync(work)

    def test_a_worker_that_outlives_its_loop_uses_the_portal(self) -> None:
        """A worker thread whose loop was closed meanwhile is served by the portal."""
        loops: list[asyncio.AbstractEventLoop] = []
        started, closed, done = Gate("started"), Gate("closed"), Gate("done")

        def work() -> None:
            started.open()
            closed.wait_blocking()
            loops.append(run_sync(current_loop))
            done.open()

        async def abandon() -> None:
            task = asyncio.ensure_future(anyio.to_thread.run_sync(work, abandon_on_cancel=True))
            await started.wait()
            task.cancel()
            await asyncio.wait([task])
            loops.append(asyncio.get_running_loop())

        asyncio.run(abandon())
        closed.open()
        done.wait_blocking()
        assert loops[0] is not loops[1]

    def test_worker_threads_of_the_portal_come_back_to_it(self) -> None:
        """Async code on the portal may use worker threads, which may make sync calls again, to any depth."""

        async def descend(depth: int) -> int:
            if depth == 0:
                return 0
            return 1 + await anyio.to_thread.run_sync(run_sync, descend, depth - 1)

        assert run_sync(descend, 5) == 5

    def test_idle_worker_threads_are_used_again(self) -> None:
        """The portal's worker threads belong to it and not to the call that needed the first one."""

        async def worker() -> threading.Thread:
            return await anyio.to_thread.run_sync(threading.current_thread)

        assert len({run_sync(worker) for _ in range(3)}) == 1


class TestInALoop:
    """Where a sync call would block the loop that it needs."""

    async def test_a_call_from_a_coroutine_is_refused(self) -> None:
        """In the thread of a running loop the call fails at once, and no coroutine is made (A12)."""
        with pytest.raises(BridgeError):
            run_sync(echo)

    def test_a_call_from_the_portal_itself_is_refused(self) -> None:
        """Code on the portal that calls back synchronously fails at once instead of waiting for itself (A12)."""

        async def nested() -> object:
            return run_sync(echo)

        with pytest.raises(BridgeError):
            run_sync(nested)

    async def test_in_event_loop(self) -> None:
        """The thread of a running loop is told from others."""
        assert in_event_loop()
        assert not await asyncio.to_thread(in_event_loop)


class TestTimeout:
    """Calls that take too long."""

    def test_in_time(self) -> None:
        """A call that ends in time is not affected."""
        assert run_sync(echo, 1, timeout="30s") == (1,)

    def test_too_late(self, begun: threading.Event) -> None:
        """A call that takes too long is cancelled, has cleaned up when the error comes, and the error says the seconds."""
        cleaned: list[bool] = []

        async def wait() -> None:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

        with pytest.raises(BridgeTimeoutError, match=r"0\.01 seconds") as caught:
            run_sync(wait, timeout=0.01)
        assert cleaned == [True]
        assert caught.value.timeout == 0.01
        assert caught.value.__cause__ is None
        assert isinstance(caught.value, TimeoutError)

    def test_an_error_of_the_cleaning_up_is_its_cause(self, begun: threading.Event) -> None:
        """What goes wrong in cleaning up is not lost."""

        async def wait() -> None:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                raise ValueError

        with pytest.raises(BridgeTimeoutError) as caught:
            run_sync(wait, timeout=0.01)
        assert isinstance(caught.value.__cause__, ValueError)

    def test_at_once(self) -> None:
        """No time at all is a timeout too, whether or not the call had begun."""
        for _ in range(20):
            with pytest.raises(BridgeTimeoutError):
                run_sync(anyio.sleep_forever, timeout=0)

    def test_one_that_does_not_let_itself_be_cancelled_is_left_alone(
        self, monkeypatch: pytest.MonkeyPatch, begun: threading.Event
    ) -> None:
        """The caller waits for the cleaning up, but not for ever."""
        monkeypatch.setattr(crossing_module, "GRACE", 0.01)
        release, ended = asyncio.Event(), Gate("ended")
        loop: list[asyncio.AbstractEventLoop] = []

        async def stubborn() -> None:
            loop.append(asyncio.get_running_loop())
            begun.set()
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            ended.open()

        with pytest.raises(BridgeTimeoutError):
            run_sync(stubborn, timeout=0.01)
        loop[0].call_soon_threadsafe(release.set)
        ended.wait_blocking()

    @pytest.mark.parametrize("timeout", [-1, float("nan"), True, "soon"])
    def test_what_is_no_timeout_is_refused(self, timeout: Any) -> None:
        """A negative or unreadable duration is a configuration error, and nothing is called."""
        with pytest.raises(ConfigurationError, match="timeout"):
            run_sync(echo, timeout=timeout)


class TestNoPortal:
    """When there is no loop to be had."""

    def test_no_more_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If no thread can be started, the call is refused with the cause, and the next one may succeed."""

        def fail(_: threading.Thread) -> NoReturn:
            raise RuntimeError("no more threads")

        with monkeypatch.context() as patch:
            patch.setattr(portal_module, "_portals", {})
            patch.setattr(threading.Thread, "start", fail)
            with pytest.raises(BridgeError) as caught:
                run_sync(echo)
            assert isinstance(caught.value.__cause__, RuntimeError)
        assert run_sync(echo, 1) == (1,)

    def test_after_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Once the portal has been stopped for good, no new one is started."""
        monkeypatch.setattr(portal_module, "_portals", {})
        monkeypatch.setattr(portal_module, "_exiting", True)
        before = threading.active_count()
        with pytest.raises(BridgeError):
            run_sync(echo)
        assert threading.active_count() == before


class TestInterruption:
    """Callers and loops that go away."""

    def test_ctrl_c_cancels_the_call(self) -> None:
        """A KeyboardInterrupt in the waiting thread cancels the coroutine, which cleans up first."""
        cleaned: list[bool] = []
        begun = threading.Event()

        async def wait() -> None:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)

        with pytest.raises(KeyboardInterrupt), interrupted(begun):
            run_sync(wait)
        assert cleaned == [True]

    def test_ctrl_c_before_the_call_has_begun(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A KeyboardInterrupt that comes first leaves nothing that begins later."""
        begun: list[bool] = []

        async def begin() -> None:
            begun.append(True)

        def interrupted_there(function: Callable[[], object]) -> NoReturn:
            late.append(function)
            raise KeyboardInterrupt

        late: list[Callable[[], object]] = []
        with monkeypatch.context() as patch:
            patch.setattr(crossing_module, "run_soon", interrupted_there)
            with pytest.raises(KeyboardInterrupt):
                run_sync(begin)

        async def start() -> None:
            late[0]()
            await settle()

        run_sync(start)
        assert begun == []

    def test_a_call_whose_task_is_cancelled_ends(self) -> None:
        """If somebody cancels all tasks of the loop, a waiting caller gets an error instead of waiting for ever."""

        async def cancel_itself() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        with pytest.raises(BridgeError, match="cancelled"):
            run_sync(cancel_itself)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
    def test_a_background_task_cannot_end_the_portal(self, error: BaseException) -> None:
        """Even what ends an event loop, raised by somebody's background task, leaves other callers alone."""

        async def fail() -> NoReturn:
            raise error

        async def start_one() -> asyncio.AbstractEventLoop:
            task = asyncio.ensure_future(fail())
            await asyncio.wait([task])
            assert task.exception() is error
            return asyncio.get_running_loop()

        assert run_sync(start_one) is run_sync(current_loop)

    def test_nobody_can_stop_the_portal(self) -> None:
        """A loop that is told to stop by a call goes on."""

        async def stop() -> asyncio.AbstractEventLoop:
            loop = asyncio.get_running_loop()
            loop.stop()
            await asyncio.sleep(0)
            return loop

        assert run_sync(stop) is run_sync(current_loop)
