"""Whether a result is stored: what the user's own options say, when they fail, and where nothing may be stored."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

from acache import CallEvent, DeterministicCache, DiskTier, FastCache, MemoryTier, read_only
from acache.exceptions import CustomResultEncoderRequiredError
from acache.testing import Gate, ManualClock
from tests.memoize.helpers import Define, Source, refreshed


@pytest.fixture
def cache(tiered: FastCache) -> FastCache:
    """Run every test here over each kind of tier, and over both."""
    return tiered


async def _later(_value: object) -> int:
    raise AssertionError("nobody awaits it")


def _puts_off(value: object) -> Any:
    return _later(value)


def _fails(_value: object) -> Any:
    raise ZeroDivisionError


BAD_TTLS: list[tuple[Callable[[Any], Any], str]] = [
    (_fails, "ZeroDivisionError"),
    (lambda _: -1, "ConfigurationError"),
    (lambda _: "soon", "ConfigurationError"),
    (lambda _: [], "ConfigurationError"),
    (_puts_off, "TypeError"),
]


def _fails_too(value: object, n: int) -> Any:
    return _fails(value)


def _is_no_text(value: object, n: int) -> Any:
    return [n]


def _told(events: list[Any]) -> list[str | None]:
    """Return the reasons of what was told of results that were not stored."""
    told = [event for event in events if isinstance(event, CallEvent) and event.action == "store"]
    assert {event.outcome for event in told} <= {"failed"}
    return [event.reason for event in told]


@pytest.mark.parametrize(("ttl", "error"), BAD_TTLS)
@pytest.mark.parametrize("verb", ["memoize", "record", "refresh"])
async def test_a_ttl_that_fails(
    cache: FastCache, define: Define, call: Define, ttl: Any, error: str, verb: str
) -> None:
    """Whatever a callable ttl= does, the caller has his result; nothing is stored, and an event tells why."""

    def body(n: int) -> int:
        return n

    f = (cache.record if verb == "record" else cache.memoize)(ttl=ttl)(define(body))
    with cache.events.capture() as events:
        assert await (f.cache_refresh(1) if verb == "refresh" else call(f, 1)) == 1
    assert _told(events) == [f"ttl: {error}"]
    assert [event.stored for event in events if isinstance(event, CallEvent) and event.action == "call"] == [False]
    assert not await f.cache_contains(1)


async def test_setting_with_a_ttl_that_fails(cache: FastCache) -> None:
    """What is set by hand is not stored either, and the one who sets it is told so; what was there stays."""
    good = True

    def ttl(_value: object) -> float:
        return 10.0 if good else 1 / 0

    @cache.memoize(ttl=ttl)
    async def f(n: int) -> int:
        return n

    assert await f.cache_set(5, 1)
    good = False
    with cache.events.capture() as events:
        assert not await f.cache_set(6, 1)
    assert _told(events) == ["ttl: ZeroDivisionError"]
    assert await f(1) == 5


async def test_streams_and_lists_with_a_ttl_that_fails(cache: FastCache) -> None:
    """A stream comes to its end, and a call for many keys has all its results; none are stored, and events tell."""

    @cache.memoize(ttl=_fails)
    async def stream(n: int) -> AsyncGenerator[int, None]:
        for number in range(n):
            yield number

    @cache.memoize_many(ttl=_fails)
    async def many(keys: list[int]) -> dict[int, int]:
        return {key: 10 * key for key in keys}

    with cache.events.capture() as events:
        assert [chunk async for chunk in stream(3)] == [0, 1, 2]
        assert dict(await many([1, 2])) == {1: 10, 2: 20}
    assert _told(events) == ["ttl: ZeroDivisionError"] * 3
    assert not await stream.cache_contains(3)
    assert not await many.cache_contains(1)


async def test_workers_that_agree_with_a_ttl_that_fails(tmp_path: Path, define: Define, call: Define) -> None:
    """A deterministic cache returns the result too, and does not look for one that another worker stored."""
    async with DeterministicCache(MemoryTier(), DiskTier(tmp_path), dump_on_close=False) as cache:

        def body(n: int) -> int:
            return n

        f = cache.memoize(ttl=_fails)(define(body))
        assert await call(f, 1) == 1
        assert not await f.cache_contains(1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"store_if": _fails}, "store_if: ZeroDivisionError"),
        ({"store_if": _puts_off}, "store_if: TypeError"),
        ({"tags": _fails_too}, "tags: ZeroDivisionError"),
        ({"tags": _is_no_text}, "tags: ConfigurationError"),
    ],
)
async def test_conditions_and_tags_that_fail(memoized: Any, cache: FastCache, options: Any, reason: str) -> None:
    """Where store_if= or tags= fails, the caller has his result; it is not stored, and an event tells why."""
    f = memoized(**options)
    with cache.events.capture() as events:
        assert await f() == 1
    assert _told(events) == [reason]
    assert not await f.face.cache_contains(1)


@pytest.mark.parametrize("options", [{"store_if": bool}, {"ttl": int, "tags": "t"}, {}], ids=str)
async def test_nothing_is_told_of_what_works(memoized: Any, cache: FastCache, options: Any) -> None:
    """A result that is stored, or is not wanted, is no event of that kind."""
    f = memoized(**options)
    with cache.events.capture() as events:
        await f()
    assert _told(events) == []


# --- results that cannot be stored ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["memoize", "record", "refresh"])
async def test_unencodable_results_with_a_warning(tmp_path: Path, define: Define, call: Define, way: str) -> None:
    """With on_unencodable="warn" a result that no tier can encode is returned, with one warning, however it was computed."""
    async with FastCache(MemoryTier(), DiskTier(tmp_path)) as cache:

        def body(n: int) -> Any:
            return lambda: n

        f = (cache.record if way == "record" else cache.memoize)(on_unencodable="warn")(define(body))
        with pytest.warns(UserWarning, match="cannot be stored"):
            result = await (f.cache_refresh(1) if way == "refresh" else call(f, 1))
        assert result() == 1
        again = await (f.cache_refresh(1) if way == "refresh" else call(f, 1))  # a second warning would be an error
        assert again() == 1
        assert not await f.cache_contains(1)


class Sealed:
    """Cannot be copied in any way, and says what it holds when somebody tries."""

    def __deepcopy__(self, memo: object) -> Any:
        raise ValueError("CANARY")

    def __reduce__(self) -> Any:
        return int, ("CANARY",)


WAYS = ("memoize", "record", "refresh", "set", "insert")


async def _store(cache: FastCache, f: Any, call: Define, way: str) -> Any:
    """Bring a sealed result to the cache in one of the ways."""
    if way == "set":
        return await f.cache_set(Sealed(), 1)
    if way == "insert":
        return await cache.insert(f, ((1,), {}), Sealed())
    return await (f.cache_refresh(1) if way == "refresh" else call(f, 1))


def _sealed(cache: FastCache, define: Define, way: str, **options: Any) -> tuple[Any, list[int]]:
    runs: list[int] = []

    def body(n: int) -> Any:
        runs.append(n)
        return Sealed()

    return (cache.record if way == "record" else cache.memoize)(**options)(define(body)), runs


@pytest.mark.parametrize("copy", ["deepcopy", "decode"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_result_that_cannot_be_copied(
    cache: FastCache, define: Define, call: Define, way: str, copy: str
) -> None:
    """A result that cannot be copied is one that cannot be stored: an error that names the function, and shows nothing."""
    f, runs = _sealed(cache, define, way, copy=copy)
    with pytest.raises(
        CustomResultEncoderRequiredError, match=rf"body .*copy='{copy}' of a Sealed raised Val"
    ) as caught:
        await _store(cache, f, call, way)
    assert caught.value.__cause__ is None
    assert "CANARY" not in "".join(traceback.format_exception(caught.value))
    assert len(runs) == (way not in {"set", "insert"})
    assert not await f.cache_contains(1)


@pytest.mark.parametrize("copy", ["deepcopy", "decode"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_result_that_cannot_be_copied_with_a_warning(
    cache: FastCache, define: Define, call: Define, way: str, copy: str
) -> None:
    """With on_unencodable="warn" it is returned, or not taken, with one warning, and nothing is stored."""
    f, _ = _sealed(cache, define, way, copy=copy, on_unencodable="warn")
    with pytest.warns(UserWarning, match="cannot be stored"):
        result = await _store(cache, f, call, way)
    again = await _store(cache, f, call, way)  # a second warning would be an error
    if way in {"set", "insert"}:
        assert (result, again) == (False, False)
    else:
        assert isinstance(result, Sealed)
        assert isinstance(again, Sealed)
    assert not await f.cache_contains(1)


async def test_a_result_that_cannot_be_encoded_for_a_copy(cache: FastCache, define: Define, call: Define) -> None:
    """With copy="decode" what the codec refuses is the same error, with the codec's reason, in memory too."""
    f = cache.memoize(copy="decode")(define(lambda_of))
    with pytest.raises(CustomResultEncoderRequiredError, match=r"lambda_of cannot be stored: codec 'pickle' cannot"):
        await call(f, 1)


