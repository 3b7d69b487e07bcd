"""How old a result is: by the monotonic clock in a process, whatever the wall clock does, and anew when it is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acache import DiskTier, FastCache
from acache.testing import ManualClock
from acache.types import Entry, Key
from tests.memoize.helpers import Define, Source, refreshed


@pytest.fixture
def cache(tiered: FastCache) -> FastCache:
    """Run every test here over each kind of tier, and over both."""
    return tiered


POLICIES: list[dict[str, Any]] = [
    {"ttl": 10},
    {"ttl": 10, "stale_on_error": "1d"},
    {"ttl": 10, "stale_ttl": "1d"},
    {"ttl": 1000, "refresh_after": 10},
    {"refresh_after": 10},
    {"idle": 10},
    {"ttl": 1000, "idle": 10},
]


@pytest.mark.parametrize("options", POLICIES, ids=str)
async def test_a_wall_clock_that_jumps_back_keeps_nothing_fresh(
    memoized: Any, cache: FastCache, clock: ManualClock, source: Source, options: dict[str, Any]
) -> None:
    """Each time a result's time is over it is computed anew, although the wall clock was set back by an hour (C1)."""
    f = memoized(**options)
    await f()
    clock.jump_wall(-3600)
    for _ in range(20):
        clock.advance(11)
        await f()
        await refreshed(cache)
    assert source.runs == 21


@pytest.mark.parametrize("tiered", ["memory", "both"], indirect=True)
async def test_what_memory_holds_outlives_a_jump(memoized: Any, cache: FastCache, clock: ManualClock) -> None:
    """A wall clock that is set forward, or back, makes nothing stale that memory holds, nor older."""
    for options in POLICIES:
        f = memoized(version=str(options), **options)
        value = await f()
        for jump in (3600, -7200):
            clock.jump_wall(jump)
            clock.advance(4)
            assert await f() == value
            hit = await f.face.cache_get(1)
            assert hit.age == pytest.approx(4 if jump > 0 else 8)
        await refreshed(cache)


async def test_uses_after_a_jump(memoized: Any, cache: FastCache, clock: ManualClock) -> None:
    """What is used lives on, and what is not used ends, after the wall clock was set back too."""
    f = memoized(idle=10)
    await f()
    clock.jump_wall(-3600)
    value = await f()
    for _ in range(5):
        clock.advance(6)
        assert await f() == value
        await refreshed(cache)
    clock.advance(11)
    assert await f() == value + 1


async def test_the_ttl_of_a_hit(memoized: Any, clock: ManualClock) -> None:
    """A hit has left what remains until it is stale, not until it is thrown away."""
    f = memoized(ttl=10, stale_on_error=1000)
    await f()
    assert (await f.face.cache_get(1)).ttl == 10
    clock.advance(4)
    hit = await f.face.cache_get(1)
    assert (hit.ttl, hit.age) == (6, 4)


async def test_a_call_that_takes_nothing_stale(memoized: Any, call: Define, clock: ManualClock) -> None:
    """What is only kept for want of better is not fresh for a call without stale_on_error."""
    f = memoized(ttl=10, stale_on_error=1000)
    await f()
    strict = f.face.cache_with(stale_on_error=None)
    assert await call(strict, 1) == 1
    clock.advance(500)
    assert await call(strict, 1) == 2
    assert await f() == 2


async def test_a_twin_that_takes_nothing_stale(
    cache: FastCache, call: Define, define: Define, source: Source, clock: ManualClock
) -> None:
    """Nor is it for the same function decorated without stale_on_error, on whatever path its calls go."""

    def body(n: int) -> int:
        return source(n)

    raw = define(body)
    f, strict = cache.memoize(ttl=10, stale_on_error=1000)(raw), cache.memoize(raw)
    assert [await call(f, 1), await call(strict, 1), await call(strict, 1)] == [1, 1, 1]
    clock.advance(11)
    assert await call(strict, 1) == 2


