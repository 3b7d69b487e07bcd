"""Entries on this host's disk: one file each, read without a lock, published at once or not at all.

What is here is the judgement of stored bytes and the way between the event loop and its threads; how files come and go
is :mod:`acache.files`. A small file that the kernel has in memory is read on the loop, which cannot wait for that;
everything else takes one hop to a thread of the loop's executor, encoding and decoding included.

What becomes of a stored file that is not a hit::

    expired, or its value cannot be decoded   a miss; the next insert replaces it
    born before a tag of its was invalidated  the same
    of another cache version                  a miss; removed when it is read
    of a later format of acache               a miss; it stays, and inserts lose to it: its writer still wants it
    damaged, planted, of another key          rejected; moved into quarantine
    of another codec; signed, we have no key  rejected; the next insert replaces it

``set`` replaces all of them.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal

from filelock import BaseAsyncFileLock

from acache.clock import SYSTEM_CLOCK, Clock
from acache.codecs import (
    HEADER_SIZE,
    MAX_META,
    Codec,
    Signer,
    configured_signer,
    decode_frame,
    encode_frame,
    get_codec,
    read_header,
    unpack_meta,
    version_digest,
)
from acache.events import TierOperation
from acache.exceptions import CacheError, EntryRejectedError, ValueDecodingError
from acache.files import (
    ABANDONED,
    WARM_LIMIT,
    Blob,
    FileSystem,
    Shelf,
    StampFiles,
    Verdict,
    in_thread,
    in_thread_to_the_end,
)
from acache.locks import acquire_flock, file_lock
from acache.tiers.base import Tier
from acache.tiers.stamps import SharedStamps
from acache.types import MISSING, Entry, Key, Missing, Written

__all__ = ("DiskTier",)

#: After a write failed for want of space or of permission, none is tried for so many seconds.
_WRITE_PAUSE: Final = 1.0
_NO_WRITING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class DiskTier(Tier):
    """Store entries in files below ``directory/sub_dir``, which all processes of this user on this host may share.

    Entries of another ``version`` do not exist for each other. ``codec`` writes the values; ``signer`` (default: one
    with the key of ``ACACHE_SIGNING_KEY``, if there is one) signs them and refuses what is not signed. ``durable`` makes every write wait until the disk has it, so that entries survive a
    power failure; without it one may lose the last of them, and never damages a value that is read. ``files`` is the
    file system, for tests. Directories are made with mode 0700, files with 0600.

    Raises :class:`~acache.exceptions.ConfigurationError` for a ``sub_dir`` that leaves the directory, and at the first
    use :class:`~acache.exceptions.UnsafeDirectoryError` for a directory that another user owns or can write.

    A write that is cancelled has been done completely, or is never done, when the cancellation goes on.
    """

    reach: Literal[0, 1, 2] = 1

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        sub_dir: str = "",
        version: int | str = 0,
        on_corrupt: Literal["miss", "raise"] = "miss",
        codec: str | Codec = "pickle",
        signer: Signer | None = None,
        durable: bool = False,
        name: str = "disk",
        clock: Clock = SYSTEM_CLOCK,
        files: FileSystem | None = None,
    ) -> None:
        super().__init__(name=name, clock=clock, on_corrupt=on_corrupt)
        self._codec: Final = get_codec(codec)
        self._version: Final = version_digest(version)
        self._signer: Final = configured_signer() if signer is None else signer
        self._shelf: Final = Shelf(directory, sub_dir, durable=durable, files=files)
        self._stamps: Final = SharedStamps(StampFiles(self._shelf), clock, self._miss_stamps)
        self.stamps = self._stamps
        self._sweep_at = -math.inf
        self._write_at = -math.inf
        self._write_error = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shelf.path!r})"

    @property
    def path(self) -> Path:
        """The directory of the tier's files; it may not exist yet."""
        return Path(self._shelf.path)

    async def aclose(self) -> None:
        """Close the directory; it is opened again at the next use. Idempotent; what threads have begun they finish."""
        self._shelf.close()

    @asynccontextmanager
    async def lock(self, timeout: float | None = None) -> AsyncGenerator[None]:
        """Hold the lock of the directory, among all processes of the host, for an ``async with`` block.

        Reads and writes do not need it. ``timeout`` is in seconds. Raises
        :class:`~acache.exceptions.FileLockTimeoutError`, and :class:`OSError` where files cannot be locked.
        """
        path = await in_thread(self._shelf.lock_file)
        async with acquire_flock(file_lock(path), timeout):
            yield

    def host_lock(self, key: Key) -> BaseAsyncFileLock:
        """Make the lock of one key among all processes of the host, for :func:`acache.locks.acquire_flock`.

        Blocks for the making of the directory if the tier was not used before. The lock's file stays until
        :meth:`drop_host_lock`, or until a sweep finds it an hour old and unused; :meth:`hold_host_lock` sees to all that.
        """
        return file_lock(self._shelf.key_lock_file(key))

    @asynccontextmanager
    async def hold_host_lock(self, key: Key, timeout: float | None = None) -> AsyncGenerator[None]:
        """Hold the lock of one key among all processes of the host, for an ``async with`` block.

        ``timeout`` is in seconds. Raises :class:`~acache.exceptions.FileLockTimeoutError`, and :class:`OSError` where
        files cannot be locked.
        """
        # The lock's file stays until it is swept: files that come and go with every computation make ext4 search ever
        # longer for a free inode, which slows all creations down, measured 10 to 50 times.
        async with acquire_flock(await in_thread(self.host_lock, key), timeout):
            yield

    async def drop_host_lock(self, key: Key) -> bool:
        """Remove the file of a :meth:`host_lock`; tell whether it is gone.

        Call it after the lock was released. While anybody holds the lock the file stays, so two never hold one lock.
        """
        try:
            return await in_thread(self._shelf.drop_key_lock, key)
        except OSError as error:
            self._degrade("lock", key, error)
            return False

    async def sweep(self) -> int:
        """Remove what killed processes left more than an hour ago; return how many files.

        The first write does that too, and writes after every further hour.
        """
        self._sweep_at = self.clock.monotonic() + ABANDONED
        try:
            return await in_thread_to_the_end(partial(self._shelf.sweep, force=True))
        except OSError as error:
            self._degrade("scan", None, error)
            return 0

    # --- primitives -----------------------------------------------------------------------------------------------

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        return await in_thread(self._load, key, self._codec if codec is None else codec)

    def _read_now(self, key: Key, codec: Codec | None) -> Entry | Missing | None:
        data = self._shelf.read_warm(key)
        if data is None or data is MISSING:
            return data
        codec = self._codec if codec is None else codec
        try:
            entry = decode_frame(data, key, codec=codec, version_digest=self._version, signer=self._signer)
        except ValueDecodingError:
            return None  # it is read again, in a thread, where it can be taken away
        if not entry.tags:
            return entry
        dead = self._stamps.is_dead_now(key, entry, fresh=True)
        return None if dead is None else MISSING if dead else entry

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        now = self.clock.monotonic()
        if now < self._write_at:
            raise OSError(self._write_error, "no write is tried so soon after one that failed")
        try:
            written = await in_thread_to_the_end(
                self._store, key, entry, self._codec if codec is None else codec, replace
            )
        except OSError as error:
            if error.errno in _NO_WRITING:
                self._write_at, self._write_error = now + _WRITE_PAUSE, error.errno
            raise
        if now >= self._sweep_at:
            self._sweep_at = now + ABANDONED
            # Nobody should wait for the housekeeping. A loop that is closing takes no more work.
            with suppress(RuntimeError):
                asyncio.get_running_loop().run_in_executor(None, self._sweep_quietly)
        return written

    async def _remove(self, key: Key) -> bool:
        return await in_thread_to_the_end(self._shelf.remove, key)

    async def _scan(self) -> AsyncGenerator[Key]:
        for shard in await in_thread(self._shelf.shards):
            for key in await in_thread(self._shelf.keys, shard):
                yield key

    async def _factors(self, key: Key) -> Mapping[str, str] | None:
        return await in_thread(self._load_factors, key)

    async def _clear(self, prefix: str) -> None:
        await in_thread_to_the_end(self._shelf.clear, prefix)

    # --- in a thread ----------------------------------------------------------------------------------------------

    def _load(self, key: Key, codec: Codec) -> Entry | None:
        try:
            with self._shelf.open(key) as blob:
                entry = self._decode(blob, key, codec)
            return None if entry.tags and self._stamps.is_dead_here(key, entry) else entry
        except FileNotFoundError:
            return None
        except EntryRejectedError as error:
            if error.reason == "format":
                return None
            with suppress(OSError):  # busy or read-only: it is no hit wherever it lies
                self._shelf.reclaim(key, self._judge(key, codec))
            if error.reason == "version":
                return None
            raise

    def _load_factors(self, key: Key) -> Mapping[str, str] | None:
        """Read what an entry says of itself. Not verified: enough to explain with, and nothing is served."""
        try:
            with self._shelf.open(key) as blob:
                size = read_header(blob.read(HEADER_SIZE)).meta_size
                return unpack_meta(blob.read(HEADER_SIZE + min(size, MAX_META))[HEADER_SIZE:], self._codec.name).factors
        except (FileNotFoundError, EntryRejectedError):
            return None

    def _store(self, key: Key, entry: Entry, codec: Codec, replace: bool) -> Written:
        buffers = encode_frame(entry, key, codec=codec, version_digest=self._version, signer=self._signer)
        stored = self._shelf.publish(key, buffers, replace=replace, judge=self._judge(key, codec))
        return Written.NEW if stored else Written.PRESENT

    def _decode(self, blob: Blob, key: Key, codec: Codec) -> Entry:
        # A file that is not as large as it says it is need not be read to the end, nor into memory.
        if blob.size > WARM_LIMIT and read_header(blob.read(HEADER_SIZE)).frame_size != blob.size:
            raise EntryRejectedError("corrupt")
        return decode_frame(blob.read(), key, codec=codec, version_digest=self._version, signer=self._signer)

    def _judge(self, key: Key, codec: Codec) -> Callable[[Blob], Verdict]:
        def judge(blob: Blob) -> Verdict:
            try:
                entry = self._decode(blob, key, codec)
            except EntryRejectedError as error:
                return self._sentence(error.reason, blob, key)
            except ValueDecodingError:
                return Verdict.YIELDS
            dead = not self._is_live(entry) or (entry.tags and self._stamps.is_dead_here(key, entry))
            return Verdict.YIELDS if dead else Verdict.STAYS

        return judge

    def _sentence(self, reason: str, blob: Blob, key: Key) -> Verdict:
        match reason:
            case "format":
                return Verdict.STAYS
            case "version":
                return Verdict.GOES
            case "signature" if self._signer is None:
                return Verdict.YIELDS
            case "foreign" if read_header(blob.read(HEADER_SIZE)).key == bytes.fromhex(key):
                return Verdict.YIELDS
            case _:
                return Verdict.SUSPECT

    def _miss_stamps(self, operation: TierOperation, error: OSError) -> None:
        self._degrade(operation, None, error)

    def _sweep_quietly(self) -> None:
        # The directory may be read-only or gone by now; the next write will say so.
        with suppress(OSError, CacheError):
            self._shelf.sweep(force=False)
