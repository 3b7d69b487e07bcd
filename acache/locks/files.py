"""File locks: one holder among all processes of a host, and among the tasks and threads of each of them.

The lock is the kernel's ``flock`` on an open file, taken through filelock: it is gone the moment its process dies, and
no unrelated ``close`` drops it as it drops a POSIX record lock. What is added here:

- filelock's instances are re-entrant, so two tasks sharing one would both get in. Here they queue.
- A wait is a series of single attempts with growing pauses. It holds no thread meanwhile, and ends on time even if
  the holder is stopped.
- A cancelled attempt is completed and undone by filelock before the cancellation goes on, so nothing stays locked.

The lock file is never removed: a second process could otherwise lock a new file while the first holds the old one.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol, TypedDict, final

import anyio
from filelock import AsyncFileLock, BaseAsyncFileLock, FileLock, Timeout

from acache.exceptions import ConfigurationError, FileLockTimeoutError, LockTimeoutError
from acache.files import in_thread, in_thread_to_the_end
from acache.locks.keyed import KeyedLock
from acache.locks.mutex import Holding
from acache.locks.timeouts import resolve_timeout

__all__ = ("acquire_flock", "file_lock", "hold_file", "unsafe_acquire_flock")

#: Pauses between two attempts, in seconds: the first, doubled up to the last.
_FIRST_PAUSE: Final = 0.001
_LAST_PAUSE: Final = 0.05

#: The queue of this process before each lock file.
_queues: Final = KeyedLock[str]()
#: The locks that are held for a block, by file.
_held: Final[dict[str, _Flock]] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)  # they are the parent's


def file_lock(path: str | os.PathLike[str], *, in_executor: bool = True) -> BaseAsyncFileLock:
    """Make a lock on the file ``path``, for :func:`acquire_flock`. Nothing is opened yet.

    Attempts are made in the loop's executor; without ``in_executor``, on the loop itself, for when executors are over.

    The file is created with mode 0600, never written, truncated or removed. A symbolic link, a directory, a FIFO or a
    device in its place is refused with an :class:`OSError` when the lock is acquired; so is a file system without
    ``flock``. A lock is cheap; make one for each use, because after ``os.fork()`` the child cannot use its parent's.
    """
    return AsyncFileLock(_absolute(path), run_in_executor=in_executor, **_KIND)


@asynccontextmanager
async def acquire_flock(flock: BaseAsyncFileLock, timeout: float | None = None) -> AsyncGenerator[None]:
    """Hold the file lock ``flock`` for an ``async with`` block.

    Tasks and threads of this process are served in turn, other processes in no order. ``timeout`` is in seconds.
    Raises :class:`~acache.exceptions.FileLockTimeoutError` when they are over, :class:`OSError` for a file that cannot be
    locked, and :class:`~acache.exceptions.ConfigurationError` for a lock of another kind. Cancelled, it leaves nothing taken. All users of one instance must come through here: filelock
    itself lets a second task into an instance that is held.
    """
    _check(flock)
    async with _hold(flock, timeout):
        yield


@asynccontextmanager
async def hold_file(
    path: str | os.PathLike[str], timeout: float | None = None, *, before: Callable[[], object] | None = None
) -> AsyncGenerator[None]:
    """Hold the lock on the file ``path``, as :func:`acquire_flock` holds a :func:`file_lock`, in a third of the time.

    ``before()`` is called in the thread that opens the file, right before that.
    """
    async with _hold(_FileInThread(path, before), timeout):
        yield


@asynccontextmanager
async def _hold(flock: _Flock, timeout: float | None) -> AsyncGenerator[None]:
    path = flock.lock_file
    place = await _acquire(flock, timeout)
    _held[path] = flock
    try:
        yield
    except GeneratorExit:
        _finalize(path, flock, place)
        raise
    except BaseException:
        await _give_back(path, flock, place)
        raise
    else:
        await _give_back(path, flock, place)


async def _give_back(path: str, flock: _Flock, place: Holding) -> None:
    try:
        if _held.get(path) is flock:
            del _held[path]
            with anyio.CancelScope(shield=True):
                await flock.release()
    finally:
        _queues.release(path, place)


def _finalize(path: str, flock: _Flock, place: Holding) -> None:
    """Give back what a task of a closed loop held, in the collector, which may run in the middle of anything.

    Nothing can be awaited there, and a way to a thread would wait for the locks of executors, which this very thread may have.
    filelock's async lock can do no less: it is left to the next in the queue.
    """
    if _held.get(path) is flock and isinstance(flock, _FileInThread):
        del _held[path]
        flock.release_now()
    _queues.release(path, place)


async def unsafe_acquire_flock(flock: BaseAsyncFileLock, timeout: float | None = None) -> None:
    """Acquire ``flock``, which the caller has to release with ``await flock.release()``; else as :func:`acquire_flock`."""
    _check(flock)
    place = await _acquire(flock, timeout)
    # The next in the queue sees that the lock is held, and polls.
    _queues.release(flock.lock_file, place)


async def _acquire(flock: _Flock, timeout: float | None) -> Holding:
    """Acquire ``flock`` and the place at the head of this process's queue before it."""
    seconds = resolve_timeout(timeout)
    deadline = math.inf if seconds is None else anyio.current_time() + seconds
    try:
        place = await _queues.acquire(flock.lock_file, timeout)
    except LockTimeoutError as error:
        raise FileLockTimeoutError(flock, error.timeout) from None
    try:
        orphan = _held.pop(flock.lock_file, None)
        if orphan is not None:  # of a holder whose loop was closed
            await orphan.release()
        await _poll(flock, deadline, seconds or 0.0)
    except BaseException:
        _queues.release(flock.lock_file, place)
        raise
    return place


