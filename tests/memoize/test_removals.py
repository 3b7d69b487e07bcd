"""Listeners hear of every entry that goes, once for each tier that held it, with the cause; and it is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from acache import DiskTier, FastCache, MemoryTier, TierEvent
from acache.events import Event
from acache.stats import NO_REMOVALS
from acache.testing import ManualClock, settle

Define = Callable[..., Any]
KINDS = {"memory": ("memory",), "disk": ("disk",), "chain": ("memory", "disk")}


def tiers_of(kind: str, directory: Path, clock: ManualClock, **options: Any) -> list[Any]:
    """Make the tiers of one kind of cache."""
    makers: dict[str, Callable[..., Any]] = {"memory": MemoryTier, "disk": partial(DiskTier, directory)}
    return [makers[name](clock=clock, **options) for name in KINDS[kind]]


@pytest.fixture(params=KINDS)
def tiers(request: pytest.FixtureRequest) -> str:
    """Over what the cache is made."""
    return str(request.param)


@pytest.fixture
async def cache(tiers: str, tmp_path: Path, clock: ManualClock) -> AsyncGenerator[FastCache]:
    """Make a cache over each kind of tier, and over both."""
    async with FastCache(*tiers_of(tiers, tmp_path / "cache", clock)) as cache:
        yield cache


def told(events: Collection[Event], function: Any) -> Counter[tuple[str, str | None]]:
    """Return what was told of entries of ``function``, by tier and cause."""
    prefix = function.cache_key(1)[:20]
    gone = [event for event in events if isinstance(event, TierEvent) and event.operation in {"evict", "remove"}]
    for event in gone:
        assert event.outcome == "done"
        assert (event.operation == "evict") is (event.reason in {"evicted", "expired"})
    return Counter((event.tier, event.reason) for event in gone if event.key is not None and event.key[:20] == prefix)


async def stored(tier: Any) -> int:
    """Count the entries of a tier."""
    number = 0
    async for _ in tier.keys():
        number += 1
    return number


async def expire(_cache: FastCache, f: Any, call: Define, clock: ManualClock) -> None:
    """Compute an entry anew whose time is up."""
    clock.advance(101)
    await call(f, 1)


async def idle(cache: FastCache, f: Any, call: Define, clock: ManualClock) -> None:
    """Compute an entry anew that was not used for too long."""
    clock.advance(31)
    await call(f, 1)


async def set_over(_cache: FastCache, f: Any, _call: Define, _clock: ManualClock) -> None:
    """Set a value over another, in the same moment."""
    assert await f.cache_set(9, 1)


async def refresh(_cache: FastCache, f: Any, _call: Define, _clock: ManualClock) -> None:
    """Compute it anew though it is good."""
    await f.cache_refresh(1)


async def invalidate(_cache: FastCache, f: Any, _call: Define, _clock: ManualClock) -> None:
    """Ask for its removal, twice."""
    assert await f.cache_invalidate(1)
    assert not await f.cache_invalidate(1)


async def clear(_cache: FastCache, f: Any, _call: Define, _clock: ManualClock) -> None:
    """Clear the function."""
    await f.cache_clear()


async def clear_all(cache: FastCache, _f: Any, _call: Define, _clock: ManualClock) -> None:
    """Clear everything."""
    await cache.clear()


async def invalidate_tags(cache: FastCache, f: Any, call: Define, _clock: ManualClock) -> None:
    """Invalidate its group, and ask for it."""
    await cache.invalidate_tags("group")
    await call(f, 1)


async def set_over_dead(cache: FastCache, f: Any, _call: Define, _clock: ManualClock) -> None:
    """Invalidate its group, and set another in its place."""
    await cache.invalidate_tags("group")
    await f.cache_set(9, 1)


async def set_over_expired(_cache: FastCache, f: Any, _call: Define, clock: ManualClock) -> None:
    """Set another in the place of one whose time is up."""
    clock.advance(101)
    await f.cache_set(9, 1)


async def touch(_cache: FastCache, f: Any, _call: Define, clock: ManualClock) -> None:
    """Let its time begin anew: nothing goes."""
    clock.advance(10)
    assert await f.cache_touch(1)


async def use(cache: FastCache, f: Any, call: Define, clock: ManualClock) -> None:
    """Use it again and again, so that its idle time is prolonged behind the caller: nothing goes."""
    for _ in range(3):
        clock.advance(16)
        await call(f, 1)
        while len(cache._engine._background):
            await settle()


CASES: dict[str, tuple[Define, dict[str, Any], str | None]] = {
    "expired": (expire, {"ttl": 100}, "expired"),
    "idle too long": (idle, {"idle": 30}, "expired"),
    "idle too long, kept for errors": (idle, {"idle": 30, "stale_on_error": 100}, "expired"),
    "set over": (set_over, {}, "replaced"),
    "refreshed": (refresh, {}, "replaced"),
    "invalidated": (invalidate, {}, "invalidated"),
    "cleared": (clear, {}, "invalidated"),
    "all cleared": (clear_all, {}, "invalidated"),
    "group invalidated": (invalidate_tags, {"tags": "group"}, "invalidated"),
    "set over invalidated": (set_over_dead, {"tags": "group"}, "invalidated"),
    "set over expired": (set_over_expired, {"ttl": 100}, "expired"),
    "touched": (touch, {"ttl": 100}, None),
    "used": (use, {"idle": 30}, None),
}


@pytest.mark.parametrize("case", CASES)
async def test_removals_are_told_and_counted(
    cache: FastCache, tiers: str, case: str, define: Define, call: Define, clock: ManualClock
) -> None:
    """Whatever takes an entry away, each tier that held it says so once, with the right cause, and counts it."""
    act, options, cause = CASES[case]

    @cache.memoize(**options)
    @define
    def f(n: int) -> int:
        return n

    await call(f, 1)
    with cache.events.capture() as events:
        await act(cache, f, call, clock)
        await settle()
    expected = {(name, cause): 1 for name in KINDS[tiers] if cause is not None}
    assert told(events, f) == expected
    counts: dict[str, int] = {str(each): len(expected) if each == cause else 0 for each in NO_REMOVALS}
    assert {cause: getattr(f.cache_info(), cause) for cause in NO_REMOVALS} == counts
    assert {cause: getattr(cache.statistics().total, cause) for cause in NO_REMOVALS} == counts
    (info,) = cache.statistics().functions.values()
    assert {cause: getattr(info, cause) for cause in NO_REMOVALS} == counts


async def test_counts_are_of_one_function(cache: FastCache, tiers: str) -> None:
    """Each function counts its own entries; the cache counts all, those without a function too."""

    @cache.memoize
    async def f(n: int) -> int:
        return n

    @cache.memoize
    async def g(n: int) -> int:
        return n

    for n in range(3):
        await f(n)
        await g(n)
    await cache.set_many({"key": 1})
    await cache.set_many({"key": 2})
    await f.cache_clear()
    await g.cache_set(9, 1)
    number = len(KINDS[tiers])
    assert (f.cache_info().invalidated, f.cache_info().replaced) == (3 * number, 0)
    assert (g.cache_info().invalidated, g.cache_info().replaced) == (0, number)
    total = cache.statistics().total
    assert (total.invalidated, total.replaced) == (3 * number, 2 * number)
    assert f.cache_info()[:4] == (0, 3, 1_000_000 if "memory" in KINDS[tiers] else None, 0)


@pytest.mark.parametrize("limit", ["max_entries", "max_bytes"])
async def test_evictions_are_told_and_counted(tiers: str, tmp_path: Path, clock: ManualClock, limit: str) -> None:
    """What makes room for others is told as evicted, by each tier."""
    made = tiers_of(tiers, tmp_path / "cache", clock, **{limit: {"max_entries": 5, "max_bytes": 5_000}[limit]})
    async with FastCache(*made) as cache:

        @cache.memoize
        async def f(n: int) -> bytes:
            return bytes(900)

        with cache.events.capture() as events:
            for n in range(20):
                await f(n)
            for tier in made:
                if isinstance(tier, DiskTier):
                    await tier.cull()
        left = {tier.name: await stored(tier) for tier in made}
        assert told(events, f) == {(name, "evicted"): 20 - number for name, number in left.items()}
        assert f.cache_info().evicted == 20 * len(made) - sum(left.values())


async def test_damage_is_told_and_counted(tmp_path: Path, clock: ManualClock, define: Define, call: Define) -> None:
    """What was damaged is told as corrupt, whether a read finds it or a write, and is no entry that was replaced."""
    async with FastCache(DiskTier(tmp_path, clock=clock)) as cache:

        @cache.memoize
        @define
        def f(n: int) -> int:
            return n

        def damage() -> None:
            for path in tmp_path.glob("??/*"):
                path.write_bytes(b"rubbish")

        await call(f, 1)
        damage()
        with cache.events.capture() as events:
            await call(f, 1)
        assert told(events, f) == {("disk", "corrupt"): 1}
        damage()
        with cache.events.capture() as events:
            await f.cache_set(9, 1)
        assert told(events, f) == {("disk", "corrupt"): 1}
        assert (f.cache_info().corrupt, cache.statistics().tiers[0].corruptions) == (2, 2)


async def test_other_versions_are_told(tmp_path: Path, clock: ManualClock) -> None:
    """An entry of another version of the cache was invalidated by the change, also if it is overwritten unread."""
    for version in (1, 2, 3):
        async with FastCache(DiskTier(tmp_path, version=version, clock=clock)) as cache:

            @cache.memoize(key="{n}")
            async def f(n: int) -> int:
                return n

            with cache.events.capture() as events:
                await (f(1) if version < 3 else f.cache_set(1, 1))
            assert told(events, f) == ({("disk", "invalidated"): 1} if version > 1 else {})


async def test_what_another_process_replaced_is_told(tmp_path: Path, clock: ManualClock) -> None:
    """Memory lets go of what is stale here and renewed below: its time was up."""
    caches = [FastCache(*tiers_of("chain", tmp_path, clock)) for _ in range(2)]

    async def f(n: int) -> int:
        return n

    here, there = (cache.memoize(key="{n}", ttl=100, stale_on_error=1_000)(f) for cache in caches)
    await here(1)
    await there(1)
    clock.advance(101)
    await there(1)
    with caches[0].events.capture() as events:
        await here(1)
    assert told(events, here) == {("memory", "expired"): 1}
    for cache in caches:
        await cache.aclose()
