"""The same cache for plain threads."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from acache import FastCache, Hit, MemoryTier, SyncCache
from acache.exceptions import BridgeError, BridgeTimeoutError, FileLockTimeoutError
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


async def test_on_a_loops_own_thread_it_refuses() -> None:
    """SPEC 23: a blocking method in a thread that runs a loop raises instead of deadlocking."""
    face = SyncCache(FastCache(MemoryTier()))
    with pytest.raises(BridgeError, match="event loop"):
        face.get_or_set("k", lambda: 1)
    assert await asyncio.to_thread(face.get_or_set, "k", lambda: 1) == 1


def test_a_call_that_takes_too_long_is_cancelled() -> None:
    """A timeout ends the waiting and the computation, and the key is free again."""
    face = SyncCache(FastCache(MemoryTier()), timeout=0.05)
    cancelled = threading.Event()

    async def hang() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return 1

    with pytest.raises(BridgeTimeoutError, match=r"0\.05"):
        face.get_or_set("k", hang)
    assert cancelled.wait(5)
    assert face.get_or_set("k", lambda: 2) == 2
