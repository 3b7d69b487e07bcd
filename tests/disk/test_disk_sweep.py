"""Rubbish of the dead is removed, files of the living are not (D17, D18)."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acache.exceptions import FileLockTimeoutError
from acache.files import ABANDONED
from acache.locks import NON_BLOCKING
from acache.testing import cancel_sweep
from acache.testing.files import FaultyFileSystem
from acache.tiers import DiskTier
from acache.types import Hit
from tests.disk.helpers import key, path_of, temporaries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from acache.testing import ManualClock
    from tests.disk.conftest import MakeTier


def orphan(tier: DiskTier, *, age: float, number: int = 1) -> Path:
    """Leave a temporary file as a writer killed ``age`` seconds ago does, by the clock of the file system."""
    path = path_of(tier, key(1)).with_name(f".tmp-{number}-0123456789abcdef")
    path.write_bytes(b"half an en")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


async def test_orphans_are_removed_when_old(tier: DiskTier) -> None:
    """A temporary file an hour old that nobody holds is removed; a younger one is not."""
    await tier.set(key(1), 1)
    old, young = orphan(tier, age=ABANDONED + 60), orphan(tier, age=ABANDONED - 60, number=2)
    assert await tier.sweep() == 1
    assert (old.exists(), young.exists()) == (False, True)
    assert await tier.get(key(1)) == Hit(1)
    young.unlink()


async def test_orphan_in_the_directory_itself(tier: DiskTier, tmp_path: Path) -> None:
    """A sweeper that was killed leaves a temporary file too."""
    await tier.set(key(1), 1)
    path = tmp_path / "disk/.tmp-1-0123456789abcdef"
    path.touch()
    os.utime(path, (0, 0))
    assert await tier.sweep() == 1


async def test_held_file_stays_however_old(tier: DiskTier) -> None:
    """A file whose writer holds its lock stays, whatever the clock says its age is (a jump of the clock, D18)."""
    await tier.set(key(1), 1)
    path = orphan(tier, age=10 * ABANDONED)
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert await tier.sweep() == 0
    assert await tier.sweep() == 1
    assert not path.exists()


async def test_file_of_the_future_stays(tier: DiskTier) -> None:
    """After the clock jumped back files are from the future, and not old."""
    await tier.set(key(1), 1)
    path = orphan(tier, age=-10 * ABANDONED)
    assert await tier.sweep() == 0
    path.unlink()


@pytest.mark.parametrize("write", ["insert", "set"])
async def test_writer_at_work_is_left_alone(make_tier: MakeTier, write: str) -> None:
    """At every system call of a write that takes for ever a sweep takes nothing away, and the write succeeds."""
    sweeper = make_tier()
    await sweeper.set(key(1), 1)
    files = FaultyFileSystem()
    tier = make_tier(files=files)

    async def write_and_sweep(at: int) -> int:
        # As old as can be, but for the lock: what a sweeper sees after the clock jumped a year ahead.
        def jump_and_sweep() -> None:
            for temporary in temporaries(tier._shelf.path):
                os.utime(temporary, (0, 0))
            sweeper._shelf.sweep(force=True)

        files.fail(at, jump_and_sweep, once=True)
        assert await getattr(tier, write)(key((write, at)), at) is True
        struck = files.struck
        files.heal()
        assert await sweeper.get(key((write, at))) == Hit(at)
        return struck

    number = 0
    while await write_and_sweep(number):
        number += 1
    assert number > 8


@pytest.fixture
async def one_thread() -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Give the loop one thread, and a call that waits until it has done what it was given."""
    executor = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(executor)

    async def idle() -> None:
        await loop.run_in_executor(executor, lambda: None)

    yield idle
    executor.shutdown()


async def test_writes_sweep_once_an_hour(
    tmp_path: Path, manual_clock: ManualClock, one_thread: Callable[[], Awaitable[None]]
) -> None:
    """The first write of a tier sweeps behind its caller's back, if nobody else did within the hour; so do later ones."""
    tiers = [DiskTier(tmp_path / "disk", clock=manual_clock) for _ in range(2)]
    stamp = tmp_path / "disk/.swept"

    async def sweeps(tier: DiskTier) -> bool:
        path = orphan(tier, age=2 * ABANDONED)
        await tier.set(key(1), 1)
        await one_thread()
        swept = not path.exists()
        path.unlink(missing_ok=True)
        return swept

    await tiers[0].get(key(1))
    path_of(tiers[0], key(1)).parent.mkdir(mode=0o700)
    assert await sweeps(tiers[0])
    assert not await sweeps(tiers[0])
    assert not await sweeps(tiers[1])
    os.utime(stamp, (0, 0))
    assert not await sweeps(tiers[0])
    manual_clock.advance(ABANDONED)
    assert await sweeps(tiers[1])
    os.utime(stamp, (time.time() + 10 * ABANDONED, time.time() + 10 * ABANDONED))
    assert await sweeps(tiers[0])
    for tier in tiers:
        await tier.aclose()


