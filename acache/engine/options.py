"""The options of one memoized function, checked once, when it is decorated."""

from __future__ import annotations

import copy as copying
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

from acache.callables import is_coroutine_function
from acache.clock import Duration, as_seconds
from acache.codecs import Codec, PickleCodec, get_codec
from acache.engine.freshness import Timing
from acache.exceptions import (
    ConfigurationError,
    CustomResultDecoderRequiredError,
    CustomResultEncoderRequiredError,
)

__all__ = (
    "CacheExceptions",
    "CopyMode",
    "FlightLevel",
    "OnUnencodable",
    "Options",
    "StoreIf",
    "Ttl",
    "check_callable",
    "check_count",
    "said",
)

T = TypeVar("T")

#: ``process``: one computation for all tasks, loops and threads; ``host``: for all processes that share the disk tier.
FlightLevel: TypeAlias = Literal["process", "host"]
#: ``share``: callers share the stored object; the others give each caller an object of its own.
CopyMode: TypeAlias = Literal["share", "deepcopy", "decode"]
#: What a result that no tier can encode is: an error of the call, or a warning, once for each function.
OnUnencodable: TypeAlias = Literal["raise", "warn"]
StoreIf: TypeAlias = Callable[[Any], bool]
Coder: TypeAlias = Callable[[Any], Any]
#: How long a result is good: a duration, or what says so of each result.
Ttl: TypeAlias = Duration | Callable[[Any], Duration | None]
#: Exceptions that are results: types, or types and how long each is good.
CacheExceptions: TypeAlias = type[Exception] | Collection[type[Exception]] | Mapping[type[Exception], Duration | None]


