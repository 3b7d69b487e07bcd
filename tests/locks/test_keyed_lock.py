"""The table of locks: one holder per key, and no key kept that nobody wants."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from acache.exceptions import ConfigurationError, LockTimeoutError
from acache.locks import BLOCKING, NON_BLOCKING, KeyedLock
from acache.locks import keyed as keyed_module
from acache.testing import cancel_sweep, settle


async def visit(table: KeyedLock[str], key: str, order: list[str], name: str) -> None:
    async with table.hold(key, BLOCKING):
        order.append(name)
        await asyncio.sleep(0)


async def test_one_key_has_one_holder_at_a_time() -> None:
    """Holders of one key follow each other in the order they came."""
    table, order = KeyedLock[str](), list[str]()
    async with table.hold("a"):
        tasks = [asyncio.create_task(visit(table, "a", order, str(number))) for number in range(3)]
        await settle()
        assert order == []
    await asyncio.gather(*tasks)
    assert order == ["0", "1", "2"]


async def test_other_keys_do_not_wait() -> None:
    """Different keys are different locks."""
    table = KeyedLock[str]()
    async with table.hold("a", NON_BLOCKING), table.hold("b", NON_BLOCKING):
        assert set(table.keys()) == {"a", "b"}
        assert table.locked("a")
        assert not table.locked("c")


async def test_equal_keys_are_one() -> None:
    """Keys are told apart as a dict does it."""
    table = KeyedLock[object]()
    async with table.hold((1, "x")):
        with pytest.raises(LockTimeoutError):
            await table.acquire((1.0, "x"), NON_BLOCKING)


async def test_a_key_takes_room_only_while_it_is_in_use() -> None:
    """``len`` counts keys that are held or awaited, and is 0 when nobody is left."""
    table = KeyedLock[str]()
    assert len(table) == 0
    async with table.hold("a"):
        waiter = asyncio.create_task(table.acquire("a"))
        await settle()
        assert len(table) == 1
        assert "1 keys" in repr(table)
    holding = await waiter
    assert len(table) == 1
    table.release("a", holding)
    assert len(table) == 0


async def test_only_the_holder_releases_and_only_once() -> None:
    """Who has released a key once does not release it for the next holder."""
    table = KeyedLock[str]()
    first = await table.acquire("a")
    table.release("a", first)
    async with table.hold("a"):
        table.release("a", first)
        assert table.locked("a")
    assert len(table) == 0


@pytest.mark.parametrize("timeout", [NON_BLOCKING, 0.01])
async def test_a_waiter_gives_up_in_time(timeout: float) -> None:
    """A wait that takes too long raises, with its seconds, and the key goes with its holder."""
    table = KeyedLock[str]()
    async with table.hold("a"):
        with pytest.raises(LockTimeoutError) as caught:
            await table.acquire("a", timeout)
        assert caught.value.timeout == timeout
        assert table.locked("a")
    assert len(table) == 0


async def test_the_timeout_is_checked_first() -> None:
    """A timeout that is no number of seconds is refused, and no key is left behind."""
    table = KeyedLock[str]()
    with pytest.raises(ConfigurationError):
        await table.acquire("a", -2)
    assert len(table) == 0


async def test_the_last_waiter_to_give_up_frees_the_key() -> None:
    """A waiter that is cancelled after the hand-over, with nobody behind it, takes the key out of the table."""
    table = KeyedLock[str]()
    holding = await table.acquire("a")
    waiter = asyncio.create_task(table.acquire("a"))
    await settle()
    table.release("a", holding)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()
    assert len(table) == 0


@pytest.mark.parametrize("times", [1, 2])
async def test_sweep(times: int) -> None:
    """Cancelled at any moment, a contender leaves no key, and the others are served (H7)."""

    async def contend() -> None:
        await asyncio.sleep(0)
        async with table.hold("a", BLOCKING):
            await asyncio.sleep(0)

    async def hold_until_later() -> None:
        async with table.hold("a", BLOCKING):
            await settle(4)
            others.append(asyncio.ensure_future(visit(table, "a", served, "later")))
            await settle(1)

    def start() -> Coroutine[Any, Any, None]:
        others[:] = [asyncio.ensure_future(hold_until_later())]
        return contend()

    table, served, others, runs = KeyedLock[str](), list[str](), list[asyncio.Future[None]](), 0
    async for step in cancel_sweep(start, times=times):
        while pending := [task for task in others if not task.done()]:
            await asyncio.wait(pending)
        runs += 1
        assert len(served) == runs
        assert step.was_cancelled == step.cancel_requested
        assert len(table) == 0
    assert runs > 4


async def test_a_lock_that_left_the_table_is_not_taken_for_the_key() -> None:
    """Whoever found a key's lock just before its holder took it out of the table looks the key up again."""
    table, found = KeyedLock[str](), list[object]()
    first = await table.acquire("a")

    def release_after_the_look_up(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is not keyed_module.KeyedLock[str].acquire.__code__:
            return None
        if event == "line" and not found and "lock" in frame.f_locals:
            found.append(frame.f_locals["lock"])
            table.release("a", first)
        return release_after_the_look_up

    previous = sys.gettrace()
    sys.settrace(release_after_the_look_up)
    try:
        second = await table.acquire("a", NON_BLOCKING)
    finally:
        sys.settrace(previous)
    assert len(found) == 1
    assert table._locks["a"] is not found[0]
    with pytest.raises(LockTimeoutError):
        await table.acquire("a", NON_BLOCKING)
    table.release("a", second)
    assert len(table) == 0


def test_loops_in_threads_exclude_each_other() -> None:
    """Tasks of three loops on three keys, some of them cancelled, never overlap on a key and leave no key (H6)."""
    table, inside, overlaps = KeyedLock[int](), [list[int]() for _ in range(3)], list[int]()

    async def work(number: int) -> None:
        for turn in range(60):
            key = (number + turn) % 3
            task = asyncio.ensure_future(table.acquire(key, BLOCKING))
            await asyncio.sleep(0)
            if turn % 4 == 0:
                task.cancel()
            with suppress(asyncio.CancelledError):
                holding = await task
                inside[key].append(number)
                overlaps.extend(inside[key][1:])
                inside[key].pop()
                table.release(key, holding)

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(6)))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert overlaps == []
    assert len(table) == 0
