"""How long to wait for a lock: the four constants, and one reading of every ``timeout=``."""

from __future__ import annotations

from typing import Final

from acache.exceptions import ConfigurationError

__all__ = ("BLOCKING", "BLOCKING_WITH_TIMEOUT", "DEFAULT_TIMEOUT", "NON_BLOCKING", "resolve_timeout")

#: Wait for as long as it takes.
BLOCKING: Final = -1.0
#: Try once.
NON_BLOCKING: Final = 0.0
#: Wait for a minute.
BLOCKING_WITH_TIMEOUT: Final = 60.0
#: What ``timeout=None`` means.
DEFAULT_TIMEOUT: Final = BLOCKING_WITH_TIMEOUT


def resolve_timeout(timeout: float | None, option: str = "timeout") -> float | None:
    """Return the seconds to wait, or ``None`` for no limit (:data:`BLOCKING` or infinity).

    Raises :class:`~acache.exceptions.ConfigurationError`, naming ``option``, for anything that is no number of seconds: NaN, a negative
    number other than :data:`BLOCKING`, a boolean.
    """
    if timeout is None:
        return DEFAULT_TIMEOUT
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a type checker
        raise ConfigurationError(option, f"expected a number of seconds, not {type(timeout).__name__}")
    if timeout in (BLOCKING, float("inf")):
        return None
    if not timeout >= 0:
        raise ConfigurationError(option, "expected seconds, NON_BLOCKING (0) or BLOCKING (-1)")
    return float(timeout)
