"""Which results the workers of a deterministic cache get, dump and are told of, whatever came between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from acache import DeterministicCache, DiskTier, MemoryTier, exceptions, read_only
from acache.caches import deterministic
from acache.codecs import Signer
from acache.engine.bundles import Bundle
from acache.testing import ManualClock
from acache.testing.plugin import ChangeSettings
from acache.types import Key

Opened = Callable[..., DeterministicCache]


class Config:
    """A result without a canonical encoding; its texts are interned where it was made, and nowhere else."""

    def __init__(self) -> None:
        self.opt = "opt"
        self.flags = {f"flag{number}" for number in range(8)}


class Lossy:
    """A result that says less of itself than it is."""

    def __init__(self, a: int, b: int) -> None:
        self.a, self.b = a, b

    def __cache_key__(self) -> int:
        return self.a


@pytest.fixture
def opened(tmp_path: Path, manual_clock: ManualClock) -> Opened:
    """Make a worker's cache on a directory, by default the one that all workers of a test share."""

    def make(place: str = "disk", **options: Any) -> DeterministicCache:
        tiers = MemoryTier(clock=manual_clock), DiskTier(tmp_path / place, clock=manual_clock)
        options.setdefault("dump_on_close", False)
        return DeterministicCache(*tiers, **options)

    return make


def gives(*results: Any) -> Callable[[int], Coroutine[Any, Any, Any]]:
    """Make the one function of these tests: it gives the results in turn, and fails if it is asked once more."""
    left = iter(results)

    async def f(n: int) -> Any:
        return next(left)

    f.__qualname__ = "f"
    return f


async def digest_of(path: Path) -> str:
    bundle = await Bundle.open(path)
    await bundle.aclose()
    return bundle.digest


# --- dumps --------------------------------------------------------------------------------------------------------------


async def test_workers_that_agree_dump_the_same(opened: Opened, tmp_path: Path) -> None:
    """Who computed a result and who read it from the disk dump one result, of one digest."""
    path, alone = tmp_path / "all", tmp_path / "alone"
    first, second = opened(), opened()
    await first.memoize(gives(Config()))(1)
    await first.dump(path)
    await second.memoize(gives())(1)
    assert await second.dump(path) == path
    await second.dump(alone)
    assert await digest_of(alone) == await digest_of(path)


async def test_a_cache_key_does_not_make_results_equal(opened: Opened, tmp_path: Path) -> None:
    """Two results of one ``__cache_key__()`` contradict each other."""
    path = tmp_path / "bundle"
    for place, result in (("a", Lossy(1, 1)), ("b", Lossy(1, 2))):
        cache = opened(place)
        await cache.memoize(gives(result))(1)
        if place == "a":
            await cache.dump(path)
    with pytest.raises(exceptions.DeterministicCachingIMCDumpConflictError):
        await cache.dump(path)


async def test_a_result_that_expired_blocks_no_dump(opened: Opened, tmp_path: Path, manual_clock: ManualClock) -> None:
    """What the workers agree on when a result has expired takes its place in the bundle, also if it is equal."""
    path = tmp_path / "bundle"
    cache = opened()
    f = cache.memoize(ttl=10)(gives(1, 2, 2))
    for expected, later in ((1, 20), (2, 20), (2, 5)):
        assert await f(1) == expected
        await cache.dump(path)
        manual_clock.advance(later)
    strict = opened(strict="pre_populated")
    await strict.load(path)
    g = strict.memoize(ttl=10)(gives())
    assert await g(1) == 2
    await strict.aclose()


async def test_a_live_result_of_a_later_bundle(opened: Opened, tmp_path: Path, manual_clock: ManualClock) -> None:
    """An expired entry of the bundle that was loaded first does not hide what another holds."""
    paths = [tmp_path / "first", tmp_path / "second"]
    strict = opened(strict="pre_populated")
    for path in paths:
        cache = opened(path.name + " disk")
        await cache.memoize(ttl=10)(gives(path.name))(1)
        await cache.dump(path)
        await strict.load(path)
        manual_clock.advance(6)
    f = strict.memoize(ttl=10)(gives())
    assert await strict.tier.factors(Key(f.cache_key(2))) is None
    assert await f(1) == "second"
    await strict.aclose()


