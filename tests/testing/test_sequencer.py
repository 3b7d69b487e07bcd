"""Turns by number."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from acache.testing import Sequencer, cancel_sweep, settle


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_turns_come_in_order(order: tuple[int, ...]) -> None:
    """Whatever the order in which tasks start, their turns come by number."""
    seq, seen = Sequencer(), list[int]()

    async def take(number: int) -> None:
        async with seq(number):
            seen.append(number)
            await settle(2)
            seen.append(number)

    await asyncio.gather(*(take(number) for number in order))
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_loops_and_threads_take_turns() -> None:
    """A task of this loop, a plain thread and a task of another loop share one order."""
    seq, seen = Sequencer(), list[str]()

    async def here() -> None:
        for number in (0, 3):
            async with seq(number):
                seen.append(f"{number} here")

    def in_a_thread() -> None:
        for number in (1, 4):
            with seq(number):
                seen.append(f"{number} thread")

    async def elsewhere() -> None:
        for number in (2, 5):
            async with seq(number):
                seen.append(f"{number} elsewhere")

    await asyncio.gather(here(), asyncio.to_thread(in_a_thread), asyncio.to_thread(asyncio.run, elsewhere()))
    assert seen == ["0 here", "1 thread", "2 elsewhere", "3 here", "4 thread", "5 elsewhere"]


async def test_a_turn_that_raises_has_been() -> None:
    """A block that raises ends its turn; the next one comes."""
    seq = Sequencer()
    with pytest.raises(LookupError):
        async with seq(0):
            raise LookupError
    with pytest.raises(LookupError), seq(1):
        raise LookupError
    async with seq(2):
        pass


async def test_each_number_is_taken_once() -> None:
    """A number that is used twice, or negative, is an error."""
    seq = Sequencer()
    seq(0)
    for number in (0, -1):
        with pytest.raises(ValueError, match=str(number)):
            seq(number)


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_turn_that_never_comes(blocking: bool) -> None:
    """A gap in the numbers is an error that names the missing turn, and every later turn fails at once."""
    seq = Sequencer(timeout=0)
    with pytest.raises(TimeoutError, match="turn 0"):
        if blocking:
            await asyncio.to_thread(seq(1).__enter__)
        else:
            await seq(1).__aenter__()
    with pytest.raises(RuntimeError, match="turn 1 never came"):
        async with seq(2):
            pass
    with pytest.raises(RuntimeError, match="turn 1 never came"), seq(3):
        pass


async def test_a_cancelled_turn_fails_the_later_ones() -> None:
    """A turn that is cancelled while it waits breaks the order for those behind it, who do not hang."""
    seq = Sequencer()

    async def take(number: int) -> None:
        async with seq(number):
            pass

    first, second, third = (asyncio.create_task(take(number)) for number in (1, 2, 3))
    await settle()
    second.cancel()
    await asyncio.wait([second, third])
    assert second.cancelled()
    assert isinstance(third.exception(), RuntimeError)
    first.cancel()
    await asyncio.wait([first])


async def test_a_turn_cancelled_inside_has_been() -> None:
    """A cancellation inside the block ends the turn like any error; one before it breaks the order."""
    seq = Sequencer()

    async def take() -> None:
        async with seq(0):
            await asyncio.sleep(0)

    async for step in cancel_sweep(take):
        if step.number:
            with seq(1):
                pass
        seq = Sequencer()
