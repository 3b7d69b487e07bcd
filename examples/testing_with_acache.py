"""Test code that caches: time that stands still, tiers that break, and counts instead of guesses.

    pytest examples/testing_with_acache.py

The fixtures ``isolated_cache`` (empty, on memory and disk, with a clock that stands still) and ``manual_clock`` come
with acache's pytest plugin: there is nothing to import for them. Async tests as they are written here need
pytest-asyncio with ``asyncio_mode = "auto"``.
"""

# ruff: noqa: S101 - a test speaks by assert
import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from acache import DiskTier, FastCache, MemoryTier
from acache.testing import ComputeCounter, FaultyTier, ManualClock

Price = Callable[[str], Coroutine[Any, Any, int]]


def make_price(cache: FastCache, counter: ComputeCounter) -> Price:
    """Stand for the code under test: it takes its cache from outside, so that a test can bring one."""

    @cache.memoize(ttl="10m")
    @counter.wrap
    async def price(item: str) -> int:
        await asyncio.sleep(0)
        return len(item)

    return price


async def test_result_expires_when_its_time_has_come(isolated_cache: FastCache, manual_clock: ManualClock) -> None:
    """Ten minutes pass in no time, and not a moment earlier than the test says."""
    counter = ComputeCounter()
    price = make_price(isolated_cache, counter)
    assert await price("tea") == 3
    manual_clock.advance("9m 59s")
    assert await price("tea") == 3
    counter.assert_computed(1)
    manual_clock.advance("1s")
    assert await price("tea") == 3
    counter.assert_computed(2)


async def test_hundred_callers_share_one_computation(isolated_cache: FastCache) -> None:
    """Whoever asks while the answer is being computed waits for it."""
    counter = ComputeCounter()
    price = make_price(isolated_cache, counter)
    assert set(await asyncio.gather(*(price("tea") for _ in range(100)))) == {3}
    counter.assert_computed_once_each()


async def test_broken_disk_costs_time_but_no_answer(tmp_path: Path) -> None:
    """While the disk is broken, every restart computes; when it works again, a restart finds the result."""
    counter = ComputeCounter()
    disk = FaultyTier(DiskTier(tmp_path))
    disk.fail("write", error=OSError("disk full"), times=1)
    disk.fail("read", error=OSError("input/output error"), times=2)
    for expected_runs in (1, 2, 2):
        async with FastCache(MemoryTier(), disk) as restarted:
            assert await make_price(restarted, counter)("tea") == 3
            counter.assert_computed(expected_runs)
    assert disk.statistics().failures == 3


async def test_slow_disk_is_waited_for_once(tmp_path: Path) -> None:
    """A tier that hangs shows what happens in between, without a single sleep."""
    counter = ComputeCounter()
    disk = FaultyTier(DiskTier(tmp_path))
    async with FastCache(MemoryTier(), disk) as cache:
        price = make_price(cache, counter)
        hang = disk.hang("read")
        callers = [asyncio.create_task(price("tea")) for _ in range(3)]
        await hang.reached.wait()
        counter.assert_computed(0)
        hang.release()
        await asyncio.gather(*callers)
        counter.assert_computed(1)


def test_plain_functions_need_no_event_loop(isolated_cache: FastCache, manual_clock: ManualClock) -> None:
    """The same fixtures serve synchronous tests."""
    counter = ComputeCounter()

    @isolated_cache.memoize(ttl=60)
    @counter.wrap
    def square(number: int) -> int:
        return number * number

    assert (square(12), square(12)) == (144, 144)
    counter.assert_computed(1)
    manual_clock.advance(60)
    assert square(12) == 144
    counter.assert_computed(2)
