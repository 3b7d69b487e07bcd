"""The deterministic cache: one result for all workers, strictness, and what it refuses."""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

import pytest

import acache
from acache import (
    DeferredRecording,
    DeterministicCache,
    DiskTier,
    FastCache,
    MemoryTier,
    Tier,
    defaults,
    exceptions,
    recompute,
)
from acache.caches import deterministic
from acache.codecs import Signer
from acache.engine.bundles import Bundle
from acache.exceptions import BundleError
from acache.memoize import AsyncMemoized
from acache.testing import FaultyTier, ManualClock
from acache.testing.files import FaultyFileSystem
from acache.testing.plugin import ChangeSettings
from acache.types import Entry, Key, Written

Opened = Callable[..., DeterministicCache]


class Shared(Tier):
    """A tier that all machines share, as far as a test goes; the test says whether it is consistent."""

    reach: Literal[0, 1, 2] = 2

    def __init__(self, *, strong: bool) -> None:
        super().__init__(name="shared")
        self.has_strong_consistency = strong
        self.entries: dict[Key, Entry] = {}

    async def _read(self, key: Key, codec: Any) -> Entry | None:
        return self.entries.get(key)

    async def _write(self, key: Key, entry: Entry, codec: Any, *, replace: bool) -> Written:
        if key in self.entries and not replace:
            return Written.PRESENT
        self.entries[key] = entry
        return Written.NEW

    async def _remove(self, key: Key) -> bool:
        return self.entries.pop(key, None) is not None

    async def _scan(self) -> AsyncGenerator[Key]:
        for key in list(self.entries):
            yield key


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Make a worker's cache on the directory that all workers of a test share."""

    def make(**options: Any) -> DeterministicCache:
        return DeterministicCache(MemoryTier(), DiskTier(tmp_path / "disk"), dump_on_close=False, **options)

    return make


def worker(cache: DeterministicCache, name: str, **options: Any) -> AsyncMemoized[[int], str]:
    """Memoize the one function of these tests as one worker has it: each computes another result."""

    async def choose(n: int) -> str:
        return f"{n} by {name}"

    choose.__qualname__ = "choose"
    return cache.memoize(key="{n}", **options)(choose)


async def test_all_workers_use_the_first_stored_result(opened: Opened) -> None:
    """A worker that computed another result returns the one that was stored first, at once and later."""
    first, second = opened(), opened()
    one, two = worker(first, "one", flight="process"), worker(second, "two", flight="process")
    both = await asyncio.gather(one(1), two(1))
    assert len(set(both)) == 1
    assert await one(1) == await two(1) == both[0]


async def test_losing_an_insert(opened: Opened) -> None:
    """Who computes while another stores gets the other's result, decoded, and an event says so."""
    first, second = opened(), opened()
    started, go = asyncio.Event(), asyncio.Event()

    @second.memoize(flight="process", custom_result_encoder=str.upper, custom_result_decoder=str.lower)
    async def choose(n: int) -> str:
        started.set()
        await go.wait()
        return "two"

    with second.events.capture() as events:
        slow = asyncio.ensure_future(choose(1))
        await started.wait()
        assert await first.insert(choose, ((1,), {}), "one", custom_result_encoder=str.upper)
        go.set()
        assert await slow == "one"
    [call] = [event for event in events if isinstance(event, acache.CallEvent)]
    assert (call.outcome, call.stored) == ("agreed", False)
    assert choose.cache_info().computed == 1


async def test_deferred_results_are_agreed_on(opened: Opened) -> None:
    """Who computed a result whose stored form comes later waits for it, and for what others stored first."""
    recordings: list[DeferredRecording] = []

    def encode(value: str) -> DeferredRecording:
        recordings.append(DeferredRecording("interim"))
        return recordings[-1]

    first, second = opened(), opened()
    f = second.memoize(flight="process", custom_result_encoder=encode, custom_result_decoder=str.lower)(_choose)
    mine = asyncio.ensure_future(f(1))
    while not recordings:
        await asyncio.sleep(0)
    assert await first.insert(_choose, ((1,), {}), "FIRST")
    assert not mine.done()
    recordings.pop().finalize("MINE")
    assert await mine == await f(1) == "first"


async def _choose(n: int) -> str:
    return "raw"


