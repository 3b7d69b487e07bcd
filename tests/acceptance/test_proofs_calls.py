"""What goes wrong with functions, arguments and results in other caches goes right here: P04, P05, P07, P09, P10, P19, P24."""

from __future__ import annotations

import itertools
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from acache import DiskTier, FastCache, Hit, MemoryTier
from acache.events import Event
from acache.exceptions import (
    ConfigurationError,
    CustomParamsEncoderRequiredError,
    CustomResultEncoderRequiredError,
    DuplicateIdentityError,
    KeyEncodingError,
    RecursiveCallError,
    ReplayMissError,
    ValueUnPicklingError,
)
from acache.testing import ComputeCounter, FaultyTier
from tests.acceptance.support import entries, run, temporaries, the_entry

if TYPE_CHECKING:
    from acache.testing.plugin import ChangeSettings


class Unpicklable:
    """Counts how often somebody tried."""

    tries = 0

    def __reduce__(self) -> NoReturn:
        Unpicklable.tries += 1
        raise TypeError("no")


# --- P04: results that cannot be stored ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_p04_an_unpicklable_result_is_tried_once_and_leaves_nothing(tmp_path: Path, sync: bool) -> None:
    """The function runs once, the result is pickled once, the error names the function, and no file is made."""
    Unpicklable.tries = 0
    counter = ComputeCounter()
    async with FastCache(MemoryTier(), DiskTier(tmp_path)) as cache:

        @counter.wrap
        def compile_plain(_source: str) -> Unpicklable:
            return Unpicklable()

        @counter.wrap
        async def compile_async(_source: str) -> Unpicklable:
            return Unpicklable()

        memoized = cache.memoize(compile_plain).aio if sync else cache.memoize(compile_async)
        with pytest.raises(CustomResultEncoderRequiredError, match=r"compile_(plain|async)"):
            await memoized("source")
        assert (counter.total, Unpicklable.tries) == (1, 1)
        assert entries(tmp_path) == temporaries(tmp_path) == []
        assert await cache.get(compile_plain if sync else compile_async, (("source",), {})) is None


async def test_p04_memory_alone_keeps_any_result() -> None:
    """A tier that does not encode refuses nothing."""
    cache = FastCache()

    @cache.memoize
    async def make(_source: str) -> Callable[[], int]:
        return lambda: 1

    assert await make("source") is await make("source")


async def test_p04_the_result_can_be_had_all_the_same(tmp_path: Path) -> None:
    """With ``on_unencodable="warn"`` a caller gets the result that was computed, and the function is named once."""
    runs = list[str]()
    async with FastCache(DiskTier(tmp_path)) as cache:

        @cache.memoize(on_unencodable="warn")
        async def make(source: str) -> Callable[[], str]:
            runs.append(source)
            return lambda: source

        with pytest.warns(UserWarning, match="make") as warned:
            assert [(await make(source))() for source in ("a", "a", "b")] == ["a", "a", "b"]
        assert (len(warned), runs) == (1, ["a", "a", "b"])
        assert entries(tmp_path) == temporaries(tmp_path) == []


# --- P05, P09, P24: keys ------------------------------------------------------------------------------------------------

EQUALS: tuple[Any, ...] = (1, True, 1.0, (1,), (True,), (1.0,), [1], [True], {"k": 1}, {"k": 1.0}, 0.0, -0.0, 0, False)


@pytest.mark.parametrize("order", [EQUALS, EQUALS[::-1], EQUALS[5:] + EQUALS[:5]], ids=["up", "down", "turned"])
async def test_p05_equal_arguments_of_other_types_are_other_arguments(order: tuple[Any, ...]) -> None:
    """Whatever was asked first, each argument has its own result, at any depth, on the hot path too."""
    cache = FastCache()

    @cache.memoize
    async def describe(value: Any) -> str:
        return repr(value)

    for value in (*order, *order):
        assert await describe(value) == repr(value)


async def test_p05_a_key_does_not_depend_on_earlier_ones(tmp_path: Path) -> None:
    """The key of a call, and so its file's name, is the same after any other calls."""
    keys: set[tuple[str, ...]] = set()
    for order in itertools.permutations((1, True, 1.0)):
        async with FastCache(DiskTier(tmp_path)) as cache:

            @cache.memoize
            async def kind(value: Any) -> str:
                return type(value).__name__

            assert [await kind(value) for value in order] == [type(value).__name__ for value in order]
            keys.add(tuple(kind.cache_key(value) for value in (1, True, 1.0)))
    assert len(keys) == 1
    assert len(entries(tmp_path)) == 3


