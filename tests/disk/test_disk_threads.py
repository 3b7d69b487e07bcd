"""The disk tier and the event loop: slow disks (D27), cancellation, threads, forks."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from acache.files import in_thread, in_thread_to_the_end, long_in_thread, threads
from acache.files.lane import LANE
from acache.testing import Gate, settle
from acache.testing.files import SlowFileSystem, WatchedFileSystem
from acache.types import Hit
from tests.disk.helpers import key, temporaries
from tests.rest import come_to_rest

if TYPE_CHECKING:
    from acache.tiers import DiskTier
    from tests.disk.conftest import MakeTier


async def list_keys(tier: DiskTier) -> list[object]:
    """Scan."""
    return [found async for found in tier.keys()]  # noqa: SIM118 - a tier is no dict


async def lock(tier: DiskTier) -> None:
    """Take the lock for a moment."""
    async with tier.lock():
        pass


USES: dict[str, Callable[[DiskTier], Awaitable[object]]] = {
    "get": lambda tier: tier.get(key(1)),
    "contains": lambda tier: tier.contains(key(1)),
    "insert": lambda tier: tier.insert(key(2), "new"),
    "set": lambda tier: tier.set(key(1), "new"),
    "set, large": lambda tier: tier.set(key(1), bytes(16_000_000)),
    "delete": lambda tier: tier.delete(key(1)),
    "clear": lambda tier: tier.clear(),
    "keys": list_keys,
    "lock": lock,
    "sweep": lambda tier: tier.sweep(),
    "drop": lambda tier: tier.drop_host_lock(key(1)),
}


@pytest.mark.parametrize("use", USES)
async def test_slow_disk_does_not_block_the_loop(make_tier: MakeTier, use: str) -> None:
    """While a system call hangs the loop goes on, whatever was asked of the tier (D27)."""
    fast = make_tier()
    await fast.set(key(1), "old")
    files = SlowFileSystem()
    tier = make_tier(files=files)
    asked = asyncio.ensure_future(USES[use](tier))
    await files.reached.wait()
    await settle()  # the loop is free: this returns although the call does not
    assert not asked.done()
    files.released.open()
    await asked


OPERATIONS: dict[str, tuple[bool, Callable[[DiskTier], Awaitable[object]]]] = {
    "set": (True, lambda tier: tier.set(key(1), b"small")),
    "set, large bytes": (False, lambda tier: tier.set(key(1), bytes(1 << 20))),
    "set, large text": (False, lambda tier: tier.set(key(1), "x" * (1 << 20))),
    "clear": (False, lambda tier: tier.clear()),
    "sweep": (False, lambda tier: tier.sweep()),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_takes_long_is_not_in_the_way_of_small_operations(
    operation: str, make_tier: MakeTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large values, and what looks at every file, go to another thread than the one for small operations."""
    tier = make_tier()
    await tier.set(key(0), "there")
    await come_to_rest()  # a lane that has not put its last call away may still be busy with it
    run, calls = LANE.run, list[Callable[[], Any]]()

    def note(function: Callable[[], Any]) -> asyncio.Future[Any]:
        calls.append(function)
        return run(function)

    monkeypatch.setattr(LANE, "run", note)
    is_small, use = OPERATIONS[operation]
    await use(tier)
    assert bool(calls) == is_small


async def test_closing_is_done_in_a_thread(make_tier: MakeTier) -> None:
    """A file system that takes its time to close a directory does not hold up the loop (D27)."""
    files = WatchedFileSystem(note := NoteThreads())
    tier = make_tier(files=files)
    await tier.set(key(1), "v")
    await tier.aclose()
    assert threading.get_ident() not in note.threads


class NoteThreads:
    """Note in which threads a file system is used."""

    def __init__(self) -> None:
        self.threads = set[int]()

    def __call__(self, _operation: object) -> None:
        self.threads.add(threading.get_ident())


@pytest.mark.integration
async def test_ticker_is_on_time(make_tier: MakeTier) -> None:
    """Large values, pickled and hashed and written and read, do not delay a 10 ms ticker by 100 ms (D27)."""
    tier = make_tier()
    value = [bytes([n % 256]) * 16_000 for n in range(1_000)]

    async def delay() -> float:
        late, done = 0.0, asyncio.Event()

        async def use() -> None:
            assert await tier.set(key(1), value)
            assert await tier.get(key(1)) == Hit(value)
            done.set()

        using = asyncio.ensure_future(use())
        while not done.is_set():
            asked = time.monotonic()
            await asyncio.sleep(0.01)
            late = max(late, time.monotonic() - asked - 0.01)
        await using
        return late

    # The best of a few: the machine may be busy with something else, but a blocked loop is late every time.
    assert min([await delay() for _ in range(4)]) < 0.1


