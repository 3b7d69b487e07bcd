"""The steps of an event loop, taken on purpose: let everything settle, and cancel at every point there is."""

from __future__ import annotations

import asyncio
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

__all__ = ("SweepStep", "cancel_sweep", "settle")

T = TypeVar("T")

_TURNS: Final = 50
_LIMIT: Final = 2_000


async def settle(turns: int = _TURNS) -> None:
    """Let the running loop work off what is ready, and what that makes ready, ``turns`` times over.

    Afterwards every other task of this loop waits for something that only the test, a thread, a timer or the outside can
    bring; a chain of more than ``turns`` hand-overs needs a larger number. No time passes and no thread is waited for.
    """
    for _ in range(turns):
        await asyncio.sleep(0)


@final
@dataclass(frozen=True, slots=True)
class SweepStep(Generic[T]):
    """What became of one run: it was cancelled at moment ``number``, or, in the last one, not at all.

    ``error`` is what the run raised (:class:`asyncio.CancelledError` when it let itself be cancelled), else ``None``, and
    ``value`` what it returned, else ``None``.
    """

    number: int
    cancel_requested: bool
    value: T | None
    error: BaseException | None

    @property
    def was_cancelled(self) -> bool:
        """Whether the run ended as a cancelled one."""
        return isinstance(self.error, asyncio.CancelledError)


async def cancel_sweep(
    factory: Callable[[], Coroutine[Any, Any, T]], *, times: int = 1, limit: int = _LIMIT
) -> AsyncGenerator[SweepStep[T]]:
    """Run ``factory()`` over and over, cancelled at moment 0, 1, 2, … until a run ends before its moment comes.

    Moment 0 is before the first step. Then each suspension of the coroutine is two moments: as soon as it waits, and when
    what it waited for is there but it has not gone on, which is where hand-overs get lost. The moments are those of the
    coroutine itself, so threads and timers under it do not change their number. ``times=2`` cancels again at the next
    suspension, as an impatient caller does. The loop body checks what must hold after each run.

    Raises :class:`RuntimeError` after ``limit`` runs: such a coroutine does not end.
    """
    for number in range(limit):
        moments = _Moments(number, times)
        # A coroutine that is cancelled before its first step is given to the task as it is: nothing may start it.
        task = asyncio.ensure_future(moments.run(factory()) if number else factory())
        if number == 0:
            moments.cancel(task)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()  # the sweep itself was cancelled
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        yield SweepStep(number, moments.requested, task.result() if error is None else None, error)
        if not moments.requested:
            return
    raise RuntimeError(f"no run ended before moment {limit}")


@final
class _Moments:
    """Steps one coroutine by hand, counts its moments, and cancels the task at the one that was chosen."""

    def __init__(self, number: int, times: int) -> None:
        self._left = number
        self._times = times
        self.requested = False

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` in the current task."""
        return await self._stepwise(coroutine)

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel, as often as was asked for."""
        if self._times > 0:
            self._times -= 1
            self.requested = True
            task.cancel()

    @types.coroutine
    def _stepwise(self, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine under asyncio has a task
        step: Callable[[Any], Any] = coroutine.send
        given: Any = None
        while True:
            try:
                awaited = step(given)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # what the coroutine returned is a T
            self._suspended(task, awaited)
            try:
                given = yield awaited
                step = coroutine.send
            except BaseException as error:  # noqa: BLE001 - whatever is thrown in goes to the coroutine
                step, given = coroutine.throw, error

    def _suspended(self, task: asyncio.Task[Any], awaited: Any) -> None:
        self._moment(task)
        if asyncio.isfuture(awaited) and not self.requested:
            # Registered before the task's own wake-up, hence called before it.
            awaited.add_done_callback(lambda _: self._woken(task))

    def _woken(self, task: asyncio.Task[Any]) -> None:
        if not self.requested:  # else it is the cancellation that woke it
            self._moment(task)

    def _moment(self, task: asyncio.Task[Any]) -> None:
        self._left -= 1
        if self._left <= 0:
            self.cancel(task)