async def test_p09_a_key_is_taken_before_the_function_runs(tmp_path: Path) -> None:
    """A function that changes its argument stores its result under what it was called with."""
    async with FastCache(MemoryTier(), DiskTier(tmp_path)) as cache:

        @cache.memoize
        async def take(items: list[int]) -> int:
            return items.pop()

        @cache.memoize
        def take_plain(items: list[int]) -> int:
            return items.pop()

        assert [await take([1, 2]), await take([1]), await take([1, 2])] == [2, 1, 2]
        assert [await take_plain.aio([1, 2]), await take_plain.aio([1])] == [2, 1]


async def test_p24_keys_are_of_values_not_of_how_they_were_made() -> None:
    """Shared objects, the order of keywords, ways of passing, and interning make no difference."""
    cache, counter = FastCache(), ComputeCounter()

    @cache.memoize
    @counter.wrap
    async def f(*args: Any, x: Any = 0, y: Any = 0, **kwargs: Any) -> int:
        return counter.total

    @cache.memoize
    async def g(x: Any, y: int = 2) -> None:
        """Do nothing."""

    one, other = ["a"], ["a"]
    written, built = "interned_name", "interned_" + str(len(one)).replace("1", "name")
    same: list[list[Awaitable[int]]] = [
        [f(one, one), f(one, other)],
        [f(x=1, y=2), f(y=2, x=1)],
        [f(a=1, b=2), f(b=2, a=1)],
        [f([written, written]), f([written, built])],
        [f({"x": 1, "y": {1, 2}}), f({"y": {2, 1}, "x": 1})],
    ]
    for calls in same:
        first, *others = [await call for call in calls]
        assert others == [first]
    counter.assert_computed(len(same))
    assert len({g.cache_key(1), g.cache_key(x=1), g.cache_key(1, 2), g.cache_key(y=2, x=1)}) == 1


SET_KEY = """
def f(names): ...
cache = FastCache()
tell(cache.memoize(f).cache_key({"alpha", "beta", "gamma", "delta"}))
"""


@pytest.mark.integration
def test_p24_every_process_makes_the_same_key() -> None:
    """A set of strings has one key under every ``PYTHONHASHSEED``."""
    assert len({run(SET_KEY, PYTHONHASHSEED=str(seed)) for seed in range(4)}) == 1


# --- P07: which function ------------------------------------------------------------------------------------------------


def module(name: str, source: str) -> ModuleType:
    """Make a module of its source."""
    made = ModuleType(name)
    exec(source, made.__dict__)  # noqa: S102 - the source is in this file
    return made


async def test_p07_functions_of_one_name_are_told_apart_by_their_modules(tmp_path: Path) -> None:
    """SPEC 4: two modules' functions of one name, and two functions of one module, have results of their own."""
    a = module("mod_a", "async def load(n): return f'A{n}'\nasync def area(n): return f'area {n}'")
    b = module("mod_b", "async def load(n): return f'B{n}'")
    async with FastCache(MemoryTier(), DiskTier(tmp_path)) as cache:
        functions = [cache.memoize(function) for function in (a.load, b.load, a.area)]
        for _ in range(2):
            assert [await function(1) for function in functions] == ["A1", "B1", "area 1"]


async def test_p07_functions_that_cannot_be_told_apart_are_refused() -> None:
    """A nameless function, and a second one of the same name with other code, must be given something to tell them by."""
    cache = FastCache()
    with pytest.raises(ConfigurationError, match="lambda"):
        cache.memoize(lambda: 1)
    add: Callable[[int], int] = lambda n: n + 1  # noqa: E731 - a function without a name is what is asked for
    triple: Callable[[int], int] = lambda n: n * 3  # noqa: E731 - as above
    plus, times = cache.memoize(version="+")(add), cache.memoize(version="*")(triple)
    assert [await plus.aio(5), await times.aio(5), await plus.aio(5)] == [6, 15, 6]

    def scale(by: int) -> Callable[[int], int]:
        def scaled(n: int) -> int:
            return n * by

        return scaled

    assert await cache.memoize(scale(2)).aio(5) == 10
    with pytest.raises(DuplicateIdentityError, match="scaled"):
        cache.memoize(scale(3))
    assert await cache.memoize(version=3)(scale(3)).aio(5) == 15


