"""What callers see of time and threads: blocking calls (SPEC 23), and how long a second call takes (SPEC 24)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from acache import Cache, DeterministicCache, DiskTier, FastCache, Hit, MemoryTier, SyncCache, isolate
from acache.exceptions import BridgeError
from tests.acceptance.support import RegisterForm

# --- 23: plain threads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FastCache, DeterministicCache])
def test_plain_threads_have_all_of_it(tmp_path: Path, kind: Callable[..., Cache]) -> None:
    """SPEC 23: threads call, get, insert, lock and clear as tasks do, with the isolation of their own scopes."""
    face, runs = SyncCache(kind(MemoryTier(), DiskTier(tmp_path))), list[int]()

    @face.memoize
    async def compute(n: int) -> int:
        runs.append(n)
        return n * 2

    @face.memoize
    def compute_plain(n: int) -> int:
        runs.append(n)
        return n * 2

    def work(number: int) -> list[object]:
        found: list[object] = [compute.sync(number % 2), compute_plain(number % 2)]
        found += [face.get(compute, ((number % 2,), {})), face.get_or_set("key", lambda: "value")]
        with isolate(target=number):
            found += [face.get(compute, ((0,), {})), face.insert(compute, ((0,), {}), "given"), compute.sync(0)]
        with face.lock(30):
            return found

    with face, ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(work, range(4))):
            doubled = number % 2 * 2
            assert found == [doubled, doubled, Hit(doubled), "value", None, True, "given"]
        assert sorted(runs) == [0, 0, 1, 1]
        face.clear()
        assert face.get(compute, ((0,), {})) is None


async def test_a_loops_own_thread_is_refused(tmp_path: Path) -> None:
    """SPEC 23: where a loop runs, a blocking call that would have to wait for it is an error at once, for every method."""
    cache = FastCache(MemoryTier(), DiskTier(tmp_path))
    face = SyncCache(cache)

    @cache.memoize
    async def compute(n: int) -> int:
        return n

    params = ((1,), dict[str, Any]())
    calls: list[Callable[[], object]] = [partial(compute.sync, 1), partial(face.get, compute, params)]
    calls += [partial(face.insert, compute, params, 1), partial(face.get_or_set, "key", int), face.clear, face.close]
    calls += [face.lock().__enter__, partial(face.delete, "key")]
    for call in calls:
        with pytest.raises(BridgeError):
            call()
    assert await asyncio.to_thread(compute.sync, 1) == 1
    await cache.aclose()


# --- 24: time -----------------------------------------------------------------------------------------------------------

LONG = 0.2


@pytest.mark.integration
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("kind", [FastCache, DeterministicCache])
async def test_a_second_call_takes_no_time(
    tmp_path: Path, register: RegisterForm, kind: Callable[..., Cache], sync: bool
) -> None:
    """SPEC 24: a slow function is waited for once, from disk too; a changed setting takes the full time, the old one none again."""
    level, stored = ["O2"], set[str]()
    register("runtime", "level", lambda: level[0], volatile=True)

    async def slow(n: int) -> int:
        await asyncio.sleep(LONG)
        return n

    def slow_plain(n: int) -> int:
        time.sleep(LONG)
        return n

    async def seconds(call: Callable[[], Awaitable[int]]) -> float:
        started = time.perf_counter()
        assert await call() == 1
        return time.perf_counter() - started

    for tiers in ((MemoryTier(), DiskTier(tmp_path)), (MemoryTier(), DiskTier(tmp_path))):
        async with kind(*tiers) as cache:
            f = cache.memoize(slow_plain).aio if sync else cache.memoize(slow)
            for setting in ("O2", "O3", "O2"):
                level[0] = setting
                first, second = await seconds(partial(f, 1)), await seconds(partial(f, 1))
                assert (first < LONG / 2) is (setting in stored)
                assert first < LONG / 2 or first > 0.9 * LONG
                assert second < LONG / 2
                stored.add(setting)
    assert stored == {"O2", "O3"}
