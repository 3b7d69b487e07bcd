"""The decorators: one callable object for each verb, used bare or with options, on every kind of function."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, cast, final, overload

from acache.clock import Duration
from acache.codecs import Codec
from acache.context import DEFAULT_SCHEMA, IsolationSchema, Scope, check_schema, on_reprobe
from acache.engine import (
    CacheExceptions,
    Call,
    CopyMode,
    Engine,
    FlightLevel,
    OnUnencodable,
    Options,
    StoreIf,
    Ttl,
    Verb,
    check_callable,
)
from acache.exceptions import ConfigurationError, UserError
from acache.keys import KeyRecipe, TagRecipe, Tags
from acache.memoize.function import ENTRY_METHODS, FACE_METHODS, Memoized
from acache.memoize.hot import CLOSED, Gate, is_constant
from acache.memoize.method import MemoizedMethod, is_in_class
from acache.memoize.protocols import AsyncMemoized, StreamMemoized, SyncMemoized
from acache.memoize.registry import Registry
from acache.memoize.streams import check_stream, collector, stream_face
from acache.tiers.base import Tier
from acache.types import Entry

__all__ = ("Decorator", "MemoizeOptions", "StandIn", "Studio", "check_options", "memoized_of")

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound="classmethod[Any, ..., Any] | staticmethod[..., Any]")


class MemoizeOptions(TypedDict, total=False):
    """The options of ``memoize``, ``record`` and ``replay``."""

    #: How long a result is good: seconds, a timedelta, "10m", or a callable that says so of a result. Default: for ever.
    ttl: Ttl | None
    #: Up to so much is added to the ttl, by the key, so that results made together do not end together.
    jitter: Duration | None
    #: How long a result is good without being used.
    idle: Duration | None
    #: Refresh a result that is older behind the caller who asks for it.
    refresh_after: Duration | None
    #: Refresh, behind a caller, with a chance that grows as the ttl ends: by so many times the cost (XFetch; 1 is usual).
    early_refresh: float | None
    #: For how long after its time a result is served while it is refreshed behind the caller.
    stale_ttl: Duration | None
    #: For how long after its time a result is served when computing fails.
    stale_on_error: Duration | None
    #: After so long a stale result is served, if there is one; the computation goes on.
    soft_timeout: Duration | None
    #: After so long a caller gets ``ComputeTimeoutError``.
    timeout: Duration | None
    #: Whether a computation goes on when its last caller has timed out.
    finish_in_background: bool
    #: Exceptions that are stored as results: types, or a mapping of types to how long each is good.
    cache_exceptions: CacheExceptions | None
    #: What names a call instead of its arguments: a callable over them, or a template such as ``"u:{user.id}"``. Functions of one
    #: name, lambdas for one, share their keys: each has to have keys, or a template, of its own.
    key: Callable[..., Any] | str | None
    #: The name of a parameter that is no part of the key, or several names.
    ignore: str | Collection[str]
    #: Part of the function's identity: change it when the function's meaning changes.
    version: Any
    #: Whether ``1``, ``1.0`` and ``True`` are different arguments (the default).
    typed: bool
    #: The groups a result belongs to, for ``invalidate_tags()``: a text, a template such as ``"user:{user.id}"``, a callable that is
    #: given the result and the arguments, or several of these.
    tags: Tags | None
    #: How far one computation serves; default: as far as the tiers reach.
    flight: FlightLevel | None
    #: How many computations of the function may run at once, over all tasks, loops and threads. Default: any number.
    max_concurrency: int | None
    #: Of an async generator function: a stream of more bytes, by estimate, is not stored. Default: 64 MiB.
    max_stream_bytes: int
    #: How results become bytes: "pickle", "json", "raw" or a codec. Default: the tier's own.
    codec: Codec | str | None
    #: Whether callers share the stored object.
    copy: CopyMode
    #: What a result that no tier can encode is: "raise" (an error, the default), or "warn": returned, with one warning.
    on_unencodable: OnUnencodable
    #: Store a result only if this returns true for it.
    store_if: StoreIf | None
    #: Which forms of the environment are part of the key.
    ischema: IsolationSchema | None
    #: Turn the arguments into something a key can hold; may be async.
    custom_params_encoder: Callable[..., Any] | None
    #: Turn a result into what is stored, and back; both or neither; may be async.
    custom_result_encoder: Callable[[Any], Any] | None
    custom_result_decoder: Callable[[Any], Any] | None


class _Applied(Protocol):
    """A decorator with its options given."""

    # A coroutine function is a callable too, and a staticmethod; the first overload that fits is meant.
    @overload
    def __call__(self, function: F, /) -> F: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncMemoized[P, R]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, function: Callable[P, AsyncIterator[R]], /) -> StreamMemoized[P, R]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncMemoized[P, R]: ...


@final
class Decorator:
    """A verb to decorate functions with, bare (``@cache.memoize``) or with options (``@cache.memoize(ttl="10m")``)."""

    __slots__ = ("_studio", "verb")

    def __init__(self, verb: Verb, studio: Callable[[], Studio]) -> None:
        self.verb: Verb = verb
        self._studio = studio

    def __repr__(self) -> str:
        return f"<decorator {self.verb}>"

    # A coroutine function is a callable too, and a staticmethod; the first overload that fits is meant.
    @overload
    def __call__(self, function: F, /) -> F: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncMemoized[P, R]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, function: Callable[P, AsyncIterator[R]], /) -> StreamMemoized[P, R]: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncMemoized[P, R]: ...
    @overload
    def __call__(self, /, **options: Unpack[MemoizeOptions]) -> _Applied: ...
    def __call__(self, function: Any = None, /, **options: Any) -> Any:
        """Decorate ``function``, or return a decorator with these options.

        Raises :class:`~acache.exceptions.ConfigurationError` for an option it does not know or that cannot be, and
        :class:`~acache.exceptions.UserError` for a function whose results cannot be kept (a generator function; one
        that is async is welcome).
        """
        studio = self._studio()
        if function is not None:
            return studio.decorate(function, self.verb, options)
        check_options(options)

        def apply(function: Any) -> Any:
            return studio.decorate(function, self.verb, options)

        return apply


@final
@dataclass(frozen=True, slots=True)
class StandIn:
    """What carries out the calls of a function in its place, and looks for what is stored of them."""

    function: Callable[..., Any]
    find: Callable[[Call], Awaitable[tuple[Entry, Tier] | None]] | None = None
    #: How many bytes are stored at most of what an async generator function yields.
    stream_limit: int | None = None
    #: Makes what callers see of the function with other options; ``None``: as for any other.
    present: Callable[[Memoized], Any] | None = None


@final
class Studio:
    """Where one cache's functions are decorated: its engine, its namespace, its registry, and the gates of hot paths."""

    def __init__(self, engine: Engine, namespace: str) -> None:
        self.engine = engine
        self.namespace = namespace
        self.registry = Registry()
        self._plain: Scope = CLOSED
        self._gates: dict[IsolationSchema, Gate] = {}
        on_reprobe(self._change_forms)  # held weakly, as is the other
        engine.chain.stamps.listeners.add(self._forget_tagged)

    def open_gates(self, plain: Scope) -> None:
        """Let calls in the scope ``plain`` take the hot path, where their schema lets them; ``CLOSED``: none."""
        self._plain = plain
        for schema, gate in list(self._gates.items()):
            gate.plain = CLOSED if _is_volatile(schema) else plain

    def _gate(self, schema: IsolationSchema) -> Gate:
        gate = self._gates.get(schema)
        if gate is None:
            gate = self._gates.setdefault(schema, Gate())
            self.open_gates(self._plain)
        return gate

    def _change_forms(self) -> None:
        self.open_gates(self._plain)
        for memoized in self.registry.alive():
            memoized.cells.forget()

    def _forget_tagged(self) -> None:
        for memoized in self.registry.alive():
            if memoized.cells.tagged:
                memoized.cells.forget()

    def decorate(self, function: Any, verb: Verb, options: dict[str, Any]) -> Any:
        """Return ``function`` memoized: a function, or a descriptor for one that lives in a class."""
        if isinstance(function, staticmethod):
            inner = cast("staticmethod[..., Any]", function).__func__
            return staticmethod(self._face(self.memoized(inner, verb, options)))
        if isinstance(function, classmethod):
            memoized = self.memoized(cast("classmethod[Any, ..., Any]", function).__func__, verb, options)
            return MemoizedMethod(memoized, self._face(memoized), owner_first=True)
        memoized = self.memoized(function, verb, options)
        face = self._face(memoized)
        return MemoizedMethod(memoized, face) if is_in_class(memoized.function) else face

    def memoized(self, function: Any, verb: Verb, options: dict[str, Any], stand_in: StandIn | None = None) -> Memoized:
        """Check the options and build what stands behind a face.

        With a ``stand_in``, ``function`` names the calls, and that carries them out.
        """
        check_options(options)
        if not callable(function):
            raise ConfigurationError(verb, f"decorate a function, not a {type(function).__name__}")
        known = memoized_of(function)
        if known is not None and known.engine is self.engine:
            function = known.raw  # one raw function, under another verb
        _refuse_generators(function)
        if inspect.isasyncgenfunction(function):
            stand_in = StandIn(collector(function), stream_limit=check_stream(_name(function), self.engine, options))
        elif options.get("max_stream_bytes") is not None:
            raise ConfigurationError("max_stream_bytes", f"{_name(function)} is no async generator function")
        key, encoder = options.get("key"), options.get("custom_params_encoder")
        ignore = _ignored(_name(function), options.get("ignore", ()))
        recipe = KeyRecipe(
            function,
            namespace=self.namespace,
            version=options.get("version"),
            key=key,
            ignore=ignore,
            typed=options.get("typed", True),
        )
        given = {name: value for name, value in options.items() if name in Options.names() | {"typed"}}
        given["encoder"] = options.get("custom_result_encoder")
        given["decoder"] = options.get("custom_result_decoder")
        built = Options.build(recipe.label, **given)
        tags = options.get("tags")
        self.engine.check(recipe.label, built, tagged=tags is not None)
        memory = self.engine.chain.memory
        check_callable("custom_params_encoder", recipe.label, encoder)
        schema = options.get("ischema")
        schema = DEFAULT_SCHEMA if schema is None else check_schema(recipe.label, schema)
        memoized = Memoized(
            function if stand_in is None else stand_in.function,
            verb=verb,
            recipe=recipe,
            options=built,
            given=given,
            schema=schema,
            params_encoder=encoder,
            engine=self.engine,
            gate=self._gate(schema),
            counters=self.registry.admit(recipe, key),
            limiter=self.registry.limiter(recipe, options.get("max_concurrency")),
            find=None if stand_in is None else stand_in.find,
            raw=function,
            hot=verb != "record" and memory is not None and built.shares and encoder is None and _says_all(key, recipe),
            skip_self=_first_parameter(function) in ignore,
            tags=None if tags is None else TagRecipe(recipe.identity, tags),
            stream_limit=None if stand_in is None else stand_in.stream_limit,
            present=self._face if stand_in is None or stand_in.present is None else stand_in.present,
        )
        self.registry.add(memoized)
        return memoized

    def _face(self, memoized: Memoized) -> Any:
        limit = memoized.stream_limit
        call = memoized.aio if memoized.is_async else memoized.sync
        face: Any = call if limit is None else stream_face(memoized, limit)
        for name in FACE_METHODS if limit is None else ENTRY_METHODS:
            setattr(face, name, getattr(memoized, name))
        face.__acache__ = memoized
        face.__acache_wrapped__ = memoized.raw
        return face


