"""Values as canonical JSON, which is what an isolation key is a digest of.

Equal values have equal texts in every process: names are sorted, and neither a hash seed nor a locale has a say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import NoReturn

from acache.exceptions import ConfigurationError

__all__ = ("as_json", "as_object", "digest")


class _UnfitError(TypeError):
    """A value that JSON has no form for; its text is the name of the value's type."""


def _refuse(value: object) -> NoReturn:
    raise _UnfitError(type(value).__name__)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=_refuse).encode


def as_json(value: object, subject: str) -> str:
    """Return ``value`` as JSON.

    Raises :class:`~acache.exceptions.ConfigurationError` about ``subject``, naming the type that JSON cannot hold.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        kind = str(error) if isinstance(error, _UnfitError) else type(value).__name__
        raise ConfigurationError(subject, f"JSON cannot hold this value of type {kind}") from None


def as_object(members: Iterable[tuple[str, str]]) -> str:
    """Return the JSON object whose members have these names and, as JSON already, these values."""
    return "{" + ",".join(f"{_encode(name)}:{text}" for name, text in sorted(members)) + "}"


def digest(text: str, digits: int) -> str:
    """Return the first hex ``digits`` of the SHA-256 of ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
