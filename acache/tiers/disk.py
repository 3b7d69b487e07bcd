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

A directory may be limited (:mod:`acache.files.keeping`): every write is entered into a ledger, and what is too much is
culled behind the writers' backs, by one process at a time. What counts are the bytes of the files that hold entries, not
the blocks they take, nor files in quarantine. Limits hold if all who write there set them: others' files are counted when
they are found. Recency is shared by all processes, to within the minute after which they tell each other of hits.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal

from acache.clock import SYSTEM_CLOCK, Clock, Duration, as_seconds
from acache.codecs import (
    HEADER_SIZE,
    Codec,
    Signer,
    chosen_signer,
    decode_frame,
    encode_frame,
    get_codec,
    read_header,
)
from acache.events import RemovalCause, TierOperation
from acache.exceptions import CacheError, ConfigurationError, EntryRejectedError, ValueDecodingError
from acache.files import (
    ABANDONED,
    DAMAGED,
    DISK_POLICIES,
    EXPIRED,
    Blob,
    Culled,
    DiskPolicy,
    FileSystem,
    Keeper,
    Limits,
    Published,
    Shelf,
    StampFiles,
    Verdict,
    in_thread,
    in_thread_to_the_end,
    long_in_thread,
    long_in_thread_to_the_end,
    size_of,
)
from acache.files.system import REAL_FILES
from acache.locks import Lockable, LockRank, hold_file
from acache.tiers.base import Tier
from acache.tiers.examining import CAUSES, Examiner
from acache.tiers.limits import check_limit
from acache.tiers.stamps import SharedStamps
from acache.types import MISSING, Entry, Key, Missing, Written

__all__ = ("DiskTier",)

