"""Several processes on one directory: one computation, whole values, and no harm from those that die or stop."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from acache import FastCache, MemoryTier, TierEvent
from acache.tiers import DiskTier
from tests.remarks import without_remarks

pytestmark = pytest.mark.integration

#: A worker: computes f(n) for each n it is told on its standard input, and prints what it got and whether it ran.
#: Values check themselves: they name their argument and their writer, and carry the hash of both.
WORKER = """
import asyncio, hashlib, json, os, sys
from pathlib import Path
from acache import FastCache, MemoryTier
from acache.tiers import DiskTier

directory, runs = Path(sys.argv[1]), Path(sys.argv[2])
cache = FastCache(MemoryTier(), DiskTier(directory), host_timeout=float(sys.argv[3]))

@cache.memoize(version=1)
async def f(n, hold):
    (runs / f"{n}-{os.getpid()}").touch()
    print(json.dumps({"started": n}), flush=True)
    while hold and not (runs / "release").exists():
        await asyncio.sleep(0.005)
    text = f"{n} {os.getpid()}"
    return {"text": text, "hash": hashlib.sha256(text.encode()).hexdigest()}

async def main():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        values = await asyncio.gather(*[f(n, order["hold"]) for n in order["numbers"]])
        print(json.dumps({"values": values}), flush=True)
    await cache.aclose()

asyncio.run(main())
"""


class Worker:
    """A child process that computes on request."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def ask(self, numbers: list[int], *, hold: bool = False) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"numbers": numbers, "hold": hold}).encode() + b"\n")

    async def hear(self, key: str) -> Any:
        """Read lines up to the next that has ``key``."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            said = json.loads(line)
            if key in said:
                return said[key]
        raise AssertionError("the worker ended")

    async def end(self) -> tuple[int, bytes]:
        """Close its input and wait for its end; return its exit code and what it printed as errors."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        _, errors = await self.process.communicate()
        return self.process.returncode or 0, errors


@asynccontextmanager
async def workers(tmp_path: Path, count: int, host_timeout: float = 60) -> AsyncGenerator[list[Worker]]:
    """Run workers on one directory; kill what is left of them."""
    runs = tmp_path / "runs"
    runs.mkdir(exist_ok=True)
    started = [
        Worker(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", WORKER, str(tmp_path / "cache"), str(runs), str(host_timeout)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PYTHONPATH": ":".join(sys.path), "PATH": os.environ.get("PATH", "")},
            )
        )
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for worker in started:
            if worker.process.returncode is None:
                worker.process.kill()
                await worker.process.communicate()


def verify(value: dict[str, str], n: int) -> None:
    """Check that a value is whole and is the one that was asked for (I1)."""
    assert value["text"].split()[0] == str(n)
    assert hashlib.sha256(value["text"].encode()).hexdigest() == value["hash"]


async def test_processes_started_cold_together_compute_each_thing_once(tmp_path: Path) -> None:
    """I3, D15: six processes that ask for the same forty things at once run each of them once, and all agree."""
    numbers = list(range(40))
    async with workers(tmp_path, 6) as team:
        for shift, worker in enumerate(team):
            worker.ask(numbers[shift * 6 :] + numbers[: shift * 6])
        answers = [await worker.hear("values") for worker in team]
        agreed: dict[int, set[str]] = {}
        for shift, values in enumerate(answers):
            for n, value in zip(numbers[shift * 6 :] + numbers[: shift * 6], values, strict=True):
                verify(value, n)
                agreed.setdefault(n, set()).add(value["text"])
        assert all(len(texts) == 1 for texts in agreed.values())
        ran = sorted(int(path.name.split("-")[0]) for path in (tmp_path / "runs").iterdir())
        assert ran == numbers
        assert [await worker.end() for worker in team] == [(0, b"")] * 6
    assert list((tmp_path / "cache").rglob(".tmp-*")) == []


async def test_d20_a_killed_leader_frees_its_key_at_once(tmp_path: Path) -> None:
    """D20: when the process that computes is killed, another one computes, without waiting for any timeout."""
    async with workers(tmp_path, 2) as (first, second):
        first.ask([1], hold=True)
        assert await first.hear("started") == 1
        second.ask([1], hold=False)
        first.process.kill()
        (value,) = await second.hear("values")
        verify(value, 1)
        assert value["text"] == f"1 {second.process.pid}"
        assert await second.end() == (0, b"")


async def test_d21_a_stopped_leader_is_waited_for_and_then_computed_around(tmp_path: Path) -> None:
    """D21: a leader that is stopped holds others up for the host timeout; then they compute, and an event tells."""
    async with workers(tmp_path, 1) as (leader,):
        leader.ask([1], hold=True)
        assert await leader.hear("started") == 1
        leader.process.send_signal(signal.SIGSTOP)
        cache = FastCache(MemoryTier(), DiskTier(tmp_path / "cache"), host_timeout=0.2)

        async def f(n: int, hold: bool) -> str:
            return f"{n} here"

        f.__module__, f.__qualname__ = "__main__", "f"  # the worker's function, by name
        with cache.events.capture() as events:
            assert await cache.memoize(version=1)(f)(1, True) == "1 here"
        timeouts = [event for event in events if isinstance(event, TierEvent) and event.outcome == "timeout"]
        assert [event.operation for event in timeouts] == ["lock"]
        leader.process.send_signal(signal.SIGCONT)
        await cache.aclose()


async def test_x1_a_forked_child_uses_the_cache_of_its_parent(tmp_path: Path) -> None:
    """X1: in the child of a fork, with a flight pending in the parent, the cache, its locks and its bridge work anew."""
    cache = FastCache(MemoryTier(), DiskTier(tmp_path / "cache"))
    started, release = asyncio.Event(), asyncio.Event()

    @cache.memoize
    async def slow(n: int) -> int:
        started.set()
        await release.wait()
        return n

    @cache.memoize
    def plain(n: int) -> int:
        return n * 2

    assert await asyncio.to_thread(plain, 1) == 2  # the bridge's portal runs
    pending = asyncio.create_task(slow(1))
    await started.wait()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child
        status = 1
        try:
            asyncio.events._set_running_loop(None)
            answers = (plain(1), plain(2), asyncio.run(plain.aio(3)))
            os.write(write, repr(answers).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    assert await asyncio.to_thread(os.read, read, 100) == b"(2, 4, 6)"
    os.close(read)
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1]) == 0
    release.set()
    assert await pending == 1
    await cache.aclose()


async def test_x3_a_process_that_ends_at_once_ends_cleanly(tmp_path: Path) -> None:
    """X3: exit right after a bridged call, or with one under way, prints nothing and leaves no half file."""
    code = """
import sys, threading
from acache import FastCache, MemoryTier
from acache.tiers import DiskTier
cache = FastCache(MemoryTier(), DiskTier(sys.argv[1]))
begun = threading.Event()
@cache.memoize
def f(n):
    begun.set()
    return b"x" * n
f(100_000)
begun.clear()
threading.Thread(target=f, args=(5_000_000,), daemon=True).start()
begun.wait()
"""
    script = tmp_path / "program.py"
    script.write_text(code)
    for _ in range(3):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", str(script), str(tmp_path / "cache")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        printed, errors = await child.communicate()
        assert (printed, without_remarks(errors)) == (b"", b"")
        assert child.returncode == 0
        assert len(list((tmp_path / "cache").glob("??/*"))) == 2
        assert list((tmp_path / "cache").rglob(".tmp-*")) == []
