"""The command line: which benchmarks, how thorough, where the results go, and whether all bounds held."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import platformdirs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import (
    async_hit,
    costs,
    disk,
    eviction,
    groups,
    isolation,
    limits,
    policies,
    responsiveness,
    scale,
    stampede,
    sync_hit,
)
from benchmarks.harness import Benchmark, Run
from benchmarks.plot import draw
from benchmarks.result import Result
from benchmarks.scratch import Scratch
from benchmarks.table import show, verdict

__all__ = ("BENCHMARKS", "main")

BENCHMARKS: Final[tuple[Benchmark, ...]] = tuple(
    module.BENCHMARK
    for module in (
        async_hit,
        sync_hit,
        isolation,
        policies,
        groups,
        disk,
        limits,
        scale,
        eviction,
        responsiveness,
        stampede,
        costs,
    )
)
RESULTS: Final = Path(__file__).parent / "results"
_WIDTH: Final = 120
_PEERS: Final = ("async-lru", "cachebox", "cachetools", "cashews", "diskcache", "py-key-value-aio", "theine")


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    only: tuple[str, ...]
    quick: bool
    json: bool
    tolerance: float
    output: Path
    directory: Path


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; return 0 if every bound holds, 1 if one does not."""
    options = _parse(arguments)
    out, err = _console(stderr=False), _console(stderr=True)
    chosen = [benchmark for benchmark in BENCHMARKS if not options.only or benchmark.name in options.only]
    options.output.mkdir(parents=True, exist_ok=True)
    reports: list[dict[str, Any]] = []
    missed: list[str] = []
    with Scratch(options.directory) as scratch:
        for benchmark in chosen:
            result = _measure(benchmark, options, scratch, err)
            reports.append(_save(benchmark, result, options.output))
            missed += [f"{benchmark.name}: {verdict(bound)}" for bound in result.bounds if not bound.holds]
            if not options.json:
                show(out, f"{benchmark.title} ({benchmark.name})", result)
    if options.json:
        json.dump(reports, sys.stdout, indent=2)
        return int(bool(missed))
    out.print(f"Results and plots: {options.output}", highlight=False, soft_wrap=True)
    out.print("\n".join(["Not all bounds hold:", *missed]) if missed else "All bounds hold.", highlight=False)
    return int(bool(missed))


def _parse(arguments: Sequence[str]) -> Options:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure acache against its peers.")
    parser.add_argument("--only", action="append", default=[], choices=names, help="this one; may be given again")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: does everything run?")
    parser.add_argument("--json", action="store_true", help="print results as JSON instead of tables")
    parser.add_argument(
        "--tolerance", type=float, default=1.0, metavar="FACTOR", help="multiply every bound, on a machine that is busy"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="where JSON and plots go (%(default)s)")
    parser.add_argument(
        "--directory",
        type=Path,
        default=platformdirs.user_cache_path(),
        help="where the caches on disk are made, for the time of the run (%(default)s)",
    )
    given = vars(parser.parse_args(arguments))
    return Options(**{**given, "only": tuple(given["only"])})


def _console(*, stderr: bool) -> Console:
    """Return a console that does not fold tables for the sake of a file."""
    console = Console(stderr=stderr)
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def _measure(benchmark: Benchmark, options: Options, scratch: Scratch, console: Console) -> Result:
    """Run one benchmark behind a progress bar that is drawn only when a round has ended."""
    columns = (TextColumn(f"{benchmark.name:<15}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task(benchmark.name, total=0)
        total = 0

        def expect(steps: int) -> None:
            nonlocal total
            total += steps
            progress.update(task, total=total, refresh=True)

        def advance() -> None:
            progress.update(task, advance=1, refresh=True)

        result = asyncio.run(benchmark.run(Run(options.quick, scratch, expect, advance)))
    result.bounds = [replace(bound, limit=bound.limit * options.tolerance) for bound in result.bounds]
    return result


def _save(benchmark: Benchmark, result: Result, directory: Path) -> dict[str, Any]:
    report = {
        "name": benchmark.name,
        "title": benchmark.title,
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "load": os.getloadavg(),
            "versions": {name: version(name) for name in _PEERS},
        },
        **result.to_json(),
    }
    (directory / f"{benchmark.name}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draw(benchmark.title, result, directory / f"{benchmark.name}.png")
    return report
