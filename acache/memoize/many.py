"""Functions over a list of keys, memoized key by key: hits are taken, and the rest is asked for in few calls.

Each key is a call of its own to the engine, with an entry and a flight of its own. What they share is on both sides of
that: one reading of the tiers before, and one call of the function for those that are computed at the same time.
"""

from __future__ import annotations

import inspect
import re
from asyncio import gather
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from functools import partial, wraps
from typing import Any, Final, Protocol, TypeVar, Unpack, final, overload

from acache.bridge import run_in_worker, run_sync
from acache.callables import is_coroutine_function
from acache.clock import Duration, as_seconds
from acache.context import PLAIN, Scope, current_scope
from acache.engine import Batcher, Call, Costed, Engine, Route, check_count, find_many, refuse_unrepeatable, run_many
from acache.exceptions import AbsentKeyError, BatchResultError, ConfigurationError, KeyEncodingError, UserError
from acache.keys import canonical
from acache.keys.binding import Signature
from acache.keys.template import parse
from acache.locks import Limiter
from acache.memoize.decorate import MemoizeOptions, StandIn, Studio, check_options
from acache.memoize.function import ENTRY_METHODS, Memoized
from acache.memoize.method import is_in_class
from acache.memoize.protocols import AsyncMany, SyncMany
from acache.tiers.base import Tier
from acache.types import Entry, Key

__all__ = ("Many", "ManyDecorator", "MemoizeManyOptions")

K = TypeVar("K")
V = TypeVar("V")

_OWN_OPTIONS: Final = ("as_list", "max_batch", "window")
#: What the annotation of a result begins with, if it is no mapping.
_LISTS: Final = frozenset({"list", "List", "tuple", "Tuple", "Sequence", "MutableSequence"})


class MemoizeManyOptions(MemoizeOptions, total=False):
    """The options of ``memoize_many``: those of ``memoize``, which are about each key, and how keys become calls."""

    #: How long keys that are to be computed wait for those of other callers. Default: one turn of the event loop.
    window: Duration | None
    #: How many keys one call of the function gets at most.
    max_batch: int | None
    #: Whether the function returns a list, in the order of the keys, and not a dict. Default: what its annotation says.
    as_list: bool | None


class _AppliedMany(Protocol):
    """The decorator with its options given."""

    @overload
    def __call__(
        self, function: Callable[[list[K]], Coroutine[Any, Any, Mapping[K, V]]], /
    ) -> AsyncMany[K, V, dict[K, V]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[K]], Coroutine[Any, Any, Sequence[V]]], /
    ) -> AsyncMany[K, V, list[V]]: ...
    @overload
    def __call__(self, function: Callable[[list[K]], Mapping[K, V]], /) -> SyncMany[K, V, dict[K, V]]: ...
    @overload
    def __call__(self, function: Callable[[list[K]], Sequence[V]], /) -> SyncMany[K, V, list[V]]: ...


@final
class ManyDecorator:
    """Memoize a function over a list of keys: bare (``@cache.memoize_many``) or with options."""

    __slots__ = ("_studio",)

    def __init__(self, studio: Callable[[], Studio]) -> None:
        self._studio = studio

    def __repr__(self) -> str:
        return "<decorator memoize_many>"

    @overload
    def __call__(
        self, function: Callable[[list[K]], Coroutine[Any, Any, Mapping[K, V]]], /
    ) -> AsyncMany[K, V, dict[K, V]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[K]], Coroutine[Any, Any, Sequence[V]]], /
    ) -> AsyncMany[K, V, list[V]]: ...
    @overload
    def __call__(self, function: Callable[[list[K]], Mapping[K, V]], /) -> SyncMany[K, V, dict[K, V]]: ...
    @overload
    def __call__(self, function: Callable[[list[K]], Sequence[V]], /) -> SyncMany[K, V, list[V]]: ...
    @overload
    def __call__(self, /, **options: Unpack[MemoizeManyOptions]) -> _AppliedMany: ...
    def __call__(self, function: Any = None, /, **options: Any) -> Any:
        """Decorate ``function``, or return a decorator with these options.

        Raises :class:`~acache.exceptions.ConfigurationError` for an option that cannot be, and for a function that takes anything
        but a list of keys.
        """
        studio = self._studio()
        check_options({name: value for name, value in options.items() if name not in _OWN_OPTIONS})
        if function is not None:
            return _face(Many(studio, function, options))

        def apply(function: Any) -> Any:
            return _face(Many(studio, function, options))

        return apply


