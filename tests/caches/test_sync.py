"""The same cache for plain threads."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path

import pytest

from acache import DeterministicCache, FastCache, Hit, MemoryTier, SyncCache
from acache.exceptions import BridgeError, BridgeTimeoutError, ConfigurationError, FileLockTimeoutError
from acache.tiers import DiskTier


def test_every_method_has_a_plain_twin(tmp_path: Path) -> None:
    """A plain thread gets, inserts, computes, deletes, clears, locks and closes as a task does."""
    cache = FastCache(MemoryTier(), DiskTier(tmp_path / "cache"))

    def f(x: int) -> object:
        return x

    with SyncCache(cache) as face:
        memoized = face.memoize(f)
        assert face.get(f, ((1,), {})) is None
        assert face.insert(f, ((1,), {}), "given")
        assert face.get(memoized, ((1,), {})) == Hit("given")
        assert memoized(1) == "given"
        assert face.get_or_set("k", lambda: 5, ttl="1h") == 5
        assert face.delete("k")
        assert face.get_or_set("k", lambda: 6) == 6
        with face.lock(), pytest.raises(FileLockTimeoutError), face.lock(timeout=0):
            pass
        assert face.record(f)(1) == 1
        assert face.replay(f)(1) == 1
        assert face.statistics().total.computed == 3
        face.clear()
        assert face.get(f, ((1,), {})) is None


def _methods(face: object) -> dict[str, list[str]]:
    """Return what can be called on a cache, and the parameters of each."""
    names = [name for name in dir(face) if not name.startswith("_") and callable(getattr(face, name))]
    return {name: list(inspect.signature(getattr(face, name)).parameters) for name in names}


def test_no_method_is_missing(tmp_path: Path) -> None:
    """Whatever a cache of either kind can do, its plain face can, with the same parameters; closing is called as for files."""
    cache = DeterministicCache(DiskTier(tmp_path), dump_on_close=False)
    plain = _methods(SyncCache(cache))
    plain["aclose"] = plain.pop("close")
    # Constructors, the wiring of a cache, and what others are made with.
    not_methods = {"from_url", "events", "studio", "tier"}
    asked = _methods(cache) | _methods(FastCache())
    assert plain == {name: parameters for name, parameters in asked.items() if name not in not_methods}


def test_bundles_of_plain_callers(tmp_path: Path) -> None:
    """A plain thread dumps and loads; for a cache that has no bundles that is an error that says so."""
    path = tmp_path / "bundle"
    with SyncCache(DeterministicCache(MemoryTier(), DiskTier(tmp_path / "a"), dump_on_close=False)) as face:
        assert face.dump(path) is None
        assert face.memoize(_double)(1) == 2
        assert face.dump(path) == path
    with SyncCache(DeterministicCache(MemoryTier(), strict="pre_populated")) as strict:
        strict.load(path)
        assert strict.memoize(_double)(1) == 2
    fast = SyncCache(FastCache())
    for use in (fast.dump, lambda: fast.load(path)):
        with pytest.raises(ConfigurationError, match="only a DeterministicCache"):
            use()


def _double(x: int) -> int:
    return 2 * x


async def test_on_a_loops_own_thread_it_refuses() -> None:
    """SPEC 23: a blocking method in a thread that runs a loop raises instead of deadlocking."""
    face = SyncCache(FastCache(MemoryTier()))
    with pytest.raises(BridgeError, match="event loop"):
        face.get_or_set("k", lambda: 1)
    assert await asyncio.to_thread(face.get_or_set, "k", lambda: 1) == 1


def test_a_call_that_takes_too_long_is_cancelled(begun: threading.Event) -> None:
    """A timeout ends the waiting and the computation, and the key is free again."""
    cache, cancelled = FastCache(MemoryTier()), threading.Event()

    async def hang() -> int:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return 1

    with pytest.raises(BridgeTimeoutError, match=r"0\.05"):
        SyncCache(cache, timeout=0.05).get_or_set("k", hang)
    assert cancelled.wait(5)
    assert SyncCache(cache).get_or_set("k", lambda: 2) == 2