async def test_nothing_is_recorded_over(opened: Opened) -> None:
    """Recording, refreshing, setting and recomputing return or keep the first result."""
    cache = opened()
    f = cache.record(key="{n}")(_counter())
    assert await f(1) == 1
    assert await f(1) == 1
    assert await f.cache_refresh(1) == 1
    assert not await f.cache_set(3, 1)
    with recompute():
        assert await f(1) == 1
    assert await f.cache_invalidate(1)
    assert await f(1) == 2


def _counter() -> Callable[[int], Coroutine[Any, Any, int]]:
    runs = 0

    async def count(n: int) -> int:
        nonlocal runs
        runs += 1
        return runs

    return count


async def test_an_invalidated_flight_begins_anew(opened: Opened) -> None:
    """A result whose key was invalidated meanwhile is not used: all who wait compute, and agree, again."""
    cache = opened()
    gates = [asyncio.Event(), asyncio.Event()]
    runs: list[int] = []

    @cache.memoize
    async def f(n: int) -> int:
        runs.append(n)
        await gates[len(runs) - 1].wait()
        return len(runs)

    waiting = [asyncio.ensure_future(f(1)) for _ in range(3)]
    while not runs:
        await asyncio.sleep(0)
    await f.cache_invalidate(1)
    for gate in gates:
        gate.set()
    assert await asyncio.gather(*waiting) == [2, 2, 2]


async def test_what_cannot_be_shared_is_not_used(tmp_path: Path) -> None:
    """A result that the shared tier cannot take is an error, and no narrower tier keeps it."""
    files = FaultyFileSystem()
    cache = DeterministicCache(MemoryTier(), DiskTier(tmp_path, files=files), dump_on_close=False)
    f = worker(cache, "one", flight="process")
    files.fail(only="create")
    with pytest.raises(exceptions.DeterminismLostError, match="choose"):
        await f(1)
    files.heal()
    other = worker(DeterministicCache(DiskTier(tmp_path), dump_on_close=False), "two")
    assert await other(1) == "1 by two"
    await cache.tier.clear(prefix="no such key")  # the pause after a failed write is over when the clock says so
    assert await f(1) == "1 by two"
    await cache.aclose()


async def test_sync_functions_agree_too(opened: Opened) -> None:
    """A plain function has the same rules, in a plain thread too."""
    first, second = opened(), opened()

    def choose(name: str) -> str:
        return name

    one, two = (cache.memoize(ignore=("name",))(choose) for cache in (first, second))
    assert await asyncio.to_thread(one, "one") == "one"
    assert await asyncio.to_thread(two, "two") == "one"
    assert await second.get_or_set("key", lambda: 1) == await first.get_or_set("key", lambda: 2) == 1


# --- strictness ---------------------------------------------------------------------------------------------------------


async def _refuses(cache: DeterministicCache, f: Any, *args: Any) -> str:
    with pytest.raises(exceptions.StrictDeterministicCachingKeyNotFoundError) as missing:
        await f(*args)
    with pytest.raises(exceptions.StrictDeterministicCachingKeyNotFoundError):
        await cache.get(f, (args, {}))
    for insert in (cache.insert(f, (args, {}), "x"), f.cache_set("x", *args)):
        with pytest.raises(exceptions.StrictDeterministicCachingInsertionError):
            await insert
    with pytest.raises(exceptions.StrictDeterministicCachingKeyNotFoundError):
        await f.cache_refresh(*args)
    return str(missing.value)


@pytest.mark.parametrize("how", ["option", "setting"])
async def test_strictly_cached(opened: Opened, acache_settings: ChangeSettings, how: str) -> None:
    """What is cached is served; anything else is refused, not computed, not inserted."""
    assert await worker(opened(), "one")(1) == "1 by one"
    if how == "setting":
        acache_settings(strictly_cached_determinism=True)
    cache = opened(strict="cached") if how == "option" else opened()
    f = worker(cache, "two")
    assert await f(1) == "1 by one"
    await _refuses(cache, f, 2)


