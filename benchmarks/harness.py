"""How things are measured: in turns, with the garbage collector off, and a progress bar that moves between rounds only."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeAlias, TypeVar

from benchmarks.result import Result, Sample
from benchmarks.scratch import Scratch

__all__ = ("Benchmark", "Measure", "Run", "block", "hits", "hits_now", "in_turns", "no_gc")

Name = TypeVar("Name", bound=Hashable)
#: Measures once: seconds (or bytes) for one operation, usually the mean of a block of many.
Measure: TypeAlias = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Run:
    """What a benchmark is given: how thorough to be, where to put files, whom to tell how far it is."""

    quick: bool
    scratch: Scratch
    #: Called with the number of further steps known of, and with the number of those done.
    expect: Callable[[int], object] = field(default=lambda _count: None)
    advance: Callable[[], object] = field(default=lambda: None)

    def pick(self, full: int, quick: int) -> int:
        """Choose a size."""
        return quick if self.quick else full

    async def in_turns(self, measures: Mapping[str, Measure], rounds: int) -> dict[str, Sample]:
        """Do :func:`in_turns`, and say how far it is."""
        self.expect(rounds)
        return await in_turns(measures, rounds, self.advance)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A name for the command line, a title for the table, and what to do."""

    name: str
    title: str
    run: Callable[[Run], Coroutine[Any, Any, Result]]


async def in_turns(
    measures: Mapping[Name, Measure], rounds: int, after_round: Callable[[], object] = lambda: None
) -> dict[Name, Sample]:
    """Measure each, ``rounds`` times, in turns; every round begins with another one."""
    names = list(measures)
    values: dict[Name, list[float]] = {name: [] for name in names}
    with no_gc():
        for number in range(rounds):
            start = number % len(names)
            for name in names[start:] + names[:start]:
                values[name].append(await measures[name]())
            after_round()
    return {name: Sample(tuple(taken)) for name, taken in values.items()}


def block(call: Callable[[], Awaitable[object]], size: int) -> Measure:
    """Measure blocks of ``size`` calls. For calls of microseconds: a call through ``call`` itself takes some 50 ns."""

    async def measure() -> float:
        start = perf_counter()
        for _ in range(size):
            await call()
        return (perf_counter() - start) / size

    return measure


async def hits(function: Callable[[Any, Any], Awaitable[object]], size: int) -> Measure:
    """Measure blocks of calls of one key, which has been computed before; as :func:`block`, and with no call between."""
    await function(1, "a")

    async def measure() -> float:
        start = perf_counter()
        for _ in range(size):
            await function(1, "a")
        return (perf_counter() - start) / size

    return measure


async def hits_now(function: Callable[[Any, Any], object], size: int) -> Measure:
    """Do :func:`hits` for a plain function."""
    function(1, "a")

    async def measure() -> float:
        start = perf_counter()
        for _ in range(size):
            function(1, "a")
        return (perf_counter() - start) / size

    return measure


@contextmanager
def no_gc() -> Generator[None]:
    """Collect garbage now, and not again before the end."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
