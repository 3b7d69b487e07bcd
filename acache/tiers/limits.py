"""What the options that limit a tier may be, so that a mistake is told where it is made and not at the first write."""

from __future__ import annotations

import operator
from typing import Any

from acache.exceptions import ConfigurationError

__all__ = ("check_limit", "check_weight")


def check_limit(option: str, limit: Any) -> int | None:
    """Return a limit as an integer; raise :class:`~acache.exceptions.ConfigurationError` for what is none."""
    if limit is None:
        return None
    try:
        number = None if isinstance(limit, bool) else operator.index(limit)
    except TypeError:
        number = None
    if number is None:
        kind = type(limit).__name__
        raise ConfigurationError(option, f"a limit is an integer, not {kind}; use None for no limit")
    if number < 1:
        raise ConfigurationError(option, "a limit is at least 1; use None for no limit")
    return number


def check_weight(size: object) -> int:
    """Return what a weigher said; raise :class:`~acache.exceptions.ConfigurationError` for what is no weight."""
    if type(size) is int and size >= 0:
        return size
    kind = "a negative one" if type(size) is int else type(size).__name__
    raise ConfigurationError("weigher", f"it returns an integer that is not negative, not {kind}")
