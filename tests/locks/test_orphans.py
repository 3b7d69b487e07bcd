"""Locks whose holder's event loop was closed: who comes next has them (A10)."""

from __future__ import annotations

import asyncio
import fcntl
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from acache import DiskTier, FastCache, MemoryTier
from acache.locks import (
    BLOCKING,
    KeyedLock,
    Limiter,
    Lock,
    acquire_flock,
    acquire_lock,
    file_lock,
    hold_file,
    mutex,
)
from acache.testing import FaultyTier, Gate, settle

#: Makes the block in which a lock is held.
Hold = Callable[[], AbstractAsyncContextManager[object]]


@pytest.fixture(params=["lock", "keyed", "limiter", "flock", "file"])
def hold(request: pytest.FixtureRequest, tmp_path: Path) -> Hold:
    """Make one lock of each kind that belongs to no loop."""
    lock, keyed, limiter = Lock(), KeyedLock[str](), Limiter(1)
    kinds: dict[str, Hold] = {
        "lock": lambda: acquire_lock(lock, BLOCKING),
        "keyed": lambda: keyed.hold("key", BLOCKING),
        "limiter": limiter.hold,
        "flock": lambda: acquire_flock(file_lock(tmp_path / "lock"), BLOCKING),
        "file": lambda: hold_file(tmp_path / "lock", BLOCKING),
    }
    return kinds[request.param]


def left_behind(work: Callable[[Gate], Coroutine[Any, Any, object]]) -> asyncio.Task[object]:
    """Close a loop under ``work``, once its gate is open; the task must be kept, or its clean-up would help."""
    gate, loop = Gate("the work"), asyncio.new_event_loop()
    task = loop.create_task(work(gate))
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it will be
    loop.run_until_complete(gate.wait())
    loop.close()
    return task


async def for_ever(hold: Hold, gate: Gate) -> None:
    async with hold():
        gate.open()
        await asyncio.Event().wait()


async def once(hold: Hold) -> None:
    async with hold():
        await asyncio.sleep(0)


def test_the_next_has_it(hold: Hold) -> None:
    """What a task held whose loop was closed is free at once; later clean-up of that task frees nobody else's lock."""
    task = left_behind(lambda gate: for_ever(hold, gate))
    asyncio.run(asyncio.wait_for(once(hold), 20))

    async def clean_up_meanwhile() -> None:
        async with hold():
            task.get_coro().close()
            other = asyncio.create_task(once(hold), context=Context())  # a limiter lets the holder's own tasks in
            await settle()
            assert not other.done()
        await other

    asyncio.run(clean_up_meanwhile())


def test_who_waits_already_has_it_too(hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is closed while others wait for what its task holds lets them go on."""
    monkeypatch.setattr(mutex, "ORPHAN_CHECK", 0.01)
    gate, waiting, loop = Gate("the holder"), Gate("the waiter"), asyncio.new_event_loop()
    task = loop.create_task(for_ever(hold, gate))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.run_until_complete(gate.wait())

    async def wait() -> None:
        other = asyncio.create_task(once(hold))
        await settle()
        waiting.open()
        with anyio.fail_after(20):
            await other

    thread = threading.Thread(target=asyncio.run, args=(wait(),))
    thread.start()
    waiting.wait_blocking()
    loop.close()
    thread.join()


def test_threads_have_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain thread that waits for a lock does not wait for a loop that was closed."""
    monkeypatch.setattr(mutex, "ORPHAN_CHECK", 0.01)
    lock = Lock()
    task = left_behind(lambda gate: for_ever(lambda: acquire_lock(lock), gate))
    lock.acquire_sync(20)
    assert lock.locked()
    assert not task.done()


@pytest.mark.parametrize("stuck_in", ["the computation", "the write"])
def test_a10_calls_go_on_without_a_loop_that_was_closed(tmp_path: Path, stuck_in: str) -> None:
    """A loop that is closed while it computes, or writes, takes nothing of its key with it, neither lock nor flight."""
    disk, runs = FaultyTier(DiskTier(tmp_path)), list[int]()
    cache = FastCache(MemoryTier(), disk if stuck_in == "the write" else disk.tier, host_timeout=100)
    gate = disk.hang("write", times=1).reached

    @cache.memoize
    async def f(n: int) -> int:
        runs.append(n)
        if stuck_in == "the computation" and len(runs) == 1:
            gate.open()
            await asyncio.Event().wait()
        return n

    async def first(started: Gate) -> None:
        call = asyncio.create_task(f(1))
        call._log_destroy_pending = False  # type: ignore[attr-defined]
        await gate.wait()
        for task in asyncio.all_tasks():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        started.open()
        await call

    async def later() -> None:
        with anyio.fail_after(20):
            assert await f(1) == 1
            assert await f.cache_set(2, 1)
            assert await f.cache_invalidate(1)
            await cache.clear()
            assert await f(1) == 1
        await cache.aclose()

    task = left_behind(first)
    asyncio.run(later())
    assert not task.done()


async def test_d25_the_same_key_through_another_cache(tmp_path: Path) -> None:
    """A computation that comes to its own key, through another cache on its directory, does not wait for its own lock."""

    async def inner() -> int:
        return 5

    async def outer() -> int:
        return await memoized() + 1

    outer.__qualname__ = inner.__qualname__
    async with FastCache(DiskTier(tmp_path), host_timeout=100) as one, FastCache(DiskTier(tmp_path)) as two:
        memoized = two.memoize(inner)
        with anyio.fail_after(20):
            assert await one.memoize(outer)() == 6


@pytest.mark.parametrize("running", [False, True])
def test_a_file_of_a_closed_loop_is_free_once_the_collector_has_come(tmp_path: Path, running: bool) -> None:
    """A10: a finalizer gives a held file back at once, whatever loop runs there: it awaits nothing and needs no thread."""
    coroutine = left_behind(partial(for_ever, partial(hold_file, tmp_path / "lock", BLOCKING))).get_coro()
    assert inspect.iscoroutine(coroutine)

    async def collect() -> None:
        coroutine.close()

    if running:
        asyncio.run(collect())
    else:
        coroutine.close()
    with (tmp_path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
