"""Reading on the event loop: what is read there, what is left to a thread, and that nothing else can happen."""

# ruff: noqa: ASYNC240 - these tests look at the disk themselves

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from acache.files import WARM_LIMIT, warm
from acache.files.system import FileSystem
from acache.testing.files import FaultyFileSystem
from acache.types import MISSING, Hit
from tests.disk.helpers import key, open_files, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.disk.conftest import MakeTier


@pytest.fixture
def directory(tmp_path: Path) -> Generator[int]:
    """Open a directory."""
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def always(answer: object) -> Callable[..., Any]:
    """Return a function that gives one answer to everything."""
    return lambda *_args: answer  # pyright: ignore[reportUnknownLambdaType]  # whatever the arguments are


def answers(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Let the kernel answer an error to openat2."""

    def refuse(*_args: object) -> int:
        ctypes.set_errno(error)
        return -1

    monkeypatch.setattr(warm, "_syscall", refuse)


def test_file_is_read_whole_or_not_at_all(tmp_path: Path, directory: int) -> None:
    """A small file comes whole or not at all; whether it comes depends on the file system, and on nothing else."""
    able = warm.can_read_warm(directory)
    for size in (1, 4_095, 4_096, 4_097, 20_000, WARM_LIMIT - 1):
        content = os.urandom(size)
        (tmp_path / "file").write_bytes(content)
        found = warm.read_warm(directory, b"file")
        assert found == bytearray(content) if able else found is None


@pytest.mark.parametrize("size", [0, WARM_LIMIT, WARM_LIMIT + 1])
def test_empty_and_large_files_are_left(tmp_path: Path, directory: int, size: int) -> None:
    """An empty file and a large one are a thread's business."""
    (tmp_path / "file").write_bytes(bytes(size))
    assert warm.read_warm(directory, b"file") is None


def test_missing_file(tmp_path: Path, directory: int) -> None:
    """A name the kernel knows not to exist is missing; one it does not know is a thread's business."""
    assert warm.read_warm(directory, b"missing") in {MISSING, None}
    assert not (tmp_path / "missing").exists()  # now it knows
    assert warm.read_warm(directory, b"missing") is MISSING


def test_nothing_is_followed(tmp_path: Path, directory: int) -> None:
    """Neither a symbolic link, as a file or on the way, nor dots lead anywhere; a FIFO and a directory do not block."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("real/file")
    (tmp_path / "way").symlink_to("real")
    os.mkfifo(tmp_path / "fifo")
    inside = os.open(tmp_path / "real", os.O_RDONLY)
    for at, path in ((directory, "link"), (directory, "way/file"), (directory, "fifo"), (directory, "real")):
        assert warm.read_warm(at, path.encode()) is None
    for path in ("../real/file", "..", str(tmp_path / "real/file")):
        assert warm.read_warm(inside, path.encode()) is None
    os.close(inside)


@pytest.mark.parametrize(
    "error", [errno.EAGAIN, errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.EMFILE], ids=errno.errorcode.get
)
def test_kernel_that_refuses(tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Whatever openat2 answers, but that there is no such file, a thread is asked."""
    (tmp_path / "file").write_bytes(b"content")
    answers(monkeypatch, error)
    assert warm.read_warm(directory, b"file") is None


@pytest.mark.parametrize(
    ("error", "able"), [(errno.EAGAIN, True), (errno.EPERM, False), (errno.ENOSYS, False), (errno.EINVAL, False)]
)
def test_probe(directory: int, monkeypatch: pytest.MonkeyPatch, error: int, able: bool) -> None:
    """A kernel without openat2 or RESOLVE_CACHED, or a sandbox that forbids it, is asked once and never again."""
    monkeypatch.setattr(warm, "_file_system_type", always(0xEF53))
    answers(monkeypatch, error)
    assert warm.can_read_warm(directory) is able


@pytest.mark.parametrize("kind", [0x6969, 0x65735546, 0x01021994, 0], ids=["nfs", "fuse", "tmpfs", "unknown"])
def test_file_systems_that_may_wait(directory: int, monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    """Only file systems known to be local are read on the loop."""
    monkeypatch.setattr(warm, "_file_system_type", always(kind))
    assert warm.can_read_warm(directory) is False


@pytest.mark.parametrize("missing", ["platform", "RWF_NOWAIT"])
def test_other_systems(directory: int, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Where the calls do not exist they are not made."""
    monkeypatch.setattr(warm, "_file_system_type", always(0xEF53))
    if missing == "platform":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.delattr(os, missing, raising=False)
    assert warm.can_read_warm(directory) is False


def test_descriptor_that_is_closed() -> None:
    """A descriptor of nothing has no file system."""
    assert warm.can_read_warm(-1) is False


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EOPNOTSUPP, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("failing", [1, 2])
def test_pages_that_are_not_cached(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch, error: int, failing: int
) -> None:
    """A read that would wait, or fails, at its first part or at the rest, is a thread's business; nothing stays open."""
    (tmp_path / "file").write_bytes(bytes(10_000))
    fd = os.open(tmp_path / "file", os.O_RDONLY)

    def opened(*_args: object) -> int:
        return os.dup(fd)

    monkeypatch.setattr(warm, "_syscall", opened)
    calls = 0

    def preadv(_fd: int, buffers: Any, _offset: int, _flags: int) -> int:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(error, os.strerror(error))
        return len(buffers[0])

    monkeypatch.setattr(os, "preadv", preadv)
    descriptors = open_files()
    assert warm.read_warm(directory, b"file") is None
    assert (calls, open_files()) == (failing, descriptors)
    os.close(fd)


@pytest.mark.parametrize("answer", [None, "partial", "damaged"])
async def test_fallback_reads_the_same(
    make_tier: MakeTier, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    """Whatever the loop got to see of an entry, what a thread reads counts."""
    tier = make_tier()
    await tier.set(key(1), "value")
    content = bytearray(path_of(tier, key(1)).read_bytes())
    seen = {None: None, "partial": content[:100], "damaged": content[:-1] + b"?"}[answer]
    monkeypatch.setattr(tier._shelf, "read_warm", always(seen))
    assert await tier.get(key(1)) == Hit("value")
    assert (tier.statistics().rejections, path_of(tier, key(1)).exists()) == (0, True)


async def test_warm_hit_asks_no_thread(make_tier: MakeTier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system allows it, a hit that is in memory is answered on the loop."""
    tier = make_tier()
    await tier.set(key(1), "value")
    await tier.get(key(1))
    root = tier._shelf._root
    assert root is not None
    assert root.warm is warm.can_read_warm(root.handle.fd)
    if root.warm:
        monkeypatch.setattr("acache.tiers.disk.in_thread", always(None))
    assert await tier.get(key(1)) == Hit("value")


async def test_known_absence_is_a_miss(make_tier: MakeTier, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the kernel knows of no such file is a miss, unless the directory itself is gone."""
    tier = make_tier()
    await tier.set(key(1), "value")
    root = tier._shelf._root
    assert root is not None
    monkeypatch.setattr(tier._shelf, "_root", type(root)(root.handle, root.identity, warm=True))
    monkeypatch.setattr("acache.files.shelf.read_warm", always(MISSING))
    assert await tier.get(key(1)) is None
    peer = make_tier()
    Path(tier._shelf.path).rename(Path(tier._shelf.path).with_name("away"))
    await peer.set(key(1), "new")
    shutil.rmtree(Path(tier._shelf.path).with_name("away"))
    assert await tier.get(key(1)) == Hit("new")


@pytest.mark.parametrize("files", [FaultyFileSystem(), FileSystem()], ids=["seam", "instance"])
async def test_given_file_system_sees_every_read(make_tier: MakeTier, files: FileSystem) -> None:
    """With a file system of the caller's own nothing is read past it."""
    tier = make_tier(files=files)
    await tier.set(key(1), "value")
    assert tier._shelf.read_warm(key(1)) is None
    assert await tier.get(key(1)) == Hit("value")
