"""The variable part of a frame: which codec wrote the payload, and the entry's tags and factors, as a line of JSON.

``["pickle",["tag"],{"factor":"digest"}]``; always the three of them, so that a format has one shape and no options. In front of
tags there may be a number: that with which the entry was born.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, final

from acache.exceptions import EntryRejectedError, ValueEncodingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from acache.types import Entry

__all__ = ("MAX_META", "Meta", "pack_meta", "unpack_meta")

#: Bytes that codec, tags and factors may take in one entry.
MAX_META: Final = 1 << 20


class Meta(NamedTuple):
    """What an entry says beyond its header."""

    codec: str
    tags: tuple[str, ...]
    factors: Mapping[str, str]
    born: int = 0


def pack_meta(entry: Entry, codec: str) -> bytes:
    """Return the line for ``entry``.

    Raises :class:`~acache.exceptions.ValueEncodingError` for a tag or factor that is not a text, and for a line of more
    than :data:`MAX_META` bytes: nothing is written that would not be read.
    """
    if not entry.tags and not entry.factors:
        return _plain(codec)
    if not (_are_texts(entry.tags) and _are_texts(entry.factors) and _are_texts(entry.factors.values())):
        raise ValueEncodingError(entry, codec, "tags and factors must be texts")
    numbered = entry.tags and entry.born
    line = _line(codec, (entry.born, *entry.tags) if numbered else entry.tags, entry.factors)
    if len(line) > MAX_META:
        raise ValueEncodingError(entry, codec, f"its tags and factors take more than {MAX_META} bytes")
    return line


def unpack_meta(line: bytes, codec: str) -> Meta:
    """Return what the line says; ``codec`` is the name that is expected, and only makes that case fast.

    Raises :class:`~acache.exceptions.EntryRejectedError`: a seal without a key is no proof that the line is one of ours.
    """
    if line == _plain(codec):
        return _plain_meta(codec)
    start = _untagged(codec)
    if line.startswith(start) and _FACTORS.fullmatch(line, len(start)):
        return Meta(codec, (), _FactorsLater(line, len(start) - 1))
    try:
        fields = json.loads(str(line, "utf-8", "surrogatepass"))
        codec, tags, factors = fields
        kinds: list[type[object]] = [type(field) for field in fields]
        born = tags.pop(0) if tags[1:] and type(tags[0]) is int else 0
    except (ValueError, TypeError, LookupError, RecursionError):
        raise EntryRejectedError("corrupt") from None
    if kinds != [str, list, dict] or not _are_texts(tags) or not _are_texts(factors.values()):
        raise EntryRejectedError("corrupt")
    return Meta(codec, tuple(tags), dict(factors), born)


#: What follows, in the line of an entry without tags, if all factors are plain texts: then there is nothing to decode yet.
_TEXT: Final = rb'"[ !#-\[\]-~]*+"'
_FACTORS: Final = re.compile(rb"%b:%b(?:,%b:%b)*+\}\]" % (_TEXT, _TEXT, _TEXT, _TEXT))


@final
class _FactorsLater(Mapping[str, str]):
    """Factors as they were stored: they explain misses, and a hit should not pay for them."""

    __slots__ = ("_line", "_start")

    def __init__(self, line: bytes, start: int) -> None:
        self._line = line
        self._start = start

    def _factors(self) -> dict[str, str]:
        factors: dict[str, str] = json.loads(self._line[self._start : -1])
        return factors

    def __getitem__(self, name: str) -> str:
        return self._factors()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._factors())

    def __len__(self) -> int:
        return len(self._factors())

    def __repr__(self) -> str:
        return repr(self._factors())


@lru_cache(maxsize=64)
def _untagged(codec: str) -> bytes:
    """Return how the line of an entry with factors and without tags begins."""
    return _plain(codec)[:-2]


@lru_cache(maxsize=64)
def _plain(codec: str) -> bytes:
    """Return the line of nearly every entry, made once: neither tags nor factors."""
    return _line(codec, (), {})


@lru_cache(maxsize=64)
def _plain_meta(codec: str) -> Meta:
    return Meta(codec, (), MappingProxyType({}))


def _line(codec: str, tags: tuple[str | int, ...], factors: Mapping[str, str]) -> bytes:
    fields = [codec, tags, dict(factors)]
    # Surrogates pass, so that every str comes back as it was.
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _are_texts(items: Iterable[object]) -> bool:
    return all(isinstance(item, str) for item in items)