async def test_failing_sweep_is_nobodys_error(
    tmp_path: Path, manual_clock: ManualClock, one_thread: Callable[[], Awaitable[None]]
) -> None:
    """A sweep that nobody asked for fails in silence; one that was asked for is counted."""
    files = FaultyFileSystem()
    tier = DiskTier(tmp_path / "disk", clock=manual_clock, files=files)
    tier._sweep_at = float("inf")
    await tier.set(key(1), 1)
    tier._sweep_at = 0.0
    files.fail(0, errno.EIO, only="listdir")
    assert await tier.set(key(1), 2) is True
    await one_thread()
    assert tier.statistics().failures == 0
    files.fail(0, errno.EIO, only="create")
    assert await tier.sweep() == 0
    assert (files.struck, tier.statistics().failures) == (1, 1)
    files.heal()
    await tier.aclose()


async def test_lock_files_are_swept(tier: DiskTier, tmp_path: Path) -> None:
    """Lock files of single keys go when they are an hour old and nobody holds them."""
    await tier.get(key(1))
    paths = [tmp_path / "disk/.locks" / key(number) for number in range(3)]
    for path in paths:
        path.touch()
    for path in paths[:2]:
        os.utime(path, (0, 0))
    with paths[0].open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert await tier.sweep() == 1
    assert [path.exists() for path in paths] == [True, False, True]


async def test_lock_files_are_dropped(tier: DiskTier, tmp_path: Path) -> None:
    """The file of a host lock is removed on request, unless somebody holds it (D22)."""
    await tier.get(key(1))
    path = tmp_path / "disk/.locks" / key(1)
    async with tier.hold_host_lock(key(1)):
        assert await tier.drop_host_lock(key(1)) is False
        assert path.exists()
        with pytest.raises(FileLockTimeoutError):
            async with tier.hold_host_lock(key(1), NON_BLOCKING):
                pytest.fail("it is held (D25)")
    assert await tier.drop_host_lock(key(1)) is True
    assert not path.exists()
    assert await tier.drop_host_lock(key(1)) is False
    async with tier.hold_host_lock(key(1), NON_BLOCKING):
        pass


async def test_host_lock_for_a_block(tier: DiskTier) -> None:
    """A host lock that is held for a block excludes others from its key only, and is free after any end of the block."""

    async def hold(fail: type[BaseException] | None) -> None:
        async with tier.hold_host_lock(key(1), NON_BLOCKING):
            with pytest.raises(FileLockTimeoutError):
                async with tier.hold_host_lock(key(1), NON_BLOCKING):
                    pytest.fail("it is held")
            async with tier.hold_host_lock(key(2), NON_BLOCKING):
                pass
            if fail is not None:
                raise fail

    await hold(None)
    for failure in (LookupError, asyncio.CancelledError):
        with pytest.raises(failure):
            await hold(failure)
    await hold(None)
    kept: list[BaseException | None] = []
    async for step in cancel_sweep(lambda: hold(None)):
        kept.append(step.error)  # and with it the frames: the lock is given back, not found by the collector
        async with tier.hold_host_lock(key(1), 10):
            pass


async def test_lock_file_that_changes_hands(make_tier: MakeTier, tmp_path: Path) -> None:
    """A lock file that was replaced while it was looked at is another one, and perhaps held: it stays."""
    files = FaultyFileSystem()
    tier = make_tier(files=files)
    await tier.get(key(1))
    path = tmp_path / "disk/.locks" / key(1)
    path.touch()

    def replace() -> None:
        path.unlink()
        path.touch()

    files.fail(0, replace, once=True, only="flock")
    assert await tier.drop_host_lock(key(1)) is False
    assert path.exists()


async def test_host_lock_makes_the_directory(tmp_path: Path) -> None:
    """A host lock that is the first use of a tier finds its directory made, and private."""
    tier = DiskTier(tmp_path / "a/disk")
    async with tier.hold_host_lock(key(1)):
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*") if path.is_dir()}
    assert ((tmp_path / "a/disk/.locks").is_dir(), modes) == (True, {0o700})


async def test_sweep_while_the_directory_vanishes(make_tier: MakeTier, tmp_path: Path) -> None:
    """A sweep whose directory is deleted under it ends."""
    files = FaultyFileSystem()
    tier = make_tier(files=files)
    await tier.set(key(1), 1)
    number, swept = 0, True
    while swept:
        files.fail(number, lambda: shutil.rmtree(tmp_path / "disk", ignore_errors=True), once=True)
        assert await tier.sweep() == 0
        swept = files.struck > 0
        files.heal()
        await tier.set(key(1), 1)
        number += 1
    assert number > 8
