"""Asked one by one, answered together: questions that come close to each other become one call.

A batch belongs to one event loop and one *group*; whoever asks waits for his own answer only. One who is cancelled
leaves the batch alone, and the last one cancels it. An error is an answer for those of its batch, and for no other.

Questions that whoever answers could not tell apart, such as ``1`` and ``True``, have one *name*, and a batch has one
question of a name: the second goes into a batch beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Generic, TypeVar, final
from weakref import WeakKeyDictionary

from acache.clock import Clock
from acache.flight import Flight, LeaderLost, computing_for, current_flight

__all__ = ("Batcher",)

Q = TypeVar("Q")
A = TypeVar("A")

#: Turns of the loop that a batch waits at most, while others still join it.
_MAX_TURNS: Final = 16


@final
@dataclass(slots=True)
class _Failed:
    """An answer that is an error, with the traceback it had: each of many who raise it would add to that."""

    error: BaseException
    traceback: Any

    def again(self) -> BaseException:
        return self.error.with_traceback(self.traceback)


@final
class _Question(Generic[Q]):
    __slots__ = ("answer", "flight", "subject")

    def __init__(self, subject: Q, answer: asyncio.Future[Any]) -> None:
        self.subject = subject
        self.answer = answer
        self.flight: Flight[Any] | None = current_flight()


@final
class _Batch(Generic[Q]):
    """The questions that one call will answer. Used in one loop only."""

    __slots__ = ("full", "names", "place", "questions", "task", "waiting")

    def __init__(self, place: Hashable) -> None:
        #: Where it is found as long as it is open.
        self.place = place
        self.names: set[Hashable] = set()
        self.questions: list[_Question[Q]] = []
        self.waiting = 0
        self.full = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


@final
class Batcher(Generic[Q, A]):
    """Collects questions for ``answer``, which gives the answers in order, an exception in the place of one it has not.

    A batch is open for ``window`` seconds or, at 0, for the turn of the loop in which nobody joins any more; and until
    it has ``max_batch`` questions.
    """

    def __init__(
        self,
        label: str,
        answer: Callable[[list[Q]], Awaitable[Sequence[A | BaseException]]],
        clock: Clock,
        *,
        window: float = 0.0,
        max_batch: int | None = None,
    ) -> None:
        self._label = label
        self._answer = answer
        self._clock = clock
        self._window = window
        self._max = max_batch
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Batch[Q]]] = WeakKeyDictionary()

    async def ask(self, subject: Q, group: Hashable = None, name: Hashable = None) -> A:
        """Return the answer for ``subject``; raise it if it is an exception.

        Only questions of one ``group`` share a call, and of those with one ``name`` only one has part in it.
        """
        hash(name)  # raises for what is no name, before there is a batch without a question
        batches = self._batches()
        batch = self._open_batch(batches, group, name)
        question = _Question(subject, asyncio.get_running_loop().create_future())
        batch.questions.append(question)
        batch.waiting += 1
        if len(batch.questions) == self._max:
            _close(batch, batches)
            batch.full.set()
        try:
            answer = await question.answer
        finally:
            batch.waiting -= 1
            if not batch.waiting and batch.task is not None:
                _close(batch, batches)
                batch.task.cancel()  # nobody waits any more; or it is over, and this changes nothing
        if isinstance(answer, _Failed):
            raise answer.again()
        return answer  # type: ignore[no-any-return]  # a future of what was asked for

    def _batches(self) -> dict[Hashable, _Batch[Q]]:
        """Return the open batches of the running loop."""
        loop = asyncio.get_running_loop()
        batches = self._open.get(loop)
        if batches is None:
            batches = self._open[loop] = {}
        return batches

    def _open_batch(self, batches: dict[Hashable, _Batch[Q]], group: Hashable, name: Hashable) -> _Batch[Q]:
        """Return the first batch of ``group`` that has no question of that name, a new one if need be."""
        places = ((group, number) for number in count())
        place = next(place for place in places if place not in batches or name not in batches[place].names)
        batch = batches.get(place)
        if batch is None:
            batch = batches[place] = _Batch(place)
            running = self._run(batch, batches)
            batch.task = asyncio.get_running_loop().create_task(running, name=f"acache:batch {self._label}")
        if name is not None:
            batch.names.add(name)
        return batch

    async def _run(self, batch: _Batch[Q], batches: dict[Hashable, _Batch[Q]]) -> None:
        asked: list[_Question[Q]] = batch.questions
        try:
            await self._collect(batch)
            _close(batch, batches)
            asked = [question for question in batch.questions if not question.answer.cancelled()]
            flights = [question.flight for question in asked if question.flight is not None]
            with computing_for(flights, self._label):
                answers = await self._answer([question.subject for question in asked])
            for question, answer in zip(asked, answers, strict=True):
                _give(question, _Failed(answer, answer.__traceback__) if isinstance(answer, BaseException) else answer)
        except BaseException as error:  # noqa: BLE001 - each who asked raises it in his own task
            task = asyncio.current_task()
            from_outside = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
            failed = _Failed(LeaderLost() if from_outside else error, error.__traceback__)
            for question in asked:
                _give(question, failed)
        finally:
            _close(batch, batches)

    async def _collect(self, batch: _Batch[Q]) -> None:
        if self._window:
            timer = asyncio.ensure_future(self._clock.sleep(self._window))
            full = asyncio.ensure_future(batch.full.wait())
            try:
                await asyncio.wait({timer, full}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                timer.cancel()
                full.cancel()
            return
        for _ in range(_MAX_TURNS):
            before = len(batch.questions)
            await asyncio.sleep(0)
            if batch.full.is_set() or len(batch.questions) == before:
                return


def _close(batch: _Batch[Any], batches: dict[Hashable, _Batch[Any]]) -> None:
    """Let nobody join any more."""
    if batches.get(batch.place) is batch:
        del batches[batch.place]


def _give(question: _Question[Any], answer: Any) -> None:
    if not question.answer.done():
        question.answer.set_result(answer)
