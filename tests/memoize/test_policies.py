"""Time, staleness, timeouts and failures, as callers of memoized functions of both kinds meet them."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acache import CallEvent, DeterministicCache, DiskTier, FastCache, MemoryTier, TierEvent, read_only
from acache.engine import judging
from acache.exceptions import ComputeTimeoutError, ConfigurationError
from acache.locks import BLOCKING
from acache.testing import ManualClock, settle
from tests.memoize.helpers import Define, Source, refreshed
from tests.rest import come_to_rest


@pytest.fixture
def cache(tiered: FastCache) -> FastCache:
    """Run every test here over each kind of tier, and over both."""
    return tiered


# --- time ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl", [10, 10.0, timedelta(seconds=10), "10s"])
async def test_ttl(memoized: Any, clock: ManualClock, ttl: Any) -> None:
    """A result is good until its ttl is over, however that is written."""
    f = memoized(ttl=ttl)
    assert [await f(), await f()] == [1, 1]
    clock.advance(9.9)
    assert await f() == 1
    clock.advance(0.2)
    assert [await f(), await f()] == [2, 2]


def _short_at_first(run: int) -> int | None:
    return 10 if run == 1 else None


async def test_ttl_of_the_result(memoized: Any, clock: ManualClock) -> None:
    """A callable says how long each result is good."""
    f = memoized(ttl=_short_at_first)
    await f()
    clock.advance(11)
    assert await f() == 2
    clock.advance(1000)
    assert await f() == 2


async def test_jitter_spreads_keys(memoized: Any, clock: ManualClock) -> None:
    """Results made together end apart, within the jitter, the same in every run."""
    f = memoized(ttl=10, jitter=10)
    for n in range(20):
        await f(n)
    clock.advance(10)
    assert {await f(n) for n in range(20)} <= set(range(1, 41))
    hits = await _hits(f, 20)
    assert hits == 20
    clock.advance(5)
    before = f.face.cache_info().misses
    for n in range(20):
        await f(n)
    assert 0 < f.face.cache_info().misses - before < 20


async def _hits(f: Any, keys: int) -> int:
    before = f.face.cache_info().hits
    for n in range(keys):
        await f(n)
    return int(f.face.cache_info().hits - before)


async def test_idle(memoized: Any, clock: ManualClock, source: Source, cache: FastCache) -> None:
    """A result that is used lives on; one that is not used for so long is computed anew."""
    f = memoized(idle=10)
    assert await f() == 1
    for _ in range(5):
        clock.advance(9)
        assert await f() == 1
        await refreshed(cache)
    clock.advance(10.1)
    assert await f() == 2
    await refreshed(cache)


async def test_idle_ends_with_the_ttl(memoized: Any, clock: ManualClock, source: Source, cache: FastCache) -> None:
    """Use does not keep a result beyond its ttl."""
    f = memoized(idle=10, ttl=25)
    for _ in range(3):
        assert await f() == 1
        await refreshed(cache)
        clock.advance(8)
    assert await f() == 1
    clock.advance(2)
    assert await f() == 2
    await refreshed(cache)


async def test_touch(memoized: Any, clock: ManualClock) -> None:
    """cache_touch begins the time anew, and says whether there was something."""
    f = memoized(ttl=10)
    assert not await f.face.cache_touch(1)
    await f()
    clock.advance(8)
    assert await f.face.cache_touch(1)
    clock.advance(8)
    assert await f() == 1
    clock.advance(3)
    assert not await f.face.cache_touch(1)
    assert await f() == 2


@pytest.mark.parametrize("prolong", ["touch", "use"])
async def test_prolonging_brings_nothing_old_back(
    memoized: Any, cache: FastCache, clock: ManualClock, prolong: str
) -> None:
    """What is set, or invalidated, while an entry is being prolonged stays as it is."""
    f = memoized(idle=100)
    for change in ("set", "invalidate"):
        await f.face.cache_set(1, 1)
        clock.advance(60)
        async with cache.tier._writing.hold(f.face.cache_key(1), BLOCKING):
            changing = asyncio.ensure_future(f.face.cache_set(99, 1) if change == "set" else f.face.cache_invalidate(1))
            await settle()
            prolonging = asyncio.ensure_future(f.face.cache_touch(1) if prolong == "touch" else f())
            await come_to_rest()
        await changing
        await prolonging
        await refreshed(cache)
        hit = await f.face.cache_get(1)
        assert (None if hit is None else hit.value) == (99 if change == "set" else None)


async def test_other_options_for_one_call(memoized: Any, call: Define, clock: ManualClock) -> None:
    """cache_with() changes how one call is kept; keys and entries are the same."""
    f = memoized(ttl=100)
    brief = f.face.cache_with(ttl=5)
    assert await call(brief, 1) == 1
    assert await f() == 1
    clock.advance(6)
    assert await f() == 2
    with pytest.raises(ConfigurationError, match="version"):
        f.face.cache_with(version=2)
    with pytest.raises(ConfigurationError, match="ttl"):
        f.face.cache_with(ttl=-1)


async def test_other_options_of_a_method(clock: ManualClock) -> None:
    """cache_with() of a bound method stays bound."""
    cache = FastCache(MemoryTier(clock=clock))

    class Service:
        def __cache_key__(self) -> str:
            return "s"

        @cache.memoize
        async def get(self, n: int) -> int:
            return n

    service = Service()
    assert await service.get.cache_with(ttl=1)(3) == 3
    clock.advance(2)
    assert await service.get.cache_get(3) is None


# --- staleness ----------------------------------------------------------------------------------------------------------


async def test_refresh_behind_the_caller(memoized: Any, clock: ManualClock, source: Source, cache: FastCache) -> None:
    """A result that is due is served at once, and computed anew once, whoever asks meanwhile."""
    f = memoized(ttl=100, refresh_after=10)
    assert await f() == 1
    clock.advance(11)
    assert [await f(), await f()] == [1, 1]
    await refreshed(cache)
    assert source.runs == 2
    assert await f() == 2
    clock.advance(9)
    assert await f() == 2
    assert source.runs == 2


async def test_stale_while_revalidating(memoized: Any, clock: ManualClock, source: Source, cache: FastCache) -> None:
    """Past its ttl a result is served within stale_ttl, and refreshed; beyond that the caller waits."""
    f = memoized(ttl=10, stale_ttl=5)
    await f()
    clock.advance(12)
    with cache.events.capture() as events:
        assert await f() == 1
        await refreshed(cache)
    served, refresh = (event for event in events if isinstance(event, CallEvent))
    assert (served.outcome, served.stale, refresh.action, refresh.outcome) == ("hit", True, "refresh", "computed")
    assert await f() == 2
    clock.advance(15.1)
    assert await f() == 3


async def test_stale_on_error(memoized: Any, clock: ManualClock, source: Source, cache: FastCache) -> None:
    """When computing fails, a stale result is served for a while; then the error is."""
    f = memoized(ttl=10, stale_on_error=100)
    await f()
    clock.advance(11)
    source.error = OSError("down")
    assert [await f(), await f()] == [1, 1]
    assert source.runs == 2, "a key that failed rests"
    clock.advance(1.5)
    assert await f() == 1
    assert source.runs == 3
    clock.advance(100)
    with pytest.raises(OSError, match="down"):
        await f()
    source.error = None
    clock.advance(100)
    assert await f() == 5


async def test_refreshes_that_fail_rest(memoized: Any, clock: ManualClock, source: Source, cache: FastCache) -> None:
    """A refresh that fails is tried again later, each time later; the result is served within its limit (A15)."""
    f = memoized(ttl=1000, refresh_after=10)
    await f()
    clock.advance(11)
    source.error = OSError("down")
    for runs, pause in ((2, 1.1), (3, 2.1), (4, 4.1)):
        for _ in range(3):
            assert await f() == 1
        await refreshed(cache)
        for _ in range(3):
            assert await f() == 1
        assert source.runs == runs
        clock.advance(pause)
    source.error = None
    assert await f() == 1
    await refreshed(cache)
    assert await f() == 5


async def test_early_refresh(cache: FastCache, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers begin before the ttl ends, each at a moment of its own that its cost and its draw say."""
    runs = 0
    monkeypatch.setattr(judging, "os", SimpleNamespace(getpid=lambda: 7))  # which is part of the draw

    @cache.memoize(ttl=100, early_refresh=1.0)
    async def f(n: int) -> int:
        nonlocal runs
        runs += 1
        clock.advance(10)
        return runs

    begun: list[float] = []
    for seed in range(8):
        cache._engine.judge.seed = seed
        await f.cache_refresh(1)
        before, start = runs, clock.monotonic()
        while runs == before:
            clock.advance(1)
            assert await f(1) in {before, runs}
            await refreshed(cache)
        begun.append(clock.monotonic() - start - 10)
    assert len(set(begun)) > 4
    assert min(begun) > 30
    assert max(begun) <= 100