@pytest.mark.parametrize("signer", [None, Signer(b"key" * 11)])
async def test_a_refused_dump_changes_nothing(opened: Opened, tmp_path: Path, signer: Signer | None) -> None:
    """A dump that is refused for one result writes none, of no codec; with a signature too."""
    path = tmp_path / "bundle"

    async def b(n: int) -> int:
        return 7

    first, second = opened("a", signer=signer), opened("b", signer=signer)
    await first.memoize(gives(1))(1)
    await first.dump(path)
    before = path.read_bytes()
    await second.memoize(codec="json")(b)(1)
    await second.memoize(gives(2))(1)
    with pytest.raises(exceptions.DeterministicCachingIMCDumpConflictError):
        await second.dump(path)
    assert path.read_bytes() == before


async def test_what_a_caller_changed_is_not_dumped(opened: Opened, tmp_path: Path) -> None:
    """A dump holds the results that were agreed on, whatever a caller did to the one that memory shares."""
    path = tmp_path / "bundle"
    cache = opened()
    result = await cache.memoize(gives([1, 2]))(1)
    result.append("changed")
    await cache.dump(path)
    strict = opened(strict="pre_populated")
    await strict.load(path)
    f = strict.memoize(gives())
    (await f(1)).append("changed")
    again = tmp_path / "again"
    await strict.dump(again)
    assert await digest_of(again) == await digest_of(path)
    assert await opened().memoize(gives())(1) == [1, 2]
    await strict.aclose()


async def test_memory_is_dumped_when_the_disk_has_nothing(opened: Opened, tmp_path: Path) -> None:
    """What was used and is on no disk any more is dumped from memory."""
    cache = opened()
    f = cache.memoize(gives(1))
    await f(1)
    await cache.tier.tiers[-1].clear()
    path = tmp_path / "bundle"
    await cache.dump(path)
    strict = opened(strict="pre_populated")
    await strict.load(path)
    assert await strict.memoize(gives())(1) == 1
    await strict.aclose()


async def test_what_is_gone_is_not_dumped(opened: Opened, tmp_path: Path) -> None:
    """What was removed, or is nowhere any more, is not in a dump; what other functions gave is."""
    cache = opened()
    f, g = cache.memoize(gives(1, 2)), cache.memoize(version=2)(gives(3))
    await f(1)
    await cache.tier.clear()  # behind the back of the cache
    assert await cache.dump(tmp_path / "none") is None
    await f(1)
    await g(1)
    await f.cache_clear()
    path = tmp_path / "bundle"
    await cache.dump(path)
    bundle = await Bundle.open(path)
    assert [key async for key in bundle.keys()] == [g.cache_key(1)]  # noqa: SIM118 - a bundle is no dict
    await bundle.aclose()


async def test_closing_dumps_what_no_default_dump_holds(opened: Opened, tmp_path: Path) -> None:
    """A dump to another place, and results that are as many as before, are no reason to write none."""
    default = tmp_path / "disk" / "dcache_dump" / "imc.save"
    cache = opened(dump_on_close=True)
    f = cache.memoize(ttl=10)(gives(1, 1, 2))
    await f(1)
    await cache.dump(tmp_path / "elsewhere")
    await cache.aclose()
    assert default.exists()
    default.unlink()
    await cache.aclose()
    assert not default.exists()  # nothing was used since
    await f.cache_invalidate(1)
    await cache.aclose()
    assert not default.exists()
    await f(1)
    await cache.aclose()
    assert default.exists()
    default.unlink()
    await cache.clear()
    await opened().memoize(ttl=10)(gives(3))(1)
    assert await f(1) == 3
    await cache.aclose()
    assert default.exists()
    deterministic._caches.discard(cache)


async def test_a_path_that_is_none(opened: Opened) -> None:
    """Dumping to, and loading from, what is no path is an error that says so, whether or not there is anything to dump."""
    cache = opened()
    bad: Any = 5
    with pytest.raises(exceptions.ConfigurationError, match="not int"):
        await cache.dump(bad)
    with pytest.raises(exceptions.ConfigurationError, match="not int"):
        await cache.load(bad)


# --- loading ------------------------------------------------------------------------------------------------------------


