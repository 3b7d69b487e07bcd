"""Stamps that processes share: numbers by name, in small files beside the shards, and the highest of them.

::

    directory/sub_dir/
        .tags/                  0700
            latest              no stamp is higher
            1f…                 64 digits: the stamp of one tag
            7c4e09aa            8 digits: the floor of a namespace; tags without a file of their own have this one

``latest`` is written before the stamps of an invalidation, and one higher after them. So who reads it, and then a stamp,
knows later by ``latest`` alone whether the stamp he read can have changed; and a writer that is killed in between leaves
nothing that is later than ``latest``. Writers hold the lock of the directory, for as long as a few small files take; where
there are no locks they go on without, and are apart by the clock that their numbers begin from.

All methods block, but for :meth:`StampFiles.read_now`, which never waits.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from typing import Final, final

from acache.exceptions import EntryRejectedError
from acache.files.blob import open_blob
from acache.files.directory import open_directory
from acache.files.shelf import Shelf
from acache.files.system import BytesLike, FileSystem
from acache.files.temporary import discard, write_temporary
from acache.types import MISSING

__all__ = ("FLOOR_DIGITS", "LATEST", "MAX_STAMPS", "StampFiles")

#: The file of the highest number.
LATEST: Final = "latest"
#: Digits of a namespace, which begin the names of its stamps.
FLOOR_DIGITS: Final = 8
#: So many stamps a directory keeps, and a sixteenth more for each process that writes them; then all of them become floors.
MAX_STAMPS: Final = 10_000

_FOLDER: Final = ".tags"
_NUMBER: Final = re.compile(rb"\d{1,30}")
_STAMP_NAME: Final = re.compile(r"[0-9a-f]{64}")
_FLOOR_NAME: Final = re.compile(r"[0-9a-f]{8}")
_TRY_LOCK: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
#: Pauses between attempts to lock, in seconds.
_PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@final
class StampFiles:
    """The stamps of one directory. ``limit`` bounds how many there are."""

    def __init__(self, shelf: Shelf, limit: int = MAX_STAMPS) -> None:
        self._shelf: Final = shelf
        self._limit: Final = limit
        #: How many more this process may add before it has to look what others have added.
        self._room = 0

    def read_now(self, name: str) -> int | None:
        """Return a number, 0 if there is none, or ``None`` if only :meth:`read` can tell. Never waits."""
        data = self._shelf.read_warm_file(f"{_FOLDER}/{name}".encode())
        if data is MISSING:
            return 0
        return None if data is None else _number(data)

    def read(self, name: str, least: int) -> int:
        """Return a number, 0 if there is none. One that is damaged is given anew, as :meth:`stamp` does.

        Raises :class:`OSError` if it cannot be read.
        """
        try:
            return self._shelf.with_root(lambda files, root: _read(files, root, name))
        except FileNotFoundError:
            return 0
        except EntryRejectedError:
            return self.stamp(() if name == LATEST else (name,), least)

    def stamp(self, names: Collection[str], least: int) -> int:
        """Give ``names`` a number that is at least ``least`` and higher than any there is, and return that.

        Raises :class:`OSError` if it cannot be written; then some of the names may have it.
        """
        return self._shelf.with_root(lambda files, root: self._stamp(files, root, names, least))

    def forget(self, namespace: str, least: int) -> int:
        """Put a new floor in the place of all stamps of ``namespace``, of every one if it is empty; return the floor.

        Raises :class:`OSError` if that cannot be written.
        """
        return self._shelf.with_root(lambda files, root: self._forget(files, root, namespace, least))

    def _stamp(self, files: FileSystem, root: int, names: Collection[str], least: int) -> int:
        with _locked(files, root):
            value = _next(files, root, least)
            if self._is_full(files, root, names):
                self._fold(files, root, value, "", names)
            else:
                for name in names:
                    _write(files, root, name, value)
                _write(files, root, LATEST, value + 1)
        return value

    def _is_full(self, files: FileSystem, root: int, names: Collection[str]) -> bool:
        self._room -= len(names)
        if self._room >= 0:
            return False
        count = len({name for name in _list(files, root) if _STAMP_NAME.fullmatch(name)}.union(names))
        self._room = min(self._limit - count, self._limit // 16)
        return count > self._limit

    def _forget(self, files: FileSystem, root: int, namespace: str, least: int) -> int:
        with _locked(files, root):
            value = _next(files, root, least)
            self._fold(files, root, value, namespace, ())
        return value

    def _fold(self, files: FileSystem, root: int, value: int, namespace: str, more: Collection[str]) -> None:
        """Write floors first, then remove what they stand for: nobody ever finds neither."""
        present = [name for name in _list(files, root) if name.startswith(namespace)]
        stamps = [name for name in present if _STAMP_NAME.fullmatch(name)]
        floors = [name for name in present if _FLOOR_NAME.fullmatch(name)]
        for floor in {name[:FLOOR_DIGITS] for name in (*stamps, *floors, *more)}:
            _write(files, root, floor, value)
        for name in stamps:
            discard(files, f"{_FOLDER}/{name}", root)
        _write(files, root, LATEST, value + 1)


def _read(files: FileSystem, root: int, name: str) -> int:
    with open_directory(files, _FOLDER, root, create=False) as folder, open_blob(files, name, folder.fd) as blob:
        value = _number(blob.read())
    if value is None:
        raise EntryRejectedError("corrupt")
    return value


def _next(files: FileSystem, root: int, least: int) -> int:
    """Take the next number, and say so in ``latest``. Under the lock."""
    try:
        latest = _read(files, root, LATEST)
    except (FileNotFoundError, EntryRejectedError):
        latest = 0
    value = max(latest + 1, least)
    _write(files, root, LATEST, value)
    return value


def _write(files: FileSystem, root: int, name: str, value: int) -> None:
    # Made in the directory above, where sweepers look for what the killed have left.
    temporary = write_temporary(files, root, (b"%d" % value,))
    try:
        files.rename(temporary, f"{_FOLDER}/{name}", at=root)
    except BaseException:
        discard(files, temporary, root)
        raise


def _list(files: FileSystem, root: int) -> list[str]:
    with open_directory(files, _FOLDER, root, create=False) as folder:
        return files.listdir(folder.fd)


@contextmanager
def _locked(files: FileSystem, root: int) -> Generator[None]:
    with open_directory(files, _FOLDER, root, create=True) as folder:
        _lock(files, folder.fd)
        try:
            yield
        finally:
            # Not left to close(): a child forked meanwhile holds the same open directory.
            with suppress(OSError):
                files.flock(folder.fd, fcntl.LOCK_UN)


def _lock(files: FileSystem, fd: int) -> None:
    # A blocking flock could not be given up when the holder is stopped.
    for pause in _PAUSES:
        try:
            files.flock(fd, _TRY_LOCK)
        except BlockingIOError:
            files.pause(pause)
        except OSError:  # no locks here
            return
        else:
            return


def _number(data: BytesLike) -> int | None:
    return int(bytes(data)) if _NUMBER.fullmatch(data) else None
