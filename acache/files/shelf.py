"""A cache directory: 256 shards of files named by digests, and nothing else that a reader would believe.

::

    directory/sub_dir/          0700, ours; held open
        7f/                     the last two digits of the key, because keys of one function share their first ones
            03ab…               the other 62
            .tmp-…              being written, or left by the dead
        .lock                   the tier's own lock
        .locks/                 locks of single keys
        .quarantine/            files that failed verification
        .tags/                  stamps of tags (:mod:`acache.files.stamps`)
        .swept                  when rubbish was last looked for
        .ledger                 how much there is, where that is limited
        .culling                the lock of who removes what is too much

All methods block and may be called from any thread, but for :meth:`Shelf.read_warm` and its like, which are for the event loop.
Between calls one descriptor is held, that of the directory; shards are opened for each operation, so that many tiers
stay cheap. After ``os.fork()`` parent and child share it safely: nothing depends on its position.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar, final

from acache.exceptions import ConfigurationError, EntryRejectedError
from acache.files.blob import Blob, open_blob
from acache.files.choosing import uses_of, with_uses
from acache.files.directory import NO_DIRECTORY, make_directory, open_directory, open_private, path_text, split_sub_dir
from acache.files.handle import Handle, Identity, identity_of
from acache.files.ledger import Ledger
from acache.files.quarantine import empty_quarantine
from acache.files.shard import Judge, Published, Shard, Verdict
from acache.files.stock import Seen, Worth, evict, mark, take_stock
from acache.files.sweeping import LOCKS, sweep
from acache.files.system import DIRECTORY, REAL_FILES, BytesLike, FileSystem
from acache.files.temporary import discard, remove_unheld, write_temporary
from acache.files.warm import can_read_warm, read_warm
from acache.types import MISSING, Key, Missing

__all__ = ("Shelf",)

T = TypeVar("T")

#: Digits of a key that name its file; the rest name its shard.
_STEM: Final = 62
#: How often the directory is made that is deleted at once.
_TRIES: Final = 100
_SHARD_NAME: Final = re.compile(r"[0-9a-f]{2}")
_LOCK_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE_NAME: Final = re.compile(r"[0-9a-f]{62}")


@dataclass(frozen=True, slots=True)
class _Root:
    handle: Handle
    identity: Identity
    warm: bool


@final
class Shelf:
    """Files by key below ``directory/sub_dir``.

    ``durable`` makes a write wait for the disk. Raises :class:`~acache.exceptions.ConfigurationError` for a path that
    cannot be used; and every method :class:`~acache.exceptions.UnsafeDirectoryError` if others could write there. That
    is checked when the directory is opened: at first, and again whenever it was replaced.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        sub_dir: str = "",
        *,
        durable: bool = False,
        files: FileSystem | None = None,
    ) -> None:
        text = path_text("directory", directory)
        if not text or "\0" in text:
            raise ConfigurationError("directory", "expected the path of a directory")
        self._parts: Final = split_sub_dir(path_text("sub_dir", sub_dir))
        # Absolute at once: the process may change its working directory later.
        self._directory: Final = os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - paths are texts here
        self.path: Final = os.path.join(self._directory, *self._parts)  # noqa: PTH118 - as above
        self._durable: Final = durable
        self._files: Final = REAL_FILES if files is None else files
        self._root: _Root | None = None
        self._stays = False
        self.ledger: Final = Ledger(self._files, lambda: (self._root or self._open()).handle)

    @property
    def is_open(self) -> bool:
        """Whether what needs an open directory, and no more, will not block."""
        return self._root is not None

    def close(self) -> None:
        """Let go of the directory; it is opened again when it is needed again. Threads at work finish with theirs."""
        self._root = None

    # --- files ----------------------------------------------------------------------------------------------------

    def read_warm(self, key: Key) -> bytearray | Missing | None:
        """Return what is stored, or that nothing is, or ``None`` if only :meth:`open` can tell. Never waits."""
        return self.read_warm_file(f"{key[_STEM:]}/{key[:_STEM]}".encode())

    def read_warm_file(self, path: bytes) -> bytearray | Missing | None:
        """Do as :meth:`read_warm` for any file below the directory."""
        root = self._root
        if root is None or not root.warm:
            return None
        fd = root.handle.fd
        found = read_warm(fd, path)
        if found is MISSING and os.fstat(fd).st_nlink == 0:
            return None  # the directory itself was deleted, and perhaps made again
        return found

    def open(self, key: Key) -> Blob:
        """Open what is stored, for reading. Raises as :func:`~acache.files.blob.open_blob` does."""
        return self._with_shard(key, lambda shard: shard.open(key[:_STEM]))

    def publish(self, key: Key, buffers: Sequence[BytesLike], *, replace: bool, judge: Judge) -> Published:
        """Store atomically; without ``replace``, only if nothing that stays is there. ``judge`` judges what was there."""
        try:
            return self._publish(key, buffers, replace=replace, judge=judge)
        except FileNotFoundError:
            # Somebody deleted the directory, or a shard, between two calls. Once more; then it is his will.
            self._current()
            return self._publish(key, buffers, replace=replace, judge=judge)

    def reclaim(self, key: Key, judge: Judge) -> Verdict | None:
        """Take away what is stored if ``judge`` still says so; return the verdict, or ``None`` if nothing was taken.

        Raises :class:`OSError` if that cannot be done now.
        """
        with self._shard(key[_STEM:]) as shard:
            return shard.reclaim(key[:_STEM], judge)

    def remove(self, key: Key) -> bool:
        """Remove what is stored, alive or dead; tell whether there was something."""
        try:
            self._with_shard(key, lambda shard: shard.remove(key[:_STEM]))
        except FileNotFoundError:
            return False
        return True

    def with_root(self, use: Callable[[FileSystem, int], T]) -> T:
        """Let ``use`` work in the open directory; once more if it misses something, and it was not the right one."""
        root = self._root or self._open()
        try:
            return use(self._files, root.handle.fd)
        except FileNotFoundError:
            current = self._current()
            if current is root:
                raise
        return use(self._files, current.handle.fd)

    def _with_shard(self, key: Key, use: Callable[[Shard], T]) -> T:
        """Let ``use`` look for a file; if there is none, make sure that it looked in the right directory."""
        root = self._root
        try:
            with self._shard(key[_STEM:]) as shard:
                return use(shard)
        except FileNotFoundError:
            if self._current() is root or root is None:
                raise
        with self._shard(key[_STEM:]) as shard:
            return use(shard)

    def _publish(self, key: Key, buffers: Sequence[BytesLike], *, replace: bool, judge: Judge) -> Published:
        root = self._root or self._open()
        folder, name = key[_STEM:], key[:_STEM]
        temporary = self._write(root, folder, buffers)
        published = Published(stored=False)
        try:
            published = self._name(root, folder, temporary, name, judge if replace else None)
            if not published.stored:
                with self._shard(folder) as shard:
                    published = shard.insert(temporary, name, judge)
        finally:
            if not published.stored:
                discard(self._files, f"{folder}/{temporary}", root.handle.fd)
        if self._durable and published.stored:
            with suppress(OSError), self._shard(folder) as shard:
                shard.sync()
        return published

    def _write(self, root: _Root, folder: str, buffers: Sequence[BytesLike]) -> str:
        try:
            return write_temporary(self._files, root.handle.fd, buffers, folder=folder, durable=self._durable)
        except FileNotFoundError:
            make_directory(self._files, folder, root.handle.fd)
        return write_temporary(self._files, root.handle.fd, buffers, folder=folder, durable=self._durable)

    def _name(self, root: _Root, folder: str, temporary: str, name: str, judge: Judge | None) -> Published:
        """Publish without opening the shard, as nearly always can be done; over what is there only with a ``judge`` of that.

        The shard is no symbolic link, or nothing could have been written in it. One that takes its place in this very
        moment does not have the temporary file.
        """
        old, new, at = f"{folder}/{temporary}", f"{folder}/{name}", root.handle.fd
        try:
            self._files.rename_new(old, new, at=at)
        except FileNotFoundError:
            raise
        except OSError:  # something is there already, or the file system cannot do that
            if judge is None:
                return Published(stored=False)
        else:
            return Published(stored=True)
        over = self._look(new, at, judge)
        try:
            self._files.rename(old, new, at=at)
        except IsADirectoryError:
            with self._shard(folder) as shard:
                shard.replace(temporary, name)
        return Published(True, over)

    def _look(self, path: str, at: int, judge: Judge) -> Verdict | None:
        """Judge what is about to be replaced, for those who want to know: whatever goes wrong is nobody's error."""
        try:
            with open_blob(self._files, path, at) as blob:
                return judge(blob)
        except EntryRejectedError:
            return Verdict.SUSPECT
        except OSError:
            return None

    # --- the whole ------------------------------------------------------------------------------------------------

    def shards(self) -> list[str]:
        """Return the names of the shards there are."""
        return self._shards(self._current())

    def _shards(self, root: _Root) -> list[str]:
        # A descriptor of its own: listing moves its position, which others would share.
        with open_directory(self._files, ".", root.handle.fd, create=False) as listed:
            return [name for name in self._files.listdir(listed.fd) if _SHARD_NAME.fullmatch(name)]

    def keys(self, shard: str) -> list[Key]:
        """Return the keys in one shard; whatever else lies there is not seen."""
        try:
            with self._shard(shard) as handle:
                return [Key(name + shard) for name in self._files.listdir(handle.fd) if _FILE_NAME.fullmatch(name)]
        except OSError as error:
            if error.errno in NO_DIRECTORY:
                return []
            raise

    def clear(self, prefix: str = "", told: Callable[[Key], object] | None = None) -> None:
        """Remove all files whose key begins with ``prefix``, and say which. Without one, empty the quarantine too."""
        for name in self.shards():
            doomed = [key for key in self.keys(name) if key.startswith(prefix)]
            if doomed:
                with suppress(FileNotFoundError), self._shard(name) as shard:
                    for key in doomed:
                        with suppress(FileNotFoundError):
                            shard.remove(key[:_STEM])
                            if told is not None:
                                told(key)
        if not prefix:
            empty_quarantine(self._files, self._current().handle.fd)

    def sweep(self, *, force: bool) -> int:
        """Remove what the dead left, as :func:`~acache.files.sweeping.sweep` does; return how many files.

        Without ``force`` a directory that has been closed meanwhile is not opened again for it.
        """
        root = self._current() if force else self._root
        if root is None:
            return 0
        return sweep(self._files, root.handle.fd, partial(self._shards, root), force=force)

    # --- what there is --------------------------------------------------------------------------------------------

    def census(self, number: int, worth: Worth | None = None) -> list[Seen]:
        """Describe what lies in the shard ``number``, by what each file's ``worth`` finds in it."""
        folder = f"{number:02x}"
        keys = [(key[:_STEM], key) for key in self.keys(folder)]
        if not keys:
            return []
        with suppress(FileNotFoundError), self._shard(folder) as shard:
            return take_stock(self._files, shard.fd, keys, worth)
        return []

    def evict(self, number: int, doomed: Sequence[Seen]) -> dict[Seen, bool]:
        """Remove files of the shard ``number`` that are still what was seen; return what is gone, and whether it went here."""
        with suppress(FileNotFoundError), self._shard(f"{number:02x}") as shard:
            return evict(shard, doomed)
        return {}

    def renew(self, key: Key, uses: int = 0) -> None:
        """Let the file's time of change be now, and add to the ``uses`` it counts; nothing else about it changes.

        Raises as :meth:`open` does.
        """
        with self.open(key) as blob:
            if uses:
                modified = blob.modified_ns
                self._files.utime(blob.fd, with_uses(modified, uses_of(modified) + uses))
            else:
                self._files.fchmod(blob.fd, stat.S_IRUSR | stat.S_IWUSR)

    def mark(self, number: int, left: Mapping[Seen, int]) -> None:
        """Set how many uses files of the shard ``number`` count, if they are still what was seen."""
        with suppress(FileNotFoundError), self._shard(f"{number:02x}") as shard:
            for seen, uses in left.items():
                with suppress(OSError, EntryRejectedError):
                    mark(self._files, shard.fd, seen, with_uses(seen.modified, uses))

    @contextmanager
    def apart(self, *, force: bool) -> Generator[Shelf | None]:
        """Stay with the directory that is open now for a ``with`` block: for work that may go on after :meth:`close`.

        If it is deleted meanwhile, it is not made again. Without ``force``, ``None`` if none is open.
        """
        root = self._root or (self._open() if force else None)
        if root is None:
            yield None
            return
        shelf = Shelf(self.path, files=self._files)
        shelf._root, shelf._stays = root, True
        try:
            yield shelf
        finally:
            shelf.close()

    @contextmanager
    def lock_culling(self) -> Generator[bool]:
        """Hold the lock of who culls, for a ``with`` block; false if somebody else does. Raises :class:`OSError`."""
        root = self._current()
        with Handle(self._files, self._files.open(".culling", _LOCK_FILE, at=root.handle.fd)) as handle:
            alone = True
            try:
                self._files.flock(handle.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alone = False
            try:
                yield alone
            finally:
                with suppress(OSError):  # not left to close(): a forked child holds the same open file
                    self._files.flock(handle.fd, fcntl.LOCK_UN)

    # --- locks ----------------------------------------------------------------------------------------------------

    def lock_path(self, key: Key | None = None) -> str:
        """Return the path of the lock file of one key, or of the whole."""
        return os.path.join(self.path, ".lock" if key is None else f"{LOCKS}/{key}")  # noqa: PTH118 - as above

    def prepare_locks(self) -> None:
        """Make sure that the directories of the lock files are there now, and ours."""
        root = self._current()
        with suppress(OSError):  # as in _open
            make_directory(self._files, LOCKS, root.handle.fd)

    def drop_key_lock(self, key: Key) -> bool:
        """Remove the lock file of one key unless somebody holds it; tell whether it is gone."""
        with open_directory(self._files, LOCKS, self._current().handle.fd, create=False) as locks:
            return remove_unheld(self._files, key, locks.fd)

    # --- directories ----------------------------------------------------------------------------------------------

    def _current(self) -> _Root:
        """Return the directory that is at our path now.

        Reads and writes of single files take the one that is open. A directory that is deleted under them answers that
        there is nothing, and so does, for anything new, one that was moved away: then they ask here, and try again.
        """
        root = self._root
        if root is not None and self._stays:
            return root
        if root is not None:
            with suppress(FileNotFoundError):
                if identity_of(self._files.stat(self.path)) == root.identity:
                    return root
        return self._open()

    def _open(self) -> _Root:
        handle, identity = self._open_private()
        with suppress(OSError):  # a directory that is read-only serves hits
            make_directory(self._files, LOCKS, handle.fd)
        if self._durable:
            self._sync_parents()
        root = _Root(handle, identity, self._files is REAL_FILES and can_read_warm(handle.fd))
        self._root = root  # not read again here: another thread may close it in this moment
        return root

    def _open_private(self) -> tuple[Handle, Identity]:
        for _ in range(_TRIES - 1):
            with suppress(FileNotFoundError):  # deleted as soon as it was made
                return open_private(self._files, self._directory, self._parts)
        return open_private(self._files, self._directory, self._parts)

    def _shard(self, name: str, *, create: bool = False) -> Shard:
        root = self._root or self._open()
        handle = open_directory(self._files, name, root.handle.fd, create=create)
        return Shard(self._files, handle, root.handle, name)

    def _sync_parents(self) -> None:
        path = self.path
        for _ in (self._directory, *self._parts):
            path = os.path.dirname(path)  # noqa: PTH120 - as above
            with suppress(OSError), Handle(self._files, self._files.open(path, DIRECTORY)) as parent:
                self._files.fsync(parent.fd)
