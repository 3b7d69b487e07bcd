"""Counters and latencies, and the frozen snapshots made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, final, get_args

from acache.events import CallEvent, RemovalCause
from acache.types import Key

__all__ = (
    "FUNCTION_DIGITS",
    "NO_REMOVALS",
    "CacheInfo",
    "CacheStatistics",
    "CallCounters",
    "TierCounters",
    "TierStatistics",
)

#: Hex digits of a key that name its namespace and function.
FUNCTION_DIGITS: Final = 20
_CAUSES: Final[tuple[RemovalCause, ...]] = get_args(RemovalCause)
#: What nothing that went comes to, by cause.
NO_REMOVALS: Final[Mapping[RemovalCause, int]] = MappingProxyType(dict.fromkeys(_CAUSES, 0))


class CacheInfo(NamedTuple):
    """What one memoized function's calls came to; the first four fields are those of :func:`functools.lru_cache`.

    ``hits`` were served from a tier; ``misses`` were not, and are the sum of ``computed``, ``joined`` (another caller's
    computation), ``failed`` and ``missed`` (a replay or look-up that found nothing). ``bypassed`` calls ran with the
    cache switched off and are neither. ``maxsize`` and ``currsize`` are of the memory tier. ``compute_seconds`` and
    ``saved_seconds`` are what computing took, and what hits would have taken, as far as they are counted. The last five
    say of how many of its entries this process took leave, and why (:data:`~acache.events.RemovalCause`), counted in each tier that held one.
    """

    hits: int
    misses: int
    maxsize: int | None
    currsize: int
    computed: int = 0
    joined: int = 0
    failed: int = 0
    missed: int = 0
    bypassed: int = 0
    compute_seconds: float = 0.0
    saved_seconds: float = 0.0
    expired: int = 0
    evicted: int = 0
    invalidated: int = 0
    replaced: int = 0
    corrupt: int = 0


@final
@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """A cache at one moment: the sum of its calls, each function by its label, each tier by its place in the chain."""

    total: CacheInfo
    functions: Mapping[str, CacheInfo]
    tiers: tuple[TierStatistics, ...]
    in_flight: int


@final
class CallCounters:
    """The mutable side of :class:`CacheInfo`, fed with the events of calls."""

    __slots__ = ("_quiet", "compute_seconds", "outcomes", "saved_seconds")

    def __init__(self) -> None:
        self.outcomes = {"hit": 0, "joined": 0, "computed": 0, "failed": 0, "bypassed": 0, "missed": 0}
        self.compute_seconds = 0.0
        self.saved_seconds = 0.0
        #: Tell how many hits there were that make no events: those of hot paths.
        self._quiet: dict[object, Callable[[], int]] = {}

    def note(self, event: CallEvent) -> None:
        """Count one call."""
        # Who agreed on another's result has computed all the same.
        outcome = "computed" if event.outcome == "agreed" else event.outcome
        self.outcomes[outcome] += 1
        if outcome == "computed":
            self.compute_seconds += event.cost
        elif event.outcome == "hit":
            self.saved_seconds += event.cost

    def count_quiet(self, hits: Callable[[], int]) -> Callable[[], None]:
        """Count what ``hits()`` says too. At its end, call the function returned: what it says then stays."""
        token = object()
        self._quiet[token] = hits

        def settle() -> None:
            last = self._quiet.pop(token, None)
            if last is not None:
                self.outcomes["hit"] += last()

        return settle

    def info(
        self,
        *,
        maxsize: int | None = None,
        currsize: int = 0,
        removals: Mapping[RemovalCause, int] = NO_REMOVALS,
    ) -> CacheInfo:
        """Return a frozen copy."""
        counts = self.outcomes
        misses = counts["computed"] + counts["joined"] + counts["failed"] + counts["missed"]
        return CacheInfo(
            counts["hit"] + sum(hits() for hits in tuple(self._quiet.values())),
            misses,
            maxsize,
            currsize,
            counts["computed"],
            counts["joined"],
            counts["failed"],
            counts["missed"],
            counts["bypassed"],
            self.compute_seconds,
            self.saved_seconds,
            **{str(cause): count for cause, count in removals.items()},
        )


@final
@dataclass(frozen=True, slots=True)
class TierStatistics:
    """What one tier has done since it was made.

    ``failures`` are operations the storage could not carry out; ``rejections`` are stored entries that failed
    verification. Of entries that went, ``evictions`` made room, ``expirations`` were past their time, ``invalidations`` were
    asked for (``removals`` one by one) or of another version of the cache when they were read, ``replacements`` gave way to others, and ``corruptions`` were damaged. ``entries`` and
    ``bytes`` say what it holds now (``None``: unknown without a scan).
    """

    name: str
    hits: int = 0
    misses: int = 0
    writes: int = 0
    removals: int = 0
    failures: int = 0
    rejections: int = 0
    evictions: int = 0
    expirations: int = 0
    invalidations: int = 0
    replacements: int = 0
    corruptions: int = 0
    entries: int | None = None
    bytes: int | None = None


@final
class TierCounters:
    """The mutable side of :class:`TierStatistics`; an increment is one bytecode sequence without a call, so no lock."""

    __slots__ = ("failures", "functions", "gone", "hits", "misses", "rejections", "removals", "writes")

    def __init__(self) -> None:
        self.hits = self.misses = self.writes = self.removals = 0
        self.failures = self.rejections = 0
        #: How many entries went, by cause; and the same for each function that was asked for.
        self.gone = dict(NO_REMOVALS)
        self.functions: dict[str, dict[RemovalCause, int]] = {}

    def note_removal(self, key: Key, cause: RemovalCause) -> None:
        """Count an entry that went."""
        self.gone[cause] += 1
        self.note_function(key, cause)

    def note_function(self, key: Key, cause: RemovalCause) -> None:
        """Count it for its function only."""
        function = self.functions.get(key[:FUNCTION_DIGITS])
        if function is not None:
            function[cause] += 1

    def removals_of(self, prefix: str) -> Mapping[RemovalCause, int]:
        """Return how many entries of one function went, by cause, since this was asked first."""
        return self.functions.setdefault(prefix[:FUNCTION_DIGITS], dict(NO_REMOVALS))

    def snapshot(self, name: str, entries: int | None = None, size: int | None = None) -> TierStatistics:
        """Return a frozen copy."""
        return TierStatistics(
            name,
            self.hits,
            self.misses,
            self.writes,
            self.removals,
            self.failures,
            self.rejections,
            self.gone["evicted"],
            self.gone["expired"],
            self.gone["invalidated"],
            self.gone["replaced"],
            self.gone["corrupt"],
            entries,
            size,
        )
