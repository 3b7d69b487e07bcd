"""Where the disk tier puts things, how they are named, and what of a directory it looks at."""

# ruff: noqa: ASYNC240 - these tests look at the disk themselves

from __future__ import annotations

import asyncio
import os
import re
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acache.exceptions import ConfigurationError, UserError
from acache.files import TEMPORARY
from acache.tiers import DiskTier
from acache.types import Hit, Key
from tests.disk.helpers import key, open_files, path_of, plant, temporaries

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.disk.conftest import MakeTier

#: Names that mean something to a file system, or to those who join paths.
NASTY = (
    "",
    ".",
    "..",
    "/",
    "../../OUTSIDE",
    "/etc/passwd",
    "\\",
    "a\0b",
    "CON",
    "é",
    "e\u0301",
    "\udc80",
    "x" * 10_000,
)


@contextmanager
def umask(mask: int) -> Generator[None]:
    """Set the umask of this process for a while."""
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def entries(directory: Path) -> list[Path]:
    """Return the regular files in shards."""
    return sorted(path for path in directory.glob("??/*") if path.is_file())


async def test_one_file_per_entry(tier: DiskTier, tmp_path: Path) -> None:
    """An entry is the file of the key's first 62 digits, in the shard of its last two: keys share their beginnings."""
    await tier.set(key("a"), 1)
    assert [str(path.relative_to(tmp_path / "disk")) for path in entries(tmp_path / "disk")] == [
        f"{key('a')[62:]}/{key('a')[:62]}"
    ]


async def test_sub_dir(make_tier: MakeTier, tmp_path: Path) -> None:
    """A sub_dir is a space of its own below the directory."""
    upper, lower = make_tier(), make_tier(sub_dir="a/b")
    await upper.set(key(1), "upper")
    await lower.set(key(1), "lower")
    assert (tmp_path / "disk/a/b" / key(1)[62:] / key(1)[:62]).is_file()
    assert (await upper.get(key(1)), await lower.get(key(1))) == (Hit("upper"), Hit("lower"))
    await upper.clear()
    assert await lower.get(key(1)) == Hit("lower")


@pytest.mark.parametrize("sub_dir", ["..", "a/../..", "/abs", "a/..", "nul\0"])
def test_sub_dir_stays_inside(tmp_path: Path, sub_dir: str) -> None:
    """A sub_dir that would leave the directory is the caller's mistake (T9)."""
    with pytest.raises(ConfigurationError) as caught:
        DiskTier(tmp_path, sub_dir=sub_dir)
    assert isinstance(caught.value, UserError)


@pytest.mark.parametrize("directory", ["", "a\0b"])
def test_directory_is_a_path(directory: str) -> None:
    """An empty path would be the working directory, by accident; a NUL is in no path."""
    with pytest.raises(ConfigurationError):
        DiskTier(directory)


async def test_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde is the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    tier = DiskTier("~/cache")
    assert await tier.insert("k", 1)
    assert len(entries(tmp_path / "cache")) == 1
    await tier.aclose()


