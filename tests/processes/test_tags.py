"""Groups among real processes on one directory: who invalidates, who hears of it by when, and who is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from acache import DiskTier, FastCache, MemoryTier
from acache.files import LATEST
from tests.remarks import without_remarks

pytestmark = pytest.mark.integration

#: A worker: carries out one order for each line of its standard input, and answers with a line.
#: ``watch`` calls f over and over, until it was for so many seconds and has heard of a change, and reports the answers that a
#: change more than ``grace`` seconds ago forbids.
WORKER = """
import asyncio, json, sys, time
from pathlib import Path
from acache import DiskTier, FastCache, MemoryTier

home = Path(sys.argv[1])
cache = FastCache(MemoryTier(), DiskTier(home / "cache"))
runs = 0

@cache.memoize(version=1, tags=("all", "n:{n}"))
async def f(n):
    global runs
    runs += 1
    return int((home / f"source-{n}").read_text())

async def watch(seconds, grace):
    late, count, seen, end = [], 0, set(), time.monotonic() + seconds
    while time.monotonic() < end or len(seen) < 2:
        told = [json.loads(line) for line in (home / "told").read_text().splitlines()]
        now = time.monotonic()
        least = max((version for since, version in told if since + grace <= now), default=0)
        value = await f(1)
        count += 1
        seen.add(value)
        if value < least:
            late.append([value, least])
        await asyncio.sleep(0)
    return {"late": late, "count": count}

async def main():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order, *args = json.loads(line)
        match order:
            case "call":
                answer = [await f(args[0]), runs]
            case "invalidate":
                answer = await cache.invalidate_tags(*args)
            case "flood":
                print(json.dumps("begun"), flush=True)
                while True:
                    await cache.invalidate_tags("n:1", "n:2")
            case "watch":
                answer = await watch(*args)
        print(json.dumps(answer), flush=True)
    await cache.aclose()

asyncio.run(main())
"""


class Worker:
    """A child process with a cache of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def tell(self, *order: Any) -> None:
        """Give an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def hear(self) -> Any:
        """Return the next answer."""
        assert self.process.stdout is not None
        return json.loads(await self.process.stdout.readline())

    async def ask(self, *order: Any) -> Any:
        """Give an order and return the answer."""
        self.tell(*order)
        return await self.hear()

    async def end(self) -> tuple[int | None, bytes]:
        """Close its input and wait for its end; return its exit code and what it printed as errors."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        _, errors = await self.process.communicate()
        return self.process.returncode, without_remarks(errors)


@asynccontextmanager
async def workers(home: Path, count: int) -> AsyncGenerator[list[Worker]]:
    """Start workers; kill those that are left in the end."""
    script = home / "worker.py"
    script.write_text(WORKER)
    team: list[Worker] = []
    try:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-X", "dev", "-W", "error", str(script), str(home)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PYTHONPATH": ":".join(sys.path)},
            )
            team.append(Worker(process))
        yield team
    finally:
        for worker in team:
            if worker.process.returncode is None:
                worker.process.kill()
                await worker.process.communicate()


def change(home: Path, n: int, version: int) -> None:
    """Let ``f(n)`` come to ``version`` from now on."""
    path = home / f"source-{n}"
    path.with_suffix(".new").write_text(str(version))
    path.with_suffix(".new").rename(path)


async def test_two_processes_hear_of_each_other(tmp_path: Path) -> None:
    """What one invalidates the other reads from no disk at all, and has in its memory for less than a second more."""
    for n in (1, 2, 3):
        change(tmp_path, n, 1)
    async with workers(tmp_path, 2) as (one, other):
        assert [await one.ask("call", n) for n in (1, 2, 3)] == [[1, 1], [1, 2], [1, 3]]
        assert [await other.ask("call", n) for n in (1, 1)] == [[1, 0], [1, 0]]
        for n in (1, 2, 3):
            change(tmp_path, n, 2)
        await one.ask("invalidate", "n:1", "n:2")
        invalidated = time.monotonic()
        assert await other.ask("call", 2) == [2, 1]  # not in its memory: the disk knows at once
        assert await other.ask("call", 3) == [1, 1]  # spared
        assert await one.ask("call", 1) == [2, 4]
        await asyncio.sleep(max(0.0, invalidated + 1.0 - time.monotonic()))
        assert await other.ask("call", 1) == [2, 1]
        await other.ask("invalidate", "all")
        assert await other.ask("call", 3) == [2, 2]
        await asyncio.sleep(1.0)
        assert [await one.ask("call", n) for n in (1, 2, 3)] == [[2, 5], [2, 6], [2, 6]]
        assert [await worker.end() for worker in (one, other)] == [(0, b"")] * 2


async def test_nobody_is_served_what_was_invalidated_a_second_ago(tmp_path: Path) -> None:
    """While one process changes the source and invalidates, others ask all the time, and never get what is too old."""
    told = tmp_path / "told"
    told.write_text("")
    change(tmp_path, 1, 1)
    cache = FastCache(MemoryTier(), DiskTier(tmp_path / "cache"))
    async with workers(tmp_path, 3) as team:
        for worker in team:
            worker.tell("watch", 3.5, 1.0)
        watching = asyncio.gather(*(worker.hear() for worker in team))
        version = 1
        while not watching.done():
            version += 1
            change(tmp_path, 1, version)
            await cache.invalidate_tags("n:1")
            lines = told.read_text() + json.dumps([time.monotonic(), version]) + "\n"
            (tmp_path / "told.new").write_text(lines)
            (tmp_path / "told.new").rename(told)
            await asyncio.sleep(0.03)
        reports = watching.result()
        assert [report["late"] for report in reports] == [[], [], []]
        assert all(report["count"] > 100 for report in reports)
        assert [await worker.end() for worker in team] == [(0, b"")] * 3
    await cache.aclose()


async def test_a_process_that_is_killed_while_it_invalidates_harms_nobody(tmp_path: Path) -> None:
    """Whenever it dies, what is computed afterwards can be stored and is served, and the next invalidation counts."""
    rng = random.Random(5)
    cache = FastCache(MemoryTier(), DiskTier(tmp_path / "cache"))
    runs = 0

    @cache.memoize(tags=("n:1", "n:2"))
    async def f(n: int) -> int:
        nonlocal runs
        runs += 1
        return n

    for _ in range(6):
        async with workers(tmp_path, 1) as (victim,):
            victim.tell("flood")
            assert await victim.hear() == "begun"
            await asyncio.sleep(rng.random() * 0.05)
            victim.process.kill()
            await victim.process.communicate()
        numbers = {path.name: int(path.read_text()) for path in (tmp_path / "cache" / ".tags").glob("*")}
        assert max(numbers.values(), default=0) == numbers.get(LATEST, 0)
        for _ in range(2):
            await cache.invalidate_tags("n:1")
            before = runs
            assert [await f(1), await f(1), await f(1)] == [1, 1, 1]
            assert runs == before + 1
    left = list((tmp_path / "cache").rglob(".tmp-*"))
    assert len(left) <= 6
    assert {path.parent for path in left} <= {tmp_path / "cache"}  # where a sweep finds them when they are old
    for path in left:
        path.unlink()
    await cache.aclose()
