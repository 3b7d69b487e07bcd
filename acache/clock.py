"""Time as a parameter: the one module that reads a clock.

Inside a process only :meth:`Clock.monotonic` decides (a wall clock that jumps never makes an entry immortal);
:meth:`Clock.wall` is written into stored entries, because other processes must be able to read it.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from datetime import timedelta
from typing import Final, Protocol, TypeAlias, final

from acache.exceptions import ConfigurationError

__all__ = ("SYSTEM_CLOCK", "Clock", "Duration", "SystemClock", "as_seconds")

#: A length of time: seconds, a ``timedelta``, or a text such as ``"10m"`` or ``"1h 30m"``.
Duration: TypeAlias = float | timedelta | str


class Clock(Protocol):
    """What acache needs of a clock. The first two are cheap, never wait, and may be called from any thread."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; it never goes back."""
        ...

    def wall(self) -> float:
        """Return seconds since the Unix epoch; it may jump either way."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Wait until so much time has passed."""
        ...


@final
class SystemClock:
    """The clock of the machine."""

    __slots__ = ()

    # Static references, not wrappers: the hot path of a memoized call with a ttl asks once per hit.
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    sleep = staticmethod(asyncio.sleep)


SYSTEM_CLOCK: Final[Clock] = SystemClock()


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")


def as_seconds(duration: Duration | None, option: str = "ttl") -> float | None:
    """Turn seconds, a ``timedelta`` or a text such as ``"1h 30m"`` into seconds; no limit (or infinity) into ``None``.

    Raises :class:`~acache.exceptions.ConfigurationError`, naming ``option``, for a negative or unreadable duration.
    """
    if duration is None:
        return None
    if isinstance(duration, str):
        seconds = _parse(duration, option)
    elif isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif type(duration) is bool or not isinstance(duration, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not checked
        raise ConfigurationError(option, f"expected seconds, a timedelta or a text like '10m', not {type(duration)!r}")
    else:
        try:
            seconds = float(duration)
        except OverflowError:
            raise ConfigurationError(option, "the duration is too large; use None for no limit") from None
    if math.isnan(seconds) or seconds < 0:
        raise ConfigurationError(option, "a duration is not negative; use None for no limit")
    return None if math.isinf(seconds) else seconds


def _parse(text: str, option: str) -> float:
    parts = _DURATION.findall(text.lower())
    if not parts or _DURATION.sub("", text.lower()).strip():
        raise ConfigurationError(option, "a duration is a number and a unit: '500ms', '30s', '10m', '1h 30m', '7d'")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
