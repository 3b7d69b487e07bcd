"""Time as a parameter: the system's clock and durations."""

from __future__ import annotations

import math
import time
from datetime import timedelta

import pytest

from acache.clock import SYSTEM_CLOCK, Duration, SystemClock, as_seconds
from acache.exceptions import ConfigurationError


def test_system_clock_is_the_machine_s() -> None:
    """The default clock reads the two clocks of the operating system."""
    before = time.monotonic(), time.time()
    read = SYSTEM_CLOCK.monotonic(), SYSTEM_CLOCK.wall()
    after = time.monotonic(), time.time()
    assert before[0] <= read[0] <= after[0]
    assert before[1] <= read[1] <= after[1]


def test_system_clock_holds_nothing() -> None:
    """A system clock has no state of its own, so all of them are one."""
    with pytest.raises(AttributeError):
        SystemClock().offset = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] - the rule


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (None, None),
        (math.inf, None),
        (0, 0.0),
        (3, 3.0),
        (0.25, 0.25),
        (timedelta(minutes=1, milliseconds=500), 60.5),
        ("0s", 0.0),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("10m", 600.0),
        ("1.5h", 5400.0),
        ("7d", 604800.0),
        ("2w", 1209600.0),
        ("1h 30m", 5400.0),
        ("1h30m", 5400.0),
        (" 1 H ", 3600.0),
    ],
)
def test_durations(duration: Duration | None, seconds: float | None) -> None:
    """Seconds, a ``timedelta`` and a text say the same; no limit and infinity are ``None``."""
    assert as_seconds(duration) == seconds
    assert seconds is None or isinstance(as_seconds(duration), float)


@pytest.mark.parametrize(
    "duration",
    [
        -1,
        -0.001,
        math.nan,
        -math.inf,
        timedelta(seconds=-1),
        "",
        " ",
        "10",
        "m",
        "ten minutes",
        "-5s",
        "5s!",
        "5y",
        "1e3s",
    ],
)
def test_bad_durations(duration: Duration) -> None:
    """A negative or unreadable duration is an error that names the option."""
    with pytest.raises(ConfigurationError, match=r"^stale_ttl: "):
        as_seconds(duration, "stale_ttl")


@pytest.mark.parametrize("duration", [True, b"10m", [1], object()])
def test_other_types(duration: object) -> None:
    """Anything else, a truth value too, is an error that names the type and shows no value."""
    with pytest.raises(ConfigurationError, match=type(duration).__name__):
        as_seconds(duration)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the rule


def test_a_duration_too_large_for_a_float_is_refused() -> None:
    """A number that no clock can add is a named error like any other."""
    with pytest.raises(ConfigurationError, match="ttl"):
        as_seconds(10**400)
