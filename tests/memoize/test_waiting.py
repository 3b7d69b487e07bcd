"""Callers who have waited long enough: what they get, how soon, and what becomes of the computation they leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from acache import CallEvent, FastCache, MemoryTier
from acache.exceptions import ComputeTimeoutError
from acache.testing import FaultyTier, Gate, ManualClock, settle
from tests.memoize.helpers import refreshed


class Slow:
    """A function of either kind whose run lasts until it is let go, and then fails if it is to."""

    def __init__(self, cache: FastCache, kind: str, **options: Any) -> None:
        self.cache, self.kind = cache, kind
        self.runs, self.go, self.error = 0, Gate("the end of the run"), None
        self.go.open()

        async def f(n: int) -> int:
            self.runs += 1
            run, go = self.runs, self.go
            await go.wait()
            if self.error is not None:
                raise self.error
            return run

        def g(n: int) -> int:
            self.runs += 1
            run, go = self.runs, self.go
            go.wait_blocking()
            if self.error is not None:
                raise self.error
            return run

        self.f: Any = cache.memoize(**options)(f if kind == "async" else g)

    error: Exception | None

    async def ask(self, f: Any = None) -> Any:
        f = self.f if f is None else f
        return await (f(1) if self.kind == "async" else asyncio.to_thread(f, 1))

    def hold(self) -> None:
        """Let the next run last."""
        self.go = Gate("the end of the run")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in other tasks and threads, as long as a test may last."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def cache(tiered: FastCache) -> FastCache:
    """Run every test here over each kind of tier, and over both."""
    return tiered


async def _left_behind(slow: Slow, clock: ManualClock, seconds: float) -> list[Any]:
    """Let two callers leave one run that lasts; return what they got."""
    slow.hold()
    runs, before = slow.runs, clock.sleepers
    asked = [asyncio.ensure_future(slow.ask()) for _ in range(2)]
    await until(lambda: slow.runs > runs and clock.sleepers == before + 2)
    clock.advance(seconds)
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_a_run_that_fails_behind_its_callers(cache: FastCache, clock: ManualClock, kind: str) -> None:
    """When a computation fails that its callers have left for something stale, one event tells, and the key rests."""
    slow = Slow(cache, kind, ttl=10, stale_on_error=1000, soft_timeout=1)
    assert await slow.ask() == 1
    clock.advance(11)
    slow.error = OSError()
    with cache.events.capture() as events:
        assert await _left_behind(slow, clock, 1) == [1, 1]
        slow.go.open()
        await refreshed(cache)
    told = [event for event in events if isinstance(event, CallEvent)]
    assert [(event.action, event.outcome) for event in told] == [("call", "hit")] * 2 + [("refresh", "failed")]
    assert await slow.ask() == 1
    assert slow.runs == 2, "the key rests"
    clock.advance(1.1)
    assert await slow.ask() == 1
    assert slow.runs == 3


async def test_a_run_that_works_behind_its_callers(cache: FastCache, clock: ManualClock, kind: str) -> None:
    """When it works, one event tells, and its result is what later callers get."""
    slow = Slow(cache, kind, ttl=10, stale_on_error=1000, soft_timeout=1)
    assert await slow.ask() == 1
    clock.advance(11)
    with cache.events.capture() as events:
        assert await _left_behind(slow, clock, 1) == [1, 1]
        slow.go.open()
        await refreshed(cache)
    told = [event for event in events if isinstance(event, CallEvent)]
    assert [(event.action, event.outcome) for event in told] == [("call", "hit")] * 2 + [("refresh", "computed")]
    assert await slow.ask() == 2
    assert slow.runs == 2


async def test_a_run_that_finishes_in_the_background(cache: FastCache, clock: ManualClock, kind: str) -> None:
    """With finish_in_background its result is stored when every caller has timed out, from threads too."""
    slow = Slow(cache, kind, timeout=1, finish_in_background=True)
    with cache.events.capture() as events:
        left = await _left_behind(slow, clock, 1)
        assert [type(outcome) for outcome in left] == [ComputeTimeoutError] * 2
        slow.go.open()
        await refreshed(cache)
    told = [event for event in events if isinstance(event, CallEvent)]
    assert [(event.action, event.outcome) for event in told] == [("call", "failed")] * 2 + [("refresh", "computed")]
    assert await slow.ask() == 1
    assert slow.runs == 1


async def test_a_run_of_an_invalidated_key_behind_its_caller(clock: ManualClock) -> None:
    """A caller who times out when the key was invalidated meanwhile lets nobody else's run rest; an event tells of his."""
    slow = Slow(FastCache(MemoryTier(clock=clock)), "async", timeout=1, finish_in_background=True)
    slow.hold()
    asked = asyncio.ensure_future(slow.ask())
    await until(lambda: slow.runs == 1 and clock.sleepers == 1)
    await slow.f.cache_invalidate(1)
    with slow.cache.events.capture() as events:
        clock.advance(1)
        with pytest.raises(ComputeTimeoutError):
            await asked
        slow.go.open()
        await refreshed(slow.cache)
    told = [(event.action, event.outcome, event.stored) for event in events if isinstance(event, CallEvent)]
    assert told == [("call", "failed", None), ("refresh", "computed", False)]
    assert await slow.ask() == 2


