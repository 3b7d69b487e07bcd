"""Whose directory the disk tier accepts (T7), and what it does when one is taken away under it (D10)."""

# ruff: noqa: ASYNC240 - these tests look at the disk themselves

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from acache.exceptions import ConfigurationError, UnsafeDirectoryError
from acache.locks import NON_BLOCKING, hold_file
from acache.testing.files import FaultyFileSystem
from acache.tiers import DiskTier
from acache.types import Hit
from tests.disk.helpers import key, path_of

if TYPE_CHECKING:
    from acache.testing import ManualClock
    from tests.disk.conftest import MakeTier


def mode(path: Path, bits: int) -> Path:
    """Make a directory with exactly these permissions."""
    path.mkdir()
    path.chmod(bits)
    return path


def of_another_user(path: Path) -> Path:
    """Return a directory that is not ours."""
    if os.geteuid() != 0:
        return Path("/usr")
    path.mkdir(mode=0o700)
    os.chown(path, 65534, -1)
    return path


def symlink(path: Path, target: Path) -> Path:
    """Make a symbolic link."""
    path.symlink_to(target)
    return path


def regular_file(path: Path) -> Path:
    """Make a file."""
    path.write_text("not a directory")
    return path


def fifo(path: Path) -> Path:
    """Make a FIFO."""
    os.mkfifo(path)
    return path


UNSAFE: dict[str, Callable[[Path], Path]] = {
    "world-writable": lambda tmp: mode(tmp / "d", 0o777),
    "sticky and world-writable": lambda tmp: mode(tmp / "d", 0o1777),
    "group-writable": lambda tmp: mode(tmp / "d", 0o770),
    "of another user": lambda tmp: of_another_user(tmp / "d"),
    "a symbolic link to a good one": lambda tmp: symlink(tmp / "d", mode(tmp / "good", 0o700)),
    "a dangling symbolic link": lambda tmp: symlink(tmp / "d", tmp / "nowhere"),
    "a symbolic link to itself": lambda tmp: symlink(tmp / "d", tmp / "d"),
    "a file": lambda tmp: regular_file(tmp / "d"),
    "a FIFO": lambda tmp: fifo(tmp / "d"),
    "below a file": lambda tmp: regular_file(tmp / "f") / "d",
}

SAFE: dict[str, Callable[[Path], Path]] = {
    "missing": lambda tmp: tmp / "d",
    "missing, with its parents": lambda tmp: tmp / "a/b/c/d",
    "private": lambda tmp: mode(tmp / "d", 0o700),
    "readable by others": lambda tmp: mode(tmp / "d", 0o755),
    "in a sticky, world-writable one": lambda tmp: mode(tmp / "p", 0o1777) / "d",
    "below a symbolic link": lambda tmp: symlink(tmp / "l", mode(tmp / "p", 0o700)) / "d",
}

USES: dict[str, Callable[[DiskTier], Awaitable[object]]] = {
    "get": lambda tier: tier.get("k"),
    "insert": lambda tier: tier.insert("k", 1),
    "set": lambda tier: tier.set("k", 1),
    "contains": lambda tier: tier.contains("k"),
    "lock": lambda tier: tier.lock().__aenter__(),
    "sweep": lambda tier: tier.sweep(),
}


@pytest.mark.parametrize("case", UNSAFE)
@pytest.mark.parametrize("use", ["get", "set"])
async def test_unsafe_directory(tmp_path: Path, case: str, use: str) -> None:
    """A directory that others can write, or that is none, is a mistake of configuration, at every use."""
    tier = DiskTier(UNSAFE[case](tmp_path))
    before = sorted(tmp_path.rglob("*"))
    for _ in range(2):
        with pytest.raises(UnsafeDirectoryError) as caught:
            await USES[use](tier)
        assert isinstance(caught.value, ConfigurationError)
        assert str(tier._shelf.path) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("use", USES)
async def test_every_use_checks(tmp_path: Path, use: str) -> None:
    """Whatever is called first checks the directory."""
    tier = DiskTier(mode(tmp_path / "d", 0o777))
    with pytest.raises(UnsafeDirectoryError):
        await USES[use](tier)


async def test_host_lock_checks(tmp_path: Path) -> None:
    """A lock is not made where others could take its file away."""
    with pytest.raises(UnsafeDirectoryError):
        async with DiskTier(mode(tmp_path / "d", 0o777)).hold_host_lock(key(1)):
            pytest.fail("it is not safe")


@pytest.mark.parametrize("case", SAFE)
async def test_safe_directory(tmp_path: Path, case: str) -> None:
    """A directory of ours that only we can write is used; so is one below any parent."""
    tier = DiskTier(SAFE[case](tmp_path))
    assert await tier.insert("k", 1)
    assert await tier.get("k") == Hit(1)
    await tier.aclose()


@pytest.mark.parametrize("part", ["a", "a/b"])
async def test_sub_dir_is_checked(tmp_path: Path, part: str) -> None:
    """Every part of a sub_dir is checked as the directory is, and no symbolic link leads out of it."""
    outside = mode(tmp_path / "outside", 0o700)
    link = tmp_path / "d" / part
    link.parent.mkdir(mode=0o700, parents=True)
    link.symlink_to(outside)
    tier = DiskTier(tmp_path / "d", sub_dir="a/b")
    with pytest.raises(UnsafeDirectoryError):
        await tier.insert("k", 1)
    assert list(outside.iterdir()) == []


