"""Every system call of every operation fails once, and from there on for ever (H1): D4 to D9, D23, P01, P27.

The rule of all: nobody but the counters learns of it. A write says whether it is there, and it is; a value that was
alive stays alive; after the fault everything works, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from acache.exceptions import ValueEncodingError
from acache.files import FileSystem
from acache.testing import ManualClock
from acache.testing.files import FaultyFileSystem, StingyFileSystem, WatchedFileSystem
from acache.tiers import DiskTier
from acache.types import Hit, Key
from tests.disk.helpers import key, open_files, path_of, plant, quarantined, temporaries

KEY = key("the key")
#: A key of the same shard, for a shard that is there without the entry.
NEIGHBOUR = next(each for each in map(key, range(9_999)) if each[62:] == KEY[62:])

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EACCES, errno.EROFS, errno.ESTALE, errno.EBUSY)


@dataclass(frozen=True)
class Case:
    """One operation: what is there before, and what may be there afterwards, by whether it said that it stored."""

    prepare: Callable[[DiskTier, ManualClock], Awaitable[object]]
    run: Callable[[DiskTier], Awaitable[object]]
    after: dict[object, object]


async def nothing(_tier: DiskTier, _clock: ManualClock) -> None:
    """Leave the directory unmade."""


async def neighbour(tier: DiskTier, _clock: ManualClock) -> None:
    """Make the shard."""
    await tier.set(NEIGHBOUR, "neighbour")


async def live(tier: DiskTier, _clock: ManualClock) -> None:
    """Store a live entry."""
    await tier.set(KEY, "old")


async def expired(tier: DiskTier, clock: ManualClock) -> None:
    """Store an entry and let it expire."""
    await tier.set(KEY, "old", ttl=1)
    clock.advance(2)


async def corrupt(tier: DiskTier, _clock: ManualClock) -> None:
    """Store a damaged entry."""
    await tier.set(KEY, "old")
    plant(tier, KEY, b"rubbish")


async def stale(tier: DiskTier, clock: ManualClock) -> None:
    """Store an entry of another version."""
    other = DiskTier(tier._shelf.path, version=99, clock=clock)
    other._sweep_at = float("inf")
    await other.set(KEY, "old")
    await other.aclose()


async def directory(tier: DiskTier, clock: ManualClock) -> None:
    """Let a directory lie in the entry's place."""
    await neighbour(tier, clock)
    path_of(tier, KEY).mkdir()


def get(tier: DiskTier) -> Awaitable[object]:
    """Read."""
    return tier.get(KEY)


def insert(tier: DiskTier) -> Awaitable[object]:
    """Insert."""
    return tier.insert(KEY, "new")


def replace(tier: DiskTier) -> Awaitable[object]:
    """Set."""
    return tier.set(KEY, "new")


def delete(tier: DiskTier) -> Awaitable[object]:
    """Delete."""
    return tier.delete(KEY)


OLD, NEW, GONE = Hit("old"), Hit("new"), None
CASES = {
    "get, nothing": Case(nothing, get, {GONE: GONE}),
    "get, live": Case(live, get, {OLD: OLD, GONE: OLD}),
    "get, expired": Case(expired, get, {GONE: GONE}),
    "get, corrupt": Case(corrupt, get, {GONE: GONE}),
    "get, stale": Case(stale, get, {GONE: GONE}),
    "get, directory": Case(directory, get, {GONE: GONE}),
    "insert, nothing": Case(nothing, insert, {True: NEW, False: GONE}),
    "insert, neighbour": Case(neighbour, insert, {True: NEW, False: GONE}),
    "insert, live": Case(live, insert, {False: OLD}),
    "insert, expired": Case(expired, insert, {True: NEW, False: GONE}),
    "insert, corrupt": Case(corrupt, insert, {True: NEW, False: GONE}),
    "insert, stale": Case(stale, insert, {True: NEW, False: GONE}),
    "insert, directory": Case(directory, insert, {True: NEW, False: GONE}),
    "set, nothing": Case(nothing, replace, {True: NEW, False: GONE}),
    "set, live": Case(live, replace, {True: NEW, False: OLD}),
    "set, corrupt": Case(corrupt, replace, {True: NEW, False: GONE}),
    "set, directory": Case(directory, replace, {True: NEW, False: GONE}),
    "delete, live": Case(live, delete, {True: GONE, False: OLD}),
    "delete, nothing": Case(nothing, delete, {False: GONE}),
    "clear, live": Case(live, lambda tier: tier.clear(), {None: (OLD, GONE)}),
    "sweep, live": Case(live, lambda tier: tier.sweep(), {0: OLD}),
    "drop, live": Case(live, lambda tier: tier.drop_host_lock(KEY), {True: OLD, False: OLD}),
}