async def test_a_peer_was_faster(tmp_path: Path, clock: ManualClock) -> None:
    """What another process has refreshed on disk replaces what this one's memory holds past its time."""
    runs: list[str] = []

    def make(name: str) -> Any:
        async def f(n: int) -> str:
            runs.append(name)
            return name

        cache = FastCache(MemoryTier(clock=clock), DiskTier(tmp_path, clock=clock))
        return cache, cache.memoize(ttl=10, stale_ttl=100, ignore=(), key="{n}")(f)

    one_cache, one = make("one")
    two_cache, two = make("two")
    assert await one(1) == await two(1) == "one"
    clock.advance(11)
    assert await two(1) == "one"
    while len(runs) < 2 or len(two_cache._engine._background):
        await asyncio.sleep(0.001)
    assert await two(1) == "two"
    assert await one(1) in {"one", "two"}
    while len(one_cache._engine._background):
        await asyncio.sleep(0.001)
    assert await one(1) == "two"
    assert runs == ["one", "two"]
    await one_cache.aclose()
    await two_cache.aclose()


# --- timeouts -----------------------------------------------------------------------------------------------------------


class Slow:
    """An async function that ends when it is let go."""

    def __init__(self, cache: FastCache, **options: Any) -> None:
        self.go = asyncio.Event()
        self.begun = self.cancelled = self.done = 0
        self.f: Any = cache.memoize(ignore=("self",), **options)(self.compute)

    def __cache_key__(self) -> str:
        return "slow"

    async def compute(self, n: int) -> int:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.done += 1
        return self.done


