"""Counting what was really computed."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from acache.exceptions import KeyEncodingError
from acache.testing import ComputeCounter


async def test_counts_runs_of_both_kinds() -> None:
    """Each run of a wrapped function is counted when it starts, sync or async, by one counter for several."""
    counter = ComputeCounter()

    @counter.wrap
    def double(number: int) -> int:
        return 2 * number

    @counter.wrap
    async def negate(number: int) -> int:
        return -number

    assert (double(2), await negate(2), double(3)) == (4, -2, 6)
    assert (counter.total, counter.runs(2), counter.runs(3), counter.runs(4)) == (3, 2, 1, 0)
    counter.assert_computed(3)


async def test_a_wrapped_function_is_the_function() -> None:
    """Kind, name and signature stay, so a cache sees the same function."""
    counter = ComputeCounter()

    async def fetch(number: int, *, name: str = "x") -> str:
        return name * number

    counted = counter.wrap(fetch)
    assert inspect.iscoroutinefunction(counted)
    assert inspect.signature(counted) == inspect.signature(fetch)
    assert (counted.__qualname__, inspect.unwrap(counted)) == (fetch.__qualname__, fetch)
    assert not inspect.iscoroutinefunction(counter.wrap(len))


def test_arguments_are_told_apart_as_keys_are() -> None:
    """Arguments that are equal but of other types are other arguments; containers count by content."""
    counter = ComputeCounter()

    @counter.wrap
    def run(*args: object, **kwargs: object) -> None: ...

    for argument in (1, True, 1.0, "1", [1], {"a": [1]}):
        run(argument)
    run(argument=1)
    assert [counter.runs(argument) for argument in (1, True, 1.0, "1", [1], {"a": [1]})] == [1] * 6
    assert counter.runs(argument=1) == 1
    assert counter.runs(self=1) == 0
    counter.assert_computed_once_each()


def test_mistakes_of_a_cache_are_errors() -> None:
    """A wrong number of runs, or a run that repeats another, is an AssertionError with the figures."""
    counter = ComputeCounter()
    run = counter.wrap(abs)
    run(1)
    run(1)
    with pytest.raises(AssertionError, match="2 times, not 1"):
        counter.assert_computed(1)
    with pytest.raises(AssertionError, match="1 of 2 runs"):
        counter.assert_computed_once_each()
    assert repr(counter) == "ComputeCounter(runs=2, distinct=1)"
    counter.reset()
    counter.assert_computed(0)


async def test_failed_and_cancelled_runs_count() -> None:
    """A run counts when it starts, whatever becomes of it."""
    counter = ComputeCounter()

    @counter.wrap
    async def fail() -> None:
        raise LookupError

    @counter.wrap
    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(LookupError):
        await fail()
    task = asyncio.create_task(hang())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    counter.assert_computed(2)


def test_arguments_without_a_key() -> None:
    """Arguments that cannot be told apart by content are refused, and nothing is counted."""
    counter = ComputeCounter()
    with pytest.raises(KeyEncodingError):
        counter.wrap(str)(object())
    counter.assert_computed(0)
