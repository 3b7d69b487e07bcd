"""Nothing is imported on an event loop, or in the moment of a fork: all that calls need is there once acache is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SCRIPT = """
import asyncio, sys, tempfile
from acache import DiskTier, FastCache, MemoryTier, SyncCache, isolate, run_sync

async def main(directory):
    async with FastCache(MemoryTier(), DiskTier(directory)) as cache:

        @cache.memoize(ttl=60, tags=["all"])
        async def square(x):
            return x * x

        @cache.memoize
        def cube(x):
            return x ** 3

        @cache.memoize
        async def stream(x):
            for n in range(x):
                yield n

        assert await square(2) == 4
        assert await cube.aio(2) == 8
        assert await asyncio.to_thread(cube, 3) == 27
        assert [n async for n in stream(2)] == [0, 1]
        with isolate(arch="sm90"):
            assert await square(2) == 4
        async with cache.lock(1):
            await cache.invalidate_tags("all")
        await cache.clear()

loaded = set(sys.modules)
with tempfile.TemporaryDirectory() as directory:
    asyncio.run(main(directory))
    with SyncCache(FastCache(DiskTier(directory))) as cache:
        assert run_sync(asyncio.sleep, 0, 1) == 1
print(*sorted(set(sys.modules) - loaded))
"""


@pytest.mark.integration
def test_a_call_imports_nothing() -> None:
    """A process that makes its first calls, of every kind, has all modules they need already."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", [])
