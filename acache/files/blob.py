"""A stored file, open for reading, and the refusal of whatever else lies under its name."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from acache.exceptions import EntryRejectedError
from acache.files.handle import Handle, identity_of
from acache.files.system import READ, FileSystem

__all__ = ("Blob", "open_blob")

#: What opening a symbolic link, a socket, or a device without a driver answers.
_NO_FILE: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV})


class Blob(Handle):
    """A regular file open for reading; its inode is not used anew meanwhile, so ``identity`` means this file."""

    __slots__ = ("changed", "identity", "modified", "modified_ns", "size")

    def __init__(self, files: FileSystem, fd: int, status: os.stat_result) -> None:
        super().__init__(files, fd)
        self.size: Final = status.st_size
        self.modified: Final = status.st_mtime
        self.modified_ns: Final = status.st_mtime_ns
        self.changed: Final = status.st_ctime_ns
        self.identity: Final = identity_of(status)

    def read(self, size: int | None = None) -> bytes:
        """Return the first ``size`` bytes, or all; fewer only if the file ends before."""
        wanted = self.size if size is None else min(size, self.size)
        data = self._files.pread(self.fd, wanted, 0)
        while len(data) < wanted:
            more = self._files.pread(self.fd, wanted - len(data), len(data))
            if not more:
                break
            data += more
        return data


def open_blob(files: FileSystem, name: str, at: int) -> Blob:
    """Open the file ``name`` of the directory ``at``.

    Raises :class:`FileNotFoundError`, and :class:`~acache.exceptions.EntryRejectedError` for a symbolic link, a directory,
    a FIFO, a socket or a device, none of which is followed, read or waited for.
    """
    try:
        fd = files.open(name, READ, at=at)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise EntryRejectedError("corrupt") from None
        raise
    try:
        status = files.fstat(fd)
    except OSError:
        Handle(files, fd).close()
        raise
    blob = Blob(files, fd, status)
    if not stat.S_ISREG(status.st_mode):
        blob.close()
        raise EntryRejectedError("corrupt")
    return blob