async def test_what_was_used_goes_before_a_bundle(opened: Opened, tmp_path: Path) -> None:
    """A process never sees two results of one call: what it used when a bundle is loaded stays, when memory forgets it too."""
    path = tmp_path / "bundle"
    other = opened("other")
    f = other.memoize(gives(1, 10))
    assert [await f(1), await f(2)] == [1, 10]
    await other.dump(path)
    cache = opened()
    g = cache.memoize(gives(2))
    assert await g(1) == 2
    for _ in range(2):
        await cache.load(path)
        assert cache.tier.memory is not None
        await cache.tier.memory.clear()
        assert [await g(1), await g(2)] == [2, 10]
        await cache.aclose()  # opened again by the calls
        await cache.tier.memory.clear()
        assert [await g(1), await g(2)] == [2, 10]
    await cache.aclose()


# --- strictness: SPEC 17 ------------------------------------------------------------------------------------------------


LOOKS: dict[str, Callable[[DeterministicCache, Any, Key], Awaitable[object]]] = {
    "explain": lambda _cache, f, _key: f.cache_explain(5),
    "contains": lambda _cache, f, _key: f.cache_contains(5),
    "touch": lambda _cache, f, _key: f.cache_touch(5),
    "dump": lambda cache, _f, _key: cache.dump(),
    "tier.get": lambda cache, _f, key: cache.tier.get(key),
    "tier.read": lambda cache, _f, key: cache.tier.read(key),
    "tier.read_many": lambda cache, _f, key: cache.tier.read_many([key]),
    "tier.get_many": lambda cache, _f, key: cache.tier.get_many([key]),
    "tier.contains": lambda cache, _f, key: cache.tier.contains(key),
    "tier.factors": lambda cache, _f, key: cache.tier.factors(key),
    "scan": lambda cache, _f, _key: _keys(cache),
}


async def _keys(cache: DeterministicCache) -> list[Key]:
    return [key async for key in cache.tier.keys()]  # noqa: SIM118 - a tier is no dict


@pytest.mark.parametrize("look", LOOKS)
async def test_no_look_brings_the_disk_into_a_strict_cache(
    opened: Opened, acache_settings: ChangeSettings, look: str
) -> None:
    """Whatever was asked of a strictly pre-populated cache, it serves nothing that only the disk holds."""
    await opened().memoize(gives(1))(5)
    acache_settings(strictly_pre_populated_determinism=True)
    cache = opened()
    f = cache.memoize(gives())
    result = await LOOKS[look](cache, f, Key(f.cache_key(5)))
    assert not getattr(result, "hit", result)
    assert cache.tier.memory is not None
    assert len(cache.tier.memory) == 0
    for _ in range(2):
        with pytest.raises(exceptions.StrictDeterministicCachingKeyNotFoundError):
            await f(5)


async def test_explaining_what_a_bundle_holds(opened: Opened, tmp_path: Path) -> None:
    """A bundle's entry of any codec is explained as stored, or by what differs; nothing is filled and nothing counts as used."""
    path = tmp_path / "bundle"
    cache = opened()
    await cache.memoize(codec="json")(gives([1]))(1)
    await cache.dump(path)
    strict = opened(strict="pre_populated")
    await strict.load(path)
    f = strict.memoize(codec="json")(gives())
    with strict.events.capture() as events:
        assert (await f.cache_explain(1)).hit
        missed = await f.cache_explain(2)
        other = await strict.memoize(version=2)(gives()).cache_explain(1)
    assert (missed.hit, missed.differs) == (False, ("argument 'n'",))
    assert (other.hit, other.differs) == (False, ("version",))
    assert not {"failed", "rejected", "stored"} & {event.outcome for event in events}
    assert await strict.dump(tmp_path / "none") is None
    assert await f(1) == [1]
    await strict.aclose()


async def test_a_strict_cache_that_is_strict_no_more(acache_settings: ChangeSettings) -> None:
    """A cache that could only be made because it computed nothing is refused at the call when it would compute."""
    acache_settings(strictly_pre_populated_determinism=True)
    cache = DeterministicCache(MemoryTier(), dump_on_close=False)
    f = cache.memoize(gives())
    acache_settings(strictly_pre_populated_determinism=False)
    for _ in range(2):
        with pytest.raises(exceptions.DeterministicCachingInvalidConfigurationError, match="DiskTier"):
            await f(1)
    acache_settings(strictly_pre_populated_determinism=True)
    with pytest.raises(exceptions.StrictDeterministicCachingKeyNotFoundError):
        await f(1)


