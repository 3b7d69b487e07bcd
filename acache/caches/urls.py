"""Tiers by URL, for configuration files: ``memory://?max_entries=10000``, ``disk://~/.cache/app?max_bytes=2GB&max_age=7d``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from acache.exceptions import ConfigurationError
from acache.tiers import DiskTier, MemoryTier, Tier

__all__ = ("tier_from_url",)

_SIZE: Final = re.compile(r"(\d{1,30})\s*([KMGT]?)(i?)B?", re.IGNORECASE | re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,30}", re.ASCII)
_FLAGS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class _UnreadableError(Exception):
    """Says what is expected; never what was found, which may be a password in the wrong place."""


def _number(text: str) -> int:
    """Read ``"10000"``."""
    if _NUMBER.fullmatch(text.strip()) is None:
        raise _UnreadableError("a number is written in digits: 10000")
    return int(text)


def _size(text: str) -> int:
    """Read ``"64MB"`` (10^6) or ``"64MiB"`` (2^20)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise _UnreadableError("a size is a number and a unit: 512, 64MB, 2GiB")
    number, unit, binary = match.groups()
    exponent = " KMGT".index(unit.upper() or " ")
    return int(number) * int((1024 if binary else 1000) ** exponent)


def _duration(text: str) -> float | str:
    """Read ``"90"`` (seconds) or leave ``"7d"`` to the tier."""
    return float(text) if text.isascii() and text.replace(".", "", 1).isdecimal() else text


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise _UnreadableError("expected 1 or 0")
    return _FLAGS[text.lower()]


_Readers = Mapping[str, Callable[[str], Any]]
_MEMORY: Final[_Readers] = {"max_entries": _number, "max_bytes": _size, "policy": str, "name": str}
_DISK: Final[_Readers] = {
    "sub_dir": str,
    "version": str,
    "on_corrupt": str,
    "codec": str,
    "durable": _flag,
    "max_bytes": _size,
    "max_entries": _number,
    "max_age": _duration,
    "policy": str,
    "name": str,
}


def _memory(url: SplitResult, options: dict[str, Any]) -> Tier:
    if url.netloc or url.path:
        raise ConfigurationError("memory://", "a memory tier has no path")
    return MemoryTier(**options)


def _disk(url: SplitResult, options: dict[str, Any]) -> Tier:
    path = unquote(url.netloc + url.path)
    if not path:
        raise ConfigurationError("disk://", "name a directory: disk:///var/cache/app or disk://~/.cache/app")
    return DiskTier(path, **options)


_SCHEMES: Final[Mapping[str, tuple[Callable[[SplitResult, dict[str, Any]], Tier], _Readers]]] = {
    "memory": (_memory, _MEMORY),
    "disk": (_disk, _DISK),
}


def tier_from_url(url: str) -> Tier:
    """Make the tier that ``url`` names.

    Raises :class:`~acache.exceptions.ConfigurationError` for an unknown scheme or option and for a value that cannot be
    read; the text names the scheme and the option only, since a URL may hold a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(f"{parts.scheme[:40]}://", f"unknown scheme; known schemes: {', '.join(_SCHEMES)}")
    build, readers = _SCHEMES[parts.scheme]
    options: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        subject = f"{parts.scheme}://?{name[:40]}="
        if name not in readers:
            raise ConfigurationError(subject, f"unknown option; known options: {', '.join(sorted(readers))}")
        try:
            options[name] = readers[name](text)
        except _UnreadableError as error:
            raise ConfigurationError(subject, str(error)) from None
    return build(parts, options)