async def until(clock: ManualClock, sleepers: int, asked: asyncio.Future[Any] | None = None) -> None:
    """Wait until so many wait for the clock, or until a call is over that was to be one of them."""
    while clock.sleepers < sleepers and not (asked is not None and asked.done()):
        await asyncio.sleep(0)


async def test_a_hard_timeout(clock: ManualClock) -> None:
    """The caller gets the error when his time is over; with nobody left the computation is cancelled."""
    slow = Slow(FastCache(MemoryTier(clock=clock)), timeout=5)
    asked = asyncio.ensure_future(slow.f(1))
    await until(clock, 1)
    clock.advance(4.9)
    await settle()
    assert not asked.done()
    clock.advance(0.1)
    with pytest.raises(ComputeTimeoutError, match="within 5 seconds"):
        await asked
    assert (slow.cancelled, clock.sleepers) == (1, 0)


async def test_an_impatient_caller_leaves_others_alone(clock: ManualClock) -> None:
    """A flight lives on for callers who have more time, and its result is stored."""
    cache = FastCache(MemoryTier(clock=clock))
    slow = Slow(cache)
    patient = asyncio.ensure_future(slow.f(1))
    impatient = asyncio.ensure_future(slow.f.cache_with(timeout=1)(1))
    await until(clock, 1)
    clock.advance(1)
    with pytest.raises(ComputeTimeoutError):
        await impatient
    slow.go.set()
    assert await patient == await slow.f(1) == 1
    assert (slow.begun, slow.cancelled) == (1, 0)


