"""Several processes on one directory, and processes that die: D1, D2, D10, D15 to D17, D20, D22, D25, D26, P02, P12, P23."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from acache.exceptions import FileLockTimeoutError
from acache.locks import NON_BLOCKING
from acache.types import Hit
from tests.disk.children import KEY
from tests.disk.helpers import Child, key, plant, temporaries

if TYPE_CHECKING:
    from collections.abc import Callable

    from acache.tiers import DiskTier
    from tests.disk.conftest import MakeTier

Spawn: TypeAlias = "Callable[..., Child]"

pytestmark = pytest.mark.integration


def run_together(*children: Child) -> list[Any]:
    """Wait until all children are ready, let them go at once, and return what they found."""
    assert [child.says() for child in children] == ["ready"] * len(children)
    for child in children:
        child.go()
    return [child.result() for child in children]


def age(*paths: Path) -> None:
    """Let files have been written long ago."""
    for path in paths:
        os.utime(path, (0, 0))


@pytest.mark.parametrize("found", ["nothing", "old", "corrupt"])
@pytest.mark.parametrize("write", ["insert", "set"])
async def test_killed_at_every_system_call(
    make_tier: MakeTier, tmp_path: Path, write: str, found: str, spawn: Spawn
) -> None:
    """A process killed at any system call of a write leaves the old value or the new one, and later no rubbish (D1, P02)."""
    (endings,) = run_together(spawn("kill_at_every_call", tmp_path, write, found))
    assert endings[-1] == 0
    assert set(endings[:-1]) == {-signal.SIGKILL}
    assert len(endings) > 8
    outcomes: dict[str, set[Hit[Any] | None]] = {
        "nothing": {None, Hit("new")},
        "corrupt": {None, Hit("new")},
        "old": {Hit("old"), Hit("new")},
    }
    allowed = outcomes[found]
    seen: set[Hit[Any] | None] = set()
    for number in range(len(endings)):
        tier = make_tier(f"n{number}")
        value = await tier.get(KEY)
        seen.add(value)
        assert value in allowed
        age(*temporaries(tier._shelf.path))
        await tier.sweep()
        assert temporaries(tier._shelf.path) == []
        assert await tier.set(KEY, "later") is True
        assert await tier.get(KEY) == Hit("later")
    if not (write == "insert" and found == "old"):
        assert seen == allowed


@pytest.mark.parametrize("reaction", ["die", "fail"])
async def test_no_room_after_every_byte(make_tier: MakeTier, tmp_path: Path, reaction: str, spawn: Spawn) -> None:
    """Death, or an error, after any number of bytes leaves the old value (D2, P02); an error leaves nothing else."""
    (endings,) = run_together(spawn("die_at_every_byte", tmp_path, reaction, 3))
    assert set(endings[:-1]) == {-signal.SIGXFSZ if reaction == "die" else 3}
    assert len(endings) > 30
    for number in range(len(endings)):
        tier = make_tier(f"n{number}")
        assert await tier.get(KEY) == Hit("new" if number == len(endings) - 1 else "old")
        if reaction == "fail":
            assert temporaries(tier._shelf.path) == []
        age(*temporaries(tier._shelf.path))
        await tier.sweep()
        assert temporaries(tier._shelf.path) == []


def test_writers_and_readers(tmp_path: Path, spawn: Spawn) -> None:
    """Whatever writers do to a key, a reader sees one whole value of one of them, or none; no call fails (D15, D16, P12)."""
    writers = [spawn("write_proofs", tmp_path / "disk", f"w{number}", 150) for number in range(3)]
    readers = [spawn("read_proofs", tmp_path / "disk", f"r{number}", 200) for number in range(2)]
    results = run_together(*writers, *readers)
    assert results == [{"failures": 0}] * 3 + [{"wrong": 0, "failures": 0, "rejections": 0}] * 2
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize("found", ["nothing", "stale", "corrupt"])
async def test_one_insert_wins(make_tier: MakeTier, tmp_path: Path, found: str, spawn: Spawn) -> None:
    """Of inserts of many processes exactly one wins, also where a dead entry is in the way, and all read its value."""
    tier, keys = make_tier(version=1), 150
    await tier.get(key(0))
    for number in range(keys):
        if found == "stale":
            await tier.set(key(number), "stale")
        elif found == "corrupt":
            plant(tier, key(number), b"rubbish")
    children = [spawn("insert_all", tmp_path / "disk", f"p{number}", keys, 2) for number in range(4)]
    results = run_together(*children)
    assert sorted(number for result in results for number in result["won"]) == list(range(keys))
    assert [result["failures"] for result in results] == [0] * 4
    winners = {str(number): f"p{child}" for child, result in enumerate(results) for number in result["won"]}
    assert [result["seen"] for result in results] == [winners] * 4
    assert temporaries(tmp_path) == []


async def test_old_versions_are_removed_together(make_tier: MakeTier, tmp_path: Path, spawn: Spawn) -> None:
    """Many processes that meet the same entries of an old version remove them without an error (P23)."""
    tier, keys = make_tier(version=1), 200
    for number in range(keys):
        await tier.set(key(number), number)
    children = [spawn("read_all", tmp_path / "disk", number, keys, 2) for number in range(3)]
    assert run_together(*children) == [{"hits": 0, "failures": 0}] * 3
    assert [found async for found in tier.keys()] == []  # noqa: SIM118 - a tier is no dict


def test_directory_deleted_beside_workers(tmp_path: Path, spawn: Spawn) -> None:
    """A directory that is deleted all the time costs entries, and never a wrong value or a crash (D10)."""
    directory = tmp_path / "disk"
    workers = [spawn("use_everything", directory, f"w{number}", 100) for number in range(2)]
    results = run_together(*workers, spawn("delete_directory", directory, "-", 300))
    assert [result["wrong"] for result in results[:2]] == [0, 0]


def test_tier_is_shared_after_fork(tmp_path: Path, spawn: Spawn) -> None:
    """A tier that was open when its process forked works in parent and children at the same time, scans included."""
    assert run_together(spawn("share_after_fork", tmp_path / "disk", 50)) == [[0, 0]]


def test_directory_without_permission(spawn: Spawn) -> None:
    """In a directory that may only be read hits are served, and writes fail without an error (D9, P27)."""
    assert run_together(spawn("use_read_only")) == ["served"]


@pytest.mark.parametrize("which", ["tier", "key"])
async def test_killed_owner_frees_the_lock(tier: DiskTier, tmp_path: Path, which: str, spawn: Spawn) -> None:
    """A lock whose owner was killed is free at once, whatever the file says (D20)."""
    await tier.get(KEY)
    owner = spawn("hold_lock", tmp_path / "disk", which)
    owner.go()
    assert (owner.says(), owner.says()) == ("ready", "held")
    with pytest.raises(FileLockTimeoutError):
        async with tier.lock(NON_BLOCKING) if which == "tier" else tier.hold_host_lock(KEY, NON_BLOCKING):
            pytest.fail("somebody else has it")
    owner.kill()
    async with tier.lock(10) if which == "tier" else tier.hold_host_lock(KEY, 10):
        pass


async def test_unrelated_close_keeps_the_lock(tier: DiskTier, tmp_path: Path, spawn: Spawn) -> None:
    """Opening and closing the lock file in the same process lets nobody else in (D26)."""
    async with tier.lock():
        (tmp_path / "disk/.lock").read_bytes()
        other = spawn("try_lock", tmp_path / "disk")
        assert run_together(other) == ["refused"]
    assert run_together(spawn("try_lock", tmp_path / "disk")) == ["held"]


def test_dropped_locks_still_exclude(tmp_path: Path, spawn: Spawn) -> None:
    """A lock whose file is removed after each use, by everybody, never has two holders (D22)."""
    directory = tmp_path / "disk"
    directory.mkdir(mode=0o700)
    (directory / "counter").write_text("0")
    results = run_together(*(spawn("contend", directory, number, 60) for number in range(4)))
    assert [result["meetings"] for result in results] == [0] * 4
    assert (directory / "counter").read_text() == "240"
    assert sum(result["dropped"] for result in results) > 0
    assert list((directory / ".locks").iterdir()) == []
