"""``idle=``: a use renews a result, wherever it is seen; what is not used goes by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from acache import DiskTier, FastCache, MemoryTier, TierEvent, read_only
from acache.testing import ManualClock
from acache.types import Key
from tests.memoize.helpers import Define, Source, refreshed


@pytest.fixture
def cache(tiered: FastCache) -> FastCache:
    """Run every test here over each kind of tier, and over both."""
    return tiered


async def test_what_is_idle_leaves(memoized: Any, cache: FastCache, clock: ManualClock) -> None:
    """Results that nobody uses and nobody asks for are dropped by the next write to memory, and are dead on disk."""
    f = memoized(idle=10)
    for n in range(50):
        await f(n)
    clock.advance(1000)
    await f(99)
    memory, wide = cache.tier.memory, cache.tier.tiers[-1]
    assert memory is None or len(memory) == 1
    assert [n for n in range(50) if await wide.read(Key(f.face.cache_key(n))) is not None] == []
    await refreshed(cache)


async def test_what_was_used_and_is_idle_leaves(memoized: Any, cache: FastCache, clock: ManualClock) -> None:
    """Renewed results leave when they are not used any more, whichever of them was used last."""
    f = memoized(idle=10)
    for n in range(50):
        await f(n)
    for _ in range(5):
        clock.advance(6)
        for n in range(0, 50, 2):
            await f(n)
        await refreshed(cache)
    memory, wide = cache.tier.memory, cache.tier.tiers[-1]
    assert memory is None or len(memory) <= 50
    clock.advance(15)
    await f(0)  # keeps nothing but itself
    clock.advance(15)
    await f(99)
    assert memory is None or len(memory) <= 2
    await refreshed(cache)
    clock.advance(10)
    assert [n for n in range(50) if await wide.read(Key(f.face.cache_key(n))) is not None] == []


async def test_what_is_used_stays(memoized: Any, cache: FastCache, clock: ManualClock, source: Source) -> None:
    """A result that is used now and then, on whatever path, is never dropped, while others come and go."""
    f = memoized(idle=10)
    value = await f()
    for n in range(40):
        clock.advance((4.9, 2.6, 9.9)[n % 3])
        await f(n + 100)
        assert await f() == value
        await refreshed(cache)


async def test_a_use_on_the_hot_path_counts(memoized: Any, cache: FastCache, clock: ManualClock) -> None:
    """The use that nothing was told of is the one from which idle counts."""
    f = memoized(idle=10)
    assert await f() == 1
    clock.advance(4.9)
    assert await f() == 1
    await refreshed(cache)
    clock.advance(9.9)
    await f(2)
    assert await f() == 1
    await refreshed(cache)


@pytest.mark.parametrize("ask", ["call", "get", "contains"])
async def test_a_hot_use_counts_whoever_asks(
    cache: FastCache, clock: ManualClock, define: Define, call: Any, source: Source, ask: str
) -> None:
    """A use on the hot path counts for who comes another way, and when a group of other results was invalidated since."""

    @cache.memoize(idle=10, tags="mine")
    @define
    def f(n: int) -> int:
        return source(n)

    async def get() -> int | None:
        hit = await f.cache_get(1)
        return None if hit is None else hit.value

    async def contains() -> int | None:
        return 1 if await f.cache_contains(1) else None

    ways: dict[str, Any] = {"call": lambda: call(f, 1), "get": get, "contains": contains}
    for step in (0, 0.5, 4.4):
        clock.advance(step)
        assert await call(f, 1) == 1
    await refreshed(cache)
    await cache.invalidate_tags("theirs")
    clock.advance(9.9)
    assert await ways[ask]() == 1
    await refreshed(cache)


async def test_a_hot_use_counts_when_memory_had_to_drop_the_result(tmp_path: Path, clock: ManualClock) -> None:
    """The calls that a hot path served remember when, as long as nothing was invalidated."""
    runs: list[int] = []
    async with FastCache(MemoryTier(max_entries=1, clock=clock), DiskTier(tmp_path / "one", clock=clock)) as cache:

        @cache.memoize(idle=100)
        async def f(n: int) -> int:
            runs.append(n)
            return n

        for step in (0, 0, 20):
            clock.advance(step)
            await f(1)
        memory = cache.tier.memory
        assert memory is not None
        await memory.set("other", 1)
        await memory.set("another", 1)
        assert memory.node(Key(f.cache_key(1))) is None
        clock.advance(90)
        await f(1)
        await refreshed(cache)
    assert runs == [1]


@pytest.mark.parametrize("ttl", [25, None])
async def test_a_hot_use_keeps_nothing_beyond_its_ttl(
    memoized: Any, cache: FastCache, clock: ManualClock, ttl: int | None
) -> None:
    """A use just before the ttl is over does not keep a result fresh that is kept longer for other reasons."""
    f = memoized(idle=10, ttl=ttl, stale_on_error=100)
    await f()
    for step in (4, 4, 4, 4, 4, 4.9):
        clock.advance(step)
        assert await f() == 1
        await refreshed(cache)
    clock.advance(0.2)
    assert await f() == (1 if ttl is None else 2)
    await refreshed(cache)


async def test_what_is_kept_for_failure_is_kept_that_long(
    memoized: Any, cache: FastCache, clock: ManualClock, source: Source
) -> None:
    """stale_on_error begins when a result has been idle for too long, and not before."""
    f = memoized(idle=10, stale_on_error=100)
    await f()
    clock.advance(109)
    source.error = OSError("down")
    assert await f() == 1
    clock.advance(2)
    with pytest.raises(OSError, match="down"):
        await f()


async def test_a_fallback_is_not_used(memoized: Any, clock: ManualClock, source: Source) -> None:
    """What is served because nothing better can be had is not fresh for that."""
    f = memoized(idle=10, stale_on_error=100)
    await f()
    clock.advance(11)
    source.error = OSError()
    assert await f() == 1
    source.error = None
    clock.advance(1.1)
    assert await f() == 3


async def test_what_was_stored_for_ever(cache: FastCache, clock: ManualClock, define: Define, source: Source) -> None:
    """A result that was stored without idle= can be idle from its first use on by a function that has it."""

    def body(n: int) -> int:
        return source(n)

    raw = define(body)
    await cache.record(raw).aio(1)
    f = cache.memoize(idle=10)(raw)
    for _ in range(3):
        clock.advance(9)
        assert await f.aio(1) == 1
        await refreshed(cache)
    clock.advance(11)
    assert await f.aio(1) == 2


async def test_what_is_due_is_used(memoized: Any, cache: FastCache, clock: ManualClock, source: Source) -> None:
    """While refreshes fail, uses of what is there keep it."""
    f = memoized(idle=10, refresh_after=5)
    await f()
    source.error = OSError()
    for _ in range(10):
        clock.advance(6)
        assert await f() == 1
        await refreshed(cache)


# --- what others see ----------------------------------------------------------------------------------------------------


class Worker:
    """One of several processes on one directory."""

    def __init__(self, name: str, directory: Path, clock: ManualClock, define: Define, *, memory: bool) -> None:
        def f(n: int) -> str:
            return name

        tiers = (MemoryTier(clock=clock),) if memory else ()
        self.cache = FastCache(*tiers, DiskTier(directory, clock=clock))
        # What a callable reads is unknown: every call takes the full path.
        self.f = self.cache.memoize(idle=10, key=int)(define(f))

    async def ask(self) -> Any:
        return await self.f.aio(1)


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("every", [1, 2, 4, 9])
async def test_others_hear_of_frequent_uses(
    tmp_path: Path, clock: ManualClock, define: Define, *, memory: bool, every: int
) -> None:
    """However often a result is used, another process sees that it is."""
    one = Worker("one", tmp_path, clock, define, memory=memory)
    await one.ask()
    for _ in range(40 // every):
        clock.advance(every)
        assert await one.ask() == "one"
        await refreshed(one.cache)
    two = Worker("two", tmp_path, clock, define, memory=memory)
    assert await two.ask() == "one"
    await refreshed(two.cache)
    await one.cache.aclose()
    await two.cache.aclose()


async def test_a_use_keeps_nothing_beyond_max_age(tmp_path: Path, clock: ManualClock, define: Define) -> None:
    """What memory has from a directory with a limit of age ends with that, however often it is used."""
    runs: list[int] = []

    def body(n: int) -> int:
        runs.append(n)
        return len(runs)

    raw = define(body)
    async with FastCache(DiskTier(tmp_path, max_age=100, clock=clock)) as writer:
        assert await writer.memoize(idle=10)(raw).aio(1) == 1
    cache = FastCache(MemoryTier(clock=clock), DiskTier(tmp_path, max_age=100, clock=clock))
    f = cache.memoize(idle=10)(raw)
    for _ in range(16):
        clock.advance(6)
        assert await f.aio(1) == 1
        await refreshed(cache)
    clock.advance(6)
    assert await f.aio(1) == 2
    await cache.aclose()


@pytest.mark.parametrize("change", ["set", "invalidate"])
async def test_a_use_does_not_undo_what_others_did(
    tmp_path: Path, clock: ManualClock, define: Define, change: str
) -> None:
    """Telling others of a use brings back no result that they have replaced, or removed."""
    one = Worker("one", tmp_path, clock, define, memory=True)
    await one.ask()
    clock.advance(1)
    two = Worker("two", tmp_path, clock, define, memory=False)
    await (two.f.cache_set("new", 1) if change == "set" else two.f.cache_invalidate(1))
    clock.advance(5)
    await one.ask()
    await refreshed(one.cache)
    assert await two.ask() == ("new" if change == "set" else "two")
    await refreshed(two.cache)
    await one.cache.aclose()
    await two.cache.aclose()


@pytest.mark.parametrize("way", ["call", "get"])
async def test_a_read_only_use_writes_nothing(memoized: Any, cache: FastCache, clock: ManualClock, way: str) -> None:
    """A hit inside read_only() leaves the disk alone; the next one outside tells of itself."""
    f = memoized(idle=10)
    await f()
    clock.advance(6)
    with cache.events.capture() as events:
        with read_only():
            if way == "call":
                assert await f() == 1
            else:
                assert (await f.face.cache_get(1)).value == 1
        await refreshed(cache)
        writes = [event for event in events if isinstance(event, TierEvent) and event.operation == "write"]
        assert writes == []
        assert await f() == 1
        await refreshed(cache)
        writes = [event for event in events if isinstance(event, TierEvent) and event.tier == "disk"]
        if any(tier.name == "disk" for tier in cache.tier.tiers):
            assert "write" in {event.operation for event in writes}


async def test_a_directory_drops_what_is_idle_first(tmp_path: Path, clock: ManualClock) -> None:
    """A directory that is culled by cost sees that an idle result is dead, whatever it cost."""
    disk = DiskTier(tmp_path, max_entries=20, policy="cost", clock=clock)
    async with FastCache(disk) as cache:

        @cache.memoize(idle=10)
        async def dear(n: int) -> int:
            clock.advance(0.1)
            return n

        @cache.memoize
        async def cheap(n: int) -> int:
            return n

        for n in range(10):
            await dear(n)
        clock.advance(100)
        for n in range(12):
            await cheap(n)
        await disk.cull()
        await asyncio.sleep(0)
        assert [n for n in range(12) if not await cheap.cache_contains(n)] == []