def make(path: Path, clock: ManualClock, **options: Any) -> DiskTier:
    """Make a tier that does not sweep behind the test's back."""
    tier = DiskTier(path, clock=clock, **options)
    tier._sweep_at = float("inf")
    return tier


async def run_with_fault(
    case: Case, path: Path, at: int, error: int, *, once: bool, durable: bool = False
) -> list[str]:
    """Run the case with a fault, check what must hold then, and return the calls; empty if nothing struck."""
    clock, files = ManualClock(), FaultyFileSystem()
    tier = make(path, clock, files=files, durable=durable)
    await case.prepare(tier, clock)
    files.fail(at, error, once=once)
    result = await case.run(tier)
    calls, struck = files.calls, files.struck
    files.heal()
    await tier.aclose()
    assert result in case.after
    # Seen with other eyes: nothing that this tier remembers counts.
    fresh = make(path, clock)
    allowed = case.after[result]
    found = await fresh.get(KEY)
    assert found in allowed if isinstance(allowed, tuple) else found == allowed
    if "unlink" not in calls[at:]:
        assert temporaries(path) == []
    for temporary in temporaries(path):
        os.utime(temporary, (0, 0), follow_symlinks=False)
    await fresh.sweep()
    assert [left for left in temporaries(path) if not left.is_dir()] == []
    for left in temporaries(path):
        left.rmdir()  # it lay in the entry's place, and could not be taken farther
    assert await fresh.set(KEY, "again") is True
    clock.advance(60)
    assert await tier.get(KEY) == Hit("again")
    assert await tier.set(KEY, "and again") is True
    assert await fresh.get(KEY) == Hit("and again")
    await fresh.aclose()
    await tier.aclose()
    return calls if struck else []


@pytest.mark.parametrize("once", [True, False], ids=["once", "for-ever"])
@pytest.mark.parametrize("name", CASES)
async def test_every_call_fails(tmp_path: Path, name: str, once: bool) -> None:
    """Each system call in turn answers an error, each time another one, until the operation gets through without."""
    gc.collect()  # what earlier tests left to the collector is not this one's
    descriptors = len(open_files())
    number = 0
    while await run_with_fault(
        CASES[name], tmp_path / f"n{number}", number, ERRORS[number % len(ERRORS)], once=once, durable=number % 2 == 1
    ):
        number += 1
    assert number > 0
    # An error keeps what it passed through alive: a worker may look at its last one for a moment.
    await asyncio.get_running_loop().shutdown_default_executor()
    gc.collect()
    assert len(open_files()) == descriptors


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["get, live", "insert, neighbour", "set, live"])
async def test_every_error(tmp_path: Path, name: str, error: int) -> None:
    """Each error in turn is answered by every system call."""
    number = 0
    while await run_with_fault(CASES[name], tmp_path / f"n{number}", number, error, once=True):
        number += 1
    assert number > 0


