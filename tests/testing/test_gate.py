"""The door that tasks of any loop, and threads, wait at."""

from __future__ import annotations

import asyncio
import threading

import pytest

from acache.testing import Gate, cancel_sweep, settle


async def test_opens_for_tasks() -> None:
    """Tasks wait until the door opens; after that nobody waits."""
    gate, through = Gate(), list[int]()

    async def go(number: int) -> None:
        await gate.wait()
        through.append(number)

    tasks = [asyncio.create_task(go(number)) for number in range(3)]
    await settle()
    assert (through, gate.is_open) == ([], False)
    gate.open()
    gate.open()
    await asyncio.gather(*tasks)
    assert (through, gate.is_open) == ([0, 1, 2], True)
    await gate.wait(0)


async def test_opens_for_threads_and_other_loops() -> None:
    """A thread, and a task of another loop, pass the same door; any thread may open it."""
    gate = Gate()
    waiting = [asyncio.to_thread(gate.wait_blocking), asyncio.to_thread(asyncio.run, gate.wait()), gate.wait()]
    together = asyncio.gather(*waiting)
    await settle()
    opener = threading.Thread(target=gate.open)
    opener.start()
    await together
    await asyncio.to_thread(opener.join)
    gate.wait_blocking(0)


async def test_too_long_is_an_error_with_the_name() -> None:
    """A wait that takes too long says which door it was, in a task as in a thread."""
    gate = Gate("the second writer")
    with pytest.raises(TimeoutError, match="the second writer"):
        await gate.wait(0)
    with pytest.raises(TimeoutError, match="the second writer"):
        gate.wait_blocking(0)


async def test_cancelled_waiters_leave_nothing() -> None:
    """A waiter that is cancelled at any moment is forgotten; the others go through."""
    gate = Gate()
    other = asyncio.create_task(gate.wait(5))
    await settle()

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(gate.open)
        await gate.wait()

    async for step in cancel_sweep(wait):
        assert step.was_cancelled or step.error is None
        gate.open()
        await other
        assert gate._waiters == {}
        gate = Gate()
        other = asyncio.create_task(gate.wait(5))
        await settle()
    other.cancel()


def test_waiters_of_a_closed_loop_do_no_harm() -> None:
    """A loop that ended while somebody waited in it does not keep the door from opening for others."""
    gate = Gate()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(gate.wait())
    loop.run_until_complete(settle(3))
    waiting.cancel()
    loop.close()
    gate.open()
    assert gate.is_open
    del waiting
