"""Mutexes: in the middle of themselves, and in a child process."""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from acache import mutexes
from acache.mutexes import make_mutex

ROOT = Path(__file__).parents[1]

#: Plain locks there may be, by module, and why.
PLAIN_LOCKS = {
    "mutexes.py": "makes all the others",
    "locks/mutex.py": "the gate of one waiting thread: released by another one, and held by nobody in between",
    "files/threads.py": "of one call in a thread, between that thread and its task: no finalizer takes it, no child goes on with it",
}


class Owner:
    """Something with a mutex that counts how often it was mended."""

    def __init__(self) -> None:
        self.mended = 0
        self.mutex = make_mutex(self.mend)

    def mend(self) -> None:
        """Count."""
        self.mended += 1


def test_a_mutex_can_be_taken_again_by_its_own_thread() -> None:
    """A finalizer that runs in the middle of a step may take the mutex of that step."""
    mutex = make_mutex()
    with mutex, mutex:
        assert not mutexes._is_freed(mutex)


def test_a_mutex_keeps_nothing_alive_and_leaves_nothing() -> None:
    """With its owner a mutex goes, and what was noted of it."""
    gc.collect()
    before = len(mutexes._mutexes)
    owner = Owner()
    assert len(mutexes._mutexes) == before + 1
    del owner
    gc.collect()
    assert len(mutexes._mutexes) == before


def test_what_the_forking_thread_holds_stays_as_it_is() -> None:
    """A free mutex, and one that the forking thread goes on with, has nothing to be mended."""
    owner = Owner()
    mutexes._renew()
    with owner.mutex:
        mutexes._renew()
        assert not _is_free_for_others(owner)
    assert _is_free_for_others(owner)
    assert owner.mended == 0


def _is_free_for_others(owner: Owner) -> bool:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    def take() -> bool:
        taken = owner.mutex.acquire(blocking=False)
        if taken:
            owner.mutex.release()
        return taken

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(take).result(5)


def test_every_lock_is_made_here() -> None:
    """No module makes a plain lock of its own without a reason: a child, or a finalizer, would wait for it for ever."""
    found = {
        str(path.relative_to(ROOT / "acache"))
        for path in (ROOT / "acache").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"Lock", "RLock", "Condition", "Semaphore"}
        if isinstance(node.value, ast.Name) and node.value.id == "threading" and isinstance(node.ctx, ast.Load)
        if not _is_annotation(path, node)
    }
    assert found == set(PLAIN_LOCKS)
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "acache").rglob("*.py")}
    assert [path for path, text in texts.items() if "from threading import" in text] == [], "not seen above"


def _is_annotation(path: Path, node: ast.Attribute) -> bool:
    line = path.read_text(encoding="utf-8").splitlines()[node.lineno - 1]
    return f"threading.{node.attr}(" not in line and "default_factory" not in line


@pytest.mark.integration
@pytest.mark.parametrize("script", ["held", "half_changed", "half_told", "storm"])
def test_x1_a_child_waits_for_no_thread_of_its_parent(tmp_path: Path, script: str) -> None:
    """X1: whatever other threads held or had half changed at a fork, the child's caches are whole and nobody waits."""
    run(Path(__file__).with_name("mutex_forker.py"), script, str(tmp_path / "cache"))


@pytest.mark.integration
def test_finalizers_wait_for_nobody() -> None:
    """A10: what the collector finalizes in the middle of anything, calls of closed loops, never waits for its own thread."""
    run(Path(__file__).with_name("mutex_collector.py"))


def run(script: Path, *args: str) -> None:
    """Run a script that ends with 0 and says nothing, if all is well."""
    # Not measured: coverage has a lock of its own, which a child would wait for if another thread had it at the fork.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", script, *args],
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.decode()) == (0, "")
