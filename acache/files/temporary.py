"""Files on their way to a name, and those whose owner never came back for them.

A temporary file is a sibling of its target, so that it never has to cross a file system. Its writer locks it while it
writes. A killed writer leaves it behind; it is removed when it is an hour old *and* nobody holds its lock: age alone
would take a slow writer's file away after a jump of the clock, the lock alone a file made a moment ago.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import Final

from acache.exceptions import EntryRejectedError
from acache.files.blob import open_blob
from acache.files.handle import identity_of
from acache.files.system import BytesLike, FileSystem

__all__ = ("ABANDONED", "TEMPORARY", "discard", "remove_unheld", "temporary_name", "write_all", "write_temporary")

#: What the name of every temporary file begins with; no entry's does.
TEMPORARY: Final = ".tmp-"
#: Seconds after which a temporary file that nobody holds is rubbish.
ABANDONED: Final = 3600.0

_PRIVATE: Final = 0o600
_TRY_LOCK: Final = fcntl.LOCK_EX | fcntl.LOCK_NB


class _Mark:
    """What tells this process from all others, also in another container or after a fork."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.text = f"{os.getpid()}-{os.urandom(8).hex()}"


_mark: Final = _Mark()
_numbers: Final = count()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark.renew)


def temporary_name() -> str:
    """Return a name nobody else uses: not another thread, process, or container that shares the directory."""
    return f"{TEMPORARY}{_mark.text}-{next(_numbers)}"


def write_temporary(
    files: FileSystem, at: int, buffers: Iterable[BytesLike], *, folder: str = ".", durable: bool = False
) -> str:
    """Write a new file with mode 0600 in ``folder`` of the directory ``at`` and return its name; nothing is left if that fails.

    It is closed before it is published: file systems that write late report a full disk when a file is closed. Buffers of
    an iterator are written one by one, as it makes them, and need never be in memory together.
    """
    name = temporary_name()
    fd = files.create(folder, name, _PRIVATE, at=at)
    try:
        try:
            with suppress(OSError):  # without locks, age alone keeps a sweeper away
                files.flock(fd, _TRY_LOCK)
            if stat.S_IMODE(files.fstat(fd).st_mode) != _PRIVATE:  # an umask that takes from the owner
                files.fchmod(fd, _PRIVATE)
            for batch in _batches(buffers):
                write_all(files, fd, batch)
            if durable:
                files.fsync(fd)
        finally:
            files.close(fd)
    except BaseException:
        with suppress(OSError):
            files.unlink(f"{folder}/{name}", at=at)
        raise
    return name


def discard(files: FileSystem, name: str, at: int) -> None:
    """Remove a file or an empty directory, if that can be done."""
    try:
        files.unlink(name, at=at)
    except FileNotFoundError:
        pass
    except OSError:
        with suppress(OSError):
            files.rmdir(name, at=at)


def remove_unheld(files: FileSystem, name: str, at: int, *, before: float | None = None) -> bool:
    """Remove a file that nobody has locked and that was last written before ``before``; tell whether it is gone.

    Right for lock files too. The name is removed only by who holds the lock on what it names, and who gets a lock
    afterwards must look whether his file still has a name, as filelock does: so two never hold one lock.
    """
    try:
        blob = open_blob(files, name, at)
    except (OSError, EntryRejectedError):
        return False
    with blob:
        if before is not None and blob.modified >= before:
            return False
        try:
            files.flock(blob.fd, _TRY_LOCK)
            try:
                if identity_of(files.stat(name, at=at)) != blob.identity:
                    return False
                files.unlink(name, at=at)
            finally:
                # A forked child may have inherited the descriptor, and closing ours would then unlock nothing.
                files.flock(blob.fd, fcntl.LOCK_UN)
        except OSError:
            return False
        return True


def _batches(buffers: Iterable[BytesLike]) -> Iterable[Sequence[BytesLike]]:
    """Group buffers for writing: those that are there are written in one call."""
    return (buffers,) if isinstance(buffers, Sequence) else ((buffer,) for buffer in buffers)


def write_all(files: FileSystem, fd: int, buffers: Sequence[BytesLike]) -> None:
    """Write every byte, however few the kernel takes at a time."""
    pending = [view for view in map(_bytes_of, buffers) if view]
    while pending:
        written = files.writev(fd, pending)
        if not written:
            raise OSError(errno.EIO, "nothing was written")
        while pending and written >= len(pending[0]):
            written -= len(pending.pop(0))
        if written:
            pending[0] = memoryview(pending[0])[written:]


def _bytes_of(buffer: BytesLike) -> BytesLike:
    return buffer.cast("B") if isinstance(buffer, memoryview) else buffer
