"""What a directory holds, as far as its writers know: one small file that every write adds to, so that nobody has to scan.

::

    .ledger     magic, checksum, which shard is looked at next, how often all were, when for age, total bytes, total files,
                bytes and files of each shard, and of each a number for the policy

It is never too low, but for what is on its way. A writer adds what he has published; what is replaced or deleted is not taken off, but a shard that
is looked at (:mod:`acache.files.culling`) is set right: to what lies there, plus what was added since the look began.
Whoever is killed between publishing and adding leaves one file out, until its shard is looked at.

A ledger that is missing or damaged is begun anew, and counts for nothing until every shard was looked at once.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from struct import Struct
from typing import Final, NamedTuple, final

from acache.files.handle import Handle
from acache.files.system import FileSystem
from acache.files.temporary import write_all

__all__ = ("LEDGER", "NOTHING", "SHARDS", "Amount", "Ledger", "Page")

#: Its name, in the cache's directory.
LEDGER: Final = ".ledger"
SHARDS: Final = 256

_MAGIC: Final = b"acledg\x02\n"
_HEAD: Final = Struct("<8sI")
_LOOKS: Final = Struct("<IId")
_AMOUNT: Final = Struct("<QQ")
_TOTAL: Final = _HEAD.size + _LOOKS.size
_SHARDS: Final = _TOTAL + _AMOUNT.size
_HAND: Final = Struct("<q")
_MOST_HAND: Final = (1 << 63) - 1
_HANDS: Final = _SHARDS + SHARDS * _AMOUNT.size
_SIZE: Final = _HANDS + SHARDS * _HAND.size
#: Entries that may be owed; while the disk fails for longer, the oldest are forgotten.
_MOST_OWED: Final = 65536
_READ_WRITE: Final = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_TRY_LOCK: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
#: Pauses between attempts to lock, in seconds. The lock is held for microseconds.
_PAUSES: Final = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


class Amount(NamedTuple):
    """Bytes and files."""

    bytes: int = 0
    files: int = 0

    def plus(self, other: Amount) -> Amount:
        """Return the sum."""
        return Amount(self.bytes + other.bytes, self.files + other.files)

    def minus(self, other: Amount) -> Amount:
        """Return the difference, of which no part is below zero."""
        return Amount(max(0, self.bytes - other.bytes), max(0, self.files - other.files))


NOTHING: Final = Amount()


@final
class Page:
    """What the ledger says: the bytes of the file, in which every write changes a few."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytearray(data)
        if not self._is_whole():
            self._data = bytearray(_SIZE)

    def _is_whole(self) -> bool:
        if len(self._data) != _SIZE:
            return False
        return _HEAD.unpack_from(self._data) == (_MAGIC, zlib.crc32(memoryview(self._data)[_HEAD.size :]))

    def pack(self) -> bytearray:
        """Return the bytes of the file."""
        _HEAD.pack_into(self._data, 0, _MAGIC, zlib.crc32(memoryview(self._data)[_HEAD.size :]))
        return self._data

    def next_shard(self, step: int = 0) -> int:
        """Return the shard to look at next, or ``step`` shards after it."""
        hand: int = _LOOKS.unpack_from(self._data, _HEAD.size)[0]
        return (hand + step) % SHARDS

    @property
    def is_counted(self) -> bool:
        """Whether every shard was looked at since the ledger was begun."""
        rounds: int = _LOOKS.unpack_from(self._data, _HEAD.size)[1]
        return rounds > 0

    @property
    def aged(self) -> float:
        """Wall-clock seconds of the last search for what is too old."""
        aged: float = _LOOKS.unpack_from(self._data, _HEAD.size)[2]
        return aged

    @aged.setter
    def aged(self, wall: float) -> None:
        hand, rounds, _ = _LOOKS.unpack_from(self._data, _HEAD.size)
        _LOOKS.pack_into(self._data, _HEAD.size, hand, rounds, wall)

    @property
    def total(self) -> Amount:
        """What all shards hold, on paper."""
        return Amount(*_AMOUNT.unpack_from(self._data, _TOTAL))

    def shard(self, number: int) -> Amount:
        """Return what one shard holds, on paper."""
        return Amount(*_AMOUNT.unpack_from(self._data, _SHARDS + number * _AMOUNT.size))

    def hand(self, number: int) -> int:
        """Return what the policy keeps of a shard (:class:`~acache.files.choosing.Choice`)."""
        hand: int = _HAND.unpack_from(self._data, _HANDS + number * _HAND.size)[0]
        return hand

    def set_hand(self, number: int, hand: int) -> None:
        """Keep that; as the largest there is room for, if it is larger: a file's time may be any."""
        _HAND.pack_into(self._data, _HANDS + number * _HAND.size, min(hand, _MOST_HAND))

    def add(self, number: int, amount: Amount) -> None:
        """Count what was published."""
        self._set(number, self.shard(number).plus(amount))

    def turn(self) -> None:
        """Move the hand on."""
        hand, rounds, aged = _LOOKS.unpack_from(self._data, _HEAD.size)
        rounds = 1 if rounds or (hand + 1) % SHARDS == 0 else 0
        _LOOKS.pack_into(self._data, _HEAD.size, (hand + 1) % SHARDS, rounds, aged)

    def settle(self, number: int, before: Amount, found: Amount) -> None:
        """Set a shard right: it had ``before`` on paper when the look began that ``found`` something."""
        self._set(number, found.plus(self.shard(number).minus(before)))

    def _set(self, number: int, amount: Amount) -> None:
        total = self.total.minus(self.shard(number)).plus(amount)
        _AMOUNT.pack_into(self._data, _TOTAL, *total)
        _AMOUNT.pack_into(self._data, _SHARDS + number * _AMOUNT.size, *amount)