#: After a write failed for want of space or of permission, none is tried for so many seconds.
_WRITE_PAUSE: Final = 1.0
#: So many entries are read on the loop, if the kernel has them in memory; more would hold it up.
_FEW: Final = 4
#: Bytes of a value from which on writing takes milliseconds, and would hold up small operations and, on its processor, the loop.
_LARGE: Final = 1 << 20
#: How often a lock is tried whose directory is deleted meanwhile.
_LOCK_TRIES: Final = 100
_NO_WRITING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class DiskTier(Tier):
    """Store entries in files below ``directory/sub_dir``, which all processes of this user on this host may share.

    Entries of another ``version`` do not exist for each other. ``codec`` writes the values; ``signer`` (default: one
    with the key of ``ACACHE_SIGNING_KEY``, if there is one) signs them and refuses what is not signed. ``durable`` makes every write wait until the disk has it, so that entries survive a
    power failure; without it one may lose the last of them, and never damages a value that is read. ``files`` is the
    file system, for tests. Directories are made with mode 0700, files with 0600.

    The directory holds no more than 1.05 times ``max_bytes`` and ``max_entries``, and one entry more for each writer;
    ``None`` is no limit. Who goes first says ``policy`` (:mod:`acache.files.choosing`): what is oldest and was not used
    since the last look at it (``"sieve"``), what was not used for longest (``"lru"``), what was used least (``"lfu"``), or what took
    the fewest seconds to compute, for each byte and each second since its last use (``"cost"``). All processes that write should agree on it. An entry created
    ``max_age`` ago is a miss, and removed in time. While nobody can make room, because a process was stopped in the middle of
    that, writes are refused.

    Raises :class:`~acache.exceptions.ConfigurationError` for a limit below 1, an age that is not positive, an unknown policy,
    and a ``sub_dir`` that leaves the directory; and at the first
    use :class:`~acache.exceptions.UnsafeDirectoryError` for a directory that another user owns or can write.

    A write that is cancelled has been done completely, or is never done, when the cancellation goes on. Small operations are
    done by one thread of the process, ``acache-io``; where only one event loop asks it, Linux is told to run it on that loop's processor.
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
        max_bytes: int | None = None,
        max_entries: int | None = None,
        max_age: Duration | None = None,
        policy: DiskPolicy = "sieve",
        name: str = "disk",
        clock: Clock = SYSTEM_CLOCK,
        files: FileSystem | None = None,
    ) -> None:
        super().__init__(name=name, clock=clock, on_corrupt=on_corrupt)
        self._codec: Final = get_codec(codec)
        self._shelf: Final = Shelf(directory, sub_dir, durable=durable, files=files)
        self._max_age: Final = as_seconds(max_age, "max_age")
        limits = self._limits(max_bytes, max_entries, policy)
        self._keeper: Final = (
            Keeper(self._shelf, limits, REAL_FILES if files is None else files, clock.wall, self._note_culled)
            if limits.are_of_size or limits.max_age is not None
            else None
        )
        self._stamps: Final = SharedStamps(StampFiles(self._shelf), clock, self._miss_stamps)
        self.stamps = self._stamps
        self._examiner: Final = Examiner(
            version=version,
            signer=chosen_signer(signer),
            max_age=self._max_age,
            clock=clock,
            is_live=self._is_live,
            is_dead=self._stamps.is_dead_here,
        )
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
        if self._shelf.is_open:
            await in_thread(self._shelf.close)

    @asynccontextmanager
    async def lock(self, timeout: float | None = None) -> AsyncGenerator[None]:
        """Hold the lock of the directory, among all processes of the host, for an ``async with`` block.

        Reads and writes do not need it. ``timeout`` is in seconds, and begins again if the directory is deleted
        meanwhile. Raises :class:`~acache.exceptions.FileLockTimeoutError`, and :class:`OSError` where files cannot be
        locked.
        """
        async with self._hold(self._shelf.lock_path(), timeout):
            yield

    async def ranked_locks(self) -> Mapping[LockRank, Lockable]:
        """Say what :meth:`lock` locks: a file, which is also that of other tiers on this directory, in any process."""

        def find() -> str:
            self._shelf.prepare_locks()
            return os.path.realpath(self._shelf.lock_path())

        return {(0, await in_thread(find), "", 0): self}

    @asynccontextmanager
    async def hold_host_lock(self, key: Key, timeout: float | None = None) -> AsyncGenerator[None]:
        """Hold the lock of one key among all processes of the host, for an ``async with`` block.

        ``timeout`` and errors are those of :meth:`lock`.
        """
        # The lock's file stays until it is swept: files that come and go with every computation make ext4 search ever
        # longer for a free inode, which slows all creations down, measured 10 to 50 times.
        async with self._hold(self._shelf.lock_path(key), timeout):
            yield

    @asynccontextmanager
    async def _hold(self, path: str, timeout: float | None) -> AsyncGenerator[None]:
        """Hold the lock of a file in a directory that may be deleted at any moment, even before the file is opened."""
        async with AsyncExitStack() as held:
            for left in reversed(range(_LOCK_TRIES)):
                try:
                    await held.enter_async_context(hold_file(path, timeout, before=self._shelf.prepare_locks))
                    break
                except (FileNotFoundError, FileExistsError):
                    # The second: filelock makes the directory too, finds it made, and then looks for it in vain.
                    if not left:
                        raise
            yield

    async def drop_host_lock(self, key: Key) -> bool:
        """Remove the file of a :meth:`hold_host_lock`; tell whether it is gone.

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
            return await long_in_thread_to_the_end(partial(self._shelf.sweep, force=True))
        except OSError as error:
            self._degrade("scan", None, error)
            return 0

    async def cull(self) -> int:
        """Remove what is beyond the limits now, and everything that is too old; return how many entries.

        Writes see to that too. 0 also if another process or thread is at it, and without limits.
        """
        if self._keeper is None:
            return 0
        try:
            return await long_in_thread_to_the_end(partial(self._keeper.cull, thorough=True)) or 0
        except OSError as error:
            self._degrade("evict", None, error)
            return 0

    # --- primitives -----------------------------------------------------------------------------------------------

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        codec = self._codec if codec is None else codec
        try:
            entry = await in_thread(self._load, key, codec)
        except EntryRejectedError as error:
            if await in_thread(self._reject, key, codec, error) is None:
                return None
            raise
        if entry is not None:
            self._note_use(key)
        return entry

    def _read_now(self, key: Key, codec: Codec | None) -> Entry | Missing | None:
        data = self._shelf.read_warm(key)
        if data is None or data is MISSING:
            return data
        codec = self._codec if codec is None else codec
        try:
            examiner = self._examiner
            entry = decode_frame(data, key, codec=codec, version_digest=examiner.version, signer=examiner.signer)
        except ValueDecodingError:
            return None  # it is read again, in a thread, where it can be taken away
        if entry.tags:
            dead = self._stamps.is_dead_now(key, entry, fresh=True)
            if dead is not False:
                return MISSING if dead else None
        if self._keeper is not None:
            self._examiner.age(entry)
            self._note_use(key)
        return entry

    async def _read_many(self, keys: Sequence[Key], codec: Codec | None) -> Sequence[Entry | Exception | None]:
        codec = self._codec if codec is None else codec
        few = len(keys) <= _FEW
        found = {key: self._read_now(key, codec) for key in keys} if few else {}
        rest = [key for key in keys if found.get(key) is None]
        hop = in_thread if few else long_in_thread
        loaded = dict(zip(rest, await hop(self._load_all, rest, codec), strict=True)) if rest else {}
        for key, entry in loaded.items():
            if isinstance(entry, Entry):
                self._note_use(key)
        return [loaded[key] if key in loaded else _without_missing(found[key]) for key in keys]

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        now = self._begin_write()
        hop = long_in_thread_to_the_end if _is_large(entry.value) else in_thread_to_the_end
        try:
            written = await hop(self._store, key, entry, self._codec if codec is None else codec, replace)
        except OSError as error:
            self._pause(error, now)
            raise
        self._housekeep(now)
        return written

    async def _write_many(
        self, entries: Mapping[Key, Entry], codec: Codec | None, *, replace: bool
    ) -> Sequence[Written | Exception]:
        now = self._begin_write()
        written = await long_in_thread_to_the_end(
            self._store_all, entries, self._codec if codec is None else codec, replace
        )
        for outcome in written:
            if isinstance(outcome, OSError):
                self._pause(outcome, now)
        self._housekeep(now)
        return written

    def _begin_write(self) -> float:
        now = self.clock.monotonic()
        if now < self._write_at:
            raise OSError(self._write_error, "no write is tried so soon after one that failed")
        return now

    def _pause(self, error: OSError, now: float) -> None:
        if error.errno in _NO_WRITING:
            self._write_at, self._write_error = now + _WRITE_PAUSE, error.errno

    def _housekeep(self, now: float) -> None:
        if now >= self._sweep_at:
            self._sweep_at = now + ABANDONED
            _behind_the_back(self._sweep_quietly)
        self._tidy_if_due(writes=True)

    async def _remove(self, key: Key) -> bool:
        return await in_thread_to_the_end(self._take_out, key, "invalidated")

    async def _scan(self) -> AsyncGenerator[Key]:
        for shard in await in_thread(self._shelf.shards):
            for key in await in_thread(self._shelf.keys, shard):
                yield key

    async def _factors(self, key: Key) -> Mapping[str, str] | None:
        return await in_thread(self._load_factors, key)

    async def _clear(self, prefix: str) -> None:
        await long_in_thread_to_the_end(self._shelf.clear, prefix, self._note_cleared)

    # --- in a thread ----------------------------------------------------------------------------------------------

    def _load(self, key: Key, codec: Codec) -> Entry | None:
        try:
            with self._shelf.open(key) as blob:
                entry = self._examiner.decode(blob, key, codec)
            return None if entry.tags and self._stamps.is_dead_here(key, entry) else entry
        except FileNotFoundError:
            return None

    def _note_cleared(self, key: Key) -> None:
        self._note_removal(key, "invalidated")

    def _take_out(self, key: Key, cause: RemovalCause) -> bool:
        removed = self._shelf.remove(key)
        if removed:
            self._note_removal(key, cause)
        return removed

    def _load_all(self, keys: Sequence[Key], codec: Codec) -> list[Entry | Exception | None]:
        found: list[Entry | Exception | None] = []
        for key in keys:
            try:
                entry = self._load(key, codec)
                found.append(entry)
            except EntryRejectedError as error:
                found.append(self._reject(key, codec, error))
            except Exception as error:  # noqa: BLE001 - of this entry only
                found.append(error)
        return found

    def _reject(self, key: Key, codec: Codec, error: EntryRejectedError) -> EntryRejectedError | None:
        """Take away what was rejected, if that is ours to do; return the error unless it is a mere miss."""
        if error.reason != "format":
            with suppress(OSError):  # busy or read-only: it is no hit wherever it lies
                verdict = self._shelf.reclaim(key, self._examiner.judge(key, codec))
                if verdict is not None:
                    self._note_removal(key, CAUSES[verdict])
        return None if error.reason in {"format", "version"} else error

    def _store_all(self, entries: Mapping[Key, Entry], codec: Codec, replace: bool) -> list[Written | Exception]:
        written: list[Written | Exception] = []
        for key, entry in entries.items():
            try:
                written.append(self._store(key, entry, codec, replace))
            except Exception as error:  # noqa: BLE001 - of this entry only
                if isinstance(error, OSError) and error.errno in _NO_WRITING:  # nor can the others be written
                    return [*written, *[error] * (len(entries) - len(written))]
                written.append(error)
        return written

    def _load_factors(self, key: Key) -> Mapping[str, str] | None:
        """Read what an entry says of itself. Not verified: enough to explain with, and nothing is served."""
        try:
            with self._shelf.open(key) as blob:
                return self._examiner.look(blob, self._codec)[1].factors
        except (FileNotFoundError, EntryRejectedError):
            return None

    def _store(self, key: Key, entry: Entry, codec: Codec, replace: bool) -> Written:
        examiner, keeper = self._examiner, self._keeper
        buffers = encode_frame(entry, key, codec=codec, version_digest=examiner.version, signer=examiner.signer)
        judge = examiner.glance(key, codec) if replace else examiner.judge(key, codec)
        published: Published | None = None
        if keeper is None:
            published = self._shelf.publish(key, buffers, replace=replace, judge=judge)
        elif not keeper.refuses(size_of(buffers)):
            published = keeper.publish(key, buffers, replace=replace, judge=judge)
        if published is None:
            self._counters.failures += 1
            self._emit("write", "failed", key, "full")
            return self._refuse(key, replace=replace)
        over = published.over
        if over is not None and not (entry.renews and over is Verdict.STAYS):
            self._note_removal(key, CAUSES[over])
        return Written.NEW if published.stored else Written.PRESENT

    def _refuse(self, key: Key, *, replace: bool) -> Written:
        """Do without an entry; what it was to replace is not what was set last, and goes."""
        if replace:
            self._take_out(key, "replaced")
        return Written.FAILED

    def _miss_stamps(self, operation: TierOperation, error: OSError) -> None:
        self._degrade(operation, None, error)

    def _sweep_quietly(self) -> None:
        # The directory may be read-only or gone by now; the next write will say so.
        with suppress(OSError, CacheError):
            self._shelf.sweep(force=False)

    # --- limits ---------------------------------------------------------------------------------------------------

    def _limits(self, max_bytes: int | None, max_entries: int | None, policy: DiskPolicy) -> Limits:
        max_bytes, max_entries = check_limit("max_bytes", max_bytes), check_limit("max_entries", max_entries)
        if self._max_age is not None and self._max_age <= 0:
            raise ConfigurationError("max_age", "an age is positive; use None for no limit")
        if policy not in DISK_POLICIES:
            raise ConfigurationError("policy", f"unknown; known policies: {', '.join(DISK_POLICIES)}")
        return Limits(max_bytes, max_entries, self._max_age, policy, self._worth if policy == "cost" else None)

    def _worth(self, blob: Blob) -> float:
        """Return the seconds an entry took to compute; less than none, if it is dead."""
        try:
            header = read_header(blob.read(HEADER_SIZE))
        except EntryRejectedError as error:
            return 0.0 if error.reason == "format" else DAMAGED
        return EXPIRED if header.is_expired(self.clock.wall()) else max(0.0, header.cost)

    def _note_use(self, key: Key) -> None:
        if self._keeper is not None:
            self._keeper.note(key)
            self._tidy_if_due(writes=False)

    def _tidy_if_due(self, *, writes: bool) -> None:
        keeper = self._keeper
        if keeper is not None:
            now = self.clock.monotonic()
            if keeper.is_due(now, writes=writes):
                _behind_the_back(partial(keeper.tidy, now, writes=writes))

    def _note_culled(self, gone: Sequence[Culled]) -> None:
        for key, cause in gone:
            self._note_removal(key, cause)


def _behind_the_back(work: Callable[[], object]) -> None:
    """Let a thread do the housekeeping, for which nobody should wait. A loop that is closing takes no more work."""
    with suppress(RuntimeError):
        asyncio.get_running_loop().run_in_executor(None, work)


def _is_large(value: object) -> bool:
    """Tell whether ``value`` is known to be large; how large others are, only encoding them would tell."""
    return isinstance(value, (bytes, bytearray, str)) and len(value) >= _LARGE


def _without_missing(found: Entry | Missing | None) -> Entry | None:
    return None if found is MISSING else found