@pytest.mark.parametrize("use", ["insert", "set", "delete", "clear"])
async def test_cancelled_change_is_not_overtaken(make_tier: MakeTier, use: str) -> None:
    """A change that is cancelled in the middle is complete before the cancellation goes on: it undoes nothing later."""
    fast = make_tier()
    await fast.set(key(1), "old")
    files = SlowFileSystem()
    asked = asyncio.ensure_future(USES[use](make_tier(files=files)))
    await files.reached.wait()
    asked.cancel()
    await settle()
    assert not asked.done()
    files.released.open()
    with pytest.raises(asyncio.CancelledError):
        await asked
    after = {"insert": "old", "set": "new", "delete": None, "clear": None}[use]
    assert await fast.get(key(1)) == (after and Hit(after))
    assert await fast.get(key(2)) == (Hit("new") if use == "insert" else None)


async def test_cancelled_read_ends_at_once(make_tier: MakeTier) -> None:
    """A read that is cancelled does not wait for the disk."""
    files = SlowFileSystem()
    asked = asyncio.ensure_future(make_tier(files=files).get(key(1)))
    await files.reached.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    files.released.open()
    await LANE.run(int)  # behind the read


async def test_second_cancellation_does_not_wait(make_tier: MakeTier, tmp_path: Path) -> None:
    """A task that is cancelled again while a write hangs ends; the write is complete when the disk answers."""
    files = SlowFileSystem()
    tier = make_tier(files=files)
    asked = asyncio.ensure_future(tier.set(key(1), "new"))
    await files.reached.wait()
    asked.cancel()
    await settle()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    files.released.open()
    await LANE.run(int)  # behind the write
    assert temporaries(tmp_path) == []
    assert len(list((tmp_path / "disk").glob("??/*"))) == 1


async def test_cancelled_in_the_queue_never_begins() -> None:
    """A call that is cancelled before a thread is free for it is not made."""
    busy, made = Gate("busy threads"), list[int]()
    workers = (os.cpu_count() or 1) + 4
    # The lane, and every thread of the executor: which of them a call goes to depends on how busy the lane has been.
    hops = [in_thread, *[long_in_thread] * workers]
    blockers = [asyncio.ensure_future(hop(busy.wait_blocking)) for hop in hops]
    await settle()
    asked = asyncio.ensure_future(in_thread_to_the_end(made.append, 1))
    await settle()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    busy.open()
    await asyncio.gather(*blockers)
    await asyncio.get_running_loop().shutdown_default_executor()
    assert made == []


async def test_outcome_does_not_wait_for_the_next_call() -> None:
    """What is done comes back while the call behind it hangs."""
    first, hangs = Gate("the first call"), Gate("the call behind it")
    done = LANE.run(first.wait_blocking)
    behind = LANE.run(hangs.wait_blocking)
    first.open()
    async with asyncio.timeout(10):
        await done
    assert not behind.done()
    hangs.open()
    await behind


async def test_given_up_before_it_begins() -> None:
    """A thread that comes to a call after its task gave it up does not make it."""
    progress, made = threads._Progress(), list[int]()
    await progress.settle()
    threads._follow(progress, lambda: made.append(1))
    assert made == []


@pytest.mark.parametrize("call", [in_thread, in_thread_to_the_end])
async def test_stop_iteration_is_no_hang(call: Callable[..., Awaitable[object]]) -> None:
    """StopIteration, which no future takes, comes out of a thread as an error."""
    with pytest.raises(RuntimeError):
        await call(next, iter(()))


async def test_loop_that_ends_first() -> None:
    """A loop that is closed while a thread still works for it breaks nothing in that thread."""
    started, go, ended = Gate("start"), Gate("go"), threading.Event()

    def work() -> None:
        started.open()
        go.wait_blocking()
        ended.set()

    async def give_up() -> None:
        task = asyncio.ensure_future(in_thread_to_the_end(work))
        await started.wait()
        for _ in range(2):
            task.cancel()
            await settle()

    def run() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(give_up())
        loop.close()

    await asyncio.to_thread(run)
    go.open()
    assert await asyncio.to_thread(ended.wait, 10)


async def test_closing_under_a_reader(make_tier: MakeTier) -> None:
    """A tier that is closed while a thread reads from its directory takes no descriptor away from it."""
    fast = make_tier()
    await fast.set(key(1), "value")
    files = SlowFileSystem()
    tier = make_tier(files=files)
    asked = asyncio.ensure_future(tier.get(key(1)))
    await files.reached.wait()
    await tier.aclose()
    files.released.open()
    assert await asked == Hit("value")


async def test_closing_and_using_at_once(make_tier: MakeTier) -> None:
    """Threads and tasks that use a tier while others close it all get what they asked for."""
    tier = make_tier()

    async def use(number: int) -> list[Any]:
        found: list[Any] = []
        for n in range(60):
            assert await tier.set(key((number, n)), n)
            await tier.aclose()
            found.append(await tier.get(key((number, n))))
        return found

    def in_other_loop(number: int) -> list[Any]:
        return asyncio.run(use(number))

    results = await asyncio.gather(
        *(asyncio.to_thread(in_other_loop, number) for number in range(3)), *(use(number) for number in range(3, 6))
    )
    assert results == [[Hit(n) for n in range(60)]] * 6
    assert tier.statistics().failures == 0
