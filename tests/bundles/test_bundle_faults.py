"""Disks that fail at any call (H1: D4), stint, or answer late; dumps that are given up; what the dead leave behind."""

# ruff: noqa: ASYNC240 - these tests look at the disk themselves

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from acache.engine.bundles import Bundle, dump_bundle
from acache.exceptions import BundleError, FileLockTimeoutError
from acache.files import in_thread
from acache.locks import NON_BLOCKING, acquire_flock, file_lock
from acache.testing import Gate, settle
from acache.testing.files import FaultyFileSystem, SlowFileSystem, StingyFileSystem
from acache.types import Entry
from tests.bundles.helpers import SIGNER, dump, entries, key, load, values

OLD, NEW = entries("a", "b"), entries("b", "c")


def names(path: Path) -> list[str]:
    """Return what is beside the bundle, and it."""
    return sorted(each.name for each in path.parent.iterdir())


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("there", ["nothing", "old"])
async def test_every_system_call_fails(path: Path, there: str, error: int) -> None:
    """Whatever call of a dump fails, the old bundle or the new one is there, whole, and nothing else (D4, P16)."""
    number, outcomes = 0, set[tuple[bool, bool]]()
    files = FaultyFileSystem()
    while True:
        path.unlink(missing_ok=True)
        if there == "old":
            await in_thread(dump, path, OLD)
        content = path.read_bytes() if path.exists() else b""
        files.fail(number, error, once=True)
        failed = False
        try:
            await dump_bundle(path, NEW, files=files)
        except OSError:
            failed = True
        if not files.struck:
            break
        changed = path.exists() and path.read_bytes() != content
        if changed:
            assert await in_thread(load, path) == values(OLD | NEW if there == "old" else NEW)
        outcomes.add((failed, changed))
        assert changed or failed
        assert [name for name in names(path) if name.startswith(".tmp-")] == []
        files.heal()
        number += 1
    # A failure before the rename; one of the directory's fsync; one that does not matter.
    assert outcomes == {(True, False), (True, True), (False, True)}
    assert number > 20


@pytest.mark.parametrize("there", ["nothing", "old"])
async def test_every_system_call_fails_for_good(path: Path, there: str) -> None:
    """A disk that stops working in the middle leaves the old bundle or the new one; what it lets nobody remove stays."""
    number, files = 0, FaultyFileSystem()
    while True:
        path.unlink(missing_ok=True)
        if there == "old":
            await in_thread(dump, path, OLD)
        before = await in_thread(load, path) if there == "old" else None
        files.fail(number)
        with suppress(OSError):
            await dump_bundle(path, NEW, files=files)
        if not files.struck:
            break
        after = await in_thread(load, path) if path.exists() else None
        assert after in (before, values(OLD | NEW if there == "old" else NEW))
        for left in path.parent.glob(".tmp-*"):
            left.unlink()
        number += 1
    assert number > 20


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_stingy_disk(path: Path, limit: int) -> None:
    """A disk that reads and writes a few bytes at a time costs time and nothing else."""
    files = StingyFileSystem(limit)
    dump(path, OLD, SIGNER, files)
    dump(path, NEW, SIGNER, files)
    assert load(path, SIGNER, files) == load(path, SIGNER) == values(OLD | NEW)


def test_calls_that_make_it_durable(path: Path) -> None:
    """The new file is on the disk before it takes the old one's place, and the directory afterwards."""
    dump(path, OLD)
    files = FaultyFileSystem()
    files.fail(-1)
    dump(path, NEW, files=files)
    assert [call for call in files.calls if call in ("writev", "fsync", "rename")][-4:] == [
        "writev",
        "fsync",
        "rename",
        "fsync",
    ]


async def test_slow_disk_does_not_block_the_loop(path: Path) -> None:
    """While a system call hangs the loop goes on, whatever was asked (D27)."""
    await in_thread(dump, path, OLD)
    files = SlowFileSystem()
    opening = asyncio.ensure_future(Bundle.open(path, files=files))
    dumping = asyncio.ensure_future(dump_bundle(path, NEW, files=files))
    await files.reached.wait()
    assert not opening.done()
    assert not dumping.done()
    files.released.open()
    await (await opening).aclose()
    await dumping
    assert await in_thread(load, path) == values(OLD | NEW)


class Interrupted:
    """A dump that hangs when it is about to sync its file, until it is released."""

    def __init__(self, path: Path) -> None:
        self.reached, self.released = Gate("the sync of a dump"), Gate("the release of a dump")
        self.files = FaultyFileSystem()
        self.files.fail(0, self._hang, once=True, only="fsync")
        self.scope = anyio.CancelScope()
        self.task = asyncio.ensure_future(self._dump(path))

    async def _dump(self, path: Path) -> bool:
        with self.scope:
            await dump_bundle(path, NEW, files=self.files)
            await asyncio.sleep(0)
        return self.scope.cancelled_caught

    def _hang(self) -> None:
        self.reached.open()
        self.released.wait_blocking()