def lambda_of(n: int) -> Any:
    return lambda: n


@pytest.mark.parametrize("on_unencodable", ["raise", "warn"])
async def test_who_joins_a_result_that_cannot_be_copied(
    cache: FastCache, kind: str, define: Define, on_unencodable: str
) -> None:
    """Who asks for such a result meanwhile gets the same error or, where a warning does, the object itself."""
    go, runs = Gate(), list[int]()

    async def body(n: int) -> Any:
        runs.append(n)
        await go.wait()
        return Sealed()

    f = cache.memoize(copy="deepcopy", on_unencodable=cast("Any", on_unencodable))(body)
    face = f if kind == "async" else f.sync
    with nullcontext() if on_unencodable == "raise" else pytest.warns(UserWarning, match="cannot be stored"):
        first, second = await _together(face, kind, cache, go, _normal, _normal)
    assert runs == [1]
    if on_unencodable == "warn":
        assert isinstance(first, Sealed)
        assert second is first
    else:
        assert {type(first), type(second)} == {CustomResultEncoderRequiredError}


async def test_a_stored_result_that_cannot_be_copied(define: Define, call: Define) -> None:
    """What is stored without a copy cannot be copied for one caller either: an error that names the function, and a failed call."""
    cache = FastCache()
    f, runs = _sealed(cache, define, "memoize")
    assert await call(f, 1) is await call(f, 1)
    private = f.cache_with(copy="deepcopy", on_unencodable="warn")
    ways: list[Callable[[], Any]] = [lambda: call(private, 1), lambda: private.aio(1), lambda: private.cache_get(1)]
    for ask in ways:
        with pytest.raises(CustomResultEncoderRequiredError, match=r"body .*copy='deepcopy' of a Sealed"):
            await ask()
    assert len(runs) == 1
    assert f.cache_info().failed == 2


