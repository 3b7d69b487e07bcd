"""File systems that fail, stall, kill or stint at the system call a test chooses.

Pass one as ``files=`` to :class:`~acache.tiers.DiskTier`. Calls are named as in :class:`~acache.files.FileSystem` and
counted from 0; pauses between attempts take no time. Several threads may call at once.
"""

# ruff: noqa: D102 - the methods are those of FileSystem

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

from acache.files.system import BytesLike, FileSystem
from acache.mutexes import make_mutex
from acache.testing.gate import Gate

__all__ = ("FaultyFileSystem", "Meet", "SlowFileSystem", "StingyFileSystem", "WatchedFileSystem")

#: What happens instead of, or just before, a call: told its name, it may raise, block, or end the process.
Meet: TypeAlias = Callable[[str], object]


class WatchedFileSystem(FileSystem):
    """Calls ``meet`` with the name of every call before it is made; ``close`` closes first, as the system's does."""

    __slots__ = ("_meet",)

    def __init__(self, meet: Meet) -> None:
        self._meet: Final = meet

    def open(self, path: str, flags: int, mode: int = 0o600, *, at: int | None = None) -> int:
        self._meet("open")
        return super().open(path, flags, mode, at=at)

    def create(self, folder: str, name: str, mode: int = 0o600, *, at: int) -> int:
        self._meet("create")
        return super().create(folder, name, mode, at=at)

    def close(self, fd: int) -> None:
        super().close(fd)
        self._meet("close")

    def stat(self, path: str, *, at: int | None = None) -> os.stat_result:
        self._meet("stat")
        return super().stat(path, at=at)

    def fstat(self, fd: int) -> os.stat_result:
        self._meet("fstat")
        return super().fstat(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self._meet("pread")
        return super().pread(fd, size, offset)

    def writev(self, fd: int, buffers: Sequence[BytesLike]) -> int:
        self._meet("writev")
        return super().writev(fd, buffers)

    def fsync(self, fd: int) -> None:
        self._meet("fsync")
        super().fsync(fd)

    def flock(self, fd: int, operation: int) -> None:
        self._meet("flock")
        super().flock(fd, operation)

    def fchmod(self, fd: int, mode: int) -> None:
        self._meet("fchmod")
        super().fchmod(fd, mode)

    def chmod(self, path: str, mode: int, *, at: int | None = None) -> None:
        self._meet("chmod")
        super().chmod(path, mode, at=at)

    def utime(self, fd: int, modified: int) -> None:
        self._meet("utime")
        super().utime(fd, modified)

    def rename_new(self, old: str, new: str, *, at: int) -> None:
        self._meet("rename_new")
        super().rename_new(old, new, at=at)

    def rename(self, old: str, new: str, *, at: int, to: int | None = None) -> None:
        self._meet("rename")
        super().rename(old, new, at=at, to=to)

    def unlink(self, path: str, *, at: int) -> None:
        self._meet("unlink")
        super().unlink(path, at=at)

    def mkdir(self, path: str, mode: int = 0o700, *, at: int | None = None) -> None:
        self._meet("mkdir")
        super().mkdir(path, mode, at=at)

    def rmdir(self, path: str, *, at: int) -> None:
        self._meet("rmdir")
        super().rmdir(path, at=at)

    def listdir(self, fd: int) -> list[str]:
        self._meet("listdir")
        return super().listdir(fd)

    def pause(self, seconds: float) -> None:
        """Let no time pass."""
        self._meet("pause")


@final
class FaultyFileSystem(WatchedFileSystem):
    """Does what a real one does until :meth:`fail` is called. ``calls`` lists the calls since then."""

    __slots__ = ("_at", "_effect", "_lock", "_once", "_only", "calls", "struck")

    def __init__(self) -> None:
        super().__init__(self._count)
        self._lock = make_mutex()
        self.heal()

    def fail(
        self,
        at: int = 0,
        effect: int | Callable[[], object] = errno.EIO,
        *,
        once: bool = False,
        only: str | None = None,
    ) -> None:
        """Strike at the call number ``at`` from now, and at all later ones unless ``once``.

        ``effect`` is the number of the error raised, or a function to call instead. ``only`` counts and strikes calls of
        that name alone.
        """
        with self._lock:
            self.calls: list[str] = []
            #: How often it struck.
            self.struck = 0
            self._at, self._effect, self._once, self._only = at, effect, once, only

    def heal(self) -> None:
        """Work again."""
        self.fail(at=-1, once=True)

    def _count(self, operation: str) -> None:
        if operation == "pause":
            return
        with self._lock:
            number = len(self.calls) if self._only is None else self.calls.count(self._only)
            self.calls.append(operation)
            strikes = self._only in {None, operation} and (
                number == self._at or (number > self._at >= 0 and not self._once)
            )
            self.struck += strikes
            effect = self._effect
        if strikes:
            if callable(effect):
                effect()
            else:
                raise OSError(effect, os.strerror(effect))


@final
class SlowFileSystem(WatchedFileSystem):
    """Every call waits for the gate ``released``; ``reached`` opens when the first one waits."""

    __slots__ = ("reached", "released")

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.reached = Gate("a slow system call")
        self.released = Gate("the release of slow system calls")

    def _wait(self, _operation: str) -> None:
        self.reached.open()
        self.released.wait_blocking()


@final
class StingyFileSystem(FileSystem):
    """Reads and writes at most ``limit`` bytes at a time, as the system may do at any time."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read less than asked."""
        return super().pread(fd, min(size, self.limit), offset)

    def writev(self, fd: int, buffers: Sequence[BytesLike]) -> int:
        """Write less than asked."""
        return super().writev(fd, [memoryview(buffers[0])[: self.limit]])
