"""Where damaged and planted files go: out of the way of the next write, at hand for whoever asks what happened."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from acache.files.directory import open_directory
from acache.files.system import FileSystem
from acache.files.temporary import discard

__all__ = ("QUARANTINE", "QUARANTINE_LIMIT", "empty_quarantine", "quarantine")

#: The directory, below the cache's own.
QUARANTINE: Final = ".quarantine"
#: Files kept; the oldest go first.
QUARANTINE_LIMIT: Final = 64


def quarantine(files: FileSystem, root: int, shard: int, name: str, label: str) -> None:
    """Move ``name`` of the directory ``shard`` below ``root`` into quarantine as ``label``."""
    with open_directory(files, QUARANTINE, root, create=True) as ward:
        files.rename(name, label, at=shard, to=ward.fd)
        _trim(files, ward.fd, QUARANTINE_LIMIT)


def empty_quarantine(files: FileSystem, root: int) -> None:
    """Remove what is kept."""
    with suppress(FileNotFoundError), open_directory(files, QUARANTINE, root, create=False) as ward:
        _trim(files, ward.fd, 0)


def _trim(files: FileSystem, fd: int, limit: int) -> None:
    names = files.listdir(fd)
    if len(names) <= limit:
        return
    # By the time of change, which a rename sets: the content may be older or younger than its being caught.
    caught: list[tuple[int, str]] = []
    for name in names:
        with suppress(OSError):  # a peer trims too
            caught.append((files.stat(name, at=fd).st_ctime_ns, name))
    for _, name in sorted(caught)[: len(names) - limit]:
        discard(files, name, fd)
