"""Many locks at once: all of them or none, always in one order, within one time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from acache import ChainTier, DiskTier, FastCache, MemoryTier
from acache.exceptions import ConfigurationError, FileLockTimeoutError, LockTimeoutError
from acache.locks import BLOCKING, NON_BLOCKING, Lock, Lockable, acquire_lock, acquire_many_locks
from acache.testing import FaultyTier, cancel_sweep, settle


class Tier:
    """As much of a tier as locking needs; ``log`` tells what was locked, in order."""

    def __init__(self, name: str, log: list[str] | None = None) -> None:
        self.name = name
        self.mutex = Lock()
        self.timeouts: list[float | None] = []
        self._log: list[str] = [] if log is None else log

    @asynccontextmanager
    async def lock(self, timeout: float | None = None) -> AsyncGenerator[None]:
        self.timeouts.append(timeout)
        async with acquire_lock(self.mutex, timeout):
            self._log.append(self.name)
            yield


class BrokenTier:
    """Its lock cannot be had."""

    name = "broken"

    def lock(self, timeout: float | None = None) -> AbstractAsyncContextManager[None]:
        raise OSError(self.name)


class Late:
    """Its lock is not to be had in time."""

    name = "late"

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    def lock(self, timeout: float | None = None) -> AbstractAsyncContextManager[None]:
        self.timeouts.append(timeout)
        raise LockTimeoutError(self, timeout or 0.0)


def locked(*tiers: Tier) -> list[bool]:
    return [tier.mutex.locked() for tier in tiers]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
async def test_all_are_held_inside_and_none_after(count: int) -> None:
    """Inside the block every lock is held; after it every lock is free."""
    tiers = [Tier(f"tier {number}") for number in range(count)]
    async with acquire_many_locks(*tiers, timeout=NON_BLOCKING):
        assert locked(*tiers) == [True] * count
    assert locked(*tiers) == [False] * count


async def test_the_order_does_not_depend_on_the_arguments() -> None:
    """However the tiers are given, they are locked in one and the same order."""
    log: list[str] = []
    tiers = [Tier(name, log) for name in ("b", "a", "c")]
    for arranged in itertools.permutations(tiers):
        log.clear()
        async with acquire_many_locks(*arranged):
            assert log == ["a", "b", "c"]


async def test_tiers_of_one_name_have_an_order_too() -> None:
    """Two callers that give two tiers of one name in opposite orders do not block each other."""
    one, two = Tier("same"), Tier("same")

    async def use(*tiers: Lockable) -> None:
        for _ in range(10):
            async with acquire_many_locks(*tiers, timeout=BLOCKING):
                await asyncio.sleep(0)

    with anyio.fail_after(30):
        await asyncio.gather(use(one, two), use(two, one))


async def test_a_tier_given_twice_is_locked_once() -> None:
    """The same tier twice is no deadlock."""
    tier = Tier("one")
    async with acquire_many_locks(tier, tier, timeout=NON_BLOCKING):
        assert len(tier.timeouts) == 1


async def test_one_that_cannot_be_had_releases_the_others() -> None:
    """When the last lock is not to be had in time, those taken before are released."""
    free, held = Tier("a"), Tier("b")
    async with held.lock():
        with pytest.raises(LockTimeoutError):
            async with acquire_many_locks(held, free, timeout=NON_BLOCKING):
                pass
        assert locked(free) == [False]


async def test_a_broken_one_releases_the_others() -> None:
    """An error of one lock is raised as it is, and the others are released."""
    free, broken = Tier("a"), BrokenTier()
    with pytest.raises(OSError):
        async with acquire_many_locks(broken, free):
            pass
    assert locked(free) == [False]


async def test_the_timeout_bounds_the_whole() -> None:
    """Each lock may take what the earlier ones have left over, and BLOCKING stays BLOCKING."""
    one, two = Tier("a"), Tier("b")
    async with acquire_many_locks(one, two, timeout=30):
        (first,), (second,) = one.timeouts, two.timeouts
        assert first is not None
        assert second is not None
        assert second <= first <= 30
    async with acquire_many_locks(one, timeout=BLOCKING):
        assert one.timeouts[-1] == BLOCKING


@pytest.mark.parametrize("timeout", [NON_BLOCKING, 0.25, 30])
async def test_the_error_tells_the_seconds_of_the_whole(timeout: float) -> None:
    """The error says how long the caller would have waited, and not what the earlier locks had left of it."""
    late = Late()
    with pytest.raises(LockTimeoutError, match=rf"Late was not acquired within {timeout:g} seconds") as caught:
        async with acquire_many_locks(Tier("early"), late, timeout=timeout):
            pass
    assert caught.value.timeout == timeout
    assert late.timeouts != [timeout] or not timeout


async def test_a_timeout_of_the_block_is_its_own() -> None:
    """A lock that the body could not have is the body's error, with its own seconds."""
    error = LockTimeoutError(object(), 5)
    with pytest.raises(LockTimeoutError) as caught:
        async with acquire_many_locks(Tier("one"), timeout=30):
            raise error
    assert caught.value is error


