"""Remove what killed processes left in a cache directory: temporary files, and lock files nobody uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from acache.files.directory import open_directory
from acache.files.system import FileSystem
from acache.files.temporary import ABANDONED, TEMPORARY, discard, remove_unheld, write_temporary

__all__ = ("LOCKS", "sweep")

#: The directory of lock files, below the cache's own.
LOCKS: Final = ".locks"
#: Its time of modification tells when the directory was swept last, by anybody.
_STAMP: Final = ".swept"


def sweep(files: FileSystem, root: int, shards: Callable[[], Iterable[str]], *, force: bool) -> int:
    """Remove temporary and lock files that are an hour old and held by nobody; return how many.

    The hour is by the clock of the file system, which stamped the files; it need not be ours. Without ``force`` nothing
    happens if anybody swept within the hour.
    """
    probe = write_temporary(files, root, ())
    try:
        now = files.stat(probe, at=root).st_mtime
        if not force and _is_recent(files, root, now):
            return 0
        files.rename(probe, _STAMP, at=root)
    finally:
        discard(files, probe, root)
    removed = _sweep(files, ".", root, now, TEMPORARY) + _sweep(files, LOCKS, root, now, "")
    return removed + sum(_sweep(files, shard, root, now, TEMPORARY) for shard in shards())


def _sweep(files: FileSystem, directory: str, root: int, now: float, prefix: str) -> int:
    try:
        with open_directory(files, directory, root, create=False) as handle:
            names = [name for name in files.listdir(handle.fd) if name.startswith(prefix)]
            return sum(remove_unheld(files, name, handle.fd, before=now - ABANDONED) for name in names)
    except OSError:  # gone, or not ours to read; the others still can be swept
        return 0


def _is_recent(files: FileSystem, root: int, now: float) -> bool:
    try:
        return 0 <= now - files.stat(_STAMP, at=root).st_mtime < ABANDONED
    except FileNotFoundError:
        return False
