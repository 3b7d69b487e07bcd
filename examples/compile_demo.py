"""The compile service under load: what a cache, single flight and a second process are worth, measured and checked.

Run it from the repository's root (needs the extra ``demo``; about 15 seconds):

    python -m examples.compile_demo

It starts the service as real processes, sends it every unit (program x flags) many times in random order from many
clients, restarts it, calls the same cache from plain threads, and lets two services share one empty directory. Compiler
runs are counted by the service at the place that starts a compiler. The exit code is 0 only if every count is as
promised, every object is, byte for byte, what a direct compilation gives, and every linked program checks itself.
Without a C compiler it does all this with modules of the standard library and Python's bytecode.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

import anyio
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.cached_compiler import CachedCompiler
from examples.compile_service import x_cache
from examples.compiler import Compiler, Flags, Language, find_compiler
from examples.demo_report import Phase, make_table
from examples.service_process import ROOT, running_service

C_FLAGS: Final[tuple[Flags, ...]] = (
    ("-O0", "-g"),
    ("-O1",),
    ("-O2", "-DNDEBUG"),
    ("-O3", "-fPIC"),
    ("-Os", "-std=c99"),
)
PYTHON_FLAGS: Final[tuple[Flags, ...]] = ((), ("-O0",), ("-O1",), ("-O2",))
#: Without a C compiler: modules of the standard library that can also be run as programs.
PYTHON_PROGRAMS: Final = ("bisect", "colorsys", "fnmatch", "heapq", "stat", "string", "textwrap")


class Unit(NamedTuple):
    """What one request asks for."""

    name: str
    source: str
    flags: Flags


class Demo:
    """The units, their expected objects, and the phases gone through so far."""

    def __init__(self, options: argparse.Namespace, compiler: Compiler, root: Path, progress: Progress) -> None:
        self.options = options
        self.compiler = compiler
        self.root = root
        self.progress = progress
        self.units = list(_units(compiler.language))[: options.requests]
        self.expected: dict[Unit, bytes] = {}
        self.phases: list[Phase] = []
        self.problems: list[str] = []
        self.order = random.Random(options.seed)  # noqa: S311 - an order, not a secret

    async def run(self) -> None:
        """Go through all phases; what is off is in :attr:`problems` afterwards."""
        shared, fresh = self.root / "shared", self.root / "fresh"
        language, verbose, units = self.compiler.language, self.options.verbose, len(self.units)
        await self.compile_directly()
        async with running_service(shared, language, verbose=verbose) as url:
            await self.request("cold", [url], expected_runs=units)
            warm = await self.request("warm (memory)", [url])
            self.promise(warm.origins["memory"] == self.options.requests, "warm: not every answer came from memory")
        async with running_service(shared, language, verbose=verbose) as url:
            restarted = await self.request("restart (disk)", [url])
            self.promise(restarted.origins["disk"] >= units, "restart: not every unit came from disk")
            await self.call_from_threads("legacy threads", shared)
        async with (
            running_service(fresh, language, verbose=verbose) as one,
            running_service(fresh, language, verbose=verbose) as two,
        ):
            await self.request("two services", [one, two], expected_runs=units)
        await self.execute()

    def promise(self, kept: bool, otherwise: str) -> None:
        """Remember what was off."""
        if not kept:
            self.problems.append(otherwise)

    # --- what is right --------------------------------------------------------------------------------------------

    async def compile_directly(self) -> None:
        """Compile each unit without any cache, to know what the right answer is."""
        bar = self.progress.add_task("direct compilation", total=len(self.units))

        async def compile_one(unit: Unit) -> None:
            self.expected[unit] = await self.compiler.compile(unit.source, unit.flags)
            self.progress.advance(bar)

        async with asyncio.TaskGroup() as tasks:
            for unit in self.units:
                tasks.create_task(compile_one(unit))

    async def execute(self) -> None:
        """Link and run each object: every program checks itself."""
        bar = self.progress.add_task("link and run", total=len(self.units))
        slots = asyncio.Semaphore(os.cpu_count() or 1)

        async def execute_one(number: int, unit: Unit) -> None:
            async with slots:
                works = await self.works(self.root / f"{unit.name}-{number}", self.expected[unit])
                self.promise(works, f"{unit.name} {' '.join(unit.flags)}: the program failed its own check")
                self.progress.advance(bar)

        async with asyncio.TaskGroup() as tasks:
            for number, unit in enumerate(self.units):
                tasks.create_task(execute_one(number, unit))

    async def works(self, program: Path, code: bytes) -> bool:
        """Tell whether the object, linked where that is needed, runs and exits with 0."""
        if self.compiler.language == "python":
            bytecode = program.with_suffix(".pyc")
            await anyio.Path(bytecode).write_bytes(code)
            return await _succeeds(sys.executable, bytecode)
        unit = program.with_suffix(".o")
        await anyio.Path(unit).write_bytes(code)
        return await _succeeds(self.compiler.driver, unit, "-lm", "-o", program) and await _succeeds(program)

    # --- callers --------------------------------------------------------------------------------------------------

    async def request(self, title: str, urls: Sequence[str], *, expected_runs: int = 0) -> Phase:
        """Send every unit many times, in random order, from all clients at once."""
        phase = Phase(title, len(self.units), expected_runs)
        bar = self.progress.add_task(title, total=self.options.requests)
        jobs = iter(self.shuffled())
        # Loading certificates takes longer than all requests of a client; plain HTTP needs none.
        no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

        async def client(url: str) -> None:
            async with httpx.AsyncClient(base_url=url, timeout=60, verify=no_certificates, trust_env=False) as http:
                for unit in jobs:
                    started = perf_counter()
                    try:
                        answer = await http.post("/compile", json={"source": unit.source, "flags": unit.flags})
                    except httpx.HTTPError as error:
                        phase.note(type(error).__name__, perf_counter() - started, right=False)
                        continue
                    seconds = perf_counter() - started
                    origin = answer.headers.get("X-Cache", f"status {answer.status_code}")
                    inside = float(answer.headers.get("Server-Timing", "dur=0").partition("dur=")[2]) / 1000
                    phase.note(origin, seconds, inside, right=answer.content == self.expected[unit])
                    self.progress.advance(bar)

        before = [await _compiler_runs(url) for url in urls]
        async with asyncio.TaskGroup() as tasks:
            for number in range(self.options.clients):
                tasks.create_task(client(urls[number % len(urls)]))
        phase.runs = sum([await _compiler_runs(url) for url in urls]) - sum(before)
        self.finish(phase)
        return phase

    async def call_from_threads(self, title: str, directory: Path) -> None:
        """Call the same cache from plain threads of this process, through the synchronous face."""
        phase = Phase(title, len(self.units), expected_runs=0)
        bar = self.progress.add_task(title, total=self.options.requests)
        jobs = iter(self.shuffled())
        guard = threading.Lock()
        runs_before = self.compiler.runs

        def legacy_caller() -> None:
            while True:
                with guard:
                    unit = next(jobs, None)
                if unit is None:
                    return
                started = perf_counter()
                compiled = cached.compile_sync(unit.source, unit.flags)
                seconds = perf_counter() - started
                with guard:
                    right = compiled.code == self.expected[unit]
                    phase.note(x_cache(compiled.call), seconds, seconds, right=right)
                self.progress.advance(bar)

        def run_threads() -> None:
            with ThreadPoolExecutor(self.options.threads, thread_name_prefix="legacy") as threads:
                for caller in [threads.submit(legacy_caller) for _ in range(self.options.threads)]:
                    caller.result()

        async with CachedCompiler(self.compiler, directory) as cached:
            await asyncio.to_thread(run_threads)
        phase.runs = self.compiler.runs - runs_before
        self.finish(phase)

    def finish(self, phase: Phase) -> None:
        """Keep the phase, and what was off in it."""
        self.phases.append(phase)
        self.problems.extend(phase.problems(self.options.requests))

    def shuffled(self) -> list[Unit]:
        """Return one unit for each request, each as often as the others (or once more), in random order."""
        jobs = [self.units[number % len(self.units)] for number in range(self.options.requests)]
        self.order.shuffle(jobs)
        return jobs


def _units(language: Language) -> Iterator[Unit]:
    if language == "c":
        for path in sorted((ROOT / "examples" / "programs").glob("*.c")):
            yield from (Unit(path.stem, path.read_text(), flags) for flags in C_FLAGS)
    else:
        library = Path(os.__file__).parent
        for name in PYTHON_PROGRAMS:
            yield from (Unit(name, (library / f"{name}.py").read_text(), flags) for flags in PYTHON_FLAGS)


async def _compiler_runs(url: str) -> int:
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        return int((await http.get("/stats")).json()["compiler_runs"])


async def _succeeds(*command: str | Path) -> bool:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=quiet, stdout=quiet, stderr=quiet)
    return await process.wait() == 0


async def _run(options: argparse.Namespace, console: Console, root: Path) -> bool:
    task = asyncio.current_task()
    if task is not None:
        # Like Ctrl-C: the services end and the files go.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    compiler = find_compiler(options.language)
    identity = await compiler.identify()
    what = "C programs" if compiler.language == "c" else "Python modules, compiled to bytecode instead of C programs"
    console.rule(f"{what}: {identity.version.splitlines()[0]}")
    columns = TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        demo = Demo(options, compiler, root, progress)
        await demo.run()
    console.print(make_table(demo.phases))
    for problem in demo.problems:
        console.print(f"[red]FAIL[/red] {problem}", highlight=False)
    if not demo.problems:
        console.print(
            f"[green]PASS[/green] {len(demo.units)} objects equal a direct compilation, and every program checks itself"
        )
    return not demo.problems


def main() -> int:
    """Run the demo; return 0 when everything was as promised, 1 when not, 130 when interrupted."""
    parser = argparse.ArgumentParser(description="Measure and check the compile service.")
    parser.add_argument("--requests", type=int, default=1400, help="in each phase")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--language", choices=("c", "python"), help="default: C, if there is a compiler")
    parser.add_argument("--verbose", action="store_true", help="show what the services log")
    options = parser.parse_args()
    console = Console()
    try:
        with tempfile.TemporaryDirectory(prefix="acache-demo-") as root:
            return 0 if asyncio.run(_run(options, console, Path(root))) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
