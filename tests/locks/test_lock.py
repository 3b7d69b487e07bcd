"""The mutex: order, hand-over, cancellation, and any mixture of tasks, loops and threads."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from acache.exceptions import ConfigurationError, LockTimeoutError
from acache.locks import BLOCKING, NON_BLOCKING, Lock, LockStatistics
from acache.locks import mutex as mutex_module
from acache.testing import Gate, cancel_sweep, settle


async def hold(lock: Lock, order: list[str], name: str, leave: asyncio.Event | None = None) -> None:
    async with lock:
        order.append(name)
        if leave is not None:
            await leave.wait()


class ClosingLoop:
    """A loop that is closed by another thread just as something is handed to it."""

    while_closing: Callable[[], None] = staticmethod(lambda: None)

    def create_future(self) -> asyncio.Future[None]:
        return asyncio.Future(loop=self)  # type: ignore[arg-type]  # as much of a loop as a future needs

    def get_debug(self) -> bool:
        return False

    def call_soon(self, *_: object, **__: object) -> None:
        pass

    def call_later(self, *_: object) -> asyncio.Handle:
        return asyncio.Handle(lambda: None, (), self)  # type: ignore[arg-type]  # as above

    def call_soon_threadsafe(self, *_: object) -> None:
        self.while_closing()
        raise RuntimeError


class TestState:
    """What a lock says of itself."""

    async def test_a_new_lock_is_free(self) -> None:
        """A lock begins free, and says so in every way it can."""
        lock = Lock()
        assert not lock.locked()
        assert lock.statistics() == LockStatistics(locked=False, tasks_waiting=0)
        assert "free" in repr(lock)

    async def test_acquire_nowait_takes_it_once(self) -> None:
        """Trying succeeds on a free lock only."""
        lock = Lock()
        assert lock.acquire_nowait()
        assert not lock.acquire_nowait()
        assert lock.locked()

    async def test_statistics_count_the_waiters(self) -> None:
        """Those who wait are counted and shown."""
        lock = Lock()
        await lock.acquire()
        waiter = asyncio.create_task(lock.acquire())
        await settle()
        assert lock.statistics() == LockStatistics(locked=True, tasks_waiting=1)
        assert "locked, 1 waiting" in repr(lock)
        lock.release()
        await waiter

    def test_releasing_a_free_lock_is_an_error(self) -> None:
        """Nobody can release what nobody holds, and the attempt changes nothing."""
        lock = Lock()
        with pytest.raises(RuntimeError):
            lock.release()
        assert lock.acquire_nowait()
        assert not lock.acquire_nowait()

    async def test_the_block_releases_on_an_error(self) -> None:
        """Leaving the block by an exception releases the lock."""
        lock = Lock()
        with suppress(KeyError):
            async with lock:
                raise KeyError
        assert not lock.locked()

    async def test_another_task_may_release(self) -> None:
        """Ownership belongs to no task: who has been given the lock may release it."""
        lock = Lock()
        await asyncio.create_task(lock.acquire())
        lock.release()
        assert not lock.locked()


class TestOrder:
    """Who comes next."""

    async def test_waiters_are_served_in_order(self) -> None:
        """First come, first served."""
        lock, order = Lock(), list[str]()
        await lock.acquire()
        tasks = [asyncio.create_task(hold(lock, order, str(number))) for number in range(5)]
        await settle()
        lock.release()
        await asyncio.gather(*tasks)
        assert order == ["0", "1", "2", "3", "4"]

    async def test_a_release_hands_over_directly(self) -> None:
        """Nobody can slip in between a release and the waiter it wakes."""
        lock = Lock()
        await lock.acquire()
        waiter = asyncio.create_task(lock.acquire())
        await settle()
        lock.release()
        assert not lock.acquire_nowait()
        await waiter
        assert lock.locked()


class TestCancellation:
    """Giving up leaves nothing taken."""

    async def test_a_cancelled_waiter_leaves_the_queue(self) -> None:
        """A waiter that gives up is no longer counted, and the next one is served."""
        lock, order = Lock(), list[str]()
        await lock.acquire()
        first = asyncio.create_task(hold(lock, order, "first"))
        second = asyncio.create_task(hold(lock, order, "second"))
        await settle()
        first.cancel()
        await asyncio.wait([first])
        assert lock.statistics().tasks_waiting == 1
        lock.release()
        await second
        assert order == ["second"]

    async def test_a_cancelled_owner_to_be_passes_the_lock_on(self) -> None:
        """A waiter that is cancelled after the lock was handed to it hands it to the next."""
        lock, order = Lock(), list[str]()
        await lock.acquire()
        first = asyncio.create_task(hold(lock, order, "first"))
        second = asyncio.create_task(hold(lock, order, "second"))
        await settle()
        lock.release()
        first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert order == ["second"]
        assert not lock.locked()

    @pytest.mark.parametrize("times", [1, 2])
    async def test_sweep_of_a_waiter(self, times: int) -> None:
        """Cancelled at any moment, once or twice, a waiter keeps nothing and blocks nobody (H7)."""

        async def contend() -> None:
            await asyncio.sleep(0)
            async with lock:
                await asyncio.sleep(0)

        async def come_later(leave: asyncio.Event) -> None:
            await settle(3)
            leave.set()
            await hold(lock, served, "later")

        def start() -> Coroutine[Any, Any, None]:
            leave = asyncio.Event()
            others[:] = [asyncio.ensure_future(hold(lock, [], "", leave)), asyncio.ensure_future(come_later(leave))]
            return contend()

        lock, served, others = Lock(), list[str](), list[asyncio.Future[None]]()
        runs = 0
        async for step in cancel_sweep(start, times=times):
            await asyncio.gather(*others)
            runs += 1
            assert len(served) == runs
            assert step.was_cancelled == step.cancel_requested
            assert lock.statistics() == LockStatistics(locked=False, tasks_waiting=0)
        assert runs > 4

    async def test_closing_the_coroutine_leaves_the_queue(self) -> None:
        """A waiter whose coroutine is thrown away, with its loop or by the collector, keeps nothing."""
        lock = Lock()
        await lock.acquire()
        waiting: Coroutine[Any, Any, None] = lock.acquire()
        waiting.send(None)
        assert lock.statistics().tasks_waiting == 1
        waiting.close()
        assert lock.statistics().tasks_waiting == 0


class TestManyLoops:
    """Event loops that share a lock, end, or die."""

    def test_a_waiter_of_a_closed_loop_is_passed_over(self) -> None:
        """A loop that was closed with a waiter in it does not keep the lock from the others (A10)."""
        lock = Lock()
        lock.acquire_sync()
        loop = asyncio.new_event_loop()
        dead: Coroutine[Any, Any, None] = lock.acquire()

        async def start() -> None:
            dead.send(None)

        loop.run_until_complete(start())
        loop.close()
        assert lock.statistics().tasks_waiting == 1
        lock.release()
        assert not lock.locked()
        dead.close()  # must not release what it was not given
        assert lock.acquire_nowait()
        assert not lock.acquire_nowait()

    def test_a_loop_that_stops_after_the_hand_over_gives_the_lock_back(self) -> None:
        """A lock that was handed to a task which never ran again is free once that task is gone (A10)."""
        lock = Lock()
        lock.acquire_sync()
        loop = asyncio.new_event_loop()
        dead: Coroutine[Any, Any, None] = lock.acquire()

        async def start() -> None:
            dead.send(None)

        loop.run_until_complete(start())
        lock.release()
        assert lock.locked()
        loop.close()
        dead.close()
        assert not lock.locked()

    @pytest.mark.parametrize("waiter_is_faster", [True, False])
    def test_a_loop_that_closes_in_the_moment_of_the_hand_over_is_passed_over(self, waiter_is_faster: bool) -> None:
        """The hand-over to a loop that has just been closed is taken back, or taken over, never both."""
        lock, loop = Lock(), ClosingLoop()
        lock.acquire_sync()
        waiting: Coroutine[Any, Any, None] = lock.acquire()
        if waiter_is_faster:
            loop.while_closing = waiting.close
        asyncio._set_running_loop(loop)  # type: ignore[arg-type]  # as much of a loop as a waiter needs
        try:
            waiting.send(None)
        finally:
            asyncio._set_running_loop(None)
        lock.release()
        waiting.close()
        assert lock.acquire_nowait()
        assert not lock.acquire_nowait()

    def test_two_loops_share_it(self) -> None:
        """A lock made outside any loop excludes the tasks of two loops from each other (A11)."""
        lock = Lock()
        inside, entered = Gate("inside"), list[str]()

        async def first() -> None:
            async with lock:
                inside.open()
                while not lock.statistics().tasks_waiting:
                    await asyncio.sleep(0)
                entered.append("first")

        async def second() -> None:
            await inside.wait()
            async with lock:
                entered.append("second")

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for main in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert entered == ["first", "second"]
        assert not lock.locked()


class TestThreads:
    """Plain threads among the tasks."""

    def test_a_free_lock_is_taken_at_once(self) -> None:
        """A plain thread takes a free lock without waiting."""
        lock = Lock()
        lock.acquire_sync(NON_BLOCKING)
        assert lock.locked()

    @pytest.mark.parametrize("timeout", [NON_BLOCKING, 0.01])
    def test_a_thread_gives_up_in_time(self, timeout: float) -> None:
        """A thread whose time is over gets the error, with its seconds, and leaves the queue."""
        lock = Lock()
        lock.acquire_sync()
        with pytest.raises(LockTimeoutError) as caught:
            lock.acquire_sync(timeout)
        assert caught.value.timeout == timeout
        assert lock.statistics().tasks_waiting == 0

    def test_the_timeout_is_checked_first(self) -> None:
        """A timeout that is no number of seconds is refused even if the lock is free."""
        with pytest.raises(ConfigurationError):
            Lock().acquire_sync(-2)

    async def test_a_thread_waits_for_a_task(self) -> None:
        """A thread waits for the lock that a task holds, without the loop waiting for the thread."""
        lock, got = Lock(), Gate("got")

        def wait() -> None:
            lock.acquire_sync(BLOCKING)
            got.open()

        thread = threading.Thread(target=wait)
        async with lock:
            thread.start()
            while not lock.statistics().tasks_waiting:
                await asyncio.sleep(0)
            assert not got.is_open
        await got.wait()
        assert lock.locked()
        thread.join()

    def test_a_hand_over_in_the_last_moment_counts(self) -> None:
        """A thread that was handed the lock just as its time ended has it."""
        lock = Lock()
        lock.acquire_sync()
        wait = mutex_module._ThreadWaiter.wait

        def wait_too_long(waiter: mutex_module._ThreadWaiter, seconds: float) -> bool:
            lock.release()
            wait(waiter, 0)
            return False

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mutex_module._ThreadWaiter, "wait", wait_too_long)
            lock.acquire_sync(NON_BLOCKING)
        assert lock.locked()
        assert lock.statistics().tasks_waiting == 0

    def test_an_interrupted_thread_leaves_the_queue(self) -> None:
        """Ctrl-C in a waiting thread leaves nothing behind."""
        lock, main = Lock(), threading.main_thread()
        lock.acquire_sync()

        def interrupt() -> None:
            while sys._current_frames()[main.ident or 0].f_code is not mutex_module._ThreadWaiter.wait.__code__:
                time.sleep(0)
            time.sleep(0.02)  # from the line that waits to the wait itself, where alone a signal wakes it
            signal.pthread_kill(main.ident or 0, signal.SIGINT)

        helper = threading.Thread(target=interrupt)
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            lock.acquire_sync(30)
        helper.join()
        assert lock.statistics() == LockStatistics(locked=True, tasks_waiting=0)

    def test_any_mixture_excludes_each_other(self) -> None:
        """Tasks of three loops and two plain threads, some of them cancelled, never overlap and lose nothing (H6)."""
        lock, inside, overlaps, rounds = Lock(), list[int](), list[int](), 60

        def visit(number: int) -> None:
            inside.append(number)
            overlaps.extend(inside[1:])
            inside.pop()

        async def task(number: int) -> None:
            for turn in range(rounds):
                attempt = asyncio.ensure_future(lock.acquire())
                await asyncio.sleep(0)
                if turn % 3 == 0:
                    attempt.cancel()
                with suppress(asyncio.CancelledError):
                    await attempt
                    visit(number)
                    lock.release()

        async def tasks(number: int) -> None:
            await asyncio.gather(*(task(number) for _ in range(4)))

        def plain(number: int) -> None:
            for turn in range(rounds):
                with suppress(LockTimeoutError):
                    lock.acquire_sync(BLOCKING if turn % 3 else NON_BLOCKING)
                    visit(number)
                    lock.release()

        threads = [threading.Thread(target=asyncio.run, args=(tasks(number),)) for number in range(3)]
        threads += [threading.Thread(target=plain, args=(number,)) for number in (3, 4)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert overlaps == []
        assert lock.statistics() == LockStatistics(locked=False, tasks_waiting=0)


class TestRaces:
    """What another thread may do between two steps, done there on purpose."""

    async def test_a_release_just_before_the_waiter_joins_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lock that is released after the first look and before the waiter is in the queue is not missed."""
        lock, waiter = Lock(), mutex_module._TaskWaiter

        def release_first() -> mutex_module._TaskWaiter:
            lock.release()
            return waiter()

        await lock.acquire()
        monkeypatch.setattr(mutex_module, "_TaskWaiter", release_first)
        await lock.acquire()
        assert lock.statistics() == LockStatistics(locked=True, tasks_waiting=0)

    async def test_a_waiter_that_joins_just_before_the_lock_is_free_is_seen(self) -> None:
        """A waiter that joins after the releaser's last look at the queue is not left waiting for a free lock."""
        lock = Lock()
        await lock.acquire()
        late: Coroutine[Any, Any, None] = lock.acquire()
        coming = [late]

        class Tokens(list[None]):
            def append(self, token: None) -> None:
                while coming:
                    coming.pop().send(None)
                super().append(token)

        lock._tokens = Tokens()
        lock.release()
        assert lock.statistics() == LockStatistics(locked=True, tasks_waiting=0)
        with pytest.raises(StopIteration):
            late.send(None)
        lock.release()

    def test_a_thread_interrupted_after_the_hand_over_passes_the_lock_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An interruption that comes just after the lock was handed over hands it to the next, or frees it."""

        def interrupted(waiter: mutex_module._ThreadWaiter, seconds: float | None) -> None:
            lock.release()
            raise KeyboardInterrupt

        lock = Lock()
        lock.acquire_sync()
        monkeypatch.setattr(mutex_module._ThreadWaiter, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire_sync()
        assert lock.statistics() == LockStatistics(locked=False, tasks_waiting=0)


class TestReentrance:
    """Anything may happen between any two steps."""

    async def test_code_that_runs_between_any_two_lines_may_use_the_lock(self) -> None:
        """A finalizer or signal handler that uses the lock in the middle of its own work neither hangs nor breaks it."""
        lock, visits = Lock(), 0

        def intrude(frame: FrameType, event: str, _: object) -> Any:
            nonlocal visits
            if frame.f_code.co_filename != mutex_module.__file__:
                return None
            if event == "line":
                visits += 1
                sys.settrace(None)
                if lock.acquire_nowait():
                    lock.release()
                sys.settrace(intrude)
            return intrude

        previous = sys.gettrace()
        sys.settrace(intrude)
        try:
            for _ in range(3):
                await lock.acquire()
                waiters = [asyncio.ensure_future(lock.acquire()) for _ in range(3)]
                await asyncio.sleep(0)
                waiters[1].cancel()
                lock.release()
                for waiter in (waiters[0], waiters[2]):
                    await waiter
                    lock.release()
        finally:
            sys.settrace(previous)
        assert visits > 50
        assert lock.statistics() == LockStatistics(locked=False, tasks_waiting=0)


async def test_a_release_at_the_end_of_the_stack_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter that its releaser could not wake, for want of stack, sees at its next look that it has the lock."""
    monkeypatch.setattr(mutex_module, "ORPHAN_CHECK", 0.005)
    lock = Lock()
    await lock.acquire()
    waiting = asyncio.create_task(lock.acquire())
    await settle()
    assert lock.statistics().tasks_waiting == 1

    def fail(*_: object) -> None:
        raise RecursionError

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", fail)
        releasing = threading.Thread(target=lock.release)
        releasing.start()
        releasing.join()
    async with asyncio.timeout(30):
        await waiting
    assert lock.locked()
    assert lock.statistics().tasks_waiting == 0
    lock.release()
    assert not lock.locked()
