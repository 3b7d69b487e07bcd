"""Settling a loop, and cancelling at every moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import pytest

from acache.testing import Gate, SweepStep, cancel_sweep, settle


async def test_settle_lets_chains_of_callbacks_run() -> None:
    """Callbacks that call callbacks, and tasks that wake tasks, are all through; what waits still waits."""
    seen: list[int] = []
    loop = asyncio.get_running_loop()

    def step(number: int) -> None:
        seen.append(number)
        if number < 20:
            loop.call_soon(step, number + 1)

    blocked = asyncio.create_task(asyncio.Event().wait())
    loop.call_soon(step, 0)
    await settle()
    assert seen == list(range(21))
    assert not blocked.done()
    blocked.cancel()
    await asyncio.wait([blocked])


async def test_settle_is_bounded() -> None:
    """A loop that is never at rest is left after the turns asked for."""
    turns = 0

    async def spin() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(spin())
    await settle(10)
    task.cancel()
    await asyncio.wait([task])
    assert 9 <= turns <= 11


async def sweep(factory: Callable[[], asyncio.Future[int] | None], depth: int) -> list[SweepStep[int]]:
    """Sweep a coroutine that waits ``depth`` times for what the factory gives, or for the next turn."""

    async def run() -> int:
        for number in range(depth):
            future = factory()
            if future is None:
                await asyncio.sleep(0)
            else:
                asyncio.get_running_loop().call_soon(_resolve, future, number)
                assert await future == number
        return depth

    return [step async for step in cancel_sweep(run)]


def _resolve(future: asyncio.Future[int], number: int) -> None:
    if not future.done():
        future.set_result(number)


async def test_sweep_visits_every_moment_once() -> None:
    """A coroutine with n waits has 2n + 1 moments, then a run that is left alone and returns its value."""
    steps = await sweep(asyncio.get_running_loop().create_future, 3)
    assert [step.number for step in steps] == list(range(8))
    assert all(step.was_cancelled and step.cancel_requested for step in steps[:-1])
    assert steps[-1] == SweepStep(7, cancel_requested=False, value=3, error=None)


async def test_a_bare_turn_is_one_moment() -> None:
    """Waiting for nothing but the next turn of the loop is a single moment."""
    steps = await sweep(lambda: None, 3)
    assert [step.was_cancelled for step in steps] == [True, True, True, True, False]


async def test_sweep_finds_a_lost_hand_over() -> None:
    """A resource that is given and cancelled in the same turn is lost by careless code: the sweep gets there."""
    lost: list[int] = []

    async def careless() -> None:
        free = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(_resolve, free, 1)
        try:
            await free
        except asyncio.CancelledError:
            if free.done() and not free.cancelled():
                lost.append(free.result())
            raise

    async for _ in cancel_sweep(careless):
        pass
    assert lost == [1]


async def test_threads_do_not_change_the_moments() -> None:
    """The moments are the coroutine's own, however long a thread below it takes: each sweep has the same number."""
    gate = Gate()
    gate.open()

    async def hop() -> None:
        await asyncio.to_thread(gate.wait_blocking)

    lengths = [len([step async for step in cancel_sweep(hop)]) for _ in range(3)]
    assert lengths == [4, 4, 4]


async def test_an_impatient_caller_cancels_twice() -> None:
    """With ``times=2`` the cleanup of a cancelled coroutine is cancelled too, where it waits."""
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            cleaned.append("begun")
            await asyncio.sleep(0)
            cleaned.append("ended")

    async for step in cancel_sweep(work, times=2):
        if step.number == 1:
            assert step.was_cancelled
            assert cleaned == ["begun"]
        cleaned.clear()


async def test_swallowed_cancellation_is_seen() -> None:
    """A coroutine that swallows the cancellation and returns is told apart from one that was left alone."""

    async def stubborn() -> str:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "swallowed"
        return "alone"

    steps = [(step.value, step.cancel_requested) async for step in cancel_sweep(stubborn)]
    assert steps == [(None, True), ("swallowed", True), ("alone", False)]


async def test_errors_are_outcomes() -> None:
    """An error of the coroutine is part of the outcome, and the sweep goes on."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError

    steps = [type(step.error) async for step in cancel_sweep(fail)]
    assert steps == [asyncio.CancelledError, asyncio.CancelledError, LookupError]


async def test_cancel_scopes_work_inside() -> None:
    """The scopes of anyio see an ordinary task: their cleanup runs, except where it is itself cancelled."""
    closed = 0

    async def guarded() -> None:
        nonlocal closed
        try:
            with anyio.fail_after(60):
                await asyncio.sleep(0)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
                closed += 1

    steps = [step async for step in cancel_sweep(guarded)]
    assert [step.was_cancelled for step in steps] == [True, True, True, False]
    assert closed == 2  # moment 0 comes before the block, moment 2 in the cleanup


async def test_endless_coroutine() -> None:
    """A coroutine that has no last moment ends the sweep with an error."""

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    seen = 0
    with pytest.raises(RuntimeError, match="moment 20"):
        async for _ in cancel_sweep(spin, limit=20):
            seen += 1
    assert seen == 20


async def test_a_sweep_can_be_cancelled() -> None:
    """A sweep that is cancelled itself takes the run of the moment with it."""
    ended: list[None] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(None)

    async def run() -> None:
        async for step in cancel_sweep(wait):
            assert step.was_cancelled

    sweep = asyncio.create_task(run())
    await settle()
    assert len(ended) == 1  # the second run waits for a moment that never comes
    sweep.cancel()
    await asyncio.wait([sweep])
    await settle()
    assert sweep.cancelled()
    assert len(ended) == 2
