"""Several processes within one limit: stopped at any moment they have not exceeded it, and killed ones do no harm (I6, D16, D29)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.disk.helpers import ROOT, temporaries

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.disk.conftest import MakeTier

pytestmark = pytest.mark.integration

WRITERS: Final = 3
#: A process that writes for ever what checks itself, and reads what others wrote; it ends if it reads anything else.
WRITER: Final = """
import asyncio, random, sys
from acache.tiers import DiskTier
from tests.disk.helpers import is_proof, key, make_proof

async def work(directory, me, option, limit):
    tier = DiskTier(directory, policy=["lru", "cost", "sieve", "lfu"][int(me) % 4], **{option: int(limit)})
    # One that was stopped may hold the ledger, or cull: then a write is refused, as it should be.
    chance, number, wrong = random.Random(me), 0, []
    tier.events.subscribe(lambda event: event.outcome == "failed" and event.reason != "full" and wrong.append(event))
    print("ready", flush=True)
    while True:
        number += 1
        # Half of the keys are everybody's: they are replaced while others cull them.
        name = chance.randrange(60) if number % 2 else (me, number)
        await tier.set(key(name), make_proof(me, number, chance.choice((100, 1_000, 4_000))))
        hit = await tier.get(key(chance.randrange(60)))
        if (hit is not None and not is_proof(hit.value)) or wrong:
            sys.exit(repr((wrong, tier.statistics())))

asyncio.run(work(*sys.argv[1:]))
"""


@pytest.fixture
def start() -> Generator[Callable[..., subprocess.Popen[str]]]:
    """Start writers, and end them."""
    writers: list[subprocess.Popen[str]] = []

    def begin(*args: object) -> subprocess.Popen[str]:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, *map(str, args)], cwd=ROOT, text=True, stdout=subprocess.PIPE
        )
        writers.append(writer)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        return writer

    yield begin
    end(writers)


def stop(writers: list[subprocess.Popen[str]]) -> None:
    """Stop processes wherever they are, and wait until they stand still."""
    for writer in writers:
        writer.send_signal(signal.SIGSTOP)
    for writer in writers:
        _, status = os.waitpid(writer.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it ended by itself"


def end(writers: list[subprocess.Popen[str]]) -> None:
    """Kill processes, and wait until they are gone. Idempotent."""
    for writer in writers:
        writer.kill()
        writer.wait()
        assert writer.stdout is not None
        writer.stdout.close()


def sizes(directory: Path) -> list[int]:
    """Return the sizes of all entries."""
    paths = [path for path in directory.glob("??/*") if not path.name.startswith(".")]
    return [path.stat().st_size for path in paths]


def remove_temporaries(directory: Path) -> None:
    """Remove what the killed left, which a sweep does when it is an hour old."""
    for path in temporaries(directory):
        path.unlink()


@pytest.mark.parametrize(("option", "limit"), [("max_entries", 100), ("max_bytes", 200_000)])
def test_writers_keep_one_limit(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], make_tier: MakeTier, option: str, limit: int
) -> None:
    """Stopped again and again, all writers together are within 1.05 of the limit and one entry for each that ever was."""
    directory = tmp_path / "disk"
    writers = [start(directory, number, option, limit) for number in range(WRITERS)]
    started, largest = WRITERS, 1 if option == "max_entries" else 5_000
    worst = 0
    for turn in range(20):
        time.sleep(0.1)
        stop(writers)
        found = sizes(directory)
        held = len(found) if option == "max_entries" else sum(found)
        worst = max(worst, held)
        assert held <= 1.05 * limit + started * largest
        for writer in writers:
            writer.send_signal(signal.SIGCONT)
        if turn % 5 == 4:
            end([writers.pop(0)])
            writers.append(start(directory, turn + 10, option, limit))
            started += 1
    assert worst > 0.8 * limit
    end(writers)
    remove_temporaries(tmp_path)


def test_locks_of_the_killed_are_free(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], make_tier: MakeTier
) -> None:
    """A killed culler's locks are free at once: the next writer culls."""
    writers = [start(tmp_path / "disk", number, "max_entries", 50) for number in range(2)]
    time.sleep(0.3)
    end(writers)
    tier = make_tier(max_entries=50)
    assert tier._keeper is not None
    assert tier._keeper.cull(thorough=True) is not None
    assert len(sizes(tmp_path / "disk")) <= 50
    remove_temporaries(tmp_path)