async def test_a_stale_entry_from_the_future_is_none(tmp_path: Path, clock: ManualClock) -> None:
    """An entry that can be stale and has no other end is a miss on disk while it is from the future, beyond the skew."""
    wide, key = DiskTier(tmp_path / "disk", clock=clock), Key("0" * 64)
    for ahead, found in ((200, True), (400, False)):
        now = clock.wall() + ahead
        await wide.write(key, Entry(1, created=now, stale_at=now + 10), replace=True)
        assert (await wide.read(key) is not None) is found
    await wide.aclose()


async def test_other_options_are_added(memoized: Any, call: Define, clock: ManualClock) -> None:
    """cache_with() leaves the options it does not name as they were."""
    f = memoized(ttl=10)
    await call(f.face.cache_with(jitter=1), 1)
    clock.advance(12)
    assert await f() == 2


async def test_jitter_is_the_same_in_every_run(memoized: Any, cache: FastCache, clock: ManualClock) -> None:
    """How much is added to the ttl of a call depends on its key alone, and differs between keys."""
    f = memoized(ttl=10, jitter=10)
    ends: list[list[float]] = []
    for _ in range(2):
        for n in range(5):
            await f(n)
        ends.append([(await f.face.cache_get(n)).ttl for n in range(5)])
        await cache.clear()
    assert ends[0] == ends[1]
    assert len(set(ends[0])) == 5
    assert all(10 <= end <= 20 for end in ends[0])


# --- touching -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"ttl": 10}, {"ttl": 10, "stale_ttl": 100}, {"ttl": 10, "stale_on_error": 100}, {"idle": 10}], ids=str
)
async def test_a_touched_result_is_fresh(
    memoized: Any, cache: FastCache, clock: ManualClock, source: Source, options: dict[str, Any]
) -> None:
    """After cache_touch a result is fresh for as long as at first, and then no longer."""
    f = memoized(**options)
    await f()
    clock.advance(8)
    assert await f.face.cache_touch(1)
    clock.advance(8)
    assert (await f.face.cache_get(1)).ttl == pytest.approx(10 if "idle" in options else 2)
    assert await f() == 1
    await refreshed(cache)
    assert source.runs == 1
    clock.advance(11)
    await f()
    await refreshed(cache)
    assert source.runs == 2


async def test_touching_begins_refresh_after_anew(
    memoized: Any, cache: FastCache, clock: ManualClock, source: Source
) -> None:
    """A touched result is due for its refresh as if it had just been made."""
    f = memoized(ttl=100, refresh_after=80)
    await f()
    clock.advance(90)
    assert await f.face.cache_touch(1)
    assert await f() == 1
    await refreshed(cache)
    assert source.runs == 1
    assert (await f.face.cache_get(1)).age == 0
    clock.advance(81)
    assert await f() == 1
    await refreshed(cache)
    assert source.runs == 2


async def test_touching_changes_times_only(cache: FastCache, clock: ManualClock, define: Define) -> None:
    """Value, cost, factors and tags stay what they were, and so does what invalidates them."""

    def body(n: int) -> int:
        clock.advance(3)
        return n

    f = cache.memoize(ttl=100, tags="t")(define(body))
    await f.aio(1)
    key = Key(f.cache_key(1))
    entry = await cache.tier.read(key)
    assert entry is not None
    before = (entry.value, entry.cost, dict(entry.factors), entry.tags, entry.born)
    assert before[1] == 3.0
    assert before[3] == ("t",)
    clock.advance(10)
    assert await f.cache_touch(1)
    after = await cache.tier.read(key)
    assert after is not None
    assert (after.value, after.cost, dict(after.factors), after.tags, after.born) == before
    await cache.invalidate_tags("t")
    assert not await f.cache_contains(1)


async def test_touching_begins_max_age_anew(tmp_path: Path, clock: ManualClock, define: Define) -> None:
    """A touched entry is as old as one that has just been made, for the limit of its directory too."""
    async with FastCache(DiskTier(tmp_path, max_age=10, clock=clock)) as cache:

        def body(n: int) -> int:
            return n

        f = cache.memoize(define(body))
        await f.aio(1)
        clock.advance(8)
        assert await f.cache_touch(1)
        clock.advance(8)
        assert await f.cache_contains(1)
        clock.advance(3)
        assert not await f.cache_contains(1)
