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
from typing import Final, NamedTuple, TypeAlias, final

from acache.exceptions import EntryRejectedError
from acache.files.blob import Blob, open_blob
from acache.files.handle import Handle, Identity, identity_of
from acache.files.quarantine import quarantine
from acache.files.system import FileSystem
from acache.files.temporary import discard, temporary_name

__all__ = ("Judge", "Published", "Shard", "Verdict")

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
    #: No hit for whoever asks: it stays until an insert needs its place.
    YIELDS = auto()
    #: The same, because its time is up.
    EXPIRED = auto()
    #: The same, because it was invalidated.
    INVALID = auto()
    #: Dead for good: removed when seen.
    GOES = auto()
    #: Damaged or planted: kept as evidence, out of the way.
    SUSPECT = auto()


_INSERT_SPARES: Final = frozenset({Verdict.STAYS})
_READ_SPARES: Final = frozenset({Verdict.STAYS, Verdict.YIELDS, Verdict.EXPIRED, Verdict.INVALID})
#: Looks into a file and decides; raises nothing but what reading raises.
Judge: TypeAlias = Callable[[Blob], Verdict]


class Published(NamedTuple):
    """Whether a file was stored, and the verdict on the one whose place it took."""

    stored: bool
    over: Verdict | None = None


class _Cleared(NamedTuple):
    """Whether a name is free, and the verdict on the file that was taken away for that."""

    free: bool
    taken: Verdict | None = None


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

    def insert(self, temporary: str, name: str, judge: Judge) -> Published:
        """Publish ``temporary`` as ``name`` unless a file is there that stays. Atomic.

        Where the file system cannot do that, inserts are serialized by the lock; one that meets a :meth:`replace` of the same
        name at the same moment may then win over it.
        """
        linked = self._link(temporary, name)
        if linked:
            return Published(stored=True)
        if linked is not None and self._look(name, judge) is Verdict.STAYS:
            return Published(stored=False)
        taken: Verdict | None = None
        with self._locked(wait=True):
            for _ in range(_ATTEMPTS):
                cleared = self._clear(name, judge, _INSERT_SPARES)
                taken = cleared.taken or taken
                if not cleared.free:
                    return Published(False, taken)
                if linked is None:
                    self._files.rename(temporary, name, at=self.fd)
                    return Published(True, taken)
                if self._link(temporary, name):
                    return Published(True, taken)
        raise BlockingIOError(errno.EAGAIN, "other processes keep storing dead entries")

    def replace(self, temporary: str, name: str) -> None:
        """Publish ``temporary`` as ``name``, whatever is there. Atomic."""
        try:
            self._files.rename(temporary, name, at=self.fd)
        except IsADirectoryError:
            with self._locked(wait=True):
                self._clear(name, _every_file_stays, _INSERT_SPARES)
            self._files.rename(temporary, name, at=self.fd)

    def reclaim(self, name: str, judge: Judge) -> Verdict | None:
        """Take a file away that goes or is suspect; return the verdict, or ``None`` if nothing was taken.

        Raises :class:`OSError` if somebody else is at it.
        """
        with self._locked(wait=False):
            return self._clear(name, judge, _READ_SPARES).taken

    def evict(self, doomed: Iterable[tuple[str, Judge]]) -> dict[str, bool]:
        """Take away each file whose judge does not let it stay; return the names of those that are gone.

        The value tells whether the file was taken here: a peer may have removed or replaced it first. Raises
        :class:`BlockingIOError` if somebody else is at it.
        """
        gone: dict[str, bool] = {}
        with self._locked(wait=False):
            for name, judge in doomed:
                with suppress(OSError):
                    cleared = self._clear(name, judge, _INSERT_SPARES)
                    if cleared.free:
                        gone[name] = cleared.taken is not None
        return gone

    def remove(self, name: str) -> None:
        """Remove a file, whatever it is. Raises :class:`FileNotFoundError` if there is none."""
        try:
            self._files.unlink(name, at=self.fd)
        except OSError as error:
            if error.errno not in _UNLINKED_DIRECTORY:
                raise
            with self._locked(wait=True):
                if not self._clear(name, _every_file_stays, _INSERT_SPARES).free:
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

    def _clear(self, name: str, judge: Judge, spares: frozenset[Verdict]) -> _Cleared:
        """Remove what is there unless the verdict spares it. Only under the lock."""
        try:
            blob = self.open(name)
        except FileNotFoundError:
            return _Cleared(free=True)
        except EntryRejectedError:
            identity, verdict = identity_of(self._files.stat(name, at=self.fd)), Verdict.SUSPECT
            return _Cleared(True, verdict if self._take(name, identity, suspect=True) else None)
        with blob:
            verdict = judge(blob)
            if verdict in spares:
                return _Cleared(free=False)
            is_taken = self._take(name, blob.identity, suspect=verdict is Verdict.SUSPECT)
        return _Cleared(True, verdict if is_taken else None)

    def _take(self, name: str, identity: Identity, *, suspect: bool) -> bool:
        """Take a file away; tell whether it was still that one, else it is put back."""
        aside = temporary_name()
        try:
            self._files.rename(name, aside, at=self.fd)
        except FileNotFoundError:
            return False
        is_it = False
        try:
            is_it = identity_of(self._files.stat(aside, at=self.fd)) == identity
            if not is_it:
                # Just published by a peer. Back with it, unless the next one is there already.
                if self._link(aside, name) is None:
                    self._files.rename(aside, name, at=self.fd)
            elif suspect:
                label = f"{name}{self._name}.{os.urandom(8).hex()}"
                with suppress(OSError):
                    quarantine(self._files, self._root.fd, self.fd, aside, label)
        finally:
            discard(self._files, aside, self.fd)
        return is_it

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
