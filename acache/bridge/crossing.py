"""One call from a thread to an event loop and back.

The calling thread waits at a queue, its *inbox*. The task on the loop puts jobs into it, which the thread runs, and
at its end the outcome, with which the thread leaves. Nothing else is shared, and no lock is held while anything runs.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar, TypeVarTuple, cast, final

from acache.bridge.portal import GRACE, in_event_loop, is_exiting, run_soon
from acache.bridge.working import Loan, Outcome, outcome_of
from acache.clock import SYSTEM_CLOCK, Duration, as_seconds
from acache.exceptions import BridgeError, BridgeTimeoutError, ConfigurationError
from acache.loops import call_soon

__all__ = ("RunHere", "add_hold_up", "drive", "is_held_up", "run_sync")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
@dataclass(slots=True)
class _Blocked:
    """The loop that a sync call blocks, until it does no longer: context variables outlive it, in tasks started meanwhile."""

    loop: asyncio.AbstractEventLoop | None


_blocked: ContextVar[tuple[_Blocked, ...]] = ContextVar("acache_blocked_loops", default=())


class RunHere(Protocol):
    """What :func:`drive` gives to its coroutine: a way to run a function in the thread that waits in ``drive``."""

    async def __call__(self, function: Callable[[], T], context: Context | None = None) -> T:
        """Return what ``function`` returns, or raise what it raises; ``StopIteration`` becomes ``RuntimeError``.

        It runs in a copy of ``context``; without one, in the waiting thread's own. When the caller is cancelled meanwhile,
        the function runs to its end and its result is dropped. Raises :class:`~acache.exceptions.BridgeError` if the
        thread has stopped waiting.
        """
        ...


def run_sync(async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, timeout: Duration | None = None) -> T:
    """Call ``async_fn(*args)`` from a plain thread and wait for its result.

    It sees the context variables of the caller. What it raises passes through unchanged. After ``timeout`` seconds it
    is cancelled, and :class:`~acache.exceptions.BridgeTimeoutError` is raised when it has cleaned up, or five seconds
    later. An exception that hits the waiting thread, such as ``KeyboardInterrupt``, cancels it too. In a thread that is
    running an event loop, nothing is called and :class:`~acache.exceptions.BridgeError` is raised: await there.
    :class:`~acache.exceptions.ConfigurationError` is raised for what cannot be called, or returns nothing to wait for.
    """
    if in_event_loop():
        raise BridgeError("this thread is running an event loop, which a sync call would block; await the async form")
    if not callable(given := cast("object", async_fn)):
        kind = type(given).__name__
        raise ConfigurationError(
            "run_sync", f"expected an async function, then its arguments, not an object of type {kind}"
        )
    crossing: _Crossing[T] = _Crossing()
    return crossing.carry(lambda: _awaitable(async_fn(*args)), as_seconds(timeout, "timeout"))


def _awaitable(result: Awaitable[T]) -> Awaitable[T]:
    if not isawaitable(result):
        raise ConfigurationError(
            "run_sync", "expected an async function; this one returned nothing to await: call it directly"
        )
    return result


def drive(main: Callable[[RunHere], Awaitable[T]]) -> T:
    """Wait for ``main(run_here)`` and run, in this thread, what it gives to ``run_here``.

    As :func:`run_sync`, but allowed in a thread that is running an event loop, which is blocked meanwhile: ``main`` then
    runs on the portal. An ``Exception`` of a function given to ``run_here`` is raised there. Any other, such as
    ``KeyboardInterrupt``, is raised here; ``main`` is cancelled, and whoever awaits ``run_here`` gets
    :class:`~acache.exceptions.BridgeError`. Calls nest; each serves its own ``main`` only.
    """
    crossing: _Crossing[T] = _Crossing()
    blocked = _Blocked(asyncio._get_running_loop())  # noqa: SLF001 - in asyncio's __all__; the public twin raises
    before = _blocked.set((*_blocked.get(), blocked))
    try:
        return crossing.carry(lambda: main(crossing.run_here), None)
    finally:
        blocked.loop = None
        _blocked.reset(before)


#: Tell of other reasons for which a loop stands still until the running code is done.
_reasons: Final[list[Callable[[asyncio.AbstractEventLoop], bool]]] = []


def add_hold_up(reason: Callable[[asyncio.AbstractEventLoop], bool]) -> None:
    """Let :func:`is_held_up` ask ``reason`` too, from now on."""
    _reasons.append(reason)


def is_held_up(loop: asyncio.AbstractEventLoop | None) -> bool:
    """Tell whether ``loop`` stands still until the running code is done: a sync call in its thread waits for it."""
    if loop is None:
        return False
    return any(each.loop is loop for each in _blocked.get()) or any(reason(loop) for reason in _reasons)


@final
class _Job(Generic[T]):
    """A function on its way to the waiting thread, and the task that waits for it."""

    __slots__ = ("_context", "_function", "_loop", "finished")

    def __init__(self, function: Callable[[], T], context: Context | None) -> None:
        self._function = function
        self._context = context
        self._loop = asyncio.get_running_loop()
        # It holds outcomes: asyncio would log an exception in it that a cancelled task never looked at.
        self.finished: asyncio.Future[Outcome[T]] = self._loop.create_future()

    def run(self) -> None:
        if self.finished.cancelled():
            return
        context = self._context
        outcome = outcome_of(self._function if context is None else partial(context.copy().run, self._function))
        error = outcome.error
        if error is not None and not isinstance(error, Exception):
            raise error  # it is for this thread
        self._finish(outcome)

    def refuse(self) -> None:
        self._finish(Outcome(error=BridgeError("the thread that was to run the function has stopped waiting")))

    def _finish(self, outcome: Outcome[T]) -> None:
        call_soon(self._loop, _set_unless_done, self.finished, outcome)


def _set_unless_done(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


@final
class _Crossing(Generic[T]):
    """One call: a task on a loop and the thread that waits for it."""

    __slots__ = ("_closed", "_inbox", "_left", "_loan", "_loop", "_process", "_task")

    def __init__(self) -> None:
        self._inbox: SimpleQueue[_Job[Any] | Outcome[T]] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Outcome[T]] | None = None
        self._process = os.getpid()
        self._loan = Loan()
        self._left = False
        self._closed = False

    # --- in the waiting thread ------------------------------------------------------------------------------------

    def carry(self, main: Callable[[], Awaitable[T]], timeout: float | None) -> T:
        """Run ``main`` on the loop that fits this thread, and return or raise its outcome."""
        try:
            run_soon(partial(self._start, main, copy_context()))
            outcome = self._serve(timeout)
        except Empty:
            raise BridgeTimeoutError(timeout or 0.0) from self._abandon()
        except BaseException:
            self._abandon()
            raise
        finally:
            self._closed = True
            self._refuse_jobs()
        return outcome.unwrap()

    def _serve(self, timeout: float | None) -> Outcome[T]:
        """Run jobs until the outcome comes; raise ``Empty`` when it takes too long."""
        deadline = None if timeout is None else SYSTEM_CLOCK.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - SYSTEM_CLOCK.monotonic())
            item = self._inbox.get(timeout=None if left is None else min(left, threading.TIMEOUT_MAX))
            if isinstance(item, Outcome):
                return item
            try:
                item.run()
            except BaseException:
                self._inbox.put(item)  # to be refused with the others, once main is cancelled
                raise
            if os.getpid() != self._process:
                raise BridgeError("the function has forked: in the child there is no loop to go back to")

    def _abandon(self) -> BaseException | None:
        """Cancel the task and wait for its end, within the grace period; return what it failed with, if it did."""
        self._left = True  # before the look at the loop: either this cancels the task, or it is cancelled as it starts
        if self._loop is None or os.getpid() != self._process:
            return None
        deadline = SYSTEM_CLOCK.monotonic() + GRACE
        if not call_soon(self._loop, self._cancel):
            return None
        with suppress(Empty):  # it takes too long
            while True:
                item = self._inbox.get(timeout=max(0.0, deadline - SYSTEM_CLOCK.monotonic()))
                if isinstance(item, Outcome):
                    return None if self._task is None or self._task.cancelled() else item.error
                item.refuse()
        return None

    def _refuse_jobs(self) -> None:
        with suppress(Empty):
            while True:
                item = self._inbox.get_nowait()
                if isinstance(item, _Job):
                    item.refuse()

    # --- on the loop ----------------------------------------------------------------------------------------------

    async def run_here(self, function: Callable[[], Any], context: Context | None = None) -> Any:
        job = _Job(function, context)
        self._loan.take_back()
        self._inbox.put(job)
        if self._closed:
            self._refuse_jobs()
        try:
            return (await job.finished).unwrap()
        finally:
            self._loan.give()

    def _start(self, main: Callable[[], Awaitable[T]], context: Context) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(main), context=context)
        # A callback: the coroutine of a task that is cancelled before its first step never runs.
        self._task.add_done_callback(self._deliver)
        self._loan.give()
        if self._left:
            self._task.cancel()

    async def _run(self, main: Callable[[], Awaitable[T]]) -> Outcome[T]:
        try:
            return Outcome(await main())
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return Outcome(error=error)  # raised by main itself
        except BaseException as error:  # noqa: BLE001 - it is the caller's; KeyboardInterrupt would end the loop
            return Outcome(error=error)

    def _deliver(self, task: asyncio.Task[Outcome[T]]) -> None:
        self._loan.end()
        if is_exiting():
            return  # a daemon thread waits, and dies waiting: an error in it would be printed
        if task.cancelled():
            self._inbox.put(Outcome(error=BridgeError("the call was cancelled on its event loop")))
        else:
            self._inbox.put(task.result())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