@final
class Many:
    """What stands behind a function over many keys."""

    def __init__(self, studio: Studio, function: Any, options: dict[str, Any]) -> None:
        own = {name: options.get(name) for name in _OWN_OPTIONS}
        rest = {name: value for name, value in options.items() if name not in _OWN_OPTIONS}
        self.function = _checked(function)
        self.is_async = is_coroutine_function(function)
        self._engine: Final[Engine] = studio.engine
        label = getattr(function, "__qualname__", type(function).__name__)
        self._as_list: Final = _as_list(label, function, own["as_list"])
        _refuse_hosts(label, rest)
        # Other calls than those of the same function memoized as a whole, so another key space.
        rest |= {"flight": "process", "version": ("many", rest.get("version")), "max_concurrency": None}
        clock = studio.engine.clock
        self._readings: Batcher[Call, tuple[Entry, Tier] | None] = Batcher(label, self._find_all, clock)
        self._loads: Batcher[Any, Costed] = Batcher(
            label,
            self._load_all,
            clock,
            window=_window(label, own["window"]),
            max_batch=check_count("max_batch", label, own["max_batch"]),
        )
        stand_in = StandIn(_named_as(function, self._load_one), self._find, present=self._present)
        #: The function of one key.
        self.single: Memoized = studio.memoized(function, "memoize", rest, stand_in)
        _refuse_one_for_all(self.single, rest.get("key"))
        self._limiter: Final[Limiter | None] = studio.registry.limiter(
            self.single.recipe, options.get("max_concurrency")
        )

    # --- what callers ask -----------------------------------------------------------------------------------------

    async def load(self, keys: Iterable[Any]) -> Any:
        """Return the results for ``keys`` as the function would: a dict in their order, or a list.

        Of a dict, what the function did not return is absent. A failing call fails for those who wait for one of its keys.
        """
        asked = self._asked(keys)
        route = self._engine.route("memoize", current_scope())
        if route is Route.BYPASS or not asked:
            return await self._load_uncached(asked)
        prepared = await self.single.prepare_many(((key,) for key in asked), {})
        calls: dict[Key, Call] = {}
        for key, ready in zip(asked, prepared, strict=True):
            if ready.key not in calls:  # what key= takes for the same as one before is given the result of that one
                calls[ready.key] = self.single.call_for((key,), ready)
        outcomes = dict(zip(calls, await run_many(self._engine, list(calls.values()), route), strict=True))
        return self._shaped(asked, [ready.key for ready in prepared], outcomes)

    def load_sync(self, keys: Iterable[Any]) -> Any:
        """Do as :meth:`load` from a plain thread."""
        return run_sync(self.load, keys)

    def _asked(self, keys: Iterable[Any]) -> list[Any]:
        """Return what the results are to be for. In a dict the first of keys that are equal stands for all of them."""
        if self._as_list:
            return list(keys)
        return [key for (key,) in dict.fromkeys(map(self._name, keys))]

    def _shaped(self, asked: list[Any], names: Sequence[Hashable], outcomes: Mapping[Any, Any]) -> Any:
        """Return the outcomes as the function would, by the names of what was asked for; raise the first that is an error."""
        for outcome in outcomes.values():
            if isinstance(outcome, BaseException) and not (
                isinstance(outcome, AbsentKeyError) and outcome.label == self.single.recipe.label
            ):
                raise outcome
        found = [(key, _bare(outcomes[name])) for key, name in zip(asked, names, strict=True)]
        if self._as_list:
            return [value for _, value in found]
        return {key: value for key, value in found if not isinstance(value, AbsentKeyError)}

    async def _load_uncached(self, asked: list[Any]) -> Any:
        """Compute without the cache, in the same batches as with it: the function may bear no more."""
        if asked:
            self._engine.bypass(self.single.recipe.label, self.single.counters)
        names: Sequence[Hashable] = [_exactly(key) for key in asked] if self._as_list else asked
        once = dict(zip(names, asked, strict=True))
        outcomes = await gather(*map(self._load_one, once.values()), return_exceptions=True)
        return self._shaped(asked, names, dict(zip(once, outcomes, strict=True)))

    def _present(self, single: Memoized) -> Any:
        """Return what callers see of the same function with other options for its keys."""
        _refuse_hosts(single.recipe.label, single.given)
        other = copy(self)
        other.single = single
        return _face(other)

    # --- what the engine asks -------------------------------------------------------------------------------------

    async def _find(self, call: Call) -> tuple[Entry, Tier] | None:
        return await self._readings.ask(call, id(call.options))  # which say what is good enough

    async def _find_all(self, calls: list[Call]) -> list[tuple[Entry, Tier] | None]:
        found = await find_many(self._engine, calls)
        return [found.get(call.key) for call in calls]

    async def _load_one(self, key: Any) -> Costed:
        # What the function reads of the scope of its caller must be the same for all whose keys it gets.
        return await self._loads.ask(key, _group(current_scope()), self._name(key))

    async def _load_all(self, keys: list[Any]) -> list[Costed | BaseException]:
        async with nullcontext() if self._limiter is None else self._limiter.hold():
            started = self._engine.clock.monotonic()
            result = await self._call(keys)
            share = (self._engine.clock.monotonic() - started) / len(keys)
        values = self._values(keys, result)
        return [value if isinstance(value, AbsentKeyError) else Costed(value, share) for value in values]

    def _name(self, key: Any) -> tuple[Any]:
        """Return what is equal for keys that the function could take for one, whatever their types: a tuple of one."""
        try:
            hash(key)
        except TypeError:
            if self._as_list:
                return (_loosely(key),)
            label = self.single.recipe.label
            raise UserError(f"{label} returns a dict, so its keys are to be hashable") from None
        return (key,)

    # --- the function ---------------------------------------------------------------------------------------------

    async def _call(self, keys: list[Any]) -> Any:
        # Its own list: a function may sort what it is given.
        if self.is_async:
            return await self.function(list(keys))
        return await run_in_worker(partial(self.function, list(keys)))

    def _values(self, keys: list[Any], result: Any) -> list[Any]:
        """Return the result for each of ``keys``, an exception for one that has none."""
        label = self.single.recipe.label
        refuse_unrepeatable(label, result)
        if not self._as_list:
            if not isinstance(result, Mapping):
                raise BatchResultError(label, f"a dict was expected, not a {type(result).__name__} (see as_list=)")
            absent = AbsentKeyError(label)
            values: Mapping[Any, Any] = result  # pyright: ignore[reportUnknownVariableType] - of anything
            return [values.get(key, absent) for key in keys]
        if not isinstance(result, (list, tuple)):
            raise BatchResultError(label, f"a list was expected, not a {type(result).__name__} (see as_list=)")
        items: list[Any] = list(result)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - as above
        if len(items) != len(keys):
            raise BatchResultError(label, f"it got {len(keys)} keys and returned {len(items)} results")
        return items


