"""Values as canonical JSON, which is what an isolation key is a digest of.

Equal values have equal texts in every process: names are sorted, and neither a hash seed nor a locale has a say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import NoReturn, cast

from acache.exceptions import ConfigurationError

__all__ = ("as_json", "as_object", "digest")


class _UnfitError(TypeError):
    """A value that JSON has no form for; its text says so."""

    def __init__(self, value: object, reason: str = "") -> None:
        super().__init__(f"{reason}JSON cannot hold this value of type {type(value).__name__}")


def _refuse(value: object) -> NoReturn:
    raise _UnfitError(value)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=_refuse).encode


def as_json(value: object, subject: str) -> str:
    """Return ``value`` as JSON.

    Raises :class:`~acache.exceptions.ConfigurationError` about ``subject``, naming the type that JSON cannot hold.
    """
    try:
        _check_names(value)
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        unfit = error if isinstance(error, _UnfitError) else _UnfitError(value)
        raise ConfigurationError(subject, str(unfit)) from error


def _check_names(value: object) -> None:
    """Refuse a name that is no text: the encoder would make one of it, and ``1`` and ``"1"`` be one name."""
    parts: Iterable[object] = ()
    if isinstance(value, dict):
        members = cast("dict[object, object]", value)
        if not all(isinstance(name, str) for name in members):
            raise _UnfitError(members, "a name in it is no text: ")
        parts = members.values()
    elif isinstance(value, (list, tuple)):
        parts = cast("Sequence[object]", value)
    for part in parts:
        _check_names(part)


def as_object(members: Iterable[tuple[str, str]]) -> str:
    """Return the JSON object whose members have these names and, as JSON already, these values."""
    return "{" + ",".join(f"{_encode(name)}:{text}" for name, text in sorted(members)) + "}"


def digest(text: str, digits: int) -> str:
    """Return the first hex ``digits`` of the SHA-256 of ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
