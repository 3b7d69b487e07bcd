"""Processes that share a deterministic cache agree, whoever computes what, and whoever dies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

#: Forks workers that all compute another value for one key at once, round after round, and kills one in each round.
SCRIPT = """
import asyncio, json, os, random, signal, sys, time
from acache import DeterministicCache, DiskTier, MemoryTier

directory, rounds, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(int(sys.argv[4]))

async def f(n):
    await asyncio.sleep(0.0005 * (os.getpid() % 5))
    return f"{n} by {os.getpid()}"

def memoized(**options):
    cache = DeterministicCache(MemoryTier(), DiskTier(directory), dump_on_close=False, **options)
    return {level: cache.memoize(flight=level, version=level)(f) for level in ("process", "host")}

def work(orders, answers):
    by = memoized()
    with asyncio.Runner() as runner:
        while order := os.read(orders, 64):
            n, level = order.decode().split()
            value = runner.run(by[level](int(n)))
            os.write(answers, (value + "\\n").encode())

class Worker:
    def __init__(self, others):
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            for other in others:
                os.close(other.orders); os.close(other.answers)
            os.close(self.orders); os.close(self.answers)
            work(orders, answers)
            os._exit(0)
        os.close(orders); os.close(answers)

    def end(self, *signals):
        for number in signals:
            os.kill(self.pid, number)
        os.close(self.orders)
        rest = b""
        while part := os.read(self.answers, 4096):
            rest += part
        os.close(self.answers)
        os.waitpid(self.pid, 0)
        return rest.decode()

crew, agreed, disagreements, lost = [], [], [], 0
for _ in range(workers):
    crew.append(Worker(crew))
for n in range(rounds):
    level = ("process", "host")[n % 2]
    for worker in crew:
        os.write(worker.orders, f"{n} {level}".encode())
    time.sleep(rng.random() * 0.008)
    victim = crew.pop(rng.randrange(workers))
    said = victim.end(signal.SIGKILL)
    values = {os.read(worker.answers, 4096).decode().strip() for worker in crew}
    if said.endswith("\\n"):
        values.add(said.strip())  # it had answered before it died
    else:
        lost += 1
    if len(values) != 1 or "" in values:
        disagreements.append([n, sorted(values)])
    agreed.append((level, n, values.pop()))
    crew.append(Worker(crew))
for worker in crew:
    worker.end()

by = memoized(strict="cached")
with asyncio.Runner() as runner:
    stored = sum(runner.run(by[level](n)) == value for level, n, value in agreed)
print(json.dumps({"disagreements": disagreements, "killed_at_work": lost, "stored": stored}))
"""


def test_all_survivors_return_the_stored_value(tmp_path: Path) -> None:
    """8 processes compute different values for one key at once, 200 times, and one is killed each time: the others agree."""
    script = tmp_path / "agree.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "cache"), "200", "8", "7"]
    done = subprocess.run(
        command, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert seen["disagreements"] == []
    assert seen["stored"] == 200
    assert seen["killed_at_work"] > 10, "the kills came too late to mean anything"
    shutil.rmtree(tmp_path / "cache")  # the killed left temporary files