async def test_finishing_in_the_background(clock: ManualClock) -> None:
    """The computation goes on when its last caller has timed out, and fills the cache."""
    slow = Slow(FastCache(MemoryTier(clock=clock)), timeout=1, finish_in_background=True)
    asked = asyncio.ensure_future(slow.f(1))
    await until(clock, 1)
    clock.advance(1)
    with pytest.raises(ComputeTimeoutError):
        await asked
    slow.go.set()
    while not slow.done:
        await asyncio.sleep(0)
    assert await slow.f(1) == 1
    assert (slow.begun, slow.cancelled) == (1, 0)


async def test_a_soft_timeout(clock: ManualClock) -> None:
    """When computing takes long, a stale result is served, and the new one is stored when it comes."""
    cache = FastCache(MemoryTier(clock=clock))
    slow = Slow(cache, ttl=10, stale_on_error=100, soft_timeout=1, timeout=5)
    slow.go.set()
    assert await slow.f(1) == 1
    clock.advance(11)
    slow.go.clear()
    asked = asyncio.ensure_future(slow.f(1))
    await until(clock, 1)
    clock.advance(1)
    assert await asked == 1
    slow.go.set()
    while slow.done < 2:
        await asyncio.sleep(0)
    await settle()
    assert await slow.f(1) == 2
    assert (slow.begun, slow.cancelled) == (2, 0)


async def test_a_soft_timeout_with_nothing_stale(clock: ManualClock) -> None:
    """Without a stale result the caller waits on, up to his hard timeout."""
    slow = Slow(FastCache(MemoryTier(clock=clock)), ttl=10, stale_ttl=1, soft_timeout=1, timeout=5)
    asked = asyncio.ensure_future(slow.f(1))
    await until(clock, 1)
    clock.advance(1)
    await settle()
    assert not asked.done()
    await until(clock, 1)
    clock.advance(4)
    with pytest.raises(ComputeTimeoutError):
        await asked


async def test_a_timeout_is_an_outage(clock: ManualClock) -> None:
    """With stale_on_error, a hard timeout serves what is stale."""
    slow = Slow(FastCache(MemoryTier(clock=clock)), ttl=10, stale_on_error=100, timeout=5)
    slow.go.set()
    await slow.f(1)
    clock.advance(11)
    slow.go.clear()
    asked = asyncio.ensure_future(slow.f(1))
    await until(clock, 1)
    clock.advance(5)
    assert await asked == 1


async def test_a_plain_thread_has_timeouts_too(clock: ManualClock) -> None:
    """A thread that calls a plain function does not wait longer than it may, soft or hard."""
    cache = FastCache(MemoryTier(clock=clock))
    go, runs, ended = threading.Event(), list[int](), list[int]()
    callers: list[threading.Thread] = []

    def ask(n: int) -> int:
        callers.append(threading.current_thread())
        return f(n)

    @cache.memoize(ttl=10, stale_on_error=100, soft_timeout=1, timeout=5)
    def f(n: int) -> int:
        assert threading.current_thread() not in callers, "the caller could not go while he runs this"
        runs.append(n)
        assert go.wait(20)
        ended.append(n)
        return len(runs)

    asked = asyncio.create_task(asyncio.to_thread(ask, 1))
    await until(clock, 1, asked)
    while not runs:
        await asyncio.sleep(0.001)
    clock.advance(1)
    while not asked.done() and not go.is_set():
        clock.advance(1)
        await asyncio.sleep(0.001)
    with pytest.raises(ComputeTimeoutError):
        await asked
    assert ended == []
    go.set()
    assert await asyncio.to_thread(ask, 2) == 2
    go.clear()
    clock.advance(11)
    asked = asyncio.create_task(asyncio.to_thread(ask, 2))
    await until(clock, 1, asked)
    clock.advance(1)
    assert await asked == 2
    assert 2 in ended
    assert ended.count(2) == 1
    go.set()
    await refreshed(cache)
    while cache.statistics().in_flight:
        await asyncio.sleep(0.001)


