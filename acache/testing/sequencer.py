"""Turns by number: a test writes down the order in which its tasks and threads do things."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from acache.testing.gate import PATIENCE, Gate

if TYPE_CHECKING:
    from types import TracebackType
from acache.mutexes import make_mutex

__all__ = ("Sequencer", "Turn")


@final
class Turn:
    """One numbered block, made by calling a :class:`Sequencer`; enter it by ``async with`` or ``with``."""

    __slots__ = ("_before", "_end", "_sequence")

    def __init__(self, sequence: Sequencer, before: Gate, end: Gate) -> None:
        self._sequence = sequence
        self._before = before
        self._end = end

    async def __aenter__(self) -> None:
        try:
            await self._before.wait(self._sequence.timeout)
        except BaseException:
            self._sequence.give_up(self._end)
            raise
        self._sequence.check()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.open()

    def __enter__(self) -> None:
        try:
            self._before.wait_blocking(self._sequence.timeout)
        except BaseException:
            self._sequence.give_up(self._end)
            raise
        self._sequence.check()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.open()


@final
class Sequencer:
    """Orders blocks of code by number: block ``n`` starts when block ``n - 1`` has ended, block 0 at once.

    ::

        seq = Sequencer()

        async def writer():
            async with seq(0):
                await tier.set("k", 1)
            async with seq(2):
                await tier.delete("k")

        async def reader():
            async with seq(1):
                assert await tier.get("k") == Hit(1)

    Tasks of several loops take turns by ``async with``, plain threads by ``with``. Each number is used once
    (:class:`ValueError` otherwise). A block that raises has had its turn. A turn that waits longer than ``timeout``
    real seconds is a :class:`TimeoutError`; after such a turn, or one cancelled before it came, the order cannot be
    kept, and every later turn is a :class:`RuntimeError` at once: a wrong test fails, it does not hang.
    """

    def __init__(self, timeout: float = PATIENCE) -> None:
        self.timeout = timeout
        self._lock = make_mutex()
        self._taken: set[int] = set()
        self._ends: dict[int, Gate] = {}
        self._failure: str | None = None

    def __call__(self, number: int) -> Turn:
        """Take the turn ``number``."""
        with self._lock:
            if number < 0 or number in self._taken:
                raise ValueError(f"turn {number} is taken already, or negative")
            self._taken.add(number)
            before, end = self._end_of(number - 1), self._end_of(number)
        if number == 0 or self._failure is not None:
            before.open()
        return Turn(self, before, end)

    def check(self) -> None:
        """Raise :class:`RuntimeError` when an earlier turn never came."""
        if self._failure is not None:
            raise RuntimeError(f"the order is broken: {self._failure} never came")

    def give_up(self, end: Gate) -> None:
        """Fail every turn that has not begun: the one that ``end`` closes never came."""
        with self._lock:
            self._failure = self._failure or end.name
            ends = tuple(self._ends.values())
        for gate in ends:
            gate.open()

    def _end_of(self, number: int) -> Gate:
        return self._ends.setdefault(number, Gate(f"the end of turn {number}"))
