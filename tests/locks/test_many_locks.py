"""Many locks at once: all of them or none, always in one order, within one time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest

from acache.exceptions import ConfigurationError, LockTimeoutError
from acache.locks import BLOCKING, NON_BLOCKING, Lock, Lockable, acquire_lock, acquire_many_locks
from acache.testing import cancel_sweep, settle


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
