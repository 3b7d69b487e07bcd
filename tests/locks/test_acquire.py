"""Waiting with a limit: every kind of lock, every timeout, both forms, and every moment of the release (4.6)."""

from __future__ import annotations

import asyncio
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from filelock import FileLock

from acache.exceptions import ConfigurationError, FileLockTimeoutError, LockTimeoutError, UserError
from acache.locks import (
    BLOCKING,
    BLOCKING_WITH_TIMEOUT,
    DEFAULT_TIMEOUT,
    NON_BLOCKING,
    Limiter,
    Lock,
    acquire_flock,
    acquire_lock,
    file_lock,
    unsafe_acquire_flock,
    unsafe_acquire_lock,
)
from acache.locks.timeouts import resolve_timeout
from acache.testing import settle

#: A wait that is meant to fail, and one that is meant to succeed.
SHORT, LONG = 0.02, 30.0

Form = Literal["safe", "unsafe"]
Release = Literal["free", "never", "before", "after"]


def test_the_constants_are_those_of_the_original() -> None:
    """``-1`` waits for ever, ``0`` tries once, and the default is a minute."""
    assert BLOCKING == -1.0
    assert NON_BLOCKING == 0.0
    assert BLOCKING_WITH_TIMEOUT == 60.0
    assert DEFAULT_TIMEOUT == BLOCKING_WITH_TIMEOUT


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(None, DEFAULT_TIMEOUT), (BLOCKING, None), (-1, None), (math.inf, None), (0, 0.0), (2, 2.0), (1.5, 1.5)],
)
def test_a_timeout_is_read_in_one_way(timeout: float | None, seconds: float | None) -> None:
    """``None`` is the default; BLOCKING and infinity are no limit; a number is its seconds."""
    assert resolve_timeout(timeout) == seconds


@pytest.mark.parametrize("timeout", [-0.5, -2, -math.inf, math.nan, True, "1", object()])
def test_what_is_no_timeout_is_refused(timeout: float) -> None:
    """A negative number other than -1, NaN and anything that is no number is a configuration error."""
    with pytest.raises(ConfigurationError, match="timeout"):
        resolve_timeout(timeout)


class Subject(ABC):
    """A lock under test, seen by the holder in its way and by the one who wants it."""

    error: type[LockTimeoutError | FileLockTimeoutError] = LockTimeoutError

    @property
    @abstractmethod
    def locked(self) -> bool:
        """Whether anybody holds it."""

    @abstractmethod
    async def hold(self) -> None:
        """Take it as the other party."""

    @abstractmethod
    async def let_go(self) -> None:
        """Release what ``hold`` took."""

    @abstractmethod
    def safe(self, timeout: float) -> AbstractAsyncContextManager[None]:
        """Acquire it for a block."""

    @abstractmethod
    async def unsafe(self, timeout: float) -> None:
        """Acquire it."""

    @abstractmethod
    async def release(self) -> None:
        """Release what ``unsafe`` acquired."""

    async def until_waiting(self, task: asyncio.Future[None]) -> None:
        """Let the one who wants it come as far as it can."""
        await settle()
        assert not task.done()


@dataclass
class InProcess(Subject):
    """A lock of tasks."""

    lock: Lock | anyio.Lock
    _leave: asyncio.Event | None = None
    _holder: asyncio.Task[None] | None = None

    @property
    def locked(self) -> bool:
        return self.lock.locked()

    async def hold(self) -> None:
        # A task of its own: anyio's lock must be released by the task that acquired it.
        held, leave = asyncio.Event(), asyncio.Event()

        async def holder() -> None:
            async with self.lock:
                held.set()
                await leave.wait()

        self._leave, self._holder = leave, asyncio.create_task(holder())
        await held.wait()

    async def let_go(self) -> None:
        assert self._leave is not None
        assert self._holder is not None
        self._leave.set()
        await self._holder

    def safe(self, timeout: float) -> AbstractAsyncContextManager[None]:
        return acquire_lock(self.lock, timeout)

    async def unsafe(self, timeout: float) -> None:
        await unsafe_acquire_lock(self.lock, timeout)

    async def release(self) -> None:
        self.lock.release()


class BetweenProcesses(Subject):
    """A lock of files."""

    error = FileLockTimeoutError

    def __init__(self, path: Path) -> None:
        # Another instance is another open file: to the kernel, what another process has.
        self.mine, self.others = file_lock(path), file_lock(path)

    @property
    def locked(self) -> bool:
        return self.mine.is_locked or self.others.is_locked

    async def hold(self) -> None:
        await self.others.acquire()

    async def let_go(self) -> None:
        await self.others.release()

    def safe(self, timeout: float) -> AbstractAsyncContextManager[None]:
        return acquire_flock(self.mine, timeout)

    async def unsafe(self, timeout: float) -> None:
        await unsafe_acquire_flock(self.mine, timeout)

    async def release(self) -> None:
        await self.mine.release()

    async def until_waiting(self, task: asyncio.Future[None]) -> None:
        # Its waiting is a series of attempts in other threads: it is given the time for some.
        await asyncio.wait([task], timeout=SHORT)
        assert not task.done()