def memoized_of(function: Any) -> Memoized | None:
    """Return what stands behind a memoized function or method; ``None`` for any other."""
    memoized = getattr(function, "__acache__", None)
    return memoized if isinstance(memoized, Memoized) else None


def check_options(options: dict[str, Any]) -> None:
    """Raise :class:`~acache.exceptions.ConfigurationError` for an unknown option."""
    known = MemoizeOptions.__annotations__
    for name in options:
        if name not in known:
            raise ConfigurationError(name, f"unknown option; known options: {', '.join(sorted(known))}")


def _is_volatile(schema: IsolationSchema) -> bool:
    try:
        return schema.is_volatile
    except ConfigurationError:  # a form it names is no longer registered: the full path says so to each caller
        return True


def _says_all(key: object, recipe: KeyRecipe) -> bool:
    """Tell whether calls with the same arguments have the same key: for others it is made anew each time.

    What a callable ``key=`` reads besides the arguments is unknown, and defaults and what is bound may change.
    """
    return not callable(key) and all(map(is_constant, recipe.implied))


def _refuse_generators(function: Any) -> None:
    if inspect.isgeneratorfunction(function):
        raise UserError(
            f"{_name(function)} is a generator function: what it yields can be used only once; return a list, "
            f"or make it an async generator function"
        )


def _ignored(label: str, ignore: object) -> tuple[str, ...]:
    """Return the names to ignore: a text is one of them, and not so many letters."""
    if isinstance(ignore, str):
        return (ignore,)
    names: tuple[object, ...] = tuple(ignore) if isinstance(ignore, Collection) else (None,)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - of anything
    texts = tuple(name for name in names if isinstance(name, str))
    if len(texts) != len(names):
        raise ConfigurationError(
            "ignore", f"{label} needs the name of a parameter, or a tuple of names, such as ('self',)"
        )
    return texts


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _first_parameter(function: Any) -> str | None:
    try:
        return next(iter(inspect.signature(function).parameters), None)
    except (TypeError, ValueError):
        return None
