"""The rows of the original about the deterministic interface (4.5), under their own names, and what SPEC 16 to 18 add."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from acache import DeterministicCache, DiskTier, Hit, MemoryTier, isolate
from acache.exceptions import (
    BundleError,
    ConfigurationError,
    DeterminismLostError,
    DeterministicCachingDisabledError,
    DeterministicCachingIMCDumpConflictError,
    DeterministicCachingInvalidConfigurationError,
    DeterministicCachingRequiresStrongConsistencyError,
    StrictDeterministicCachingInsertionError,
    StrictDeterministicCachingKeyNotFoundError,
)
from acache.testing import FaultyTier
from tests.acceptance.support import MakeWorker, Shared, choosing, run_aside, run_together

if TYPE_CHECKING:
    from acache.testing.plugin import ChangeSettings

Use = Callable[[], Awaitable[object]]

# --- strictness ---------------------------------------------------------------------------------------------------------


async def assert_is_refused(cache: DeterministicCache, function: Any, *args: Any) -> None:
    """Check the two errors of a strict cache for a call it does not hold."""
    gets: list[Use] = [partial(function, *args), partial(cache.get, function, (args, {}))]
    for use in gets:
        with pytest.raises(StrictDeterministicCachingKeyNotFoundError, match="choose"):
            await use()
    inserts: list[Use] = [partial(cache.insert, function, (args, {}), "x"), partial(function.cache_set, "x", *args)]
    for use in inserts:
        with pytest.raises(StrictDeterministicCachingInsertionError, match="choose"):
            await use()


async def test_strictly_pre_populated_determinism(
    make_worker: MakeWorker, acache_settings: ChangeSettings, tmp_path: Path
) -> None:
    """SPEC 17: only what a bundle of the settings holds is replayed, whatever the disk has; nothing is computed or inserted."""
    runs, first = list[int](), make_worker()
    recorded = first.memoize(choosing("first"))
    assert await recorded(1) == "1 by first"
    path = await first.dump()
    assert path is not None
    assert await recorded(2) == "2 by first"
    acache_settings(pre_populate_deterministic_cache=path, strictly_pre_populated_determinism=True)
    on_the_same_disk, elsewhere = make_worker(), make_worker(MemoryTier(), DiskTier(tmp_path / "other"))
    for cache in (on_the_same_disk, elsewhere, make_worker(MemoryTier())):
        replayed = cache.memoize(choosing("second", runs))
        assert [await replayed(1), await replayed(1)] == ["1 by first"] * 2
        assert await cache.get(replayed, ((1,), {})) == Hit("1 by first")
        for n in (2, 3):
            await assert_is_refused(cache, replayed, n)
        with isolate(target="sm90"):  # keys of a memo have their isolation too
            await assert_is_refused(cache, replayed, 1)
        with pytest.raises(StrictDeterministicCachingInsertionError):
            await cache.insert(replayed, ((1,), {}), "1 by second")
    assert runs == []


async def test_strictly_cached_determinism(make_worker: MakeWorker, acache_settings: ChangeSettings) -> None:
    """SPEC 17: what a bundle or the shared tier holds is replayed; the same two errors for anything else."""
    runs, first = list[int](), make_worker()
    recorded = first.memoize(choosing("first"))
    assert await recorded(1) == "1 by first"
    path = await first.dump()
    assert path is not None
    assert await recorded.cache_invalidate(1)
    assert await recorded(2) == "2 by first"
    acache_settings(pre_populate_deterministic_cache=path, strictly_cached_determinism=True)
    cache = make_worker()
    replayed = cache.memoize(choosing("second", runs))
    assert [await replayed(1), await replayed(2), await replayed(2)] == ["1 by first", "2 by first", "2 by first"]
    await assert_is_refused(cache, replayed, 3)
    assert runs == []
    acache_settings(strictly_cached_determinism=False)
    assert await replayed(3) == "3 by second"
    acache_settings(strictly_cached_determinism=True)
    assert await replayed(3) == "3 by second"


PROGRAM = """
import acache

async def choose(n):
    return [n, sys.argv[1]]

async def main():
    cache = acache.dcache
    f = cache.memoize(choose)
    told = []

    async def stored(n):
        hit = await cache.get(f, ((n,), {}))
        return None if hit is None else hit.value

    for use in (lambda: f(1), lambda: f(2), lambda: stored(3), lambda: cache.insert(f, ((3,), {}), 0)):
        try:
            told.append(await use())
        except CacheError as error:
            told.append(type(error).__name__)
        if len(sys.argv) > 2 and len(told) == 1:
            await cache.dump(sys.argv[2])
    await cache.aclose()
    tell(told)
