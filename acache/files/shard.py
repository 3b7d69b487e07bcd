"""One directory of files, and the only ways a file comes into it and goes.

- :meth:`Shard.insert` publishes with a rename that fails if the name is taken: one of many writers wins, without a lock.
- :meth:`Shard.replace` publishes with ``rename``: readers see the old file or the new one.
- A dead file stands in the way of an insert, and no system call removes a file *if it is still that file*. So it is
  judged anew under the directory's lock, moved aside, and put back if it turns out to be another one. All who remove
  conditionally hold that lock. Who replaces does not, and is safe from it but for one window: a file that was just
  replaced is away for the moment of being put back.

The lock is ``flock`` on the directory itself: no lock file to lose, and it goes away with the directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from enum import Enum, auto
from types import TracebackType
from typing import Final, TypeAlias, final

from acache.exceptions import EntryRejectedError
from acache.files.blob import Blob, open_blob
from acache.files.handle import Handle, Identity, identity_of
from acache.files.quarantine import quarantine
from acache.files.system import FileSystem
from acache.files.temporary import discard, temporary_name

__all__ = ("Judge", "Shard", "Verdict")

#: What such a rename answers on file systems that have neither it nor hard links.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
#: What ``unlink`` answers for a directory: POSIX has the one, Linux the other.
_UNLINKED_DIRECTORY: Final = frozenset({errno.EPERM, errno.EISDIR})
#: Pauses between attempts to lock, in seconds. The lock is held for microseconds; a second means its holder was stopped.
_PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.3)
#: How often an insert clears a dead file away before it believes that a peer keeps making them.
_ATTEMPTS: Final = 4
_TRY_LOCK: Final = fcntl.LOCK_EX | fcntl.LOCK_NB


class Verdict(Enum):
    """What is to become of a stored file."""

    #: Alive, or not ours to judge: it stays, and an insert loses to it.
    STAYS = auto()
    #: Dead: it stays until an insert needs its place.
    YIELDS = auto()
    #: Dead for good: removed when seen.
    GOES = auto()
    #: Damaged or planted: kept as evidence, out of the way.
    SUSPECT = auto()


_INSERT_SPARES: Final = frozenset({Verdict.STAYS})
_READ_SPARES: Final = frozenset({Verdict.STAYS, Verdict.YIELDS})
#: Looks into a file and decides; raises nothing but what reading raises.
Judge: TypeAlias = Callable[[Blob], Verdict]


@final
class Shard:
    """An open directory ``name`` of ``root``, where the quarantine is."""

    __slots__ = ("_files", "_handle", "_name", "_root", "fd")

    def __init__(self, files: FileSystem, handle: Handle, root: Handle, name: str) -> None:
        self._files: Final = files
        self._handle: Final = handle
        # The object, not its descriptor: it stays open as long as this shard needs it.
        self._root: Final = root
        self._name: Final = name
        self.fd: Final = handle.fd

    def __enter__(self) -> Shard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()

    def open(self, name: str) -> Blob:
        """Open a file, as :func:`~acache.files.blob.open_blob` does."""
        return open_blob(self._files, name, self.fd)

    def insert(self, temporary: str, name: str, judge: Judge) -> bool:
        """Publish ``temporary`` as ``name`` unless a file is there that stays; tell whether it was. Atomic.

        Where the file system cannot do that, inserts are serialized by the lock; one that meets a :meth:`replace` of the same
        name at the same moment may then win over it.
        """
        linked = self._link(temporary, name)
        if linked:
            return True
        if linked is not None and self._look(name, judge) is Verdict.STAYS:
            return False
        with self._locked(wait=True):
            for _ in range(_ATTEMPTS):
                if not self._clear(name, judge, _INSERT_SPARES):
                    return False
                if linked is None:
                    self._files.rename(temporary, name, at=self.fd)
                    return True
                if self._link(temporary, name):
                    return True
        raise BlockingIOError(errno.EAGAIN, "other processes keep storing dead entries")

    def replace(self, temporary: str, name: str) -> bool:
        """Publish ``temporary`` as ``name``, whatever is there; always true. Atomic."""
        try:
            self._files.rename(temporary, name, at=self.fd)
        except IsADirectoryError:
            with self._locked(wait=True):
                self._clear(name, _every_file_stays, _INSERT_SPARES)
            self._files.rename(temporary, name, at=self.fd)
        return True

    def reclaim(self, name: str, judge: Judge) -> bool:
        """Take a file away that goes or is suspect, and tell; raise :class:`OSError` if somebody else is at it."""
        with self._locked(wait=False):
            return self._clear(name, judge, _READ_SPARES)

    def evict(self, doomed: Iterable[tuple[str, Judge]]) -> set[str]:
        """Take away each file whose judge does not let it stay; return the names that are free.

        Raises :class:`BlockingIOError` if somebody else is at it.
        """
        gone: set[str] = set()
        with self._locked(wait=False):
            for name, judge in doomed:
                with suppress(OSError):
                    if self._clear(name, judge, _INSERT_SPARES):
                        gone.add(name)
        return gone

    def remove(self, name: str) -> None:
        """Remove a file, whatever it is. Raises :class:`FileNotFoundError` if there is none."""
        try:
            self._files.unlink(name, at=self.fd)
        except OSError as error:
            if error.errno not in _UNLINKED_DIRECTORY:
                raise
            with self._locked(wait=True):
                if not self._clear(name, _every_file_stays, _INSERT_SPARES):
                    raise

    def sync(self) -> None:
        """Wait until the disk has the names in this directory, and its own."""
        self._files.fsync(self.fd)
        self._files.fsync(self._root.fd)

    def _link(self, temporary: str, name: str) -> bool | None:
        """Publish without a lock: done, there is something already, or (``None``) the file system cannot do that."""
        try:
            self._files.rename_new(temporary, name, at=self.fd)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _NO_LINKS:
                return None
            raise
        return True

    def _look(self, name: str, judge: Judge) -> Verdict:
        try:
            with self.open(name) as blob:
                return judge(blob)
        except FileNotFoundError:
            return Verdict.GOES
        except EntryRejectedError:
            return Verdict.SUSPECT

    def _clear(self, name: str, judge: Judge, spares: frozenset[Verdict]) -> bool:
        """Remove what is there unless the verdict spares it; tell whether the name is free. Only under the lock."""
        try:
            blob = self.open(name)
        except FileNotFoundError:
            return True
        except EntryRejectedError:
            self._take(name, identity_of(self._files.stat(name, at=self.fd)), suspect=True)
            return True
        with blob:
            verdict = judge(blob)
            if verdict in spares:
                return False
            self._take(name, blob.identity, suspect=verdict is Verdict.SUSPECT)
        return True

    def _take(self, name: str, identity: Identity, *, suspect: bool) -> None:
        aside = temporary_name()
        try:
            self._files.rename(name, aside, at=self.fd)
        except FileNotFoundError:
            return
        try:
            if identity_of(self._files.stat(aside, at=self.fd)) != identity:
                # Just published by a peer. Back with it, unless the next one is there already.
                if self._link(aside, name) is None:
                    self._files.rename(aside, name, at=self.fd)
            elif suspect:
                label = f"{name}{self._name}.{os.urandom(8).hex()}"
                with suppress(OSError):
                    quarantine(self._files, self._root.fd, self.fd, aside, label)
        finally:
            discard(self._files, aside, self.fd)

    @contextmanager
    def _locked(self, *, wait: bool) -> Generator[None]:
        self._lock(wait=wait)
        try:
            yield
        finally:
            # Not left to close(): a child forked meanwhile holds the same open directory.
            with suppress(OSError):
                self._files.flock(self.fd, fcntl.LOCK_UN)

    def _lock(self, *, wait: bool) -> None:
        # A blocking flock could not be given up when the holder is stopped.
        for pause in _PAUSES if wait else ():
            try:
                self._files.flock(self.fd, _TRY_LOCK)
            except BlockingIOError:
                self._files.pause(pause)
            else:
                return
        self._files.flock(self.fd, _TRY_LOCK)


def _every_file_stays(_blob: Blob) -> Verdict:
    return Verdict.STAYS
