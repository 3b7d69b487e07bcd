"""What lies in one shard: a list of its files, with what it takes to choose among them and to remove just these."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from acache.exceptions import EntryRejectedError
from acache.files.blob import Blob, open_blob
from acache.files.handle import Identity, identity_of
from acache.files.shard import Judge, Shard, Verdict
from acache.files.system import FileSystem
from acache.types import Key

__all__ = ("Seen", "Worth", "evict", "take_stock")


class Seen(NamedTuple):
    """One stored file at one moment. ``changed`` is in nanoseconds, ``modified`` in seconds, ``worth`` is the user's own."""

    key: Key
    name: str
    identity: Identity
    changed: int
    modified: float
    size: int
    worth: float


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
                Seen(key, name, identity_of(status), status.st_ctime_ns, status.st_mtime, status.st_size, value)
            )
    return found


def evict(shard: Shard, doomed: Sequence[Seen]) -> list[Seen]:
    """Remove those files that are still what was seen, and unused since; return them. None, if the shard is busy."""
    try:
        gone = shard.evict([(seen.name, _is_still(seen)) for seen in doomed])
    except BlockingIOError:
        return []
    return [seen for seen in doomed if seen.name in gone]


def _look_into(files: FileSystem, fd: int, name: str, worth: Worth) -> float:
    with open_blob(files, name, fd) as blob:
        return worth(blob)


def _is_still(seen: Seen) -> Judge:
    # An inode may be used anew once its file is gone, but not with the time of a change that was before.
    same = (seen.identity, seen.changed, seen.size)

    def judge(blob: Blob) -> Verdict:
        return Verdict.GOES if (blob.identity, blob.changed, blob.size) == same else Verdict.STAYS

    return judge