@dataclass(frozen=True, slots=True)
class Options:
    """How results are kept. Times are in seconds; ``flight=None`` is the widest level the tiers offer."""

    ttl: float | Callable[[Any], Duration | None] | None = None
    jitter: float = 0.0
    timing: Timing = field(default_factory=Timing)
    timeout: float | None = None
    soft_timeout: float | None = None
    finish_in_background: bool = False
    cache_exceptions: Mapping[type[Exception], float | None] = field(
        default_factory=lambda: MappingProxyType(dict[type[Exception], float | None]())
    )
    flight: FlightLevel | None = None
    codec: Codec | None = None
    copy: CopyMode = "share"
    store_if: StoreIf | None = None
    encoder: Coder | None = None
    decoder: Coder | None = None
    typed: bool = True
    on_unencodable: OnUnencodable = "raise"

    @classmethod
    def build(
        cls,
        label: str,
        *,
        ttl: Ttl | None = None,
        jitter: Duration | None = None,
        idle: Duration | None = None,
        refresh_after: Duration | None = None,
        early_refresh: float | None = None,
        stale_ttl: Duration | None = None,
        stale_on_error: Duration | None = None,
        timeout: Duration | None = None,
        soft_timeout: Duration | None = None,
        finish_in_background: bool = False,
        cache_exceptions: CacheExceptions | None = None,
        flight: str | None = None,
        codec: Codec | str | None = None,
        copy: str = "share",
        store_if: StoreIf | None = None,
        encoder: Coder | None = None,
        decoder: Coder | None = None,
        typed: bool = True,
        on_unencodable: str = "raise",
    ) -> Options:
        """Check the options of ``label`` and return them.

        Raises :class:`~acache.exceptions.ConfigurationError`, naming the option, for a value it cannot be, or that contradicts
        another;
        :class:`~acache.exceptions.CustomResultDecoderRequiredError` or
        :class:`~acache.exceptions.CustomResultEncoderRequiredError` for an encoder or a decoder alone.
        """
        if encoder is not None and decoder is None:
            raise CustomResultDecoderRequiredError(label)
        if decoder is not None and encoder is None:
            raise CustomResultEncoderRequiredError(label, "it has a custom_result_decoder= and no encoder")
        for option, given in (("store_if", store_if), ("ttl", ttl)):
            _refuse_async(option, label, given)
        coders = (("custom_result_encoder", encoder), ("custom_result_decoder", decoder))
        for option, given in (("store_if", store_if), *coders):
            check_callable(option, label, given)
        options = cls(
            ttl=ttl if callable(ttl) else as_seconds(ttl),
            jitter=as_seconds(jitter, "jitter") or 0.0,
            timing=Timing(
                as_seconds(idle, "idle"),
                as_seconds(refresh_after, "refresh_after"),
                _positive("early_refresh", early_refresh),
                as_seconds(stale_ttl, "stale_ttl"),
                as_seconds(stale_on_error, "stale_on_error"),
            ),
            timeout=as_seconds(timeout, "timeout"),
            soft_timeout=as_seconds(soft_timeout, "soft_timeout"),
            finish_in_background=_flag("finish_in_background", label, finish_in_background),
            cache_exceptions=_exceptions(cache_exceptions, ttl),
            flight=_one_of("flight", flight, FlightLevel),
            codec=None if codec is None else get_codec(codec),
            copy=_one_of("copy", copy, CopyMode, optional=False),
            store_if=store_if,
            encoder=encoder,
            decoder=decoder,
            typed=_flag("typed", label, typed),
            on_unencodable=_one_of("on_unencodable", on_unencodable, OnUnencodable, optional=False),
        )
        options._refuse_contradictions(label)
        options._refuse_limits(label)
        return options

    @staticmethod
    def names() -> frozenset[str]:
        """Return the names of the options that :meth:`build` takes and users give by the same name."""
        return _NAMES

    @property
    def shares(self) -> bool:
        """Whether a caller may be given the very object the memory tier holds."""
        return self.copy == "share" and self.decoder is None

    @property
    def has_limits(self) -> bool:
        """Whether a caller may go before the computation is over."""
        return self.timeout is not None or self.soft_timeout is not None

    def private(self, value: Any) -> Any:
        """Return an object that shares nothing mutable with ``value``; ``value`` itself when sharing is wanted.

        Raises :class:`~acache.exceptions.ValueEncodingError` when ``copy="decode"`` cannot encode it, and whatever a class
        raises when it is copied.
        """
        if self.copy == "deepcopy":
            return copying.deepcopy(value)
        if self.copy == "decode":
            codec = self.codec or PickleCodec()
            return codec.decode(memoryview(codec.encode(value)))
        return value

    def ttl_of(self, value: Any) -> float | None:
        """Return how long a result is good. Raises what a callable ``ttl`` raises, and for what it returns."""
        return as_seconds(said(self.ttl(value))) if callable(self.ttl) else self.ttl

    def exception_ttl(self, error: Exception) -> tuple[bool, float | None]:
        """Tell whether an exception is a result, and for how long; the nearest of its classes counts."""
        for kind in type(error).__mro__:
            if kind in self.cache_exceptions:
                return True, self.cache_exceptions[kind]
        return False, None

    def require(self, label: str, *, hosts: bool, agrees: bool, tagged: bool) -> None:
        """Refuse what a cache without host locks, or one whose workers agree, cannot give.

        Raises :class:`~acache.exceptions.ConfigurationError`.
        """
        if self.flight == "host" and not hosts:
            raise ConfigurationError("flight", f"{label} asks for one flight per host, which needs a disk tier")
        if agrees and tagged:
            raise ConfigurationError("tags", f"{label}: workers that agree cannot all hear of an invalidation at once")
        if agrees and (self.cache_exceptions or not self.timing.is_plain):
            raise ConfigurationError(
                "memoize",
                f"{label}: a deterministic cache keeps what was stored first; idle=, refreshes, stale results "
                "and cache_exceptions= would divide its workers",
            )
        if agrees and (self.store_if is not None or self.on_unencodable == "warn"):
            raise ConfigurationError(
                "memoize",
                f"{label}: workers agree on what is stored, and store_if= and on_unencodable='warn' return what is not",
            )

    def _refuse_contradictions(self, label: str) -> None:
        timing = self.timing
        ends = None if callable(self.ttl) else self.ttl
        if self.jitter and self.ttl is None:
            raise ConfigurationError("jitter", f"{label} has no ttl= to vary")
        if timing.refresh_after is not None and ends is not None and timing.refresh_after >= ends:
            raise ConfigurationError(
                "refresh_after", f"{label}: it must be less than the ttl, or nothing is ever refreshed"
            )
        for option in ("stale_ttl", "stale_on_error"):
            if getattr(timing, option) is not None and self.ttl is None and timing.idle is None:
                raise ConfigurationError(option, f"{label} has no ttl= or idle= after which a result is stale")
        if timing.early is not None and self.ttl is None:
            raise ConfigurationError("early_refresh", f"{label} has no ttl= to be earlier than")
        if timing.idle is not None and ends is not None and timing.idle >= ends:
            raise ConfigurationError("idle", f"{label}: it must be less than the ttl, or it never ends anything")

    def _refuse_limits(self, label: str) -> None:
        if self.finish_in_background and not self.has_limits:
            raise ConfigurationError("finish_in_background", f"{label} has no timeout= after which it could go on")
        if None not in {self.timeout, self.soft_timeout} and cast("float", self.soft_timeout) >= cast(
            "float", self.timeout
        ):
            raise ConfigurationError("soft_timeout", f"{label}: it must be less than the timeout")
        if self.soft_timeout is not None and not self.timing.window:
            raise ConfigurationError(
                "soft_timeout", f"{label} keeps no stale results to serve: give stale_ttl= or stale_on_error="
            )