# --- P10: results -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", ["deepcopy", "decode"])
@pytest.mark.parametrize("disk", [True, False], ids=["with disk", "memory"])
async def test_p10_a_caller_cannot_dirty_what_others_get(tmp_path: Path, copy: Any, disk: bool) -> None:
    """With copies, what a caller does to its result, the first caller's included, no other caller sees."""
    async with FastCache(MemoryTier(), *([DiskTier(tmp_path)] if disk else [])) as cache:

        @cache.memoize(copy=copy)
        async def table(_name: str) -> dict[str, list[Any]]:
            return {"rows": [1]}

        for _ in range(3):
            found = await table("t")
            assert found == {"rows": [1]}
            found["rows"].append("dirt")
        assert await table.cache_get("t") == Hit({"rows": [1]})


async def test_p10_a_shared_result_that_was_changed_is_reported(
    acache_settings: ChangeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """With ``ACACHE_DEBUG_MUTATION=1`` a function whose shared result a caller has changed is named in the log, once."""
    acache_settings(debug_mutation=True)
    cache = FastCache()

    @cache.memoize
    async def table(_name: str) -> list[str]:
        return ["row"]

    @cache.memoize
    async def untouched(_name: str) -> list[str]:
        return ["row"]

    for _ in range(2):
        assert await untouched("t") == ["row"]
    (await table("t")).append("canary")
    for _ in range(3):
        assert await table("t") == ["row", "canary"]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "table" in message
    assert "canary" not in message


# --- P19: secrets -------------------------------------------------------------------------------------------------------

CANARY = "canary-c27f0b5e"


class Secret:
    """Shows its secret to whoever prints it, and is neither key nor pickle."""

    def __repr__(self) -> str:
        return CANARY

    def __reduce__(self) -> NoReturn:
        raise TypeError("no")


async def provoke(cache: FastCache, broken: FaultyTier, directory: Path) -> list[BaseException]:
    """Make acache raise and log whatever it can about calls with a secret in them."""

    @cache.memoize
    async def login(password: object) -> object:
        return {"token": CANARY, "of": password} if isinstance(password, str) else Secret()

    @cache.memoize(ignore=("secret",))
    async def leak(secret: object) -> object:
        return [secret]

    @cache.memoize
    async def again(password: str) -> object:
        return await again(password)

    @cache.memoize(codec="json", version=2)
    async def as_json(_password: str) -> object:
        return {1: CANARY}

    def sink(event: Event) -> None:
        logging.getLogger("acache.test").debug("%r", event)
        raise ValueError("a sink that fails")

    unsubscribe = cache.events.subscribe(sink)
    await login(CANARY)
    the_entry(directory).write_bytes(CANARY.encode() * 20)
    await cache.tier.tiers[0].clear()
    await login(CANARY)
    for operation in ("read", "write", "remove"):
        broken.fail(operation, error=OSError("a disk that fails"))
    await login(CANARY + "2")
    await login.cache_invalidate(CANARY)
    broken.heal()
    raising = DiskTier(directory, on_corrupt="raise")
    for path in entries(directory):
        path.write_bytes(CANARY.encode())
    calls: list[tuple[type[BaseException], Callable[[], Awaitable[object]]]] = [
        (CustomParamsEncoderRequiredError, lambda: login(Secret())),
        (CustomParamsEncoderRequiredError, lambda: login({CANARY: [Secret()]})),
        (CustomResultEncoderRequiredError, lambda: leak(Secret())),
        (CustomResultEncoderRequiredError, lambda: as_json(CANARY)),
        (KeyEncodingError, lambda: cache.tier.get(Secret())),
        (ReplayMissError, lambda: cache.replay(login)(CANARY + "3")),
        (RecursiveCallError, lambda: again(CANARY)),
        (ValueUnPicklingError, lambda: raising.read(login.cache_key(CANARY))),  # type: ignore[arg-type]  # it is a Key
    ]
    errors: list[BaseException] = []
    for kind, call in calls:
        with pytest.raises(kind) as caught:
            await call()
        errors.append(caught.value)
    unsubscribe()
    await raising.aclose()
    return errors


async def test_p19_no_text_shows_an_argument_a_result_or_stored_bytes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs at DEBUG, events, texts and tracebacks of errors, and reprs name functions, types and digests only."""
    caplog.set_level(logging.DEBUG)
    broken = FaultyTier(DiskTier(tmp_path))
    async with FastCache(MemoryTier(), broken) as cache:
        errors = await provoke(cache, broken, tmp_path)
        shown = [repr(cache), repr(cache.tier), repr(cache.tier.tiers), repr(cache.statistics())]
    shown += [text for error in errors for text in (str(error), repr(error), *traceback.format_exception(error))]
    shown += [str(pickle.loads(pickle.dumps(error))) for error in errors]
    assert {record.name for record in caplog.records} >= {"acache", "acache.test"}
    assert [text for text in (*shown, caplog.text) if CANARY in text] == []