@pytest.mark.parametrize("name", ["insert, neighbour", "set, live"])
@pytest.mark.parametrize("call", ["unlink", "close", "fsync"])
async def test_fault_after_publication(tmp_path: Path, name: str, call: str) -> None:
    """Once an entry is published, no error takes that back (D8): the write is reported as done."""
    clock, files = ManualClock(), FaultyFileSystem()
    tier = make(tmp_path / "disk", clock, files=files, durable=True)
    await CASES[name].prepare(tier, clock)
    published = "rename" if name.startswith("set") else "rename_new"
    files.fail(0, lambda: files.fail(0, errno.EBUSY, only=call), once=True, only=published)
    assert await CASES[name].run(tier) is True
    assert (call in files.calls) == (files.struck > 0)
    files.heal()
    assert await tier.get(KEY) == NEW
    for temporary in temporaries(tmp_path):
        temporary.unlink()
    await tier.aclose()


@pytest.mark.parametrize("call", ["fsync", "close"])
async def test_late_errors_are_errors(tmp_path: Path, call: str) -> None:
    """What a disk refuses only when a file is synced or closed is not published, and is not tried again as if it had worked (D5)."""
    clock, files = ManualClock(), FaultyFileSystem()
    tier = make(tmp_path / "disk", clock, files=files, durable=True)
    await neighbour(tier, clock)
    files.fail(0, errno.EIO, once=True, only=call)
    assert await tier.insert(KEY, "new") is False
    assert (files.struck, files.calls.count("writev"), files.calls.count("rename_new")) == (1, 1, 0)
    files.heal()
    assert await tier.get(KEY) is None
    await tier.aclose()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
async def test_no_retry_storm(tmp_path: Path, error: int) -> None:
    """After a write failed for want of space or permission none is tried for a second (D4); reads go on, failures count."""
    clock, files = ManualClock(), FaultyFileSystem()
    tier = make(tmp_path / "disk", clock, files=files)
    await live(tier, clock)
    files.fail(0, error, only="create")
    for _ in range(5):
        assert await tier.set(KEY, "new") is False
    assert files.struck == 1
    assert tier.statistics().failures == 5
    assert await tier.get(KEY) == OLD
    clock.advance(1)
    assert await tier.set(KEY, "new") is False
    assert files.struck == 2
    files.heal()
    clock.advance(1)
    assert await tier.set(KEY, "new") is True
    await tier.aclose()


async def test_other_errors_do_not_pause_writes(tmp_path: Path) -> None:
    """An error that concerns one call only stops one call only (D7)."""
    clock, files = ManualClock(), FaultyFileSystem()
    tier = make(tmp_path / "disk", clock, files=files)
    await live(tier, clock)
    files.fail(0, errno.EMFILE, once=True)
    assert await tier.set(KEY, "new") is False
    assert await tier.set(KEY, "new") is True
    await tier.aclose()


async def test_read_only_file_system(tmp_path: Path, manual_clock: ManualClock) -> None:
    """Where nothing can be written hits are served, misses are misses, and bad entries are not fatal (D9, P27)."""

    def refuse(call: str) -> None:
        if call in {"create", "mkdir", "rename_new", "rename", "unlink", "chmod", "fchmod", "writev", "rmdir"}:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    writing = make(tmp_path / "disk", manual_clock)
    await live(writing, manual_clock)
    plant(writing, key(2), b"rubbish")
    tier = make(tmp_path / "disk", manual_clock, files=WatchedFileSystem(refuse))
    assert await tier.get(KEY) == OLD
    assert await tier.get(key(2)) is None
    assert await tier.get(key(3)) is None
    assert await tier.insert(key(3), "new") is False
    assert await tier.delete(KEY) is False
    await tier.clear()
    assert await tier.sweep() == 0
    assert await tier.drop_host_lock(KEY) is False
    assert await tier.get(KEY) == OLD
    assert quarantined(writing) == []
    for each in (tier, writing):
        await each.aclose()


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_short_reads_and_writes(tmp_path: Path, manual_clock: ManualClock, limit: int) -> None:
    """A kernel that takes or gives a few bytes at a time gets and gives them all (D6)."""
    tier = make(tmp_path / "disk", manual_clock, files=StingyFileSystem(limit))
    assert await tier.insert(KEY, "x" * 1_000) is True
    assert await tier.set(KEY, "y" * 1_000) is True
    assert await tier.get(KEY) == Hit("y" * 1_000)
    await tier.aclose()


