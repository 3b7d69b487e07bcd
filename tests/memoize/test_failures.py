"""Computations that fail: what is kept of them, who rests and for how long, and what callers get instead."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from acache import CallEvent, DiskTier, FastCache, MemoryTier
from acache.testing import FaultyTier, Gate, ManualClock, settle
from tests.memoize.helpers import Define, Source, refreshed


@pytest.fixture
def cache(tiered: FastCache) -> FastCache:
    """Run every test here over each kind of tier, and over both."""
    return tiered


class BrokenError(Exception):
    """An error of the user's."""


class OddError(Exception):
    """One that cannot be made again from its ``args``."""

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"{code} in {where}")
        self.code = code


# --- exceptions as results ----------------------------------------------------------------------------------------------


def _frames(error: BaseException) -> int:
    frames, traceback = 0, error.__traceback__
    while traceback is not None:
        frames, traceback = frames + 1, traceback.tb_next
    return frames


class Locals:
    """What a failing function has in its frame."""


@pytest.mark.parametrize("error", [BrokenError("x"), OddError(7, where="here")], ids=["plain", "odd"])
@pytest.mark.parametrize("way", ["own", "aio", "thread"])
async def test_each_caller_has_an_exception_of_his_own(
    clock: ManualClock, kind: str, define: Define, call: Define, error: Exception, way: str
) -> None:
    """An exception that is a result is raised as a new object, with frames that do not add up, and keeps no frame alive."""
    cache, runs = FastCache(MemoryTier(clock=clock)), list[weakref.ref[Locals]]()

    def body(n: int) -> None:
        held = Locals()
        runs.append(weakref.ref(held))
        raise type(error)(*((7,) if isinstance(error, OddError) else ("x",)), **vars_of(error))

    f = cache.memoize(cache_exceptions=Exception, version=1)(define(body))
    ways: dict[str, Any] = {
        "own": lambda: call(f, 1),
        "aio": lambda: f.aio(1),
        "thread": lambda: asyncio.to_thread(f.sync, 1),
    }
    raised = [await _raised_by(ways[way]) for _ in range(6)]
    assert len(runs) == 1
    assert {(type(each), str(each)) for each in raised} == {(type(error), str(error))}
    assert len({id(each) for each in raised}) == 6
    assert len({_frames(each) for each in raised[1:]}) == 1
    assert [vars(each) for each in raised] == [vars(error)] * 6
    raised.clear()
    gc.collect()
    if (kind, way) != ("sync", "aio"):  # anyio's idle worker holds the last exception that went through it
        assert runs[0]() is None, "the entry holds the frame of the function"


async def _raised_by(ask: Callable[[], Awaitable[Any]]) -> Exception:
    try:
        await ask()
    except Exception as error:  # noqa: BLE001 - it is looked at
        return error
    raise AssertionError("nothing was raised")


def vars_of(error: Exception) -> dict[str, Any]:
    return {"where": "here"} if isinstance(error, OddError) else {}


async def test_a_failing_refresh_replaces_no_value(
    memoized: Any, cache: FastCache, clock: ManualClock, source: Source
) -> None:
    """While a value is good, an exception that would be a result takes its place neither in the cache nor for a caller."""
    f = memoized(ttl=100, refresh_after=10, cache_exceptions={BrokenError: 5})
    await f()
    clock.advance(11)
    source.error = BrokenError()
    for _ in range(3):
        assert await f() == 1
        await refreshed(cache)
    assert source.runs == 2, "the key rests"
    assert (await f.face.cache_get(1)).value == 1
    clock.advance(90)
    for _ in range(2):
        with pytest.raises(BrokenError):
            await f()
    assert source.runs == 3, "the value is over, and the exception is the result"


async def test_a_fallback_is_better_than_a_kept_exception(memoized: Any, clock: ManualClock, source: Source) -> None:
    """What stale_on_error would serve is served, and kept, when computing fails with an exception that would be a result."""
    f = memoized(ttl=10, stale_on_error=100, cache_exceptions={BrokenError: 5})
    await f()
    clock.advance(11)
    source.error = BrokenError()
    for runs in (2, 3):
        assert [await f(), await f()] == [1, 1]
        assert source.runs == runs
        clock.advance(1.1)
    clock.advance(100)
    for _ in range(2):
        with pytest.raises(BrokenError):
            await f()
    assert source.runs == 4


