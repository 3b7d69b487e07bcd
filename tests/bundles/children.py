"""What child processes of these tests do: ``python -m tests.bundles.children COMMAND ARGUMENT…``; JSON says what they found."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from acache.engine.bundles import Bundle, dump_bundle
from acache.testing.files import FaultyFileSystem
from tests.bundles.helpers import dump, entries, key

OLD, NEW = entries("a", "b"), entries("b", "c")


def main() -> None:
    """Run the command once a line comes in."""
    command, *args = sys.argv[1:]
    print("ready", flush=True)  # noqa: T201 - this is what the parent waits for
    sys.stdin.readline()
    print(json.dumps(COMMANDS[command](*args)), flush=True)  # noqa: T201 - as above


def kill_at_every_call(root: str) -> list[int]:
    """Dump once per system call of a dump, killed at call 0, 1, 2, …, each time into a directory of its own."""
    endings: list[int] = []
    while not endings or endings[-1] != 0:
        home = Path(root, f"n{len(endings)}")
        home.mkdir(mode=0o700)
        dump(home / "results", OLD)
        endings.append(_in_fork(home / "results", len(endings)))
    return endings


def _in_fork(path: Path, number: int) -> int:
    """Dump in a forked process that is killed; return how it ended: an exit code, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        files = FaultyFileSystem()
        files.fail(number, lambda: os.kill(os.getpid(), signal.SIGKILL), once=True)
        try:
            asyncio.run(dump_bundle(path, NEW, files=files))
        except BaseException:  # noqa: BLE001 - whatever it is, it must not go on in the parent's code
            os._exit(4)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def dump_often(path: str, me: str, rounds: str) -> int:
    """Dump one new entry, and one that all dump, over and over; count how often a bundle opened in between lacks ours."""

    async def work() -> int:
        missing = 0
        for number in range(int(rounds)):
            mine = entries(f"{me} {number}")
            await dump_bundle(path, mine | entries(f"all {number}"))
            bundle = await Bundle.open(path)
            missing += [await bundle.read(each) for each in mine] != list(mine.values())
            await bundle.aclose()
        return missing

    return asyncio.run(work())


def open_large(path: str, name: str) -> dict[str, float]:
    """Open a bundle, look for one entry that is there, and say what that cost: the seconds of the quickest opening, and bytes of memory."""

    async def work() -> dict[str, float]:
        for warm_up in range(2):
            bundle = await Bundle.open(f"{path}.small", codec="raw")
            await bundle.read(key(warm_up))
            await bundle.aclose()
        memory = _peak()
        bundle, seconds = await _open_timed(path)
        assert await bundle.read(key(name)) is not None
        grown = _peak() - memory
        await bundle.aclose()
        for _ in range(2):
            again, took = await _open_timed(path)
            await again.aclose()
            seconds = min(seconds, took)
        return {"seconds": seconds, "grown": grown}

    return asyncio.run(work())


async def _open_timed(path: str) -> tuple[Bundle, float]:
    started = time.perf_counter()
    bundle = await Bundle.open(path, codec="raw")
    return bundle, time.perf_counter() - started


def _peak() -> int:
    """Return the most memory this program had. On Linux ``ru_maxrss`` begins with what the program had that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "kill_at_every_call": kill_at_every_call,
    "dump_often": dump_often,
    "open_large": open_large,
}

if __name__ == "__main__":
    main()