async def test_write_that_writes_nothing(tmp_path: Path, manual_clock: ManualClock) -> None:
    """A file system that takes no byte and gives no error does not hold a write up for ever."""
    tier = make(tmp_path / "disk", manual_clock, files=StingyFileSystem(0))
    assert await tier.insert(KEY, "new") is False
    assert temporaries(tmp_path) == []
    await tier.aclose()


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("insert")])
async def test_file_system_without_links(tmp_path: Path, manual_clock: ManualClock, name: str, error: int) -> None:
    """Without hard links an insert takes the lock and renames, with the same outcome."""
    files = FaultyFileSystem()
    tier = make(tmp_path / "disk", manual_clock, files=files)
    case = CASES[name]
    await case.prepare(tier, manual_clock)
    files.fail(0, error, only="rename_new")
    result = await case.run(tier)
    assert (files.struck > 0, "flock" in files.calls) == (True, True)
    assert result is (name != "insert, live")
    assert await tier.get(KEY) == case.after[result]
    assert temporaries(tmp_path) == []
    await tier.aclose()


async def test_put_back_without_links(tmp_path: Path, manual_clock: ManualClock) -> None:
    """A fresh entry that was moved aside by mistake comes back without hard links too."""
    files = FaultyFileSystem()
    tier = make(tmp_path / "disk", manual_clock, files=files)
    await live(tier, manual_clock)
    path = path_of(tier, KEY)
    fresh = path.with_name("fresh")
    path.rename(fresh)
    path.write_bytes(b"rubbish")

    def publish_as_peer() -> None:
        fresh.rename(path)
        files.fail(0, errno.EPERM, only="rename_new")

    files.fail(0, publish_as_peer, once=True, only="rename")
    assert await tier.get(KEY) is None
    assert files.struck == 1
    files.heal()
    assert await tier.get(KEY) == OLD
    await tier.aclose()


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EINVAL, errno.ENOLCK], ids=errno.errorcode.get)
async def test_file_system_without_locks(tmp_path: Path, manual_clock: ManualClock, error: int) -> None:
    """Without locks nothing is done that needs one, and nothing pretends to have it (D23); the rest works."""
    files = FaultyFileSystem()
    tier = make(tmp_path / "disk", manual_clock, files=files)
    await corrupt(tier, manual_clock)
    await neighbour(tier, manual_clock)
    orphan = path_of(tier, NEIGHBOUR).with_name(".tmp-1-0123456789abcdef")
    orphan.touch()
    os.utime(orphan, (0, 0))
    files.fail(0, error, only="flock")
    assert await tier.get(KEY) is None
    assert await tier.insert(KEY, "new") is False
    assert await tier.sweep() == 0
    assert await tier.insert(key(3), "new") is True
    assert await tier.get(NEIGHBOUR) == Hit("neighbour")
    assert await tier.set(KEY, "new") is True
    assert await tier.get(KEY) == NEW
    files.heal()
    assert await tier.sweep() == 1
    await tier.aclose()


async def test_lock_of_a_stopped_peer(tmp_path: Path, manual_clock: ManualClock) -> None:
    """A peer that was stopped while it cleared a dead entry away delays nobody for ever: an insert gives up (D21)."""
    files = FaultyFileSystem()
    tier = make(tmp_path / "disk", manual_clock, files=files)
    await corrupt(tier, manual_clock)
    shard = os.open(path_of(tier, KEY).parent, os.O_RDONLY)
    fcntl.flock(shard, fcntl.LOCK_EX)
    assert await tier.get(KEY) is None
    assert await tier.insert(KEY, "new") is False
    assert tier.statistics().failures == 1
    os.close(shard)
    assert await tier.insert(KEY, "new") is True
    assert temporaries(tmp_path) == []
    await tier.aclose()