asyncio.run(main())
"""
REFUSED = ["StrictDeterministicCachingKeyNotFoundError", "StrictDeterministicCachingInsertionError"]


@pytest.mark.integration
async def test_a_strict_process_replays_what_another_recorded(tmp_path: Path) -> None:
    """SPEC 17: variables of the environment make a process strict, and name the bundle that another one dumped."""
    program, bundle = partial(run_aside, PROGRAM), tmp_path / "one.save"
    recorded = await program("first", bundle, ACACHE_DIR=str(tmp_path / "a"))
    assert recorded == [[1, "first"], [2, "first"], None, True]
    strict = {"ACACHE_STRICTLY_PRE_POPULATED_DETERMINISM": "1", "ACACHE_PRE_POPULATE_DETERMINISTIC_CACHE": str(bundle)}
    for directory in ("a", "b"):
        told = await program("second", ACACHE_DIR=str(tmp_path / directory), **strict)
        assert told == [[1, "first"], REFUSED[0], *REFUSED]
    cached = await program("second", ACACHE_DIR=str(tmp_path / "a"), ACACHE_STRICTLY_CACHED_DETERMINISM="1")
    assert cached == [[1, "first"], [2, "first"], 0, REFUSED[1]]
    empty = await program("second", ACACHE_DIR=str(tmp_path / "c"), ACACHE_STRICTLY_CACHED_DETERMINISM="1")
    assert empty == [REFUSED[0], REFUSED[0], *REFUSED]


# --- switches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", [{"enable": False}, {"disable": True}], ids=["enable=0", "disable=1"])
@pytest.mark.parametrize("strict", [None, "cached", "pre_populated"])
async def test_caching_module_disabled(
    make_worker: MakeWorker, acache_settings: ChangeSettings, switch: dict[str, bool], strict: str | None
) -> None:
    """SPEC 15: switched off, a deterministic cache runs every call too, strict or not; it finds and stores nothing."""
    runs, cache = list[int](), make_worker(strict=strict)
    f = cache.memoize(choosing("me", runs))
    acache_settings(**switch)
    assert [await f(1), await f(1)] == ["1 by me"] * 2
    assert await cache.get(f, ((1,), {})) is None
    assert await cache.insert(f, ((1,), {}), "given") is False
    assert runs == [1, 1]
    acache_settings(enable=True, disable=False)
    assert not await cache.tier.contains(f.cache_key(1))
    assert await cache.dump() is None


async def test_deterministic_caching_disabled(make_worker: MakeWorker, acache_settings: ChangeSettings) -> None:
    """SPEC 16: without its switch a cache can be made and can decorate; a call, get and insert raise, at each use."""
    runs, before = list[int](), make_worker()
    hot = before.memoize(choosing("me", runs))
    assert [await hot(1), await hot(1)] == ["1 by me"] * 2
    for module_enabled in (True, False):  # the module's own switch is asked later
        acache_settings(enable_deterministic_caching=False, enable=module_enabled)
        for cache in (before, make_worker()):
            f = cache.memoize(version=2)(choosing("me"))
            uses: list[Use] = [partial(f, 1), partial(hot, 1), partial(cache.get_or_set, "key", lambda: 1)]
            uses += [partial(cache.get, f, ((1,), {})), partial(cache.insert, f, ((1,), {}), "given")]
            for use in uses:
                with pytest.raises(DeterministicCachingDisabledError):
                    await use()
    acache_settings(enable_deterministic_caching=True, enable=True)
    assert await hot(1) == "1 by me"
    assert runs == [1]


async def test_which_tier_decides(make_worker: MakeWorker, acache_settings: ChangeSettings, tmp_path: Path) -> None:
    """SPEC 16: local is the disk, global a consistent remote tier, strictly pre-populated none; anything else is an error."""
    disk, strong, weak = DiskTier(tmp_path / "disk"), Shared(), Shared(strong=False)
    make_worker(disk)
    make_worker(disk, strong, consistency="global")
    make_worker(MemoryTier(), strict="pre_populated")
    for tiers in ((disk,), (disk, weak), (MemoryTier(),)):
        with pytest.raises(DeterministicCachingRequiresStrongConsistencyError):
            make_worker(*tiers, consistency="global")
    for tiers in ((MemoryTier(),), (disk, weak)):
        with pytest.raises(DeterministicCachingInvalidConfigurationError):
            make_worker(*tiers, consistency="local")
    acache_settings(global_determinism=True)
    with pytest.raises(DeterministicCachingRequiresStrongConsistencyError):
        make_worker(disk)
    make_worker(disk, strong)
    acache_settings(global_determinism=False, local_determinism=False)
    with pytest.raises(DeterministicCachingInvalidConfigurationError):
        make_worker(disk, strong)
    acache_settings(strictly_pre_populated_determinism=True)
    make_worker(disk)
    with pytest.raises(ConfigurationError):
        make_worker(disk, consistency="galactic")


async def test_workers_of_the_fleet_agree(make_worker: MakeWorker, tmp_path: Path) -> None:
    """SPEC 16: with global consistency machines that share only the consistent tier use the first result stored there."""
    shared = Shared()
    fleet = [
        make_worker(MemoryTier(), DiskTier(tmp_path / name), shared, consistency="global").memoize(choosing(name))
        for name in ("one", "two", "three")
    ]
    answers = await asyncio.gather(*[worker(1) for worker in fleet])
    assert len(set(answers)) == 1
    assert [await worker(1) for worker in fleet] == answers


async def test_what_cannot_be_shared_is_not_used(make_worker: MakeWorker, tmp_path: Path) -> None:
    """SPEC 16: a result that the deciding tier did not take is an error, is kept nowhere else, and is not the next answer."""
    shared, runs = FaultyTier(Shared()), list[int]()
    cache = make_worker(MemoryTier(), DiskTier(tmp_path / "mine"), shared, consistency="global")
    f = cache.memoize(choosing("me", runs))
    shared.fail("write")
    for _ in range(2):
        with pytest.raises(DeterminismLostError, match="choose"):
            await f(1)
    assert [await tier.contains(f.cache_key(1)) for tier in cache.tier.tiers] == [False] * len(cache.tier.tiers)
    shared.heal()
    other = make_worker(MemoryTier(), shared, consistency="global").memoize(choosing("other"))
    assert [await other(1), await f(1)] == ["1 by other"] * 2
    assert runs == [1, 1]


# --- dumps --------------------------------------------------------------------------------------------------------------


async def test_dumps_add_up(make_worker: MakeWorker, tmp_path: Path) -> None:
    """SPEC 18: nothing used is no dump; a dump is below the cache's directory, gives its path, and adds to what is there."""
    first, second = make_worker(), make_worker()
    assert await first.dump() is None
    assert not (tmp_path / "shared/dcache_dump").exists()
    for cache, n in ((first, 1), (second, 2)):
        await cache.memoize(choosing("first"))(n)
        with isolate(target="sm90"):
            await cache.memoize(choosing("first"))(n)
        assert await cache.dump() == tmp_path / "shared/dcache_dump/imc.save"
    loaded = make_worker(strict="pre_populated")
    await loaded.load(tmp_path / "shared/dcache_dump/imc.save")
    f = loaded.memoize(choosing("loaded"))
    assert [await f(1), await f(2)] == ["1 by first", "2 by first"]
    with isolate(target="sm90"):
        assert await f(2) == "2 by first"