async def test_the_arbiter_is_asked(tmp_path: Path) -> None:
    """Of several tiers of one reach the last decides what the workers agree on, and must be the consistent one."""
    strong, weak = MemoryTier(name="strong"), MemoryTier(name="weak")
    strong.reach = weak.reach = 2
    strong.has_strong_consistency = True
    with pytest.raises(exceptions.DeterministicCachingRequiresStrongConsistencyError, match="weak"):
        DeterministicCache(MemoryTier(), strong, weak, consistency="global")
    with pytest.raises(exceptions.DeterministicCachingInvalidConfigurationError, match="weak"):
        DeterministicCache(MemoryTier(), DiskTier(tmp_path), strong, weak)
    DeterministicCache(MemoryTier(), weak, strong, consistency="global", dump_on_close=False)


def test_what_is_no_tier() -> None:
    """What is no tier is an error that says what to give."""
    bad: Any = "memory://"
    with pytest.raises(exceptions.ConfigurationError, match=r"MemoryTier\(\), not str"):
        DeterministicCache(bad)


# --- only what is agreed on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"store_if": bool}, {"on_unencodable": "warn"}])
def test_what_would_return_results_of_one_worker(opened: Opened, options: dict[str, Any]) -> None:
    """Options by which a result is returned and not stored are refused at decoration, and for single calls."""
    cache = opened()
    with pytest.raises(exceptions.ConfigurationError, match="agree"):
        cache.memoize(**options)(gives())
    with pytest.raises(exceptions.ConfigurationError, match="agree"):
        cache.memoize(gives()).cache_with(**options)


async def test_read_only(opened: Opened) -> None:
    """Where nothing may be stored, what is stored is served and anything else is refused, not computed."""
    cache = opened()
    f = cache.memoize(gives(1, 2))
    assert await f(1) == 1

    def plain(n: int) -> int:
        raise AssertionError

    async def of_many(keys: list[int]) -> dict[int, int]:
        raise AssertionError

    g, many = cache.memoize(plain), cache.memoize_many(of_many)
    with read_only():
        assert await f(1) == 1
        assert await f.cache_get(2) is None
        assert not await f.cache_contains(2)
        assert not await cache.insert(f, ((2,), {}), 3)
        assert not await f.cache_set(3, 2)
        assert not await f.cache_touch(1)
        assert await cache.set_many({"k": 1}) == 0
        for refused in (f(2), f.cache_refresh(2), cache.get_or_set("k", lambda: 1), g.aio(2), many([2])):
            with pytest.raises(exceptions.DeterminismLostError):
                await refused
        with pytest.raises(exceptions.DeterminismLostError):
            await asyncio.to_thread(g, 2)
        with pytest.raises(exceptions.ReplayMissError):
            await cache.replay(f.__wrapped__)(2)
    assert await f(2) == 2


async def test_switched_off(opened: Opened, acache_settings: ChangeSettings) -> None:
    """SPEC 16: whatever asks for results, or gives some, raises; what removes them or lets go does not."""
    cache = opened()
    f = cache.memoize(gives(1))
    await f(1)
    await cache.get_or_set("k", lambda: 1)
    acache_settings(enable_deterministic_caching=False)
    uses: tuple[Callable[[], Awaitable[object]], ...] = (
        *(lambda: f(1), lambda: f.cache_get(1), lambda: f.cache_contains(1), lambda: f.cache_explain(1)),
        *(lambda: f.cache_set(1, 1), lambda: f.cache_touch(1), lambda: f.cache_refresh(1), cache.dump),
        *(lambda: cache.get_many(["k"]), lambda: cache.set_many({"k": 1}), lambda: cache.tier.get("k")),
    )
    for use in uses:
        with pytest.raises(exceptions.DeterministicCachingDisabledError):
            await use()
    async with cache.lock():
        pass
    assert await f.cache_invalidate(1)
    assert await cache.delete("k")
    await cache.clear()
    await cache.aclose()
