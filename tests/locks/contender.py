"""A process that wants a file lock; run by the tests as ``python contender.py <task> <lock file> [<number>]``."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from acache.locks import BLOCKING, acquire_flock, file_lock


async def hold(lock: Path) -> None:
    """Hold the lock until killed, and say so."""
    async with acquire_flock(file_lock(lock)):
        print("held", flush=True)  # noqa: T201 - how the parent knows
        await asyncio.Event().wait()


async def compete(lock: Path, rounds: int) -> None:
    """Acquire again and again, and look for company in two independent ways: a marker file, and a lost update."""
    marker, counter = lock.with_name("marker"), lock.with_name("counter")
    overlaps = 0
    for _ in range(rounds):
        async with acquire_flock(file_lock(lock), BLOCKING):
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                overlaps += 1
            count = int(counter.read_text())
            await asyncio.sleep(0)
            counter.write_text(str(count + 1))
            marker.unlink(missing_ok=True)
    print(overlaps)  # noqa: T201 - how the parent knows


async def fork(lock: Path) -> None:
    """Fork twice while the lock is held: one child asks for the lock, the other lives on."""
    async with acquire_flock(file_lock(lock)):
        asking = os.fork()
        if asking == 0:
            os._exit(asyncio.run(in_child(lock)))
        status = os.waitstatus_to_exitcode(os.waitpid(asking, 0)[1])
        lingering = os.fork()
        if lingering == 0:
            os.read(0, 1)
            os._exit(0)
    print("released", status, flush=True)  # noqa: T201 - how the parent knows
    os.waitpid(lingering, 0)


async def in_child(lock: Path) -> int:
    """Return 0 if the lock is seen as held by somebody else, in time."""
    try:
        async with acquire_flock(file_lock(lock), 0.05):
            return 1
    except TimeoutError:
        return 0


if __name__ == "__main__":
    task, path = sys.argv[1], Path(sys.argv[2])
    if task == "compete":
        asyncio.run(compete(path, int(sys.argv[3])))
    else:
        asyncio.run({"hold": hold, "fork": fork}[task](path))
