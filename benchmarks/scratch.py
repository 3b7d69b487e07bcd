"""Directories in which creating a file costs what it should.

ext4 does not use the inode of a file that was deleted in the last minutes, and looks at each such inode of the block group
anew for every file that is created there. After a test suite has deleted thousands of files, creating one takes half a
millisecond instead of ten microseconds, for whoever creates files: that would measure the past. So directories are made
in other block groups (which the flag for top-level directories, ``chattr +T``, asks for), the best of a few is taken,
and nothing is deleted before the end.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import statistics
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Final, Self

__all__ = ("Scratch", "creation_time")

_GET_FLAGS: Final = 0x80086601
_SET_FLAGS: Final = 0x40086602
_TOP_DIRECTORY: Final = 0x20000
_CANDIDATES: Final = 6
_PROBES: Final = 15


class Scratch:
    """A directory below ``parent`` for all files of a run; removed at the end."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix="acache-benchmarks-", dir=parent))
        with suppress(OSError):  # another file system
            _spread(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def directory(self, label: str) -> Path:
        """Make a directory of which no other user has a file nearby."""
        made = [Path(tempfile.mkdtemp(prefix=f"{label}-", dir=self.path)) for _ in range(_CANDIDATES)]
        best = min(made, key=creation_time) / "files"
        best.mkdir()
        return best


def creation_time(directory: Path) -> float:
    """Return the median seconds that creating an empty file takes. The files stay until everything is removed."""
    taken: list[float] = []
    for _ in range(_PROBES):
        name = directory / f"probe-{os.urandom(8).hex()}"
        start = perf_counter()
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        taken.append(perf_counter() - start)
    return statistics.median(taken)


def _spread(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = bytearray(struct.calcsize("l"))
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        (number,) = struct.unpack("l", flags)
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("l", number | _TOP_DIRECTORY))
    finally:
        os.close(fd)