async def test_a_cancelled_caller_with_a_timeout(clock: ManualClock) -> None:
    """Cancelling a caller who has a timeout cancels the computation that only he waited for."""
    slow = Slow(FastCache(MemoryTier(clock=clock)), timeout=5)
    asked = asyncio.ensure_future(slow.f(1))
    await until(clock, 1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (slow.begun, slow.cancelled, clock.sleepers) == (1, 1, 0)


# --- failure ------------------------------------------------------------------------------------------------------------


class BrokenError(Exception):
    """An error of the user's, with arguments of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def test_exceptions_as_results(memoized: Any, clock: ManualClock, source: Source) -> None:
    """An exception that is a result is raised again without computing, as long as it is good; others are not kept."""
    f = memoized(ttl=100, cache_exceptions={BrokenError: 10})
    source.error = BrokenError(7)
    for _ in range(3):
        with pytest.raises(BrokenError) as caught:
            await f()
        assert caught.value.code == 7
    assert source.runs == 1
    hit = await f.face.cache_get(1)
    assert hit is not None
    source.error = None
    clock.advance(11)
    assert [await f(), await f()] == [2, 2]
    source.error = ValueError()
    clock.advance(100)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^$"):
            await f()
    assert source.runs == 4


async def test_a_failure_is_no_value_for_the_hot_path(memoized: Any, clock: ManualClock, source: Source) -> None:
    """A cell that led to a value does not lead to what is stored of an exception."""
    f = memoized(ttl=10, cache_exceptions={BrokenError: None})
    assert [await f(), await f()] == [1, 1]
    clock.advance(11)
    source.error = BrokenError(1)
    for _ in range(3):
        with pytest.raises(BrokenError):
            await f()
    assert source.runs == 2
    await f.face.cache_invalidate(1)
    source.error = None
    assert [await f(), await f()] == [3, 3]


async def test_a_weigher_that_returns_nonsense(tmp_path: Path) -> None:
    """A caller gets his result, and an event tells that memory did not take it."""
    disk = DiskTier(tmp_path)

    def nonsense(_value: Any) -> int:
        return -1

    async with FastCache(MemoryTier(max_bytes=10, weigher=nonsense), disk) as cache:

        @cache.memoize
        async def f(n: int) -> int:
            return n

        with cache.events.capture() as events:
            assert [await f(1), await f(1)] == [1, 1]
        failed = [event for event in events if isinstance(event, TierEvent) and event.outcome == "failed"]
        assert {(event.tier, event.reason) for event in failed} == {("memory", "ConfigurationError")}
        assert f.cache_info().computed == 1
        failures = cache.statistics().tiers[0].failures
        assert await f.cache_set(5, 1)
        assert await cache.get_or_set("key", lambda: 3) == 3
        assert await cache.set_many({"one": 1, "two": 2}) == 2
        assert {key: hit.value for key, hit in (await cache.get_many(["one", "two"])).items()} == {"one": 1, "two": 2}
        assert cache.statistics().tiers[0].failures >= failures + 4
    async with FastCache(MemoryTier(max_bytes=10, weigher=nonsense)) as alone:
        assert await alone.set_many({"one": 1}) == 0


async def test_read_only(memoized: Any, source: Source) -> None:
    """Inside read_only() what is stored is served and nothing is stored."""
    f = memoized()
    with read_only():
        assert [await f(), await f()] == [1, 2]
        assert not await f.face.cache_set(9, 1)
    assert [await f(), await f()] == [3, 3]
    with read_only():
        assert await f() == 3


async def test_a_deterministic_cache_refuses_what_would_divide_it(tmp_path: Path) -> None:
    """Refreshing and stale results are not for workers who have to agree."""
    cache = DeterministicCache(MemoryTier(), DiskTier(tmp_path), dump_on_close=False)

    async def f(n: int) -> int:
        return n

    refused: list[dict[str, Any]] = [
        {"refresh_after": 1},
        {"ttl": 9, "stale_ttl": 1},
        {"idle": 1},
        {"cache_exceptions": ValueError},
    ]
    for options in refused:
        with pytest.raises(ConfigurationError, match="deterministic"):
            cache.memoize(**options)(f)