async def test_peer_lets_go(tmp_path: Path, manual_clock: ManualClock) -> None:
    """An insert waits for a peer that is clearing the same entry away."""
    held: list[int] = []

    def let_go(call: str) -> None:
        if call == "pause":
            os.close(held.pop())

    tier = make(tmp_path / "disk", manual_clock, files=WatchedFileSystem(let_go))
    await corrupt(tier, manual_clock)
    held.append(os.open(path_of(tier, KEY).parent, os.O_RDONLY))
    fcntl.flock(held[0], fcntl.LOCK_EX)
    assert await tier.insert(KEY, "new") is True
    assert held == []
    await tier.aclose()


async def test_file_truncated_under_a_reader(tmp_path: Path, manual_clock: ManualClock) -> None:
    """A file that loses its end while it is read is a bad entry, not an endless read (P12)."""
    files = FaultyFileSystem()
    tier = make(tmp_path / "disk", manual_clock, files=files)
    await live(tier, manual_clock)
    files.fail(0, lambda: os.truncate(path_of(tier, KEY), 50), once=True, only="pread")
    assert await tier.get(KEY) is None
    assert (files.struck, tier.statistics().rejections) == (1, 1)
    assert await tier.insert(KEY, "new") is True
    await tier.aclose()


async def test_entry_vanishes_under_an_insert(tmp_path: Path, manual_clock: ManualClock) -> None:
    """A live entry that a peer deletes before an insert that lost to it could look at it stops that insert no more."""
    files = FaultyFileSystem()
    tier = make(tmp_path / "disk", manual_clock, files=files)
    await live(tier, manual_clock)
    files.fail(1, path_of(tier, KEY).unlink, once=True, only="open")  # the first opens the shard
    assert await tier.insert(KEY, "new") is True
    assert files.struck == 1
    assert await tier.get(KEY) == NEW
    await tier.aclose()


@pytest.mark.parametrize("missing", [1, 3])
async def test_peer_makes_the_directory_first(tmp_path: Path, manual_clock: ManualClock, missing: int) -> None:
    """Two that make one directory, and its parents, at the same time both have it; before any of the calls."""
    number, struck = 0, True
    while struck:
        files = FaultyFileSystem()
        path = tmp_path / f"n{number}" / "/".join(["d"] * missing)
        tier = make(path, manual_clock, files=files)
        files.fail(number, partial(path.mkdir, mode=0o700, parents=True, exist_ok=True), once=True, only="mkdir")
        assert await tier.insert(KEY, "new") is True
        struck = files.struck > 0
        await tier.aclose()
        number += 1
    assert number > 3


async def test_entry_that_may_not_be_removed(tmp_path: Path, manual_clock: ManualClock) -> None:
    """A file that the system does not let go is a failure of the delete, and stays readable."""
    files = FaultyFileSystem()
    tier = make(tmp_path / "disk", manual_clock, files=files)
    await live(tier, manual_clock)
    files.fail(0, errno.EPERM, only="unlink")
    assert await tier.delete(KEY) is False
    assert tier.statistics().failures == 1
    files.heal()
    assert await tier.get(KEY) == OLD
    await tier.aclose()


def test_pause_takes_time() -> None:
    """Between two attempts to lock a real file system waits."""
    started = time.monotonic()
    FileSystem().pause(0.002)
    assert time.monotonic() - started >= 0.002


async def test_value_that_cannot_be_encoded(tmp_path: Path, manual_clock: ManualClock) -> None:
    """The caller's own mistake is his to hear of; nothing is written, and nothing pauses."""
    files = FaultyFileSystem()
    tier = make(tmp_path / "disk", manual_clock, files=files)
    with pytest.raises(ValueEncodingError):
        await tier.insert(KEY, lambda: None)
    assert files.calls == []
    assert await tier.insert(KEY, "new") is True
    await tier.aclose()


def test_keys_are_neighbours() -> None:
    """The two keys of these tests are different keys of one shard."""
    assert isinstance(NEIGHBOUR, Key)
    assert (NEIGHBOUR != KEY, NEIGHBOUR[62:] == KEY[62:]) == (True, True)