async def test_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative directory is resolved once: a later change of the working directory moves nothing."""
    monkeypatch.chdir(tmp_path)
    tier = DiskTier("cache")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert await tier.insert("k", 1)
    assert len(entries(tmp_path / "cache")) == 1
    await tier.aclose()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
async def test_modes(make_tier: MakeTier, tmp_path: Path, mask: int) -> None:
    """Directories are 0700 and files 0600 whatever the umask (T7), those above the cache and those of locks too."""
    tier = make_tier("new/disk", sub_dir="sub")
    with umask(mask):
        assert await tier.insert(key(1), 1)
        assert await tier.set(key(2), 2)
        plant(tier, key(2), b"rubbish")
        assert await tier.get(key(2)) is None
        async with tier.lock():
            pass
    below = list((tmp_path / "new").rglob("*"))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "new", *below]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file() and ".quarantine" not in path.parts} == {0o600}


async def test_names_are_digests(tier: DiskTier, tmp_path: Path) -> None:
    """No text of a key gets into a path: every file is a digest inside the directory (T9)."""
    for name in NASTY:
        assert await tier.insert(name, name)
    for name in NASTY:
        assert await tier.get(name) == Hit(name)
    assert len(entries(tmp_path / "disk")) == len(NASTY)
    assert {path.name for path in tmp_path.iterdir()} == {"disk"}
    assert all(re.fullmatch(r"[0-9a-f]{62}", path.name) for path in entries(tmp_path / "disk"))


@given(names=st.lists(st.text(), unique=True, max_size=5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_name(tmp_path: Path, names: list[str]) -> None:
    """Distinct texts are distinct files, whatever the texts (T9, K9)."""

    async def store() -> None:
        tier = DiskTier(tmp_path / "disk")
        await tier.clear()
        assert [await tier.insert(name, name) for name in names] == [True] * len(names)
        assert [await tier.get(name) for name in names] == [Hit(name) for name in names]
        assert len(entries(tmp_path / "disk")) == len(names)
        await tier.aclose()

    asyncio.run(store())
    assert {path.name for path in tmp_path.iterdir()} == {"disk"}


async def test_strangers_are_not_entries(tier: DiskTier, tmp_path: Path) -> None:
    """A scan and a clear see names of entries only: no temporary file of a writer, nothing another program put there (D17)."""
    await tier.set(key(1), 1)
    shard = path_of(tier, key(1)).parent
    strangers = [
        shard / "README",
        shard / ("f" * 61),
        shard / ("F" * 62),
        tmp_path / "disk/zz",
        tmp_path / "disk/notes",
    ]
    for stranger in strangers:
        stranger.write_text("mine")
    orphan = shard / f"{TEMPORARY}1-0123456789abcdef"
    orphan.write_text("half")
    assert [found async for found in tier.keys()] == [key(1)]  # noqa: SIM118 - a tier is no dict
    await tier.clear()
    assert await tier.get(key(1)) is None
    assert all(stranger.exists() for stranger in [*strangers, orphan])
    orphan.unlink()


async def test_clear_by_prefix(tier: DiskTier) -> None:
    """A prefix selects keys by their first digits, which no shard shows."""
    keys = [Key(digit * 60 + f"{n:04x}") for digit in "ab" for n in range(20)]
    for each in keys:
        await tier.set(each, 1)
    await tier.clear(prefix="a")
    assert sorted([found async for found in tier.keys()]) == [each for each in keys if each[0] == "b"]  # noqa: SIM118


async def test_clear_empties_the_quarantine(tier: DiskTier, tmp_path: Path) -> None:
    """A cache that was cleared holds nothing, not even evidence."""
    plant(tier, key(1), b"rubbish")
    assert await tier.get(key(1)) is None
    assert list((tmp_path / "disk/.quarantine").iterdir()) != []
    await tier.clear()
    assert list((tmp_path / "disk/.quarantine").iterdir()) == []


async def test_writes_leave_no_temporary_files(tier: DiskTier, tmp_path: Path) -> None:
    """Neither kind of write, won or lost, leaves a temporary file."""
    assert await tier.insert(key(1), 1)
    assert not await tier.insert(key(1), 2)
    assert await tier.set(key(1), 3)
    assert temporaries(tmp_path) == []


async def test_many_tiers_are_cheap(make_tier: MakeTier) -> None:
    """A tier holds one descriptor between calls, however many shards it used."""
    tier = make_tier()
    before = len(open_files())
    for n in range(300):
        await tier.set(key(n), n)
    assert len(open_files()) == before + 1


async def test_closed_tier_opens_again(tier: DiskTier) -> None:
    """Closing is idempotent and not the end."""
    await tier.set(key(1), 1)
    await tier.aclose()
    await tier.aclose()
    assert await tier.get(key(1)) == Hit(1)


async def test_values_of_any_size(tier: DiskTier) -> None:
    """Values around every limit of the way a file is read come back as they were."""
    for size in (0, 1, 3_800, 3_900, 4_000, 4_096, 60_000, 65_300, 65_536, 70_000, 3_000_000):
        value: Any = os.urandom(size)
        await tier.set(key(size), value)
        assert await tier.get(key(size)) == Hit(value)
        assert await tier.get(key(size)) == Hit(value)


async def test_repr_names_the_directory(make_tier: MakeTier, tmp_path: Path) -> None:
    """A tier shows where it is."""
    assert repr(make_tier(sub_dir="s")) == f"DiskTier({str(tmp_path / 'disk/s')!r})"