# --- read_only ----------------------------------------------------------------------------------------------------------


async def _together(f: Any, kind: str, cache: FastCache, go: Gate, first: Any, second: Any) -> list[Any]:
    """Let one caller begin a run and another join it, each in his scope."""

    async def ask(scope: Any) -> Any:
        with scope():
            return await (f(1) if kind == "async" else asyncio.to_thread(f, 1))

    flights, asked = cache._engine.flights, list[asyncio.Future[Any]]()
    for place, scope in enumerate((first, second), start=1):
        asked.append(asyncio.ensure_future(ask(scope)))
        while sum(flight.waiters for flight in flights) < place:
            await asyncio.sleep(0.001)
    go.open()
    return await asyncio.gather(*asked, return_exceptions=True)


def _normal() -> Any:
    return nullcontext()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "stored"),
    [
        (read_only, _normal, True),
        (_normal, read_only, True),
        (read_only, read_only, False),
    ],
)
async def test_who_joins_a_read_only_run(
    cache: FastCache, kind: str, first: Any, second: Any, *, stored: bool, fails: bool
) -> None:
    """What is computed for several callers, exceptions too, is stored if one of them may store it, whoever began."""
    go, runs = Gate("the end of the run"), list[int]()

    async def f(n: int) -> int:
        runs.append(n)
        await go.wait()
        if fails:
            raise LookupError
        return n

    def g(n: int) -> int:
        runs.append(n)
        go.wait_blocking()
        if fails:
            raise LookupError
        return n

    face = cache.memoize(cache_exceptions=LookupError)(f if kind == "async" else g)
    outcomes = await _together(face, kind, cache, go, first, second)
    assert [type(outcome) for outcome in outcomes] == [LookupError if fails else int] * 2
    assert len(runs) == 1
    assert await face.cache_contains(1) is stored


def _sees_nothing(_call: object) -> None:
    return None


async def test_read_only_refreshes_nothing(
    memoized: Any, cache: FastCache, clock: ManualClock, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside read_only() a stale result is served, and not computed anew behind the caller, wherever it was found."""
    f = memoized(ttl=10, stale_ttl=100)
    await f()
    clock.advance(11)
    with read_only():
        assert await f() == 1
        # As if nothing could be told without waiting: then the flight finds it.
        monkeypatch.setattr(cache._engine, "peek", _sees_nothing)
        assert await f.face.aio(1) == 1
    await refreshed(cache)
    assert source.runs == 1


async def test_streams_inside_read_only(cache: FastCache) -> None:
    """A stream that is begun inside read_only() is stored if somebody else follows it."""
    go = Gate("the second chunk")

    @cache.memoize
    async def stream(n: int) -> AsyncGenerator[int, None]:
        yield 1
        await go.wait()
        yield 2

    async def follow() -> list[int]:
        return [chunk async for chunk in stream(1)]

    with read_only():
        first = asyncio.ensure_future(follow())
    while sum(flight.waiters for flight in cache._engine.flights) < 1:
        await asyncio.sleep(0.001)
    second = asyncio.ensure_future(follow())
    while sum(flight.waiters for flight in cache._engine.flights) < 2:
        await asyncio.sleep(0.001)
    go.open()
    assert await first == await second == [1, 2]
    assert await stream.cache_contains(1)