async def test_a_run_that_ends_with_its_loop(clock: ManualClock) -> None:
    """A computation that is cancelled behind its callers, as a loop does that closes, is no failure and no event."""
    slow = Slow(FastCache(MemoryTier(clock=clock)), "async", timeout=1, finish_in_background=True)
    with slow.cache.events.capture() as events:
        left = await _left_behind(slow, clock, 1)
        assert [type(outcome) for outcome in left] == [ComputeTimeoutError] * 2
        for task in list(slow.cache._engine._background._tasks):
            task.cancel()
        await settle()
    told = [event for event in events if isinstance(event, CallEvent)]
    assert [(event.action, event.outcome) for event in told] == [("call", "failed")] * 2
    assert (len(slow.cache._engine.flights), len(slow.cache._engine._background)) == (0, 0)


async def test_a_run_that_is_late_counts_once(clock: ManualClock) -> None:
    """A key rests for a second after a run that was too slow for callers who came one after the other."""
    slow = Slow(FastCache(MemoryTier(clock=clock)), "async", ttl=10, stale_on_error=1000, timeout=5)
    assert await slow.ask() == 1
    clock.advance(11)
    slow.hold()
    first = asyncio.ensure_future(slow.ask())
    await until(lambda: clock.sleepers == 1)
    clock.advance(1.5)
    second = asyncio.ensure_future(slow.ask())
    await until(lambda: clock.sleepers == 2)
    clock.advance(3.5)
    assert await first == 1
    async with asyncio.timeout(5):
        assert await slow.ask() == 1, "the key rests: nobody waits for the run"
    clock.advance(1.5)
    assert await second == 1
    slow.go.open()
    assert await slow.ask() == 3, "the rest that the first has begun is over"


# --- tiers that hang ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"timeout": 5}, {"soft_timeout": 5}, {"soft_timeout": 5, "timeout": 9}], ids=str)
async def test_a_wide_tier_that_hangs(clock: ManualClock, kind: str, limits: dict[str, float]) -> None:
    """What memory holds is served when the time is up, although a wider tier does not say what it has."""
    wide = FaultyTier(MemoryTier(name="wide", clock=clock))
    slow = Slow(FastCache(MemoryTier(clock=clock), wide), kind, ttl=10, stale_on_error=100, **limits)
    assert await slow.ask() == 1
    clock.advance(11)
    hang = wide.hang("read")
    asked = asyncio.ensure_future(slow.ask())
    await hang.reached.wait()
    await until(lambda: clock.sleepers == 1)
    clock.advance(5)
    assert await asyncio.wait_for(asked, 10) == 1
    wide.heal()
    await refreshed(slow.cache)


