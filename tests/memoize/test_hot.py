"""The hot path: it serves what is live, steps aside when it must, and keeps nothing alive."""

from __future__ import annotations

import asyncio
import enum
import functools
import gc
import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from acache import FastCache, MemoryTier, config, isolate
from acache.events import Events
from acache.exceptions import CustomParamsEncoderRequiredError
from acache.keys import KeyRecipe
from acache.keys.limits import ITEM_SIZE
from acache.keys.walk import Walk
from acache.memoize import memoized_of
from acache.memoize.hot import MAX_SHAPES, NOWHERE, Cells
from acache.testing import ManualClock

Define = Callable[[Callable[..., Any]], Callable[..., Any]]
Call = Callable[..., Any]


@pytest.fixture
def keys_built(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Count the keys that are built: a hot hit builds none."""
    built: list[object] = []
    digest = KeyRecipe.digest

    def counted(self: KeyRecipe, *args: Any, **kwargs: Any) -> Any:
        built.append(args)
        return digest(self, *args, **kwargs)

    monkeypatch.setattr(KeyRecipe, "digest", counted)
    return built


async def test_a_hot_hit_builds_no_key(cache: FastCache, define: Define, call: Call, keys_built: list[object]) -> None:
    """The first call makes a key; later calls with equal arguments of exact types make none, and are counted."""

    @cache.memoize(ttl=60)
    @define
    def f(x: int, name: str = "", *, scale: float = 1.5) -> int:
        return x

    for _ in range(10):
        await call(f, 1, "a", scale=2.5)
    assert len(keys_built) == 1
    assert f.cache_info().hits == 9


def test_a_keyword_of_any_name_has_a_hot_path(cache: FastCache, keys_built: list[object]) -> None:
    """What the tables call their own object is no name of theirs: a keyword ``self`` is found as any other."""

    @cache.memoize
    def f(**fields: int) -> dict[str, int]:
        return fields

    for _ in range(3):
        assert f(self=1) == {"self": 1}
    assert len(keys_built) == 1


@pytest.mark.parametrize(
    "value", [([1],), [1], {1: 2}, 0.0, (0.0,), (((((1,),),),),), frozenset({1}), range(3)], ids=repr
)
async def test_coarse_equality_takes_the_full_path(
    cache: FastCache, define: Define, call: Call, keys_built: list[object], value: Any
) -> None:
    """Arguments whose equality is coarser than their key's never get a cell."""

    @cache.memoize
    @define
    def f(x: Any) -> str:
        return repr(x)

    for _ in range(3):
        assert await call(f, value) == repr(value)
    assert len(keys_built) == 3
    assert f.cache_info().hits == 2


EQUAL: tuple[tuple[Any, ...], ...] = (
    *((1,), (True,), (1.0,), ((1,),), ((True,),), ((), 1), ((1,), ()), (1, ()), (), ((),), ("a", "b"), (("a",), "b")),
    *((b"a", "b"), (None,), (("a", "b"),), ("int", 1), (int("1"), "x"), (2.5,)),
)


async def test_tuples_are_taken_apart(cache: FastCache, define: Define, call: Call, keys_built: list[object]) -> None:
    """Tuples of exact types have a hot path too, and equal ones of other types, or of another shape, have another result."""

    @cache.memoize
    @define
    def f(x: Any, *, flags: Any = ()) -> str:
        return repr((x, flags))

    for _ in range(3):
        for value in EQUAL:
            assert await call(f, value) == repr((value, ()))
            assert await call(f, 1, flags=value) == repr((1, value))
    assert len(keys_built) == 2 * len(EQUAL)
    assert f.cache_info().hits == 4 * len(EQUAL)


class Hashed:
    """Has a key, and a hash that is never to be asked for."""

    def __cache_key__(self) -> str:
        return "hashed"

    def __hash__(self) -> int:
        raise ValueError("hashing may fail, take long, or never end")


@dataclass(frozen=True)
class Frozen:
    """Its hash is that of its fields."""

    item: Any


@pytest.mark.parametrize(
    "value",
    [Hashed(), (Hashed(),), ((1, (Hashed(),)),), Frozen(Hashed()), Frozen((Hashed(),))],
    ids=["object", "tuple", "tuples", "frozen", "frozen tuple"],
)
async def test_only_what_nests_nothing_is_hashed(cache: FastCache, define: Define, call: Call, value: Any) -> None:
    """A hash knows none of the limits of keys, and may be the user's, so it is not asked for where it says nothing."""

    @cache.memoize(version=1)
    @define
    def f(x: Any, *, y: Any = None) -> int:
        return 1

    assert [await call(f, value), await call(f, value), await call(f, 1, y=value)] == [1, 1, 1]
    assert f.cache_info().hits == 1


def nested(depth: int) -> Any:
    """Return tuples in tuples."""
    value: tuple[Any, ...] = ()
    for _ in range(depth):
        value = (value,)
    return value


def doubled(times: int) -> Any:
    """Return a tuple that has its parts twice at every level, and so takes no room and no end of time."""
    value: Any = 1
    for _ in range(times):
        value = (value, value)
    return value


def bare(value: Any) -> Any:
    """Return the value itself."""
    return value


def listed(value: Any) -> Any:
    """Return a list of the value."""
    return [value]


@pytest.mark.parametrize("wrap", [bare, Frozen, listed])
@pytest.mark.parametrize("make", [lambda: nested(200_000), lambda: doubled(100)], ids=["deep", "doubled"])
async def test_the_limits_hold_for_tuples(
    cache: FastCache, define: Define, call: Call, monkeypatch: pytest.MonkeyPatch, make: Any, wrap: Any
) -> None:
    """K8: an argument beyond the limits is an error that names the function, before anything walks all of it."""
    monkeypatch.setattr(Walk, "left", 100 * ITEM_SIZE)  # the same, sooner

    @cache.memoize
    @define
    def f(x: Any, *, y: int = 0) -> int:
        raise AssertionError("it has no key")

    for keywords in ({}, {"y": 1}):
        with pytest.raises(CustomParamsEncoderRequiredError, match=r"an argument of .*\.f cannot be part of a key"):
            await call(f, wrap(make()), **keywords)


def test_a_large_tuple_is_not_taken_apart() -> None:
    """What has more parts than a few hundred, at any depth, is left to the full path; what has fewer is not."""
    cells = Cells()
    wide = tuple([0] * 1_000_000)  # a type checker would count (0,) * 1_000_000
    for value, is_large in ((wide, True), ((wide,) * 1000, True), (doubled(4), False), (tuple([0] * 200), False)):
        assert (cells.find((value,), {}) is NOWHERE) is is_large
        assert (cells.find((), {"x": value}) is NOWHERE) is is_large


async def test_shapes_beyond_the_first_share_a_table(
    cache: FastCache, define: Define, call: Call, keys_built: list[object]
) -> None:
    """Whatever combinations of types a function is called with, equal calls are hits, and no others."""

    @cache.memoize
    @define
    def f(*args: Any) -> str:
        return repr(args)

    calls = [args for size in range(5) for args in itertools.product([1, True, 1.0, "1", None], repeat=size)]
    calls.append(tuple([1] * 100))
    for _ in range(3):
        for args in calls:
            assert await call(f, *args) == repr(args)
    assert len(keys_built) == len(calls)
    assert f.cache_info().hits == 2 * len(calls)


async def test_the_functions_own_errors_are_its_own(cache: FastCache, define: Define, call: Call) -> None:
    """An error such as a look-up of cells raises is the function's, when that raises it: the function ran once."""
    runs: list[object] = []

    @cache.memoize
    @define
    def f(*args: Any, error: Any = KeyError) -> None:
        runs.append(args)
        raise error

    for args in ((), (1,), (1, 2), (1, 2, 3), (0.0,), ((1,),), ([1],)):
        runs.clear()
        with pytest.raises(KeyError):
            await call(f, *args)
        assert runs == [args]
        with pytest.raises(TypeError):
            await call(f, *args, error=TypeError)
        assert runs == [args, args]


async def test_a_method_ignores_itself_there_too(cache: FastCache) -> None:
    """An ignored ``self`` has no part in finding the cell of a call with tuples, and is not kept alive."""

    class Compiler:
        @cache.memoize(ignore=("self",))
        async def build(self, flags: tuple[str, ...]) -> int:
            return id(self)

    first = Compiler()
    built = await first.build(("-O2",))
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    assert await Compiler().build(("-O2",)) == built


async def test_arguments_of_user_classes_are_not_kept_alive(cache: FastCache, define: Define, call: Call) -> None:
    """A call keeps its result, not the objects it was made with."""

    class Handle:
        def __cache_key__(self) -> str:
            return "handle"

    @cache.memoize(version=1)
    @define
    def f(handle: Handle) -> int:
        return 1

    handle = Handle()
    gone = weakref.ref(handle)
    await call(f, handle)
    await call(f, handle)
    del handle
    gc.collect()
    assert gone() is None


async def test_an_object_that_changes_is_another_argument(cache: FastCache, define: Define, call: Call) -> None:
    """An object with the same identity but another cache key gets another result."""

    class Config:
        level = 1

        def __cache_key__(self) -> int:
            return self.level

    @cache.memoize(version=1)
    @define
    def f(config: Config) -> int:
        return config.level

    config = Config()
    assert await call(f, config) == 1
    config.level = 2
    assert await call(f, config) == 2


class Color(enum.IntEnum):
    """An enum whose members equal integers."""

    RED = 1


async def test_enum_members_and_numbers_stay_apart(cache: FastCache, define: Define, call: Call) -> None:
    """A member that equals 1 is not the argument 1."""

    @cache.memoize
    @define
    def f(x: Any) -> str:
        return type(x).__name__

    assert [await call(f, 1), await call(f, Color.RED), await call(f, 1)] == ["int", "Color", "int"]


async def test_a_dead_entry_sends_the_call_down_the_full_path(clock: ManualClock, define: Define, call: Call) -> None:
    """After invalidation, eviction, expiry, a new set or clear, the hot path never serves the old value."""
    cache = FastCache(MemoryTier(max_entries=2, policy="lru", clock=clock))
    runs: list[int] = []

    @cache.memoize(ttl=10)
    @define
    def f(x: int) -> int:
        runs.append(x)
        return len(runs)

    assert [await call(f, 1), await call(f, 1)] == [1, 1]
    await f.cache_invalidate(1)
    assert [await call(f, 1), await call(f, 1)] == [2, 2]
    await f.cache_set(99, 1)
    assert [await call(f, 1), await call(f, 1)] == [99, 99]
    clock.advance(11)
    assert [await call(f, 1), await call(f, 1)] == [3, 3]
    await cache.clear()
    assert [await call(f, 1), await call(f, 1)] == [4, 4]
    for other in range(10, 16):
        await call(f, other)
    assert await call(f, 1) > 4


async def test_other_scopes_and_switches_close_the_hot_path(
    cache: FastCache, define: Define, call: Call, keys_built: list[object]
) -> None:
    """A factor, a listener or a process-wide switch sends every call down the full path, and back afterwards."""

    @cache.memoize
    @define
    def f(x: int) -> int:
        return x

    await call(f, 1)
    built = len(keys_built)
    with isolate(target="a"):
        await call(f, 1)
    assert len(keys_built) == built + 1
    with cache.events.capture():
        await call(f, 1)
    assert len(keys_built) == built + 2
    with config.override(recache=True):
        await call(f, 1)
    assert len(keys_built) == built + 3
    with config.override(disable=True):
        await call(f, 1)
    await call(f, 1)  # the recomputed entry is another one, and has to be found once
    await call(f, 1)
    assert len(keys_built) == built + 4
    assert f.cache_info().bypassed == 1


async def test_a_key_callable_is_asked_every_time(cache: FastCache, define: Define, call: Call) -> None:
    """What names a call may depend on more than its arguments, so the hot path steps aside for it."""
    tenant = ["a"]

    def with_tenant(x: int) -> tuple[str, int]:
        return tenant[0], x

    @cache.memoize(key=with_tenant)
    @define
    def f(x: int) -> str:
        return tenant[0]

    assert await call(f, 1) == "a"
    tenant[0] = "b"
    assert await call(f, 1) == "b"
    tenant[0] = "a"
    assert await call(f, 1) == "a"


async def test_a_default_that_changes_is_looked_at_every_time(cache: FastCache) -> None:
    """What a default says when the call is made is part of the key, and no cell can see it: the hot path steps aside."""
    options, limits, nested = {"O": 0}, {"n": 0}, [0]

    @cache.memoize
    def f(x: int, options: Any = options) -> Any:
        return x, options["O"]

    @cache.memoize
    async def g(x: int, *, limits: Any = limits, nested: Any = (1, nested)) -> Any:
        return x, limits["n"], nested[1][0]

    for n in range(3):
        options["O"] = limits["n"] = n
        assert f(1) == f(1, options) == await f.aio(1) == (1, n)
        assert await g(1) == (1, n, 0)
    nested[0] = 1
    assert await g(1) == (1, 2, 1)


@pytest.mark.parametrize("key", [None, "{options[O]}:{x}"])
def test_a_bound_argument_that_changes(cache: FastCache, key: str | None) -> None:
    """What a partial has bound is looked at for every call, by place and by name."""
    options, more = {"O": 0}, {"O": 0}

    def f(options: dict[str, int], x: int, /, *rest: dict[str, int], **more: dict[str, int]) -> Any:
        return options["O"], x, *(one["O"] for one in (*rest, *more.values()))

    first = cache.memoize(key=key)(functools.partial(f, options))
    rest = cache.memoize(version="rest")(functools.partial(f, {"O": 0}, 1, options))
    named = cache.memoize(version="named")(functools.partial(f, {"O": 0}, more=more))
    for n in range(3):
        options["O"] = more["O"] = n
        assert (first(1), rest(), named(1)) == ((n, 1), (0, 1, n), (0, 1, n))


class Scale:
    """An object that is called, and has a method that is."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __cache_key__(self) -> int:
        return self.factor

    def __call__(self, x: int) -> int:
        return self.factor * x

    def method(self, x: int) -> int:
        """Do the same."""
        return self.factor * x


def test_an_object_that_changes(cache: FastCache) -> None:
    """A callable object, and one whose bound method is memoized, says for every call what it is."""
    scale = Scale(2)
    functions = [cache.memoize(scale), cache.memoize(scale.method)]
    for factor in (2, 3, 2):
        scale.factor = factor
        assert [f(2) for f in functions] == [2 * factor] * 2


def test_what_nobody_can_change_keeps_the_hot_path(cache: FastCache, keys_built: list[object]) -> None:
    """Defaults and bound arguments of flat types, and what does not count, cost no key; a default that was filled in neither."""

    def f(x: int, y: Any = (0.0, ("a", None)), *, z: Any = True, log: Any = [], options: Any = {}) -> int:  # noqa: B006 - that is the case
        return x

    functions: list[Callable[..., int]] = [
        cache.memoize(ignore=("log", "options"))(f),
        cache.memoize(key="{x}:{y}")(f),
        cache.memoize(version=1, ignore=("log",))(functools.partial(f, y=1, options=b"")),
        cache.memoize(version=2, ignore="self")(Scale(2)),
        cache.memoize(key="{x}")(Scale(2).method),
    ]
    for _ in range(3):
        assert [g(1) for g in functions] == [1, 1, 1, 2, 2]
    assert len(keys_built) == len(functions)


class Target(enum.Enum):
    """What is compiled for."""

    HERE = "here"


@pytest.mark.parametrize(
    "default", [Target.HERE, Path("x"), frozenset({(1, "a")}), len, Target, date(2026, 1, 1), timedelta(1)], ids=repr
)
def test_defaults_that_never_change_keep_the_hot_path(
    cache: FastCache, keys_built: list[object], default: object
) -> None:
    """Members of enums, paths, frozen sets, functions, classes and dates are what they are, and cost no key as defaults."""

    @cache.memoize
    def f(x: int, y: Any = default) -> int:
        return x

    assert [f(1) for _ in range(3)] == [1, 1, 1]
    assert len(keys_built) == 1


async def test_a_closed_cache_lets_go_of_dropped_functions(cache: FastCache) -> None:
    """A function that was memoized and dropped is collected, with everything behind it."""

    @cache.memoize
    async def f(x: int) -> int:
        return x

    await f(1)
    behind = memoized_of(f)
    assert behind is not None
    gone = weakref.ref(behind)
    del f, behind
    gc.collect()
    assert gone() is None


async def test_a_dropped_cache_is_collected() -> None:
    """A cache that nobody holds goes away, though it listens for changes of the settings, and though its tier stays."""
    tier = MemoryTier()
    gone = _used_and_dropped(tier)
    gc.collect()
    assert [each() for each in gone] == [None, None]
    assert not tier.events.active
    with config.override(recache=True):
        await asyncio.sleep(0)


def _used_and_dropped(tier: MemoryTier) -> tuple[weakref.ref[FastCache], weakref.ref[Events]]:
    cache = FastCache(tier)

    @cache.memoize(tags="t")
    def f(x: int) -> int:
        return x

    cache.events.subscribe(print)
    assert f(1) == f(1)
    assert tier.events.active
    return weakref.ref(cache), weakref.ref(cache.events)


def test_forgetting_frees_nothing_and_the_next_call_everything() -> None:
    """Forgetting takes as long for many cells as for few: what they held goes with the next call, and no hit is lost."""
    cells = Cells()
    table, none = cells.find((1,), {}), {"name": 1}
    assert cells.find((1,), {}) is table
    assert cells.find((), none) is cells.find((), none)
    held = weakref.ref(cells.singles[int])
    cells.went_on = 2
    assert cells.hits == 2
    cells.forget()
    assert [cells.singles, cells.pairs, cells.shapes] == [{}, {}, {}]
    assert held() is not None
    assert cells.hits == 2
    assert cells.find((), none) is not cells.find((1,), {}) is not table
    gc.collect()
    assert held() is None
    cells.went_on = 2
    assert cells.hits == 2


def test_what_is_forgotten_in_the_middle_of_a_first_call_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that comes while another thread has the cells forgotten is forgotten with them, and no later hit is lost."""
    cells = Cells()
    make = Cells._table_of

    def late(self: Cells, args: tuple[Any, ...]) -> Any:
        monkeypatch.undo()
        self.forget()
        return make(self, args)

    monkeypatch.setattr(Cells, "_table_of", late)
    first = cells.find(("a",), {})
    cells.went_on += 1
    assert cells.find((1,), {}) is not first
    assert cells.singles.keys() == {int}
    assert cells.find(("a",), {}) is not first
    for _ in range(5):
        cells.singles[str]("a")
    cells.went_on += 2
    assert cells.hits == 5


def test_as_many_shapes_as_are_promised_have_a_table() -> None:
    """Calls of the first shapes have tables of their own, and those of all others share one: they are found all the same."""
    cells = Cells()
    values: tuple[Any, ...] = (1, "a", b"b", True, None, 1.5)
    calls = list(itertools.islice(itertools.product(values, repeat=2), MAX_SHAPES + 3))
    found = [cells.find(call, {}) for call in calls]
    assert sum(len(table) for table in cells.pairs.values()) == MAX_SHAPES
    own = [cells.pairs[type(one)][type(two)](one, two) for one, two in calls[:MAX_SHAPES]]
    assert own + [cells.find(call, {}) for call in calls[MAX_SHAPES:]] == found
    assert len(set(map(id, found))) == len(calls)