async def test_checked_once(make_tier: MakeTier) -> None:
    """The check costs nothing afterwards: two calls of the same kind look at the directory equally often."""
    files = FaultyFileSystem()
    tier = make_tier(files=files)
    await tier.get(key(1))
    files.heal()
    await tier.get(key(1))
    assert files.calls == ["open", "stat"]


async def test_replaced_directory_is_checked(tier: DiskTier, tmp_path: Path) -> None:
    """A directory that took the place of ours is judged anew, before anything new is looked for or locked there."""
    await tier.set(key(1), 1)
    (tmp_path / "disk").rename(tmp_path / "ours")
    mode(tmp_path / "disk", 0o777)
    with pytest.raises(UnsafeDirectoryError):
        await tier.get(key(2))
    with pytest.raises(UnsafeDirectoryError):
        async with tier.lock():
            pytest.fail("others could take the lock file away")


@pytest.mark.parametrize("what", ["all", "shard", "locks"])
async def test_deleted_directory(tier: DiskTier, tmp_path: Path, what: str) -> None:
    """What is deleted under a tier is a miss, and made again by the next write or lock."""
    await tier.set(key(1), 1)
    victim = {"all": tmp_path / "disk", "shard": path_of(tier, key(1)).parent, "locks": tmp_path / "disk/.locks"}[what]
    shutil.rmtree(victim)
    assert await tier.get(key(1)) == (Hit(1) if what == "locks" else None)
    assert await tier.set(key(1), 2)
    assert await tier.get(key(1)) == Hit(2)
    shutil.rmtree(victim, ignore_errors=True)
    async with tier.lock():
        pass
    shutil.rmtree(victim, ignore_errors=True)
    async with tier.hold_host_lock(key(1)):
        pass
    assert tier.statistics().failures == 0


async def test_replaced_directory(make_tier: MakeTier, tmp_path: Path) -> None:
    """A directory that was deleted and made again by a peer is the one that counts, for reads, writes and removals."""
    ours, peer = make_tier(), make_tier()
    await ours.set(key(1), "old")
    shutil.rmtree(tmp_path / "disk")
    await peer.set(key(1), "new")
    assert await ours.get(key(1)) == Hit("new")
    shutil.rmtree(tmp_path / "disk")
    await peer.set(key(1), "newer")
    assert await ours.delete(key(1)) is True
    assert await peer.get(key(1)) is None


async def test_renamed_directory(make_tier: MakeTier, tmp_path: Path) -> None:
    """A directory that was moved away is left at the first look for something new: what is written then, others find."""
    ours, peer = make_tier(), make_tier()
    await ours.set(key(1), "old")
    (tmp_path / "disk").rename(tmp_path / "away")
    assert await ours.get(key(2)) is None
    await ours.set(key(2), "new")
    assert await peer.get(key(2)) == Hit("new")
    assert await ours.get(key(1)) is None


@pytest.mark.parametrize("call", ["create", "mkdir", "rename_new", "rename"])
async def test_deleted_between_two_calls(tmp_path: Path, manual_clock: ManualClock, call: str) -> None:
    """A directory that is deleted in the middle of a write, before any of its calls, is made again once (D10)."""
    files = FaultyFileSystem()
    tier = DiskTier(tmp_path / "disk", clock=manual_clock, files=files)
    tier._sweep_at = float("inf")
    await tier.set(key(1), 1)
    files.fail(0, lambda: shutil.rmtree(tmp_path / "disk"), once=True, only=call)
    write = tier.set if call == "rename" else tier.insert
    target = next(key(n) for n in range(2, 999) if (key(n)[62:] == key(1)[62:]) is (call != "mkdir"))
    if call == "rename":  # over what is there
        target = key(1)
    assert await write(target, 2) is True
    assert files.struck == 1
    assert await tier.get(target) == Hit(2)
    await tier.aclose()


@pytest.mark.parametrize("times", [1, 99, 100])
@pytest.mark.parametrize("lock", ["lock", "hold_host_lock"])
@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError])
async def test_deleted_before_a_lock_is_opened(
    tier: DiskTier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError], lock: str, times: int
) -> None:
    """A directory that is deleted before its lock file is opened is made again, until a lock was tried a hundred times (D10)."""
    left = iter(range(times))

    def delete_before(hold: Callable[..., Any]) -> Callable[..., Any]:
        @asynccontextmanager
        async def held(*args: Any, before: Callable[[], object]) -> AsyncGenerator[None]:
            if next(left, None) is not None:
                await asyncio.to_thread(shutil.rmtree, tmp_path / "disk", ignore_errors=True)
                # What filelock says, which makes a directory that it misses, if that is deleted once more.
                raise error
            async with hold(*args, before=before):
                yield

        return held

    await tier.get(key(1))
    monkeypatch.setattr("acache.tiers.disk.hold_file", delete_before(hold_file))
    with pytest.raises(error) if times == 100 else nullcontext():
        async with tier.lock() if lock == "lock" else tier.hold_host_lock(key(1)):
            assert times < 100
            assert (tmp_path / "disk/.locks").is_dir()
    async with tier.lock(NON_BLOCKING):
        pass


async def test_deleted_again_and_again(tmp_path: Path, manual_clock: ManualClock) -> None:
    """A directory that is deleted whenever it is made is given up after the second time: no crash, no endless loop."""
    files = FaultyFileSystem()
    tier = DiskTier(tmp_path / "disk", clock=manual_clock, files=files)
    tier._sweep_at = float("inf")
    files.fail(0, lambda: shutil.rmtree(tmp_path / "disk"), only="create")
    assert await tier.insert(key(1), 1) is False
    assert files.struck == 2
    assert tier.statistics().failures == 1
    await tier.aclose()