async def test_the_only_tier_hangs(clock: ManualClock, kind: str) -> None:
    """A search for something stale lasts no longer than the caller would wait."""
    wide = FaultyTier(MemoryTier(name="wide", clock=clock))
    options: dict[str, Any] = {"ttl": 10, "stale_on_error": 100, "soft_timeout": 1, "timeout": 5}
    slow = Slow(FastCache(wide), kind, **options)
    assert await slow.ask() == 1
    clock.advance(11)
    hang = wide.hang("read")
    asked = asyncio.ensure_future(slow.ask())
    await hang.reached.wait()
    await until(lambda: clock.sleepers == 1)
    clock.advance(1)
    await until(lambda: clock.sleepers == 1)
    clock.advance(4)
    with pytest.raises(ComputeTimeoutError):
        await asyncio.wait_for(asked, 10)
    wide.heal()
    await refreshed(slow.cache)


@pytest.mark.parametrize("limits", [{"timeout": 5}, {"soft_timeout": 5, "timeout": 9}], ids=str)
async def test_what_the_run_has_found(clock: ManualClock, kind: str, limits: dict[str, float]) -> None:
    """What was found before the run began is served when the time is up, though it could not be read again."""
    wide = FaultyTier(MemoryTier(name="wide", clock=clock))
    slow = Slow(FastCache(wide), kind, ttl=10, stale_on_error=100, **limits)
    assert await slow.ask() == 1
    clock.advance(11)
    slow.hold()
    asked = asyncio.ensure_future(slow.ask())
    await until(lambda: slow.runs == 2 and clock.sleepers == 1)
    wide.hang("read")
    clock.advance(5)
    assert await asyncio.wait_for(asked, 10) == 1
    slow.go.open()
    wide.heal()
    await refreshed(slow.cache)
    await until(lambda: len(slow.cache._engine.flights) == 0)


async def test_a_search_gives_way_to_the_result(clock: ManualClock) -> None:
    """A caller who is looking for something stale takes the result when that comes first."""
    wide = FaultyTier(MemoryTier(name="wide", clock=clock))
    slow = Slow(FastCache(wide), "async", ttl=10, stale_on_error=100, soft_timeout=1)
    slow.hold()
    asked = asyncio.ensure_future(slow.ask())
    await until(lambda: slow.runs == 1 and clock.sleepers == 1)
    hang = wide.hang("read")
    clock.advance(1)
    await hang.reached.wait()
    slow.go.open()
    assert await asyncio.wait_for(asked, 10) == 1
    wide.heal()
    await refreshed(slow.cache)


async def test_a_caller_who_is_cancelled_while_he_searches(clock: ManualClock) -> None:
    """Cancelling him ends the search, and the computation that only he waited for."""
    wide = FaultyTier(MemoryTier(name="wide", clock=clock))
    slow = Slow(FastCache(wide), "async", ttl=10, stale_on_error=100, soft_timeout=1)
    slow.hold()
    asked = asyncio.ensure_future(slow.ask())
    await until(lambda: slow.runs == 1 and clock.sleepers == 1)
    hang = wide.hang("read")
    clock.advance(1)
    await hang.reached.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await settle()
    assert (len(slow.cache._engine.flights), len(slow.cache._engine._background), clock.sleepers) == (0, 0, 0)


async def test_the_body_leaves_a_thread_that_may_go(clock: ManualClock) -> None:
    """The body of a plain function with a timeout runs in another thread than the caller's, who could not go."""
    cache, callers = FastCache(MemoryTier(clock=clock)), list[threading.Thread]()

    @cache.memoize(timeout=5)
    def f(n: int) -> threading.Thread:
        return threading.current_thread()

    def ask() -> threading.Thread:
        callers.append(threading.current_thread())
        return f(1)

    assert await asyncio.to_thread(ask) not in callers
