"""What goes into the engine, a call, and what comes out of a flight."""

from __future__ import annotations

import math
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple, final

from acache.context import current_scope
from acache.engine.bare import bare
from acache.engine.freshness import Freshness
from acache.engine.options import Options
from acache.exceptions import CustomResultEncoderRequiredError, ValueEncodingError
from acache.locks import Limiter
from acache.stats import CallCounters
from acache.tiers.base import Tier
from acache.types import Entry, Key

__all__ = ("Call", "Costed", "Failure", "Found", "Tagging")

_NO_FACTORS: Final[Mapping[str, str]] = MappingProxyType({})


def _none() -> Mapping[str, str]:
    return _NO_FACTORS


def _may_store() -> bool:
    return not current_scope().read_only


@final
@dataclass(frozen=True, slots=True)
class Tagging:
    """The tags of one call: those it has whatever it comes to, and those of its result. Both may raise."""

    known: Callable[[], tuple[str, ...]]
    of: Callable[[Any], tuple[str, ...]]


@final
@dataclass(frozen=True, slots=True)
class Call:
    """One call, as the engine sees it."""

    label: str
    key: Key
    #: Run the function. Awaited at most once, in the flight's own task.
    compute: Callable[[], Awaitable[Any]]
    options: Options
    counters: CallCounters
    #: When the caller began, by the engine's monotonic clock.
    started: float
    #: The event loop of the thread that is blocked until the call ends, if it runs one.
    blocked: AbstractEventLoop | None = None
    #: Run the function when the caller may be gone; as ``compute``, if that does not need him.
    behind: Callable[[], Awaitable[Any]] | None = None
    #: Whether anything may be stored for the caller; unless said otherwise, as the switches of this moment have it.
    stores: bool = field(default_factory=_may_store)
    #: When a hot path last led to the entry, in monotonic seconds.
    used: float = -math.inf
    #: Look into the tiers for what is stored, together with others; ``None``: alone.
    find: Callable[[Call], Awaitable[tuple[Entry, Tier] | None]] | None = None
    #: Lets so many computations of the function run at once.
    limiter: Limiter | None = None
    #: Say what the key was made of, as digests by name. Called before the function, which may change its arguments.
    factors: Callable[[], Mapping[str, str]] = _none
    #: Which groups the result belongs to; ``None``: to none.
    tags: Tagging | None = None

    def private(self, value: Any) -> Any:
        """Return what the caller shares with nobody, where the options want that.

        Raises :class:`~acache.exceptions.CustomResultEncoderRequiredError` for a value that cannot be copied.
        """
        try:
            return self.options.private(value)
        except ValueEncodingError as error:
            raise CustomResultEncoderRequiredError(self.label, str(error)) from error
        except Exception as error:  # noqa: BLE001 - whatever a class raises when it is copied, and its text may show what it holds
            detail = f"copy={self.options.copy!r} of a {type(value).__qualname__} raised {type(error).__qualname__}"
            raise CustomResultEncoderRequiredError(self.label, detail) from None

    def place(self) -> AbstractAsyncContextManager[None]:
        """Have a place among the computations that may run at once. Raises as :meth:`acache.locks.Limiter.hold`."""
        return nullcontext() if self.limiter is None else self.limiter.hold(wait=self.blocked is None)


@final
@dataclass(frozen=True, slots=True)
class Found:
    """What a flight came to.

    ``tier``, ``age`` and ``ttl`` (seconds) are of the stored entry; ``None`` when it was computed. ``encoded``: the value is in
    its stored form. ``stored``: what was computed is stored now; ``agreed``: it is not, because another worker's result
    was first, and this is that one.
    """

    value: Any
    tier: str | None = None
    age: float | None = None
    cost: float = 0.0
    encoded: bool = False
    stored: bool | None = None
    agreed: bool = False
    freshness: Freshness = Freshness.FRESH
    ttl: float | None = None
    #: The entry and its tier, for who has to judge it again.
    source: tuple[Entry, Tier] | None = None


class Costed(NamedTuple):
    """A result that knows the seconds it took: its share of a computation for several keys."""

    value: Any
    cost: float


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """What is stored of a computation whose exception is its result (``cache_exceptions=``)."""

    error: Exception

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Keep an exception that is being raised, without the frames it comes from."""
        return cls(bare(error))

    def again(self) -> Exception:
        """Return the exception for one more caller; each raises his own, or their tracebacks would add up."""
        return bare(self.error)
