"""A clock that moves only when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, final

from acache.clock import Duration, as_seconds
from acache.exceptions import ConfigurationError
from acache.mutexes import make_mutex

__all__ = ("ManualClock",)

#: 2024-01-01 00:00 UTC: an ordinary moment, the same in every run.
_NEW_YEAR: Final = 1_704_067_200.0


@final
class ManualClock:
    """Both clocks of :class:`acache.clock.Clock`, standing still until they are moved.

    ``start`` is the first monotonic reading and ``wall`` the first wall-clock one, in seconds. Any thread may read and
    move it.
    """

    __slots__ = ("_lock", "_monotonic", "_sleepers", "_wall")

    def __init__(self, start: float = 1_000.0, wall: float = _NEW_YEAR) -> None:
        self._monotonic = start
        self._wall = wall
        # A move is a read and a write; two threads must not lose one.
        self._lock = make_mutex()
        self._sleepers: list[tuple[float, Callable[[], object]]] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}(start={self._monotonic!r}, wall={self._wall!r})"

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start."""
        return self._monotonic

    def wall(self) -> float:
        """Return seconds since the Unix epoch."""
        return self._wall

    async def sleep(self, seconds: float, /) -> None:
        """Wait until the clock has been moved so far."""
        loop, awake = asyncio.get_running_loop(), asyncio.Event()
        sleeper = (self._monotonic + seconds, lambda: loop.call_soon_threadsafe(awake.set))
        with self._lock:
            self._sleepers.append(sleeper)
        try:
            self._wake()
            await awake.wait()
        finally:
            with self._lock:
                self._sleepers = [each for each in self._sleepers if each is not sleeper]

    @property
    def sleepers(self) -> int:
        """How many wait for the clock to be moved."""
        return len(self._sleepers)

    def advance(self, duration: Duration) -> None:
        """Let time pass on both clocks: seconds, a ``timedelta`` or a text such as ``"10m"``.

        Raises :class:`~acache.exceptions.ConfigurationError` for a negative or endless one: a clock that goes back is
        :meth:`jump_wall`.
        """
        seconds = as_seconds(duration, "advance")
        if seconds is None:
            raise ConfigurationError("advance", "a clock moves by a finite time")
        with self._lock:
            self._monotonic += seconds
            self._wall += seconds
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            due = [wake for deadline, wake in self._sleepers if deadline <= self._monotonic]
        for wake in due:
            with suppress(RuntimeError):  # its loop is closed
                wake()

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back with a negative number, while no time passes: a correction, a leap."""
        with self._lock:
            self._wall += seconds
