"""What lies where a file of the cache belongs and is none: never followed, never read, never waited for (T8, D13)."""

# ruff: noqa: ASYNC240 - these tests look at the disk themselves

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acache.exceptions import FileLockTimeoutError, ValueUnPicklingError
from acache.types import Hit
from tests.disk.helpers import key, path_of, quarantined, temporaries

if TYPE_CHECKING:
    from acache.tiers import DiskTier
    from tests.disk.conftest import MakeTier


def link_to_victim(path: Path, victim: Path) -> None:
    """Lead to somebody else's file."""
    path.symlink_to(victim)


def link_to_entry(path: Path, victim: Path) -> None:
    """Lead to a valid entry of the very key, which was moved outside."""
    path.symlink_to(victim.with_name("entry"))


def link_to_nowhere(path: Path, _victim: Path) -> None:
    """Lead nowhere."""
    path.symlink_to("nowhere")


def link_to_itself(path: Path, _victim: Path) -> None:
    """Lead round and round."""
    path.symlink_to(path.name)


def link_to_device(path: Path, _victim: Path) -> None:
    """Lead to a file without an end."""
    path.symlink_to("/dev/zero")


def fifo(path: Path, _victim: Path) -> None:
    """Wait for a writer, if one lets it."""
    os.mkfifo(path)


def directory(path: Path, _victim: Path) -> None:
    """Be a directory."""
    path.mkdir()


def full_directory(path: Path, _victim: Path) -> None:
    """Be a directory that cannot simply be removed."""
    path.mkdir()
    (path / "content").write_text("mine")


def unix_socket(path: Path, _victim: Path) -> None:
    """Be a socket, which cannot be opened."""
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


IMPOSTORS = (
    link_to_victim,
    link_to_entry,
    link_to_nowhere,
    link_to_itself,
    link_to_device,
    fifo,
    directory,
    full_directory,
    unix_socket,
)
Impostor = Callable[[Path, Path], None]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Make a file that nothing may happen to."""
    path = tmp_path / "victim"
    path.write_bytes(b"precious")
    return path


async def impersonate(tier: DiskTier, impostor: Impostor, victim: Path) -> Path:
    """Put an impostor in the place of the entry of ``key(1)``, which goes beside the victim."""
    await tier.set(key(1), "entry")
    path = path_of(tier, key(1))
    path.rename(victim.with_name("entry"))
    impostor(path, victim)
    return path


@pytest.mark.parametrize("impostor", IMPOSTORS)
async def test_entry_impostor_is_a_miss(tier: DiskTier, victim: Path, impostor: Impostor) -> None:
    """An impostor is rejected and put aside; the victim it leads to is untouched, and the next insert stores."""
    path = await impersonate(tier, impostor, victim)
    assert await tier.get(key(1)) is None
    assert tier.statistics().rejections == 1
    assert not os.path.lexists(path)
    assert len(quarantined(tier)) == 1
    assert await tier.insert(key(1), "new") is True
    assert await tier.get(key(1)) == Hit("new")
    assert (victim.read_bytes(), temporaries(victim.parent)) == (b"precious", [])


@pytest.mark.parametrize("impostor", IMPOSTORS)
async def test_entry_impostor_raises_if_asked(make_tier: MakeTier, victim: Path, impostor: Impostor) -> None:
    """With on_corrupt="raise" it is an error, once."""
    tier = make_tier(on_corrupt="raise")
    await impersonate(tier, impostor, victim)
    with pytest.raises(ValueUnPicklingError):
        await tier.get(key(1))
    assert await tier.get(key(1)) is None


@pytest.mark.parametrize("impostor", IMPOSTORS)
@pytest.mark.parametrize("write", ["insert", "set"])
async def test_entry_impostor_gives_way(tier: DiskTier, victim: Path, impostor: Impostor, write: str) -> None:
    """Neither kind of write is stopped by an impostor, or writes through it."""
    path = await impersonate(tier, impostor, victim)
    assert await getattr(tier, write)(key(1), "new") is True
    assert await tier.get(key(1)) == Hit("new")
    assert path.is_file()
    assert (victim.read_bytes(), temporaries(victim.parent)) == (b"precious", [])


@pytest.mark.parametrize("impostor", IMPOSTORS)
async def test_entry_impostor_is_removed(tier: DiskTier, victim: Path, impostor: Impostor) -> None:
    """A delete takes an impostor away too, and not what it leads to."""
    path = await impersonate(tier, impostor, victim)
    assert await tier.delete(key(1)) is True
    assert not os.path.lexists(path)
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("impostor", IMPOSTORS)
async def test_shard_impostor(tier: DiskTier, victim: Path, impostor: Impostor) -> None:
    """A shard that is no directory of ours holds nothing and takes nothing; nobody outside is touched."""
    await tier.set(key(1), "entry")
    shard = path_of(tier, key(1)).parent
    outside = victim.with_name("outside")
    shard.rename(outside)
    if impostor is link_to_victim:
        shard.symlink_to(outside)
    elif impostor in {directory, full_directory}:
        shard.write_text("a file")
    else:
        impostor(shard, victim)
    before = sorted(outside.iterdir())
    assert await tier.get(key(1)) is None
    assert await tier.insert(key(1), "new") is False
    assert await tier.set(key(1), "new") is False
    assert await tier.delete(key(1)) is False
    assert tier.statistics().failures == 4
    await tier.set(key(2), "elsewhere")
    await tier.clear()
    assert await tier.get(key(2)) is None
    assert await tier.sweep() == 0
    assert [found async for found in tier.keys()] == []  # noqa: SIM118 - a tier is no dict
    assert tier.statistics().failures == 4
    assert (victim.read_bytes(), sorted(outside.iterdir())) == (b"precious", before)


@pytest.mark.parametrize("impostor", IMPOSTORS)
async def test_lock_impostor(tier: DiskTier, victim: Path, impostor: Impostor) -> None:
    """A lock file that is none is refused: not followed, not emptied, and never taken for a lock."""
    await tier.get(key(1))
    impostor(Path(tier._shelf.path, ".lock"), victim)
    with pytest.raises((OSError, FileLockTimeoutError)):
        async with tier.lock(0.0):
            pytest.fail("there is nothing to hold")
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("impostor", IMPOSTORS)
async def test_quarantine_impostor(tier: DiskTier, victim: Path, impostor: Impostor) -> None:
    """Without a place for evidence a bad entry is removed; nothing is moved out of the cache."""
    path = await impersonate(tier, link_to_nowhere, victim)
    quarantine = Path(tier._shelf.path, ".quarantine")
    if impostor in {directory, full_directory}:
        quarantine.symlink_to(victim.parent)
    else:
        impostor(quarantine, victim)
    before = sorted(victim.parent.iterdir())
    assert await tier.get(key(1)) is None
    assert not os.path.lexists(path)
    assert sorted(victim.parent.iterdir()) == before


@pytest.mark.parametrize("impostor", IMPOSTORS)
async def test_temporary_impostor(tier: DiskTier, victim: Path, impostor: Impostor) -> None:
    """The sweeper takes regular files only."""
    await tier.set(key(1), 1)
    path = path_of(tier, key(1)).with_name(".tmp-1-0123456789abcdef")
    impostor(path, victim)
    os.utime(path, (0, 0), follow_symlinks=False)
    assert await tier.sweep() == 0
    assert os.path.lexists(path)
    assert victim.read_bytes() == b"precious"
    path.rename(path.with_name("swept"))