async def test_a_dump_that_contradicts_is_refused(make_worker: MakeWorker, tmp_path: Path) -> None:
    """SPEC 18: another value for a key of the dump is an error of that name; the dump stays as it was."""
    first, second = make_worker(), make_worker(MemoryTier(), DiskTier(tmp_path / "other"))
    await first.memoize(choosing("first"))(1)
    path = await first.dump()
    assert path is not None
    before = path.read_bytes()
    for n in (2, 1):
        await second.memoize(choosing("second"))(n)
    with pytest.raises(DeterministicCachingIMCDumpConflictError):
        await second.dump(path)
    assert path.read_bytes() == before
    path.write_bytes(before[:-1])
    with pytest.raises(BundleError):
        await first.dump()
    assert path.read_bytes() == before[:-1]


DUMPERS = """
async def choose(n):
    return n * 2

async def main():
    cache = DeterministicCache(MemoryTier(), DiskTier(sys.argv[1]), dump_on_close="at exit" in sys.argv)
    f = cache.memoize(choose)
    ready()
    for n in range(10):
        await f(os.getpid() * 100 + n)
        if "at exit" not in sys.argv:
            await cache.dump()
    tell(os.getpid())
    return cache
kept = asyncio.run(main())
"""

LOADER = """
async def choose(n):
    return "computed"

async def main():
    cache = DeterministicCache(MemoryTier(), strict="pre_populated", dump_on_close=False)
    await cache.load(sys.argv[1])
    f = cache.memoize(choose)
    pids = [int(pid) for pid in sys.argv[2:]]
    tell([await f(pid * 100 + n) == 2 * (pid * 100 + n) for pid in pids for n in range(10)])
    await cache.aclose()
asyncio.run(main())
"""


@pytest.mark.integration
@pytest.mark.parametrize("when", ["now", "at exit"])
async def test_processes_dump_together(tmp_path: Path, when: str) -> None:
    """SPEC 18: what several processes dump into one bundle at the same time, by a call or at their ends, is all there."""
    pids = await run_together(DUMPERS, tmp_path / "c", when, count=3)
    found = await run_aside(LOADER, tmp_path / "c/dcache_dump/imc.save", *pids)
    assert found == [True] * 30
