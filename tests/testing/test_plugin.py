"""The fixtures that acache brings to pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from acache.testing import ComputeCounter, ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    from acache import FastCache
    from acache.testing.plugin import ChangeSettings


async def test_isolated_cache(isolated_cache: FastCache, manual_clock: ManualClock, tmp_path: Path) -> None:
    """The cache is empty, on memory and disk of this test, and lives by the manual clock."""
    counter = ComputeCounter()

    @isolated_cache.memoize(ttl=60)
    @counter.wrap
    async def double(number: int) -> int:
        return 2 * number

    assert await double(2) == await double(2) == 4
    counter.assert_computed(1)
    assert [tier.name for tier in isolated_cache.tier.tiers] == ["memory", "disk"]
    assert (tmp_path / "acache").is_dir()
    manual_clock.advance(60)
    assert await double(2) == 4
    counter.assert_computed(2)


def test_isolated_cache_of_a_sync_test(isolated_cache: FastCache) -> None:
    """A plain test uses the same fixture, and finds nothing of the test before it."""
    counter = ComputeCounter()

    @isolated_cache.memoize(ttl=60)
    @counter.wrap
    def double(number: int) -> int:
        return 2 * number

    assert double(2) == double(2) == 4
    counter.assert_computed(1)


async def test_settings_change_for_one_test(acache_settings: ChangeSettings, isolated_cache: FastCache) -> None:
    """Settings change at once, one after the other, and are told."""
    counter = ComputeCounter()

    @isolated_cache.memoize
    @counter.wrap
    async def double(number: int) -> int:
        return 2 * number

    await double(2)
    assert acache_settings(disable=True).disable
    await double(2)
    counter.assert_computed(2)
    acache_settings(disable=False)
    await double(2)
    counter.assert_computed(2)


PLANTED = """
import pytest
from acache import config


def test_first(acache_settings):
    acache_settings(disable=True)
    acache_settings(recache=True)
    assert config.settings().disable

def test_second():
    assert not config.settings().disable
    assert not config.settings().recache

def test_third(isolated_cache, manual_clock):
    assert isolated_cache.tier.tiers[1].clock is manual_clock
"""


def run_pytest(tmp_path: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a project of its own, which has nothing but acache and these tests."""
    (tmp_path / "test_planted.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), *options]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.integration
def test_settings_are_restored_and_the_plugin_stands_alone(tmp_path: Path) -> None:
    """In another project the fixtures work with no other plugin, and the end of a test takes its settings back."""
    done = run_pytest(tmp_path, PLANTED, "-p", "acache.testing.plugin", "-p", "no:asyncio", "-p", "no:acache")
    assert "3 passed" in done.stdout
    assert done.returncode == 0


LEAKS = """
import asyncio, threading, pathlib, time, os
import pytest

held = []

async def test_task():
    held.append(asyncio.create_task(asyncio.Event().wait()))

def test_thread():
    held.append(threading.Event())
    threading.Thread(target=held[-1].wait, args=(20,), daemon=True).start()

def test_file(tmp_path):
    held.append(open(tmp_path / "file", "w"))

async def test_socket():
    held.append(os.pipe())

def test_temporary_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".tmp-1").touch()

async def test_blocking():
    from acache.testing import Gate
    Gate().wait_blocking(0.001)

@pytest.fixture
async def background():
    task = asyncio.create_task(asyncio.Event().wait())
    yield
    task.cancel()
    await asyncio.wait([task])

async def test_innocent(background, tmp_path):
    (tmp_path / "file").write_text("closed")
    await asyncio.to_thread(time.sleep, 0)

def test_innocent_portal():
    from acache import run_sync
    assert run_sync(asyncio.sleep, 0) is None
"""


@pytest.mark.integration
def test_the_guards_of_this_suite_bite(tmp_path: Path) -> None:
    """A test that leaves a task, thread, descriptor or temporary file, or blocks the loop, fails; no other does."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    done = run_pytest(tmp_path, LEAKS, "-p", "tests.conftest", "-p", "no:acache", "-rA", "-o", "filterwarnings=ignore")
    lines = set(done.stdout.splitlines())
    for name in ("test_task", "test_thread", "test_file", "test_socket", "test_temporary_file"):
        assert [line for line in lines if line.startswith(f"ERROR test_planted.py::{name} ")]
    assert [line for line in lines if line.startswith("FAILED test_planted.py::test_blocking")]
    for name in ("test_innocent", "test_innocent_portal"):
        assert f"PASSED test_planted.py::{name}" in lines
        assert not [line for line in lines if line.startswith(f"ERROR test_planted.py::{name} ")]