class TestOfTiers:
    """Tiers that are made of others, or share a directory with others."""

    async def test_a_chain_is_its_tiers(self, tmp_path: Path) -> None:
        """A chain and one of its tiers, or a wrapped tier and itself, do not wait for each other."""
        memory, disk = MemoryTier(), DiskTier(tmp_path)
        chain = ChainTier(memory, FaultyTier(disk))
        for tiers in ((chain, memory), (memory, chain), (disk, chain), (chain, ChainTier(disk, memory))):
            async with acquire_many_locks(*tiers, timeout=NON_BLOCKING):
                for tier in (memory, disk):
                    with pytest.raises(TimeoutError):
                        await tier.lock(NON_BLOCKING).__aenter__()
        async with memory.lock(NON_BLOCKING), disk.lock(NON_BLOCKING):
            pass

    async def test_tiers_of_one_directory_have_one_lock(self, tmp_path: Path) -> None:
        """Tiers of several versions, or by several paths, in one directory are locked once, and those of others too."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        one = DiskTier(tmp_path / "real" / "cache")
        two = DiskTier(tmp_path / "link" / "cache", version=2, name="v2")
        other = DiskTier(tmp_path / "real" / "cache", sub_dir="other", name="other")
        cache = FastCache(MemoryTier(), one, two, other)
        for lock in (cache.lock(NON_BLOCKING), acquire_many_locks(two, other, one, timeout=NON_BLOCKING)):
            async with lock:
                for tier in (one, two, other):
                    with pytest.raises(FileLockTimeoutError):
                        await tier.lock(NON_BLOCKING).__aenter__()
        async with one.lock(NON_BLOCKING), other.lock(NON_BLOCKING):
            pass

    async def test_files_have_one_order_whatever_the_tiers_are_called(self, tmp_path: Path) -> None:
        """Two callers whose tiers have other names for the same directories take their locks in the same order."""
        orders = [
            [rank for tier in tiers for rank in await tier.ranked_locks()]
            for tiers in (
                (DiskTier(tmp_path / "a", name="1"), DiskTier(tmp_path / "b", name="2")),
                (DiskTier(tmp_path / "a", name="2"), DiskTier(tmp_path / "b", name="1")),
            )
        ]
        assert orders[0] == orders[1] == sorted(orders[0])

    async def test_the_error_of_a_directory_tells_the_seconds_too(self, tmp_path: Path) -> None:
        """A directory that is locked elsewhere is a file lock's timeout, with the seconds that were given."""
        chain, elsewhere = ChainTier(MemoryTier(), DiskTier(tmp_path)), DiskTier(tmp_path)
        async with elsewhere.lock(NON_BLOCKING):
            with pytest.raises(FileLockTimeoutError, match=r"DiskTier was not acquired within 0\.05 seconds"):
                await chain.lock(0.05).__aenter__()
        async with chain.lock(NON_BLOCKING):
            pass


async def test_a_wrong_timeout_locks_nothing() -> None:
    """A timeout that is no number of seconds is refused before the first lock."""
    tier = Tier("one")
    with pytest.raises(ConfigurationError):
        async with acquire_many_locks(tier, timeout=-7):
            pass
    assert tier.timeouts == []


async def test_sweep() -> None:
    """Cancelled at any moment, it leaves no lock taken (H7)."""
    tiers = [Tier(name) for name in "abc"]

    async def use() -> None:
        async with acquire_many_locks(*tiers, timeout=BLOCKING):
            await asyncio.sleep(0)

    runs = 0
    async for step in cancel_sweep(use):
        runs += 1
        assert locked(*tiers) == [False] * 3
        assert step.was_cancelled == step.cancel_requested
    await settle()
    assert runs > 1