@pytest.mark.parametrize("how", ["option", "setting", "later"])
async def test_strictly_pre_populated(
    opened: Opened, tmp_path: Path, acache_settings: ChangeSettings, how: str
) -> None:
    """Only what the bundle of the settings holds is served, even where the disk has more."""
    recorded = opened()
    assert await worker(recorded, "one")(1) == "1 by one"
    path = await recorded.dump()
    assert path == tmp_path / "disk" / "dcache_dump" / "imc.save"
    assert await worker(recorded, "one")(2) == "2 by one"
    acache_settings(pre_populate_deterministic_cache=path)
    cache = opened() if how == "later" else None
    if how != "option":
        acache_settings(strictly_pre_populated_determinism=True)
    cache = cache or opened(**({"strict": "pre_populated"} if how == "option" else {}))
    f = worker(cache, "two")
    assert await f(1) == "1 by one"
    assert (await cache.get(f, ((1,), {}))) is not None
    assert await f.cache_contains(1)
    assert not await f.cache_contains(2)
    await _refuses(cache, f, 2)
    await cache.aclose()
    assert await f(1) == "1 by one"  # opened again
    await cache.aclose()


async def test_a_bundle_is_opened_once(
    opened: Opened, acache_settings: ChangeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many calls are the first, at the beginning and after the cache was closed, a bundle is opened once for all."""
    recorded = opened()
    await asyncio.gather(*map(worker(recorded, "one"), range(10)))
    acache_settings(pre_populate_deterministic_cache=await recorded.dump())
    await recorded.aclose()
    cache = opened(strict="pre_populated")
    count = count_opened(monkeypatch)
    for times, keys in ((1, range(5)), (2, range(5, 10))):
        assert await asyncio.gather(*map(worker(cache, "two"), keys)) == [f"{n} by one" for n in keys]
        assert len(count) == times
        await cache.aclose()


def count_opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what grows with every bundle that is opened."""
    count: list[object] = []
    open_bundle = Bundle.open

    async def counted(path: Path, *, signer: Signer | None = None) -> Bundle:
        count.append(path)
        return await open_bundle(path, signer=signer)

    monkeypatch.setattr(Bundle, "open", counted)
    return count


async def test_strict_without_a_bundle(opened: Opened, tmp_path: Path) -> None:
    """It constructs; a call says that no bundle is loaded, until one is."""
    f = worker(opened(strict="pre_populated"), "two")
    with pytest.raises(exceptions.StrictDeterministicCachingKeyNotFoundError, match="no bundle is loaded"):
        await f(1)
    recorded = opened()
    await worker(recorded, "one")(1)
    path = await recorded.dump(tmp_path / "one.bundle")
    cache = opened(strict="pre_populated")
    assert path is not None
    await cache.load(path)
    f = worker(cache, "two")
    assert await f(1) == "1 by one"
    assert "no bundle" not in await _refuses(cache, f, 2)
    await cache.aclose()


async def test_a_bundle_goes_before_the_disk(opened: Opened, tmp_path: Path) -> None:
    """Without strictness too, what was loaded is used where the disk holds another result, and is never written over."""
    recorded = opened()
    await worker(recorded, "one")(1)
    path = await recorded.dump(tmp_path / "one.bundle")
    assert path is not None
    await recorded.clear()
    await worker(recorded, "two")(1)
    cache = opened()
    await cache.load(path)
    f = worker(cache, "three")
    assert await f(1) == "1 by one"
    assert not await cache.insert(f, ((1,), {}), "x")
    assert await f(3) == "3 by three"
    await cache.aclose()


@pytest.mark.parametrize("path", ["missing", "rubbish"])
async def test_a_bundle_that_cannot_be_opened(
    opened: Opened, tmp_path: Path, acache_settings: ChangeSettings, path: str
) -> None:
    """A bundle that the settings name and that cannot be opened is a named error of every call, never a miss."""
    (tmp_path / "rubbish").write_bytes(b"rubbish")
    acache_settings(pre_populate_deterministic_cache=tmp_path / path)
    f = worker(opened(), "one")
    for _ in range(2):
        with pytest.raises(exceptions.ConfigurationError if path == "missing" else BundleError):
            await f(1)


# --- switches and configuration -----------------------------------------------------------------------------------------


async def test_deterministic_caching_switched_off(opened: Opened, acache_settings: ChangeSettings) -> None:
    """Making and decorating work; get, insert and calls raise, also after calls that were served hot."""
    cache = opened()
    f = worker(cache, "one")
    assert await f(1) == await f(1)
    acache_settings(enable_deterministic_caching=False, enable=False)  # checked before the module's own switch
    worker(opened(), "two")
    for use in (lambda: f(1), lambda: cache.get(f, ((1,), {})), lambda: cache.insert(f, ((1,), {}), 1)):
        with pytest.raises(exceptions.DeterministicCachingDisabledError):
            await use()
    with pytest.raises(exceptions.DeterministicCachingDisabledError):
        await cache.get_or_set("key", lambda: 1)


async def test_module_switched_off(opened: Opened, acache_settings: ChangeSettings) -> None:
    """Every call runs, get finds nothing, and insert stores nothing."""
    cache = opened()
    f = cache.memoize(_counter())
    assert await f(1) == 1
    acache_settings(enable=False)
    assert [await f(1), await f(1)] == [2, 3]
    assert await cache.get(f, ((1,), {})) is None
    assert not await cache.insert(f, ((2,), {}), 1)


async def test_what_consistency_needs(tmp_path: Path, acache_settings: ChangeSettings) -> None:
    """Global determinism needs strong consistency, local determinism a tier of the host; none at all is an error."""
    memory, disk = MemoryTier(), DiskTier(tmp_path)
    with pytest.raises(exceptions.DeterministicCachingRequiresStrongConsistencyError):
        DeterministicCache(memory, disk, consistency="global")
    with pytest.raises(exceptions.DeterministicCachingRequiresStrongConsistencyError):
        DeterministicCache(memory, Shared(strong=False), consistency="global")
    with pytest.raises(exceptions.DeterministicCachingInvalidConfigurationError, match="leave it out"):
        DeterministicCache(memory, disk, Shared(strong=False), consistency="local")
    with pytest.raises(exceptions.DeterministicCachingInvalidConfigurationError, match="DiskTier"):
        DeterministicCache(memory)
    cache = DeterministicCache(memory, Shared(strong=True), consistency="global", dump_on_close=False)
    assert await worker(cache, "one")(1) == "1 by one"
    acache_settings(local_determinism=False)
    with pytest.raises(exceptions.DeterministicCachingInvalidConfigurationError, match="switched off"):
        DeterministicCache(memory, disk)
    DeterministicCache(memory, disk, consistency="local")
    DeterministicCache(memory, strict="pre_populated")
    acache_settings(global_determinism=True)
    with pytest.raises(exceptions.DeterministicCachingRequiresStrongConsistencyError):
        DeterministicCache(memory, disk)


async def test_two_machines_agree() -> None:
    """Workers that share only a consistent tier agree on what it has."""
    shared = Shared(strong=True)
    one, two = (
        worker(DeterministicCache(MemoryTier(), shared, consistency="global", dump_on_close=False), name)
        for name in ("one", "two")
    )
    assert len(set(await asyncio.gather(one(1), two(1)))) == 1


@pytest.mark.parametrize("options", [{"strict": "very"}, {"consistency": "galactic"}])
def test_unknown_choices(tmp_path: Path, options: dict[str, Any]) -> None:
    """An unknown strictness or consistency is an error that names those there are."""
    with pytest.raises(exceptions.ConfigurationError, match="choose one of"):
        DeterministicCache(DiskTier(tmp_path), **options)


def test_default_instances(acache_settings: ChangeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``icache`` is the deterministic cache while that is switched on, else the fast one; each is made once."""
    acache_settings(dir=tmp_path)
    fast, det = FastCache(), DeterministicCache(MemoryTier(), DiskTier(tmp_path / "d"))
    monkeypatch.setattr(defaults, "_fast", lambda: fast)
    monkeypatch.setattr(defaults, "_deterministic", lambda: det)
    assert (acache.icache, acache.dcache, acache.fcache) == (fast, det, fast)
    acache_settings(enable_deterministic_caching=True)
    assert acache.icache is det


# --- dumps --------------------------------------------------------------------------------------------------------------


async def test_dump_and_load(opened: Opened, tmp_path: Path) -> None:
    """A dump holds what this process used, from memory, disk or an older bundle; a second dump adds to it."""
    first = opened()
    f = worker(first, "one")
    assert await first.dump() is None
    await f(1)
    path = tmp_path / "bundle"
    assert await first.dump(path) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = opened()
    await worker(second, "two")(1)  # from the disk
    await worker(second, "two")(2)
    assert await second.dump(path) == path
    third = opened(strict="pre_populated")
    await third.load(path)
    assert [await worker(third, "three")(n) for n in (1, 2)] == ["1 by one", "2 by two"]
    assert await third.dump(tmp_path / "copy") == tmp_path / "copy"
    for cache in (first, second, third):
        await cache.aclose()


async def test_every_function_dumps_by_its_own_codec(opened: Opened, tmp_path: Path) -> None:
    """Results that only their function's codec can encode are dumped, and loaded, with it."""
    cache = opened()

    async def text(n: int) -> dict[str, int]:
        return {"n": n}

    async def data(n: int) -> bytes:
        return bytes(n)

    for f, codec in ((text, "json"), (data, "raw"), (_choose, None)):
        await cache.memoize(codec=codec)(f)(3)
    path = tmp_path / "bundle"
    assert await cache.dump(path) == path
    strict = opened(strict="pre_populated")
    await strict.load(path)
    served = [await strict.memoize(codec=codec)(f)(3) for f, codec in ((text, "json"), (data, "raw"), (_choose, None))]
    assert served == [{"n": 3}, bytes(3), "raw"]
    await strict.aclose()


async def test_a_conflict_is_not_merged(opened: Opened, tmp_path: Path) -> None:
    """A dump of another result for a key that the bundle holds is refused and changes nothing."""
    cache = opened()
    f = worker(cache, "one")
    await f(1)
    path = await cache.dump()
    assert path is not None
    before = path.read_bytes()
    await f.cache_invalidate(1)
    await worker(opened(), "two")(1)
    await f(1)
    with pytest.raises(exceptions.DeterministicCachingIMCDumpConflictError):
        await cache.dump()
    assert path.read_bytes() == before


async def test_closing_dumps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Closing dumps what was used since the last dump; a dump that fails then is logged."""
    cache = DeterministicCache(MemoryTier(), DiskTier(tmp_path / "disk"))
    path = tmp_path / "disk" / "dcache_dump" / "imc.save"
    await cache.aclose()
    assert not path.exists()
    f = worker(cache, "one")
    await f(1)
    await cache.aclose()
    assert path.exists()
    await f(2)
    path.write_bytes(b"rubbish")
    with caplog.at_level(logging.WARNING, "acache"):
        await cache.aclose()
    assert "was not dumped: BundleError" in caplog.text
    assert path.read_bytes() == b"rubbish"
    deterministic._caches.discard(cache)


async def test_dumping_nowhere(opened: Opened, tmp_path: Path) -> None:
    """A dump into a directory that is not there is an error that says what to do."""
    cache = opened()
    await worker(cache, "one")(1)
    with pytest.raises(exceptions.ConfigurationError, match="make it"):
        await cache.dump(tmp_path / "nowhere" / "bundle")


async def test_signed_bundles(tmp_path: Path, acache_settings: ChangeSettings) -> None:
    """With a signing key in the settings, entries and bundles are signed, and one of another key is refused whole."""
    acache_settings(signing_key="k" * 32)
    cache = DeterministicCache(MemoryTier(), DiskTier(tmp_path / "a"), dump_on_close=False)
    f = worker(cache, "one")
    await f(1)
    path = await cache.dump()
    assert path is not None
    acache_settings(signing_key="other" * 8)
    other = DeterministicCache(MemoryTier(), DiskTier(tmp_path / "b"), dump_on_close=False)
    with pytest.raises(BundleError, match="signature"):
        await other.load(path)
    assert await worker(other, "two")(1) == "1 by two"


async def test_a_read_that_fails(tmp_path: Path, manual_clock: ManualClock) -> None:
    """When the first result is there and cannot be read, a worker's own result is not used."""
    shared = FaultyTier(DiskTier(tmp_path, clock=manual_clock))
    assert await worker(DeterministicCache(DiskTier(tmp_path), dump_on_close=False), "one")(1) == "1 by one"
    cache = DeterministicCache(MemoryTier(clock=manual_clock), shared, dump_on_close=False)
    shared.fail("read")
    with pytest.raises(exceptions.DeterminismLostError):
        await worker(cache, "two", flight="process")(1)
