"""What the demo measured: each phase, what is off in it, and the table of all."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.table import Table

__all__ = ("Phase", "make_table")


@dataclass(slots=True)
class Phase:
    """What was asked in one phase of the demo, and what came back."""

    title: str
    #: Distinct units among the requests, and how many of them had to be compiled.
    units: int
    expected_runs: int
    #: What the services counted where they start a compiler.
    runs: int = 0
    wrong: int = 0
    #: Answers by where they came from: ``miss``, ``joined``, or the tier of a hit.
    origins: Counter[str] = field(default_factory=Counter[str])
    #: Seconds, as the client saw them.
    latencies: list[float] = field(default_factory=list[float])
    #: The part of them that a call of the cache took, with the compiler where one ran.
    inside: list[float] = field(default_factory=list[float])
    #: Latencies of the requests that had to wait for a compiler.
    compiling: list[float] = field(default_factory=list[float])

    def note(self, header: str, seconds: float, inside: float = 0.0, *, right: bool) -> None:
        """Count one answer by its ``X-Cache`` header, as in ``hit; tier=disk; age=0.1``."""
        outcome, *details = header.split("; ")
        origin = details[0].removeprefix("tier=") if outcome == "hit" else outcome
        self.origins[origin] += 1
        self.latencies.append(seconds)
        self.inside.append(inside)
        if origin in {"miss", "joined"}:
            self.compiling.append(seconds)
        self.wrong += not right

    def problems(self, requests: int) -> Iterator[str]:
        """Yield what is not as promised."""
        if self.origins.total() != requests:
            yield f"{self.title}: {self.origins.total()} answers to {requests} requests"
        if self.wrong:
            yield f"{self.title}: {self.wrong} answers differ from a direct compilation"
        if self.runs != self.expected_runs:
            yield f"{self.title}: {self.runs} compiler runs, expected {self.expected_runs}"
        if self.origins["miss"] != self.runs:
            yield f"{self.title}: {self.origins['miss']} misses for {self.runs} compiler runs"


_HEADINGS = (
    "\nrequests",
    "\nunits",
    "compiler\nruns",
    "memory\nhits",
    "disk\nhits",
    "\njoined",
    "cache\nms",
    "p50\nms",
    "p99\nms",
    "speed\nup",
)


def make_table(phases: Sequence[Phase]) -> Table:
    """Lay out the phases, the first of which is the one to compare with."""
    baseline = statistics.median(phases[0].compiling or [math.nan])
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.caption = (
        f"speed up of p50: against a cold request that waited for a compiler, {_digits(baseline * 1000)} ms\n"
        "cache: the median time inside the cache alone; legacy threads use no HTTP"
    )
    table.add_column("\nphase", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for phase in phases:
        median, slow = statistics.median(phase.latencies), sorted(phase.latencies)[-1 - len(phase.latencies) // 100]
        hits = (phase.origins[origin] for origin in ("memory", "disk", "joined"))
        counts = phase.origins.total(), phase.units, phase.runs, *hits
        inside = statistics.median(phase.inside)
        times = _digits(inside * 1000), _digits(median * 1000), _digits(slow * 1000), _digits(baseline / median)
        table.add_row(phase.title, *map(str, counts), *times)
    return table


def _digits(number: float) -> str:
    """Write as many digits as matter, from hundredths to thousands."""
    return f"{number:.2f}" if number < 1 else f"{number:.1f}" if number < 100 else f"{number:.0f}"
