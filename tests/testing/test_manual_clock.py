"""The clock that moves only when a test says so."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from acache.clock import Clock
from acache.exceptions import ConfigurationError
from acache.testing import ManualClock


def test_stands_still() -> None:
    """A clock that nobody moves says the same for ever, and two new ones agree."""
    clock, other = ManualClock(), ManualClock()
    assert (clock.monotonic(), clock.wall()) == (other.monotonic(), other.wall())
    assert ManualClock(start=5.0, wall=7.0).monotonic() == 5.0
    assert ManualClock(start=5.0, wall=7.0).wall() == 7.0


def test_advance_moves_both() -> None:
    """Time passes on both clocks alike, in any form a duration has."""
    clock = ManualClock(0.0, 100.0)
    for duration in (1, 0.5, timedelta(seconds=1), "1m 1s"):
        clock.advance(duration)
    assert (clock.monotonic(), clock.wall()) == (63.5, 163.5)


def test_jump_moves_the_wall_clock_only() -> None:
    """A correction of the wall clock, either way, is not time that passes."""
    clock = ManualClock(0.0, 100.0)
    clock.jump_wall(-30)
    assert (clock.monotonic(), clock.wall()) == (0.0, 70.0)
    clock.jump_wall(3600)
    assert (clock.monotonic(), clock.wall()) == (0.0, 3670.0)


@pytest.mark.parametrize("duration", [-1, "soon", float("inf"), float("nan")])
def test_time_does_not_go_back(duration: float | str) -> None:
    """Time that goes back, or for ever on, is an error that names the method, and moves nothing."""
    clock = ManualClock(0.0, 100.0)
    with pytest.raises(ConfigurationError, match="advance"):
        clock.advance(duration)
    assert (clock.monotonic(), clock.wall()) == (0.0, 100.0)


def test_threads_may_move_it() -> None:
    """Moves from several threads add up."""
    clock: ManualClock = ManualClock(0.0, 0.0)

    def move() -> None:
        for _ in range(1_000):
            clock.advance(1)

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (clock.monotonic(), clock.wall()) == (4_000.0, 4_000.0)


def test_is_a_clock() -> None:
    """It is what every ``clock=`` takes, and its repr makes it again."""
    clock: Clock = ManualClock(1.0, 2.0)
    assert repr(clock) == "ManualClock(start=1.0, wall=2.0)"
