"""Descriptors that cannot leak, and cannot be closed under a thread that uses them.

A number says nothing about who else uses it: closed by one thread and given out anew by the kernel, it would lead
another thread's call to a strange file. So objects own descriptors, and one is closed when its last user lets go.
"""

from __future__ import annotations

import os
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TypeAlias

from acache.files.system import FileSystem

__all__ = ("Handle", "Identity", "identity_of")

#: Device and inode: which file it is, whatever its name. It says something only while that file cannot vanish.
Identity: TypeAlias = tuple[int, int]


def identity_of(status: os.stat_result) -> Identity:
    """Tell which file ``status`` describes."""
    return status.st_dev, status.st_ino


class Handle:
    """An open descriptor. Closed by ``with``, or when the object is collected."""

    __slots__ = ("_files", "fd")

    def __init__(self, files: FileSystem, fd: int) -> None:
        self._files: Final = files
        self.fd = fd

    def close(self) -> None:
        """Close once. An error is nobody's: all was read, and who writes closes for himself."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):
                self._files.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    __del__ = close