@final
class Ledger:
    """The ledger of one directory, which ``root`` opens. Any thread may use it; the file is opened for each use.

    What cannot be entered, because the disk fails or a stopped process holds the lock, is owed, and entered next time.
    """

    __slots__ = ("_files", "_owed", "_root")

    def __init__(self, files: FileSystem, root: Callable[[], Handle]) -> None:
        self._files: Final = files
        self._root: Final = root
        # Not behind a lock, which a forked child might inherit held: each change is one atomic operation.
        self._owed: deque[tuple[int, Amount]] = deque(maxlen=_MOST_OWED)

    def add(self, shard: int, amount: Amount) -> Page | None:
        """Enter what was published, and return the page; ``None`` if that cannot be done now.

        Raises :class:`BlockingIOError` while a process that was stopped holds the ledger.
        """
        self._owed.append((shard, amount))
        try:
            with self.open() as page:
                return page
        except BlockingIOError:
            raise
        except OSError:
            return None

    @contextmanager
    def open(self, *, wait: bool = True) -> Generator[Page]:
        """Hold the page, with all debts entered; what the block changes is written.

        Raises :class:`OSError`; :class:`BlockingIOError` if somebody holds it, and goes on doing so with ``wait``.
        """
        root = self._root()
        with self._held(root, wait=wait) as fd:
            page = Page(self._read(fd))
            entered: list[tuple[int, Amount]] = []
            try:
                with suppress(IndexError):
                    while True:
                        entered.append(self._owed.popleft())
                        page.add(*entered[-1])
                yield page
                write_all(self._files, fd, (page.pack(),))
            except BaseException:
                self._owed.extend(entered)
                raise

    @contextmanager
    def _held(self, root: Handle, *, wait: bool) -> Generator[int]:
        # Opened anew each time: a lock belongs to the open file, which threads and forked children would share.
        with Handle(self._files, self._files.open(LEDGER, _READ_WRITE | os.O_CREAT, at=root.fd)) as handle:
            self._lock(handle.fd, wait=wait)
            try:
                yield handle.fd
            finally:
                with suppress(OSError):
                    self._files.flock(handle.fd, fcntl.LOCK_UN)

    def _read(self, fd: int) -> bytes:
        data = self._files.pread(fd, _SIZE + 1, 0)
        while data and len(data) < _SIZE:
            more = self._files.pread(fd, _SIZE + 1 - len(data), len(data))
            if not more:
                break
            data += more
        return data

    def _lock(self, fd: int, *, wait: bool) -> None:
        for pause in _PAUSES if wait else ():
            try:
                self._files.flock(fd, _TRY_LOCK)
            except BlockingIOError:
                self._files.pause(pause)
            else:
                return
        self._files.flock(fd, _TRY_LOCK)