async def test_a_kept_exception_is_found_by_who_looks_for_it(
    memoized: Any, cache: FastCache, clock: ManualClock, source: Source
) -> None:
    """cache_get() and get() return the exception that a call would raise, a new object each time."""
    f = memoized(ttl=60, cache_exceptions=BrokenError)
    source.error = BrokenError("x")
    with pytest.raises(BrokenError):
        await f()
    hits: list[Any] = [await f.face.cache_get(1), await f.face.cache_get(1), await cache.get(f.face, ((1,), {}))]
    assert [(type(hit.value), hit.value.args) for hit in hits] == [(BrokenError, ("x",))] * 3
    assert len({id(hit.value) for hit in hits}) == 3
    assert await f.face.cache_contains(1)
    clock.advance(61)
    assert await f.face.cache_get(1) is None


async def test_a_kept_exception_is_touched(memoized: Any, clock: ManualClock, source: Source) -> None:
    """cache_touch begins the time of an exception anew, which is its own and not that of values."""
    f = memoized(ttl=100, cache_exceptions={BrokenError: 10})
    source.error = BrokenError()
    with pytest.raises(BrokenError):
        await f()
    clock.advance(8)
    assert await f.face.cache_touch(1)
    clock.advance(8)
    with pytest.raises(BrokenError):
        await f()
    assert source.runs == 1
    clock.advance(3)
    source.error = None
    assert await f() == 2


async def test_a_kept_exception_is_refreshed(
    memoized: Any, cache: FastCache, clock: ManualClock, source: Source
) -> None:
    """A refresh that fails again makes the exception young again, and one that works takes its place at once."""
    f = memoized(refresh_after=5, cache_exceptions={BrokenError: 50})
    source.error = BrokenError()
    for runs in range(1, 6):
        with pytest.raises(BrokenError):
            await f()
        await refreshed(cache)
        assert source.runs == runs
        assert (await f.face.cache_get(1)).age == 0
        clock.advance(20)
    source.error = None
    with pytest.raises(BrokenError):
        await f()
    await refreshed(cache)
    assert await f() == 6


async def test_a_kept_exception_is_no_failure(
    memoized: Any, cache: FastCache, clock: ManualClock, source: Source
) -> None:
    """A key whose result is an exception does not rest: it is tried again as soon as that is stale."""
    f = memoized(stale_ttl=100, ttl=10, cache_exceptions={BrokenError: 0.5})
    source.error = BrokenError()
    with pytest.raises(BrokenError):
        await f()
    source.error = None
    clock.advance(0.6)
    with pytest.raises(BrokenError):
        await f()
    await refreshed(cache)
    assert await f() == 2


async def test_the_first_exception_is_the_original(memoized: Any, cache: FastCache, source: Source) -> None:
    """Who computed gets what the function raised, frames and cause, and not what was kept of it."""
    f = memoized(ttl=10, stale_on_error=100, cache_exceptions=BrokenError)
    source.error = BrokenError()
    source.error.__cause__ = LookupError("why")
    with cache.events.capture() as events, pytest.raises(BrokenError) as caught:
        await f()
    assert isinstance(caught.value.__cause__, LookupError)
    assert [event.outcome for event in events if isinstance(event, CallEvent)] == ["failed"]


async def test_an_exception_that_no_tier_can_encode(memoized: Any, cache: FastCache, source: Source) -> None:
    """An exception that cannot be stored is raised, as it is, and computed for every call."""
    f = memoized(cache_exceptions=BrokenError)
    source.error = BrokenError(lambda: None)
    for _ in range(2):
        with pytest.raises(BrokenError):
            await f()
    assert source.runs == (2 if any(isinstance(tier, DiskTier) for tier in cache.tier.tiers) else 1)
    source.error = None
    await f.face.cache_invalidate(1)
    assert await f() == source.runs


async def test_an_exception_of_an_invalidated_key(cache: FastCache, define: Define, kind: str) -> None:
    """A computation that fails after its key was invalidated leaves nothing."""
    begun, go, runs = Gate("the run"), Gate("its end"), list[int]()

    def body(n: int) -> None:
        runs.append(n)
        begun.open()
        go.wait_blocking()
        raise BrokenError

    f = cache.memoize(cache_exceptions=BrokenError)(body)
    asked = asyncio.ensure_future(f.aio(1) if kind == "async" else asyncio.to_thread(f, 1))
    await begun.wait()
    await f.cache_invalidate(1)
    go.open()
    with pytest.raises(BrokenError):
        await asked
    assert not await f.cache_contains(1)
    with pytest.raises(BrokenError):
        await f.aio(1)
    assert runs == [1, 1]