def _face(many: Many) -> Any:
    single = many.single
    face: Any
    if many.is_async:

        @wraps(many.function)
        async def async_many(keys: Iterable[Any]) -> Any:
            return await many.load(keys)

        face = async_many
    else:

        @wraps(many.function)
        def sync_many(keys: Iterable[Any]) -> Any:
            return many.load_sync(keys)

        face = sync_many
    for name in ENTRY_METHODS:
        setattr(face, name, getattr(single, name))
    face.one = single.aio if many.is_async else single.sync
    face.aio, face.sync = many.load, many.load_sync
    face.__acache__ = single
    face.__acache_wrapped__ = many.function
    return face


def _checked(function: Any) -> Callable[[list[Any]], Any]:
    """Raise unless ``function`` can be called with a list of keys, and nothing else."""
    name = getattr(function, "__qualname__", type(function).__name__)
    try:
        inspect.signature(function).bind([])
    except TypeError:
        raise ConfigurationError("memoize_many", f"{name} is to take one argument, the list of keys") from None
    if inspect.isasyncgenfunction(function):
        raise UserError(f"{name} is an async generator function: return a dict or a list, with a result for each key")
    if is_in_class(function):
        raise ConfigurationError("memoize_many", f"{name} is a method; decorate a function of the list of keys")
    checked: Callable[[list[Any]], Any] = function
    return checked


def _returns_list(function: Callable[..., Any]) -> bool:
    """Tell from the annotation of a function's result whether it is a list; it may be a text that cannot be evaluated."""
    annotation = inspect.signature(function).return_annotation
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    match = re.match(r"[\s\"']*(?:\w+\.)*(\w+)", text)
    return match is not None and match[1] in _LISTS


def _refuse_hosts(label: str, options: Mapping[str, Any]) -> None:
    if options.get("flight") not in {None, "process"}:
        raise ConfigurationError("flight", f"{label}: many keys are computed once for each process")


def _refuse_one_for_all(single: Memoized, key: object) -> None:
    """Raise if an entry does not depend on the list, so that all keys would have the result of one of them."""
    label = single.recipe.label
    keys = frozenset(Signature.of(single.raw, label).names[:1])
    if key is None and not keys.issubset(single.recipe.plain_parameters):
        raise ConfigurationError(
            "ignore", f"{label}: without its list all keys would be one; name other parameters only"
        )
    if isinstance(key, str) and not any(field.parameter in keys for field in parse(key, label)):
        raise ConfigurationError(
            "key", f"{label}: without its list all keys would be one; give the template a field of it"
        )


def _as_list(label: str, function: Callable[..., Any], given: object) -> bool:
    if given is None:
        return _returns_list(function)
    if not isinstance(given, bool):
        raise ConfigurationError("as_list", f"{label} needs True or False")
    return given


def _window(label: str, given: Duration | None) -> float:
    window = as_seconds(given, "window")
    if window is None and given is not None:  # infinite
        raise ConfigurationError("window", f"{label}: keys would wait for ever")
    return window or 0.0


def _named_as(function: Any, body: Callable[[Any], Coroutine[Any, Any, Costed]]) -> Callable[..., Any]:
    @wraps(function)
    async def single(key: Any) -> Costed:
        return await body(key)

    return single


def _bare(outcome: Any) -> Any:
    return outcome.value if isinstance(outcome, Costed) else outcome


def _loosely(key: Any) -> object:
    """Return what is equal for keys that are equal and cannot be hashed."""
    return _encoded(key, typed=False)


def _exactly(key: Any) -> object:
    """Return what is equal for keys that are the same."""
    return _encoded(key, typed=True)


def _encoded(key: Any, *, typed: bool) -> object:
    try:
        return canonical(key, typed=typed)
    except KeyEncodingError:  # of which custom_params_encoder= makes something else: it equals no other
        return object()


def _group(scope: Scope) -> Hashable:
    return (
        None if scope is PLAIN else canonical((dict(scope.factors), scope.disabled, scope.recompute, scope.read_only))
    )
