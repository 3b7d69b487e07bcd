"""What holds for every test: acache never blocks an event loop, and nothing is left behind.

The plugin is loaded here, and kept from loading by its entry point, so that coverage sees acache being imported.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import pytest
from blockbuster import BlockBuster
from coverage import Coverage

from acache.files.lane import LANE
from acache.flight import table
from acache.locks import keyed, mutex

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

pytest_plugins = ("acache.testing.plugin",)

#: What blockbuster watches although it cannot wait, and why.
NEVER_WAITS: Final = {
    "os.path.abspath": "joins and tidies texts, with the working directory before them if they need one",
    "os.getcwd": "the kernel knows the working directory without asking a disk",
}
#: Threads that may outlive a test, by the beginning of their names, and why.
LASTING_THREADS: Final = {
    "acache-portal": "the portal of the process, started on first use and stopped at exit",
    "acache-io": "the lane for small file operations, one for the process",
    "AnyIO worker thread": "idle workers of the portal's loop; those of a test's loop end with it",
    "asyncio_": "as above: a test's loop waits for its own workers when it closes",
}
#: What an event loop keeps open: its selector, and the socket pair that wakes it. The portal's lasts as it does.
LOOP_DESCRIPTORS: Final = Counter({"anon_inode": 1, "socket": 2})
#: Seconds in which threads end that were told so, and housekeeping in them that nobody waits for.
GRACE: Final = 2.0

_DESCRIPTORS: Final = Path("/proc/self/fd")
_FILE_LOCKS: Final = Path("/proc/locks")


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Generator[None]:
    """Fail a test that leaves a thread, an open descriptor, a temporary file, a flight or a lock (I5)."""
    tmp_path: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    threads, descriptors, held = set(threading.enumerate()), open_descriptors(), held_now()
    yield
    assert left_threads(threads) == []
    assert left_held(held) == []
    wait_for_the_lane()
    portals = [thread for thread in new_threads(threads) if thread.name.startswith("acache-portal")]
    assert left_descriptors(descriptors, len(portals)) == []
    assert tmp_path is None or sorted(tmp_path.rglob(".tmp-*")) == []


@pytest.fixture(autouse=True)
def _async_test_is_guarded(_nothing_is_left: None, request: pytest.FixtureRequest) -> None:
    """Guard the loop of an async test; a plain test has none."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_loop_is_guarded")


@pytest.fixture
async def _loop_is_guarded(_watch: BlockBuster) -> AsyncGenerator[None]:
    """Fail a test in which acache blocks the loop, or that leaves a task in it (I5) once its fixtures are closed."""
    _watch.activate()
    yield
    _watch.deactivate()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert [task.get_coro() for task in left] == []


@pytest.fixture(scope="session")
def _watch() -> BlockBuster:
    """Make what raises wherever acache, or what acache calls, blocks a running loop."""
    watch = BlockBuster("acache")
    for function in NEVER_WAITS:
        del watch.functions[function]
    acquire = watch.functions["threading.Lock.acquire"]
    acquire.can_block_predicate = _unless_coverage_waits(acquire.can_block_predicate)
    return watch


def _unless_coverage_waits(can_block: Callable[..., bool]) -> Callable[..., bool]:
    """Let the tracer of coverage, which a line of acache may seem to call, wait for its own lock."""
    running = Coverage.current()
    collector = None if running is None else running._collector
    lock = None if collector is None else collector.data_lock

    def can_block_here(acquired: object, *args: object, **options: object) -> bool:
        return acquired is lock or can_block(acquired, *args, **options)

    return can_block_here


def wait_for_the_lane() -> None:
    """Let the thread for small file operations put its last one away: it may look at an error for a moment longer."""
    deadline = time.monotonic() + GRACE
    while not LANE.is_idle and time.monotonic() < deadline:
        time.sleep(0)


def left_threads(before: set[threading.Thread]) -> list[str]:
    """Return the names of the threads that are new and have no reason to last."""
    left = [thread for thread in new_threads(before) if not thread.name.startswith(tuple(LASTING_THREADS))]
    for thread in left:
        thread.join(GRACE)
    return [thread.name for thread in left if thread.is_alive()]


def new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that were not there."""
    return [thread for thread in threading.enumerate() if thread not in before]


def left_descriptors(before: dict[int, str], portals: int) -> list[str]:
    """Return what is open, was not, and does not belong to one of so many new portals.

    What only a reference cycle holds open is collected first: its ResourceWarning, an error here, says more.
    """
    allowed = Counter({kind: number * portals for kind, number in LOOP_DESCRIPTORS.items()})
    deadline = time.monotonic() + GRACE
    while (left := new_descriptors(before) - allowed) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return sorted(left.elements())


def new_descriptors(before: dict[int, str]) -> Counter[str]:
    """Count what is open and was not: files by path, the rest by kind."""
    new = (target for number, target in open_descriptors().items() if before.get(number) != target)
    return Counter(target if target.startswith("/") else target.partition(":")[0] for target in new)


def left_held(before: set[str]) -> list[str]:
    """Return what is held and was not; what only a reference cycle holds, calls of a closed loop, is collected first."""
    deadline = time.monotonic() + GRACE
    while (left := held_now() - before) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return sorted(left)


def held_now() -> set[str]:
    """Name what is held: flights under way, keys of lock tables, locks and places of limiters, locks on files."""
    flights = {f"{each!r} at {id(each):#x}" for flights in tuple(table._tables) for each in flights}
    keys = {f"{key!r} of {id(locks):#x}" for locks in tuple(keyed._tables) for key in locks.keys()}  # noqa: SIM118 - it is no dict
    locks = {f"{lock!r}" for lock in tuple(mutex._locks) if lock.statistics().locked}
    return flights | keys | locks | held_files()


def held_files() -> set[str]:
    """Name the files that this process holds a ``flock`` on, by device and number; elsewhere than on Linux, none."""
    lines = _FILE_LOCKS.read_text().splitlines() if _FILE_LOCKS.exists() else ()
    # As in "1: FLOCK  ADVISORY  WRITE 1234 08:01:12345 0 EOF"; a line of who waits has an arrow, and is one word longer.
    fields = (line.split() for line in lines)
    return {f"flock on {each[5]}" for each in fields if each[1] == "FLOCK" and each[4] == str(os.getpid())}


def open_descriptors() -> dict[int, str]:
    """Return what this process has open: descriptor number → path, or kind and identity."""
    found: dict[int, str] = {}
    for link in tuple(_DESCRIPTORS.iterdir()) if _DESCRIPTORS.is_dir() else ():
        with suppress(FileNotFoundError):  # the descriptor of the listing itself, closed by now
            found[int(link.name)] = str(link.readlink())
    return found


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what a call has to set when it has begun: before that, no time runs out."""
    event = threading.Event()

    class Patient(SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            if timeout is not None:
                event.wait()
            return super().get(block, timeout)

    monkeypatch.setattr("acache.bridge.crossing.SimpleQueue", Patient)
    return event
