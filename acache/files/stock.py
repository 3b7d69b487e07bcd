"""What lies in one shard: a list of its files, with what it takes to choose among them and to remove just these."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

from acache.exceptions import EntryRejectedError
from acache.files.blob import Blob, open_blob
from acache.files.handle import Identity, identity_of
from acache.files.shard import Judge, Shard, Verdict
from acache.files.system import FileSystem
from acache.types import Key

__all__ = ("DAMAGED", "EXPIRED", "Seen", "Worth", "evict", "mark", "take_stock")


class Seen(NamedTuple):
    """One stored file at one moment. ``changed`` and ``modified`` are in nanoseconds, ``worth`` is the user's own."""

    key: Key
    name: str
    identity: Identity
    changed: int
    modified: int
    size: int
    worth: float

    @property
    def shard(self) -> int:
        """The number of the shard where it lies."""
        return int(self.key[len(self.name) :], 16)


#: What files are worth that are past their time, or damaged.
EXPIRED: Final = -1.0
DAMAGED: Final = -2.0
#: Looks into a file and says what it is worth; raises nothing but what reading raises.
Worth: TypeAlias = Callable[[Blob], float]


def take_stock(files: FileSystem, fd: int, names: Sequence[tuple[str, Key]], worth: Worth | None) -> list[Seen]:
    """Describe the files ``names`` of the directory ``fd``; what vanishes meanwhile, or is no file, is left out."""
    found: list[Seen] = []
    for name, key in names:
        with suppress(OSError, EntryRejectedError):
            status = files.stat(name, at=fd)
            if not stat.S_ISREG(status.st_mode):
                continue
            value = 0.0 if worth is None else _look_into(files, fd, name, worth)
            found.append(
                Seen(key, name, identity_of(status), status.st_ctime_ns, status.st_mtime_ns, status.st_size, value)
            )
    return found


def evict(shard: Shard, doomed: Sequence[Seen]) -> dict[Seen, bool]:
    """Remove those files that are still what was seen, and unused since; return those that are gone. None, if the shard is busy.

    The value tells whether the file was removed here, and not by a peer, who tells of it himself.
    """
    try:
        gone = shard.evict([(seen.name, _is_still(seen)) for seen in doomed])
    except BlockingIOError:
        return {}
    return {seen: gone[seen.name] for seen in doomed if seen.name in gone}


def mark(files: FileSystem, fd: int, seen: Seen, modified: int) -> None:
    """Set the time of modification of a file in the directory ``fd`` that is still what was seen, and unused since.

    Raises as :func:`~acache.files.blob.open_blob` does.
    """
    with open_blob(files, seen.name, fd) as blob:
        if _is_still(seen)(blob) is Verdict.GOES:
            files.utime(blob.fd, modified)


def _look_into(files: FileSystem, fd: int, name: str, worth: Worth) -> float:
    with open_blob(files, name, fd) as blob:
        return worth(blob)


def _is_still(seen: Seen) -> Judge:
    # An inode may be used anew once its file is gone, but not with the time of a change that was before.
    same = (seen.identity, seen.changed, seen.size)

    def judge(blob: Blob) -> Verdict:
        return Verdict.GOES if (blob.identity, blob.changed, blob.size) == same else Verdict.STAYS

    return judge
