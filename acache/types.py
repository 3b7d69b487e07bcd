"""The nouns every floor shares: a key, an entry, a hit, and the absence of one.

Absence is :data:`MISSING` or no :class:`Hit` at all, never ``None``: a cached ``None`` is a hit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, final

__all__ = ("KEY_LENGTH", "MISSING", "Entry", "Hit", "Key", "Missing", "Params", "Written")

T_co = TypeVar("T_co", covariant=True)

#: The arguments of one call, as ``fn(*params[0], **params[1])`` takes them.
Params: TypeAlias = tuple[tuple[Any, ...], Mapping[str, Any]]

#: Hex digits of a :class:`Key`.
KEY_LENGTH: Final = 64
_HEX: Final = re.compile(r"[0-9a-f]{64}")


class Missing(Enum):
    """The type of :data:`MISSING`; an enum, so that type checkers can narrow it away."""

    MISSING = auto()


MISSING: Final[Literal[Missing.MISSING]] = Missing.MISSING


@final
class Key(str):
    """A digest of 64 lower-case hex digits that names one entry in every tier.

    The type says "already encoded": tiers encode any other object they are given, a :class:`Key` they take as it is.
    Keys of memoized calls begin with digits of the namespace and of the function, so that one function's entries can be
    found by prefix. Raises :class:`ValueError` for any other text.
    """

    __slots__ = ()

    def __new__(cls, digest: str) -> Key:  # noqa: D102 - the class says it
        if _HEX.fullmatch(digest) is None:
            msg = "a Key is 64 lower-case hex digits; tiers make one of any other object"
            raise ValueError(msg)
        return super().__new__(cls, digest)


@dataclass(slots=True)
class Entry:
    """One stored result and what is known about it.

    ``created``, ``stale_at`` and ``expires`` are wall-clock seconds (``None``: never). From ``expires`` on there is no
    such entry; from ``stale_at`` on, which is not later, its function may still want it; when it is ``sliding``, both move with
    each use. ``cost`` is the seconds the computation took, ``tags`` names the groups it belongs to, ``factors`` maps factor names to digests (why a key is what it is).
    ``born`` orders it among the invalidations of its tags; it is kept for entries that have some.

    The wall clock may jump. How old the entry is, is decided by ``anchor``: when it was made, in monotonic seconds of this
    process, noted when it was made or first seen here, and not stored. Nor is ``told``, the ``stale_at`` that was last
    written where others look; nor ``renews``, which says that it is what was there, with other times: who takes its place
    replaces nothing.
    """

    value: Any
    created: float
    expires: float | None = None
    cost: float = 0.0
    tags: tuple[str, ...] = ()
    factors: Mapping[str, str] = field(default_factory=dict[str, str])
    stale_at: float | None = None
    born: int = 0
    sliding: bool = False
    anchor: float | None = field(default=None, compare=False, repr=False)
    told: float | None = field(default=None, compare=False, repr=False)
    renews: bool = field(default=False, compare=False, repr=False)

    def age(self, now: float, wall: float) -> float:
        """Return the seconds since it was made, at ``now`` monotonic seconds; ``wall`` counts at the first look only."""
        if self.anchor is None:
            self.anchor = now - max(0.0, wall - self.created)
        return max(0.0, now - self.anchor)

    def is_expired(self, wall: float) -> bool:
        """Tell whether the entry is past its time at ``wall`` seconds."""
        return self.expires is not None and wall >= self.expires


class Written(Enum):
    """What became of a write: only :attr:`NEW` stored something."""

    NEW = auto()
    #: An entry was there already, and the write was not allowed to replace it.
    PRESENT = auto()
    #: The tier could not store it (full disk, outage); it said so in an event.
    FAILED = auto()


@final
@dataclass(frozen=True, slots=True)
class Hit(Generic[T_co]):
    """A value found in a cache, and where: ``None`` as ``value`` is a hit like any other.

    ``tier`` names the tier that had it, ``age`` is in seconds, ``ttl`` the seconds it has left (``None``: no limit).
    """

    value: T_co
    tier: str | None = field(default=None, compare=False)
    age: float | None = field(default=None, compare=False)
    ttl: float | None = field(default=None, compare=False)
