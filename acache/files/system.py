"""The file system as a parameter: every system call that touches a cache directory goes through one object.

Tests put an object here that fails, kills, counts or delays the N-th call (:mod:`acache.testing.files`); the rest of
acache does not know the difference. The methods are the system calls and no more: policy is decided above.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from acache.files.beneath import create_beneath

__all__ = ("DIRECTORY", "READ", "REAL_FILES", "WRITE_NEW", "BytesLike", "FileSystem")

BytesLike: TypeAlias = bytes | bytearray | memoryview

#: How a directory is opened. A symbolic link in its place is an error, as everywhere below.
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: How a file is opened for reading. Without O_NONBLOCK, a FIFO in its place would wait for a writer.
READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
#: How a file is made: never over, nor through, something that is there.
WRITE_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


# Linux: one call where a link and an unlink take twice as long.
_renameat2: Final = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
_NOREPLACE: Final = 1
#: What it answers if the kernel or the file system does not have it.
_NO_RENAMEAT2: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EPERM})


class FileSystem:
    """The system calls of the operating system. All raise :class:`OSError`, and may be called from any thread.

    ``at`` is the open directory that a name is relative to.
    """

    __slots__ = ()

    def open(self, path: str, flags: int, mode: int = 0o600, *, at: int | None = None) -> int:
        """Open and return a descriptor."""
        return os.open(path, flags, mode, dir_fd=at)

    def create(self, folder: str, name: str, mode: int = 0o600, *, at: int) -> int:
        """Make the file ``folder/name`` for writing, over and through nothing that is there; return a descriptor."""
        return create_beneath(at, folder, name, WRITE_NEW, mode)

    def close(self, fd: int) -> None:
        """Close; the descriptor is gone even when this raises."""
        os.close(fd)

    def stat(self, path: str, *, at: int | None = None) -> os.stat_result:
        """Describe what is at ``path``; a symbolic link itself."""
        return os.stat(path, dir_fd=at, follow_symlinks=False)

    def fstat(self, fd: int) -> os.stat_result:
        """Describe what is open."""
        return os.fstat(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to ``size`` bytes."""
        return os.pread(fd, size, offset)

    def writev(self, fd: int, buffers: Sequence[BytesLike]) -> int:
        """Write, and return how many bytes were written: it may be less than asked."""
        return os.writev(fd, buffers)

    def fsync(self, fd: int) -> None:
        """Wait until the disk has it."""
        os.fsync(fd)

    def flock(self, fd: int, operation: int) -> None:
        """Lock or unlock the open file."""
        fcntl.flock(fd, operation)

    def fchmod(self, fd: int, mode: int) -> None:
        """Set the permissions of an open file, which ``open`` lets the umask reduce."""
        os.fchmod(fd, mode)

    def chmod(self, path: str, mode: int, *, at: int | None = None) -> None:
        """Set the permissions of a file by name."""
        os.chmod(path, mode, dir_fd=at)

    def utime(self, fd: int, modified: int) -> None:
        """Set the time of modification of an open file, in nanoseconds; that of its change becomes now."""
        os.utime(fd, ns=(modified, modified))

    def rename_new(self, old: str, new: str, *, at: int) -> None:
        """Rename; raise :class:`FileExistsError` if ``new`` is there. Atomic."""
        if _renameat2 is not None:
            if _renameat2(at, os.fsencode(old), at, os.fsencode(new), _NOREPLACE) == 0:
                return
            number = ctypes.get_errno()
            if number not in _NO_RENAMEAT2:
                raise OSError(number, os.strerror(number), new)
        os.link(old, new, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
        with suppress(OSError):  # it has its new name; a sweeper takes the old one
            os.unlink(old, dir_fd=at)

    def rename(self, old: str, new: str, *, at: int, to: int | None = None) -> None:
        """Rename, over what is there; into the directory ``to`` if given."""
        os.rename(old, new, src_dir_fd=at, dst_dir_fd=at if to is None else to)

    def unlink(self, path: str, *, at: int) -> None:
        """Remove a name."""
        os.unlink(path, dir_fd=at)

    def mkdir(self, path: str, mode: int = 0o700, *, at: int | None = None) -> None:
        """Make a directory."""
        os.mkdir(path, mode, dir_fd=at)

    def rmdir(self, path: str, *, at: int) -> None:
        """Remove an empty directory."""
        os.rmdir(path, dir_fd=at)

    def listdir(self, fd: int) -> list[str]:
        """Return the names in an open directory. Its position moves: use a descriptor of your own."""
        return os.listdir(fd)

    def pause(self, seconds: float) -> None:
        """Block this thread, never one with an event loop, between two attempts."""
        time.sleep(seconds)


REAL_FILES: Final = FileSystem()