@pytest.mark.parametrize("tier", ["memory", "disk"])
async def test_an_exception_lands(tier: str, tmp_path: Any, clock: ManualClock) -> None:
    """When the last caller leaves while an exception is being stored, it is stored all the same."""
    faulty = FaultyTier(MemoryTier(clock=clock) if tier == "memory" else DiskTier(tmp_path, clock=clock))
    cache, runs = FastCache(faulty), list[int]()

    @cache.memoize(cache_exceptions=BrokenError)
    async def f(n: int) -> None:
        runs.append(n)
        raise BrokenError

    hang = faulty.hang("write")
    asked = asyncio.ensure_future(f(1))
    await hang.reached.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    faulty.heal()
    while len(cache._engine.flights):
        await asyncio.sleep(0.001)
    with pytest.raises(BrokenError):
        await f(1)
    assert runs == [1]
    await cache.aclose()


# --- resting ------------------------------------------------------------------------------------------------------------


class Crowd:
    """Many callers of one run that fails when it is let go."""

    def __init__(self, cache: FastCache, kind: str, **options: Any) -> None:
        self.go = Gate("the end of the run")
        self.go.open()
        self.runs, self.fails, self.cache = 0, False, cache

        async def f(n: int) -> int:
            self.runs += 1
            if self.fails:
                await self.go.wait()
                raise OSError
            return self.runs

        def g(n: int) -> int:
            self.runs += 1
            if self.fails:
                self.go.wait_blocking()
                raise OSError
            return self.runs

        self.f: Any = cache.memoize(**options)(f if kind == "async" else g)
        self.kind = kind

    async def ask(self) -> Any:
        return await (self.f(1) if self.kind == "async" else asyncio.to_thread(self.f, 1))

    async def ask_together(self, callers: int) -> list[Any]:
        """Let all wait for one run before it ends."""
        self.go = Gate("the end of the run")
        asked = [asyncio.ensure_future(self.ask()) for _ in range(callers)]
        flights = self.cache._engine.flights
        while sum(flight.waiters for flight in flights) < callers:
            await asyncio.sleep(0.001)
        self.go.open()
        return await asyncio.gather(*asked)


async def test_a_failed_run_counts_once(cache: FastCache, clock: ManualClock, kind: str) -> None:
    """A key rests for a second after one run that failed, however many callers waited for it."""
    crowd = Crowd(cache, kind, ttl=10, stale_on_error=1000)
    assert await crowd.ask() == 1
    clock.advance(11)
    crowd.fails = True
    assert await crowd.ask_together(4) == [1] * 4  # a loop has few worker threads
    assert crowd.runs == 2
    clock.advance(0.9)
    assert await crowd.ask() == 1
    assert crowd.runs == 2
    clock.advance(0.2)
    assert await crowd.ask() == 1
    assert crowd.runs == 3


async def test_a_refresh_that_works_ends_the_rest(
    memoized: Any, cache: FastCache, clock: ManualClock, source: Source
) -> None:
    """After a refresh that works the next failure is the first one again."""
    f = memoized(ttl=1000, refresh_after=10)

    async def look() -> None:
        await f()
        await refreshed(cache)

    await f()
    clock.advance(11)
    source.error = OSError()
    for pause in (1.1, 2.1, 4.1):
        await look()
        clock.advance(pause)
    source.error = None
    await look()
    clock.advance(11)
    source.error = OSError()
    await look()
    runs = source.runs
    clock.advance(1.1)
    await look()
    assert source.runs == runs + 1


async def test_threads_that_refresh_store_the_result(cache: FastCache, clock: ManualClock) -> None:
    """A refresh that a plain thread has begun runs without it, and its result is what callers get."""
    runs: list[threading.Thread] = []

    @cache.memoize(ttl=100, refresh_after=10)
    def f(n: int) -> int:
        runs.append(threading.current_thread())
        return len(runs)

    def both() -> tuple[int, threading.Thread]:
        return f(1), threading.current_thread()

    assert (await asyncio.to_thread(both))[0] == 1
    clock.advance(11)
    value, asker = await asyncio.to_thread(both)
    assert value == 1
    while len(runs) < 2:
        await asyncio.sleep(0.001)
    await refreshed(cache)
    assert (await asyncio.to_thread(both))[0] == 2
    assert runs[1:] != [asker]
    assert len(runs) == 2
    await settle()