async def assert_locked(path: Path) -> None:
    """Fail unless the bundle's lock is held, also when all that was begun in threads has had its turn."""
    for _ in range(5):
        await asyncio.to_thread(int)
        await settle()
    with pytest.raises(FileLockTimeoutError):
        async with acquire_flock(file_lock(f"{path}.lock"), NON_BLOCKING):
            pytest.fail("the dump goes on, and needs its lock")


async def test_cancelled_dump_is_completed(path: Path) -> None:
    """A dump that is cancelled keeps its lock until it is done, and then is cancelled (D24)."""
    await in_thread(dump, path, OLD)
    dumping = Interrupted(path)
    await dumping.reached.wait()
    dumping.task.cancel()
    await assert_locked(path)
    assert not dumping.task.done()
    dumping.released.open()
    with pytest.raises(asyncio.CancelledError):
        await dumping.task
    assert await in_thread(load, path) == values(OLD | NEW)
    await dump_bundle(path, entries("d"), timeout=NON_BLOCKING)


async def test_scope_that_is_cancelled(path: Path) -> None:
    """A scope, which cancels again and again, waits for a dump too."""
    await in_thread(dump, path, OLD)
    dumping = Interrupted(path)
    await dumping.reached.wait()
    dumping.scope.cancel()
    await assert_locked(path)
    assert not dumping.task.done()
    dumping.released.open()
    assert await dumping.task is True
    assert await in_thread(load, path) == values(OLD | NEW)


async def test_dump_that_is_given_up_twice(path: Path) -> None:
    """A dump that is cancelled twice stops waiting, and so loses its lock: it then takes nobody's place."""
    await in_thread(dump, path, OLD)
    dumping = Interrupted(path)
    await dumping.reached.wait()
    dumping.task.cancel()
    await asyncio.sleep(0)
    dumping.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dumping.task
    await asyncio.to_thread(dump, path, entries("d"))
    dumping.released.open()
    while names(path) != ["results", "results.lock"]:
        await asyncio.sleep(0)
    assert await in_thread(load, path) == values(OLD | entries("d"))


@pytest.mark.parametrize("there", ["nothing", "old"])
def test_bundle_that_changes_under_the_lock(path: Path, there: str) -> None:
    """A bundle that somebody put there without the lock is not written over."""
    other = path.with_name("other")
    dump(other, entries("other"))
    if there == "old":
        dump(path, OLD)
    files = FaultyFileSystem()
    files.fail(0, lambda: other.replace(path), once=True, only="fsync")
    with pytest.raises(BundleError, match="dump again"):
        dump(path, NEW, files=files)
    assert load(path) == values(entries("other"))
    assert names(path) == ["results"]


def test_bundle_that_vanishes_under_the_lock(path: Path) -> None:
    """A bundle that was removed while it was merged does not come back."""
    dump(path, OLD)
    files = FaultyFileSystem()
    files.fail(0, path.unlink, once=True, only="fsync")
    with pytest.raises(BundleError, match="dump again"):
        dump(path, NEW, files=files)
    assert names(path) == []


def test_rubbish_is_removed(path: Path) -> None:
    """A dump removes what dumps that were killed long ago left, and nothing that may still be written."""

    def leave(name: str, *, old: bool) -> Path:
        left = path.with_name(name)
        left.touch(mode=0o600)
        if old:
            os.utime(left, (0, 0))
        return left

    rubbish, young, other = leave(".tmp-1", old=True), leave(".tmp-2", old=False), leave("other", old=True)
    held = leave(".tmp-3", old=True)
    with held.open() as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        dump(path, NEW)
        assert [left.exists() for left in (rubbish, young, other, held)] == [False, True, True, True]
    for left in (young, held):
        left.unlink()


@pytest.mark.parametrize("call", ["listdir", "stat"])
def test_rubbish_that_cannot_be_removed(path: Path, call: str) -> None:
    """A dump that is in its place has succeeded, whatever else its directory does not let it do."""
    dump(path, OLD)
    files = FaultyFileSystem()
    number = {"listdir": 0, "stat": 2}[call]
    files.fail(number, only=call, once=True)
    dump(path, NEW, files=files)
    assert files.struck == 1
    assert load(path) == values(OLD | NEW)


async def test_entries_are_taken_at_once(path: Path) -> None:
    """What a caller does to his mapping while the dump waits does not show in it."""
    await in_thread(dump, path, OLD)
    files, mapping = SlowFileSystem(), dict(NEW)
    dumping = asyncio.ensure_future(dump_bundle(path, mapping, files=files))
    await files.reached.wait()
    mapping[key("later")] = Entry("later", 1.0)
    files.released.open()
    await dumping
    assert await in_thread(load, path) == values(OLD | NEW)


async def test_reads_from_many_tasks(path: Path) -> None:
    """Many tasks may read one bundle at once, each what it asked for."""
    stored = entries(*range(2000))
    await in_thread(dump, path, stored)
    bundle = await Bundle.open(path)
    asked = list(stored)[::20]
    assert await asyncio.gather(*map(bundle.read, asked)) == [stored[each] for each in asked]
    await bundle.aclose()
