"""File locks within one process: exclusion of instances, tasks and loops, hostile lock files, and cancellation."""

# ruff: noqa: ASYNC240 - a test looks at its own files

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from filelock import AsyncFileLock, BaseAsyncFileLock

from acache.exceptions import FileLockTimeoutError
from acache.locks import BLOCKING, NON_BLOCKING, acquire_flock, file_lock, unsafe_acquire_flock
from acache.locks import files as files_module
from acache.testing import cancel_sweep


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the lock file is."""
    return tmp_path / "the.lock"


async def is_free(path: Path) -> bool:
    """Tell whether the kernel gives the lock to a new open file."""
    probe = AsyncFileLock(path)
    try:
        async with await probe.acquire(blocking=False):
            return True
    except TimeoutError:
        return False


class TestExclusion:
    """Who gets in, and who does not."""

    async def test_two_instances_exclude_each_other(self, path: Path) -> None:
        """One process that locks a file twice waits or times out; it neither gets in nor waits for itself (D25)."""
        async with acquire_flock(file_lock(path)):
            with pytest.raises(FileLockTimeoutError):
                await unsafe_acquire_flock(file_lock(path), NON_BLOCKING)
            with pytest.raises(FileLockTimeoutError) as caught:
                await unsafe_acquire_flock(file_lock(path), 0.01)
        assert caught.value.timeout == 0.01

    @pytest.mark.parametrize("make", [file_lock, AsyncFileLock])
    async def test_two_tasks_with_one_instance_exclude_each_other(
        self, path: Path, make: Callable[[Path], BaseAsyncFileLock]
    ) -> None:
        """What filelock does not do: a second task does not get into an instance that is held (D25)."""
        shared, inside, overlaps = make(path), list[int](), list[int]()

        async def use(number: int) -> None:
            async with acquire_flock(shared, BLOCKING):
                inside.append(number)
                await asyncio.sleep(0)
                overlaps.extend(inside[1:])
                inside.remove(number)

        await asyncio.gather(*(use(number) for number in range(5)))
        assert overlaps == []
        assert not shared.is_locked

    async def test_the_unsafe_form_excludes_too(self, path: Path) -> None:
        """What was acquired without a block stays held, against the same instance and others, until it is released."""
        shared = file_lock(path)
        await unsafe_acquire_flock(shared)
        for flock in (shared, file_lock(path)):
            with pytest.raises(FileLockTimeoutError):
                await unsafe_acquire_flock(flock, 0.01)
        await shared.release()
        async with acquire_flock(shared, NON_BLOCKING):
            assert not await is_free(path)
        assert await is_free(path)

    async def test_tasks_are_served_in_order(self, path: Path) -> None:
        """Within a process the queue is fair, whatever instances are used."""
        order: list[int] = []

        async def use(number: int) -> None:
            async with acquire_flock(file_lock(path), BLOCKING):
                order.append(number)

        async with acquire_flock(file_lock(path)):
            tasks = [asyncio.create_task(use(number)) for number in range(5)]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]

    def test_loops_in_threads_exclude_each_other(self, path: Path) -> None:
        """Tasks of two event loops, with one instance and with several, never overlap (A11)."""
        shared, inside, overlaps = file_lock(path), list[int](), list[int]()

        async def use(number: int) -> None:
            for turn in range(15):
                async with acquire_flock(shared if turn % 2 else file_lock(path), BLOCKING):
                    inside.append(number)
                    overlaps.extend(inside[1:])
                    inside.remove(number)

        threads = [threading.Thread(target=asyncio.run, args=(use(number),)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert overlaps == []

    async def test_other_files_do_not_wait(self, path: Path) -> None:
        """Two lock files are two locks."""
        async with (
            acquire_flock(file_lock(path), NON_BLOCKING),
            acquire_flock(file_lock(path.with_name("other.lock")), NON_BLOCKING),
        ):
            pass

    async def test_nothing_is_remembered(self, path: Path) -> None:
        """Once nobody holds or waits, no trace of the path is left in the process."""
        async with acquire_flock(file_lock(path)):
            assert files_module._queues.locked(str(path))
        assert not files_module._queues.locked(str(path))
        assert not len(files_module._queues)


class TestTheFile:
    """What is in the place of the lock file, and what becomes of it."""

    async def test_it_is_private_and_stays(self, path: Path) -> None:
        """The lock file is this user's alone, and one and the same for ever: it is never removed (D22)."""
        umask = os.umask(0)
        try:
            async with acquire_flock(file_lock(path)):
                before = path.stat()
        finally:
            os.umask(umask)
        assert stat.S_IMODE(before.st_mode) == 0o600
        async with acquire_flock(file_lock(path)):
            assert path.stat().st_ino == before.st_ino
        assert path.exists()

    async def test_its_content_is_left_alone(self, path: Path) -> None:
        """A file that is there already is locked, not truncated or written."""
        path.write_bytes(b"precious")
        async with acquire_flock(file_lock(path)):
            pass
        assert path.read_bytes() == b"precious"

    @pytest.mark.parametrize("exists", [True, False])
    async def test_a_symbolic_link_is_refused(self, path: Path, exists: bool) -> None:
        """A link in place of the lock file is not followed: its target is neither locked, emptied nor made (T8)."""
        victim = path.with_name("victim")
        if exists:
            victim.write_bytes(b"precious")
        path.symlink_to(victim)
        with pytest.raises(OSError):
            await unsafe_acquire_flock(file_lock(path), NON_BLOCKING)
        assert victim.exists() == exists
        if exists:
            assert victim.read_bytes() == b"precious"
            assert await is_free(victim)

    async def test_a_fifo_is_refused(self, path: Path) -> None:
        """A FIFO in place of the lock file is refused without waiting for its other end (T8)."""
        os.mkfifo(path)
        with pytest.raises(OSError), anyio.fail_after(5):
            await unsafe_acquire_flock(file_lock(path), BLOCKING)
        assert stat.S_ISFIFO(path.stat().st_mode)

    async def test_a_device_is_refused(self) -> None:
        """A device is refused (T8)."""
        with pytest.raises(OSError), anyio.fail_after(5):
            await unsafe_acquire_flock(file_lock("/dev/null"), BLOCKING)

    async def test_a_directory_is_refused(self, path: Path) -> None:
        """A directory in place of the lock file is refused, and stays (T8)."""
        path.mkdir()
        with pytest.raises(OSError):
            await unsafe_acquire_flock(file_lock(path), NON_BLOCKING)
        assert path.is_dir()

    async def test_a_refusal_leaves_nothing_taken(self, path: Path) -> None:
        """After a refusal the way is free: once the obstacle is gone, the lock can be had."""
        path.mkdir()
        flock = file_lock(path)
        with pytest.raises(OSError):
            await unsafe_acquire_flock(flock, NON_BLOCKING)
        path.rmdir()
        async with acquire_flock(flock, NON_BLOCKING):
            assert path.is_file()

    async def test_a_relative_path_stays_where_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative path means the directory of the moment the lock was made."""
        monkeypatch.chdir(tmp_path)
        flock = file_lock("the.lock")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        async with acquire_flock(flock):
            assert (tmp_path / "the.lock").exists()
        assert list(Path.cwd().iterdir()) == []


class TestWaiting:
    """What a waiter costs the others."""

    async def test_a_waiter_holds_no_thread(self, path: Path) -> None:
        """Between its attempts a waiter leaves the executor to others, even if it has a single thread."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="asyncio_test") as executor:
            loop.set_default_executor(executor)
            async with acquire_flock(file_lock(path)):
                waiters = [asyncio.create_task(unsafe_acquire_flock(AsyncFileLock(path), 30)) for _ in range(3)]
                for _ in range(20):
                    assert await loop.run_in_executor(None, int) == 0
                for waiter in waiters:
                    waiter.cancel()
                await asyncio.wait(waiters)
            assert await is_free(path)

    async def test_pauses_grow_but_not_beyond_a_limit(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The pauses between two attempts double up to 50 ms, and the last one ends when the time does."""
        pauses: list[float] = []

        async def record(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 9:
                raise KeyError

        foreign = AsyncFileLock(path)
        async with foreign:
            monkeypatch.setattr(anyio, "sleep", record)
            with pytest.raises(KeyError):
                await unsafe_acquire_flock(file_lock(path), BLOCKING)
        assert pauses == [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05, 0.05]


class TestCancellation:
    """Nothing stays locked."""

    @pytest.mark.parametrize("times", [1, 2])
    async def test_sweep_of_a_free_lock(self, path: Path, times: int) -> None:
        """Cancelled at any moment of acquiring, holding and releasing, the lock is given back to the kernel (D24)."""

        async def use() -> None:
            async with acquire_flock(flock, BLOCKING):
                await asyncio.sleep(0)

        flock, runs = file_lock(path), 0
        async for step in cancel_sweep(use, times=times):
            runs += 1
            assert step.was_cancelled == step.cancel_requested
            assert not flock.is_locked
            assert await is_free(path)
        assert runs > 5

    async def test_sweep_of_a_held_lock(self, path: Path) -> None:
        """Cancelled at any moment of its waiting, a waiter leaves the queue and the lock alone (D24)."""

        async def wait() -> None:
            with suppress(FileLockTimeoutError):
                await unsafe_acquire_flock(flock, 0.004)

        flock, runs = file_lock(path), 0
        async with AsyncFileLock(path):
            async for step in cancel_sweep(wait):
                runs += 1
                assert step.was_cancelled == step.cancel_requested
                assert not flock.is_locked
                assert not files_module._queues.locked(str(path))
        assert runs > 5
        assert await is_free(path)

    async def test_a_cancel_scope_around_it_takes_nothing(self, path: Path) -> None:
        """A cancelled scope, which cancels again and again, takes no more than a task's single cancellation (D24)."""
        flock = file_lock(path)
        for seconds in (0, 0.0001, 0.0003, 0.001, 0.003):
            with anyio.move_on_after(seconds):
                async with acquire_flock(flock, BLOCKING):
                    await anyio.sleep_forever()
            assert not flock.is_locked
            assert await is_free(path)