def check_callable(option: str, label: str, value: object) -> None:
    """Raise :class:`~acache.exceptions.ConfigurationError` for a ``value`` that cannot be called; ``None`` is none."""
    if value is not None and not callable(value):
        raise ConfigurationError(option, f"{label} needs a callable here, not {type(value).__name__}")


def check_count(option: str, label: str, value: object) -> int | None:
    """Return a whole number from 1 on, or ``None``; raise :class:`~acache.exceptions.ConfigurationError` for what is neither."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(option, f"{label} needs a whole number from 1 on")
    return value


def said(answer: T) -> T:
    """Return what a plain function of the user's has answered; raise :class:`TypeError` for what would have to be awaited.

    Such a thing is true, whatever it would come to.
    """
    if inspect.iscoroutine(answer):
        answer.close()
    if inspect.isawaitable(answer):
        raise TypeError("a plain function has answered with something to be awaited")
    return answer


def _refuse_async(option: str, label: str, given: object) -> None:
    if is_coroutine_function(given):
        raise ConfigurationError(option, f"{label} needs a plain function here: what it says is not awaited")


def _one_of(option: str, value: str | None, choices: Any, *, optional: bool = True) -> Any:
    known = get_args(choices)
    if value not in known and not (optional and value is None):
        raise ConfigurationError(option, f"unknown value {str(value)[:40]!r}; choose one of {', '.join(known)}")
    return value


def _flag(option: str, label: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(option, f"{label} needs True or False, not a {type(value).__name__}")
    return value


def _positive(option: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigurationError(option, "expected a number above 0; 1 is usual, more is earlier")
    return float(value)


def _exceptions(given: CacheExceptions | None, ttl: Ttl | None) -> Mapping[type[Exception], float | None]:
    if given is None:
        return MappingProxyType({})
    # No iterator: cache_with() builds the same options again.
    kinds = tuple(cast("Collection[Any]", given)) if isinstance(given, Collection) else (given,)
    for kind in kinds:  # before anything else: what is no class need not be hashable
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise ConfigurationError(
                "cache_exceptions", "expected subclasses of Exception, or a mapping of them to their ttl"
            )
    if isinstance(given, Mapping):
        ttls = cast("Mapping[type[Exception], Duration | None]", given)
        return MappingProxyType({kind: as_seconds(ttls[kind], "cache_exceptions") for kind in kinds})
    if callable(ttl):
        raise ConfigurationError("cache_exceptions", "with a callable ttl, give each its own: {ValueError: '10s'}")
    return MappingProxyType(dict.fromkeys(kinds, as_seconds(ttl)))


_NAMES = frozenset(inspect.signature(Options.build).parameters) - {"label", "encoder", "decoder", "typed"}