def _check(flock: object) -> None:
    if not isinstance(flock, BaseAsyncFileLock):
        kind = f"{type(flock).__module__}.{type(flock).__qualname__}"
        raise ConfigurationError("acquire_flock", f"expected what file_lock() makes, or an AsyncFileLock, not a {kind}")


async def _poll(flock: _Flock, deadline: float, seconds: float) -> None:
    pause = _FIRST_PAUSE
    while not await _attempt(flock):
        left = deadline - anyio.current_time()
        if left <= 0:
            raise FileLockTimeoutError(flock, seconds)
        await anyio.sleep(min(pause, left))
        pause = min(2 * pause, _LAST_PAUSE)


async def _attempt(flock: _Flock) -> bool:
    """Try once, in a thread: opening a file may take long on a slow file system."""
    if flock.is_locked:
        return False
    try:
        await flock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - text only; Path.absolute() keeps '..'


def _require_regular_file(descriptor: int) -> None:
    # filelock follows no symbolic link and cannot open a directory for writing, but a FIFO or device it would lock.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "the lock file is not a regular file")


class _Kind(TypedDict):
    mode: int
    thread_local: bool
    fallback_to_soft: bool
    preserve_lock_file: bool
    on_acquired: Callable[[int], None]


_KIND: Final = _Kind(
    mode=0o600,
    thread_local=False,
    fallback_to_soft=False,
    preserve_lock_file=True,
    on_acquired=_require_regular_file,
)


class _Flock(Protocol):
    """What is needed of filelock's async lock."""

    @property
    def lock_file(self) -> str: ...
    @property
    def is_locked(self) -> bool: ...
    async def acquire(self, *, blocking: bool) -> Any: ...
    async def release(self) -> None: ...


@final
class _FileInThread:
    """filelock's plain lock, taken and released in one call in a thread each, where its async lock takes four."""

    def __init__(self, path: str | os.PathLike[str], before: Callable[[], object] | None) -> None:
        self._lock: Final = FileLock(_absolute(path), **_KIND)
        self._before: Final = before

    @property
    def lock_file(self) -> str:
        return self._lock.lock_file

    @property
    def is_locked(self) -> bool:
        return self._lock.is_locked

    async def acquire(self, *, blocking: bool) -> None:
        try:
            await in_thread_to_the_end(partial(self._acquire, blocking=blocking))
        except asyncio.CancelledError:
            if self._lock.is_locked:
                await self.release()
            raise

    def _acquire(self, *, blocking: bool) -> None:
        if self._before is not None:
            self._before()
        self._lock.acquire(blocking=blocking)

    async def release(self) -> None:
        # A task of its own: a call in a thread that is cancelled before it begins would never be made.
        releasing = asyncio.ensure_future(in_thread(self._lock.release))
        try:
            await asyncio.shield(releasing)
        except asyncio.CancelledError:
            await asyncio.wait((releasing,))
            raise

    def release_now(self) -> None:
        """Close the file, in this thread."""
        self._lock.release()
