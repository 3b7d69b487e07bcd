"""File locks between processes: exclusion under contention, and owners that die, stop or fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from acache.exceptions import FileLockTimeoutError
from acache.locks import NON_BLOCKING, acquire_flock, file_lock, unsafe_acquire_flock

pytestmark = pytest.mark.integration

CONTENDER = Path(__file__).with_name("contender.py")
ROOT = Path(__file__).parents[2]


@contextmanager
def contender(*arguments: str | Path) -> Generator[subprocess.Popen[str]]:
    """Run a contender; it is gone at the end of the block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", CONTENDER, *arguments]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_eight_processes_never_overlap(tmp_path: Path) -> None:
    """8 processes, 200 acquisitions each: no marker in the way, and no update lost (H6)."""
    lock, counter = tmp_path / "the.lock", tmp_path / "counter"
    counter.write_text("0")
    processes = [contender("compete", lock, "200") for _ in range(8)]
    running = [process.__enter__() for process in processes]
    try:
        overlaps = [says(process) for process in running]
    finally:
        for process in processes:
            process.__exit__(None, None, None)
    assert overlaps == ["0"] * 8
    assert counter.read_text() == str(8 * 200)


async def test_a_killed_owner_frees_the_lock_at_once(tmp_path: Path) -> None:
    """The lock of a process that was killed is free; what is left of its file says nothing (D20)."""
    lock = tmp_path / "the.lock"
    with contender("hold", lock) as owner:
        assert says(owner) == "held"
        with pytest.raises(FileLockTimeoutError):
            await unsafe_acquire_flock(file_lock(lock), NON_BLOCKING)
        owner.kill()
        owner.wait()
        async with acquire_flock(file_lock(lock), NON_BLOCKING):
            assert lock.exists()


async def test_a_stopped_owner_costs_a_waiter_its_timeout(tmp_path: Path) -> None:
    """A process that was stopped keeps the lock, and a waiter its appointments (D21)."""
    lock = tmp_path / "the.lock"
    with contender("hold", lock) as owner:
        assert says(owner) == "held"
        owner.send_signal(signal.SIGSTOP)
        with pytest.raises(FileLockTimeoutError):
            await unsafe_acquire_flock(file_lock(lock), 0.05)
        owner.send_signal(signal.SIGCONT)


async def test_a_forked_child_has_no_part_in_the_lock(tmp_path: Path) -> None:
    """A child does not own what its parent holds, and one that lives on does not keep the lock alive (X1)."""
    lock = tmp_path / "the.lock"
    with contender("fork", lock) as parent:
        assert says(parent) == "released 0"
        async with acquire_flock(file_lock(lock), NON_BLOCKING):
            pass
        parent.communicate("x")
