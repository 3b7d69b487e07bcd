"""Locks that many tasks, event loops, threads and processes may share.

Within a process: :class:`Lock`, :class:`KeyedLock` and :class:`Limiter`. Between processes: :func:`file_lock`. All functions
that acquire, :meth:`Lock.acquire_sync` and :class:`KeyedLock` take a ``timeout`` in seconds: ``None`` is :data:`DEFAULT_TIMEOUT`,
:data:`NON_BLOCKING` tries once, :data:`BLOCKING` waits for ever. :meth:`Lock.acquire`, :meth:`Limiter.hold` and :meth:`Limiter.hold_sync`
take none, and wait as long as it takes. A wait that is cancelled or times out leaves nothing taken.
"""

from acache.locks.acquiring import (
    Lockable,
    LockRank,
    RankedLocks,
    acquire_lock,
    acquire_many_locks,
    rank_of,
    unsafe_acquire_lock,
)
from acache.locks.files import acquire_flock, file_lock, hold_file, unsafe_acquire_flock
from acache.locks.keyed import KeyedLock
from acache.locks.limiter import Limiter
from acache.locks.mutex import Lock, LockStatistics
from acache.locks.timeouts import BLOCKING, BLOCKING_WITH_TIMEOUT, DEFAULT_TIMEOUT, NON_BLOCKING

__all__ = (
    "BLOCKING",
    "BLOCKING_WITH_TIMEOUT",
    "DEFAULT_TIMEOUT",
    "NON_BLOCKING",
    "KeyedLock",
    "Limiter",
    "Lock",
    "LockRank",
    "LockStatistics",
    "Lockable",
    "RankedLocks",
    "acquire_flock",
    "acquire_lock",
    "acquire_many_locks",
    "file_lock",
    "hold_file",
    "rank_of",
    "unsafe_acquire_flock",
    "unsafe_acquire_lock",
)