@pytest.fixture(params=["acache.Lock", "anyio.Lock", "file lock"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    """Every kind of lock in turn."""
    if request.param == "file lock":
        return BetweenProcesses(tmp_path / "the.lock")
    return InProcess(Lock() if request.param == "acache.Lock" else anyio.Lock())


@asynccontextmanager
async def acquired(subject: Subject, form: Form, timeout: float) -> AsyncGenerator[None]:
    """Acquire in one of the forms; after the unsafe one, the lock stays held until it is released by hand."""
    if form == "safe":
        async with subject.safe(timeout):
            yield
    else:
        await subject.unsafe(timeout)
        yield
        assert subject.locked
        await subject.release()


async def use(subject: Subject, form: Form, timeout: float) -> None:
    async with acquired(subject, form, timeout):
        assert subject.locked
    assert not subject.locked


async def expect_too_late(subject: Subject, form: Form, timeout: float) -> None:
    with pytest.raises(subject.error, match=f"{timeout:g} seconds"):
        await use(subject, form, timeout)
    assert subject.locked


@pytest.mark.parametrize("release", ["free", "never", "before", "after"])
@pytest.mark.parametrize("form", ["safe", "unsafe"])
class TestTable:
    """The 48 rows of the original, for three kinds of lock."""

    async def test_blocking(self, subject: Subject, form: Form, release: Release) -> None:
        """BLOCKING waits as long as it takes: for a free lock not at all, for one never released for ever."""
        if release == "free":
            await use(subject, form, BLOCKING)
            return
        await subject.hold()
        task = asyncio.ensure_future(use(subject, form, BLOCKING))
        await subject.until_waiting(task)
        if release == "never":
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert subject.locked
        await subject.let_go()
        if release != "never":
            with anyio.fail_after(LONG):
                await task
        assert not subject.locked

    async def test_non_blocking(self, subject: Subject, form: Form, release: Release) -> None:
        """NON_BLOCKING gets a free lock, and raises at once for a held one whatever becomes of it."""
        if release == "free":
            await use(subject, form, NON_BLOCKING)
            return
        await subject.hold()
        await expect_too_late(subject, form, NON_BLOCKING)
        await subject.let_go()
        assert not subject.locked

    async def test_with_timeout(self, subject: Subject, form: Form, release: Release) -> None:
        """A timed wait gets a lock that is released in time, and raises for one that is not."""
        if release == "free":
            await use(subject, form, SHORT)
            return
        await subject.hold()
        if release == "before":
            task = asyncio.ensure_future(use(subject, form, LONG))
            await subject.until_waiting(task)
            await subject.let_go()
            await task
        else:
            await expect_too_late(subject, form, SHORT)
            await subject.let_go()
        assert not subject.locked


@pytest.mark.parametrize("form", ["safe", "unsafe"])
@pytest.mark.parametrize("timeout", [-3.0, math.nan])
async def test_the_timeout_is_checked_before_the_lock_is_taken(subject: Subject, form: Form, timeout: float) -> None:
    """Even a free lock is not taken with a timeout that is none."""
    with pytest.raises(ConfigurationError):
        await use(subject, form, timeout)
    assert not subject.locked


@pytest.mark.parametrize("form", ["safe", "unsafe"])
@pytest.mark.parametrize("at_import", [True, False], ids=["made outside of a loop", "made in a loop"])
async def test_a_lock_of_anyio_that_its_own_task_wants_again(form: Form, at_import: bool) -> None:
    """It cannot come free while the task waits: a limit is a timeout, at once, and no limit an error instead of a wait."""
    subject = InProcess(await asyncio.to_thread(anyio.Lock) if at_import else anyio.Lock())
    async with acquire_lock(subject.lock):
        with anyio.fail_after(LONG / 2):
            for timeout in (NON_BLOCKING, SHORT, LONG):
                with pytest.raises(LockTimeoutError, match=f"within {timeout:g} seconds"):
                    await use(subject, form, timeout)
            for timeout in (BLOCKING, math.inf):
                with pytest.raises(UserError, match=r"this task holds the anyio\.Lock already"):
                    await use(subject, form, timeout)
        assert subject.locked
    assert not subject.locked


@pytest.mark.parametrize("make", [asyncio.Lock, threading.Lock, object, Limiter, lambda: None])
async def test_what_is_no_lock_of_tasks(make: Callable[[], Any]) -> None:
    """A lock of another library is refused by an error that says which are accepted."""
    lock = make()
    expected = rf"expected an acache\.locks\.Lock or an anyio\.Lock, not a .*{type(lock).__name__}"
    with pytest.raises(ConfigurationError, match=expected):
        await unsafe_acquire_lock(lock, NON_BLOCKING)
    with pytest.raises(ConfigurationError, match=expected):
        async with acquire_lock(lock):
            pass


async def test_what_is_no_file_lock_of_tasks(tmp_path: Path) -> None:
    """A file lock that would block the loop, a path and a lock of tasks are refused as well."""
    wrong: list[Any] = [FileLock(tmp_path / "x.lock"), tmp_path / "x.lock", Lock(), None]
    for flock in wrong:
        expected = rf"expected what file_lock\(\) makes, or an AsyncFileLock, not a .*{type(flock).__name__}"
        with pytest.raises(ConfigurationError, match=expected):
            await unsafe_acquire_flock(flock, NON_BLOCKING)
        with pytest.raises(ConfigurationError, match=expected):
            async with acquire_flock(flock):
                pass
    assert not await anyio.Path(tmp_path / "x.lock").exists()


def test_both_errors_are_timeouts() -> None:
    """Whoever handles ``TimeoutError`` handles a lock's too."""
    assert issubclass(LockTimeoutError, TimeoutError)
    assert issubclass(FileLockTimeoutError, TimeoutError)


async def test_errors_of_the_block_pass_through(subject: Subject) -> None:
    """An error of the body is the body's own, also one that looks like a lock's, and the lock is released."""
    error = LockTimeoutError(object(), 5)
    with pytest.raises(LockTimeoutError) as caught:
        async with subject.safe(SHORT):
            raise error
    assert caught.value is error
    assert not subject.locked


async def test_a_cancelled_block_releases(subject: Subject) -> None:
    """A task that is cancelled while it holds the lock releases it on its way out."""
    inside = asyncio.Event()

    async def hold() -> None:
        async with subject.safe(SHORT):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await inside.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not subject.locked
