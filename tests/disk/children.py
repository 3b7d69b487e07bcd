"""What child processes of the disk tests do: ``python -m tests.disk.children COMMAND ARGUMENT…``.

A child prints ``ready``, waits for a line on its standard input, works, and prints what it found as JSON.
"""

# ruff: noqa: ASYNC240 - a child's loop has nothing else to do

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from acache.exceptions import FileLockTimeoutError
from acache.files import FileSystem
from acache.locks import NON_BLOCKING
from acache.testing.files import FaultyFileSystem
from acache.tiers import DiskTier
from acache.types import Entry, Hit, Written
from tests.disk.helpers import is_proof, key, make_proof, plant

KEY: Final = key("contended")


def main() -> None:
    """Run the command."""
    command, *args = sys.argv[1:]
    print("ready", flush=True)  # noqa: T201 - this is what the parent waits for
    sys.stdin.readline()
    print(json.dumps(COMMANDS[command](*args)), flush=True)  # noqa: T201 - as above


def open_tier(directory: str, files: FileSystem | None = None, **options: Any) -> DiskTier:
    """Make a tier that does not sweep by itself."""
    tier = DiskTier(directory, files=files, **options)
    tier._sweep_at = float("inf")
    return tier


def write(tier: DiskTier, value: object, *, replace: bool) -> Written:
    """Write in this thread: a forked child has no other."""
    return tier._store(KEY, Entry(value, 0.0), tier._codec, replace)


# --- sudden death -----------------------------------------------------------------------------------------------------


def prepare(directory: str, start: str) -> None:
    """Make what a doomed write finds."""
    tier = open_tier(directory)
    match start:
        case "old":
            write(tier, "old", replace=True)
        case "corrupt":
            plant(tier, KEY, b"rubbish").parent.chmod(0o700)
            Path(directory).chmod(0o700)
        case _:
            tier._shelf.prepare_locks()


def in_fork(work: Callable[[], object]) -> int:
    """Do ``work`` in a forked process and return how it ended: an exit code, or minus the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except OSError:
            os._exit(3)
        except BaseException:  # noqa: BLE001 - whatever it is, it must not go on in the parent's code
            os._exit(4)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at_every_call(root: str, mode: str, start: str) -> list[int]:
    """Write once per system call of a write, killed at call 0, 1, 2, …, each time in a directory of its own."""
    endings: list[int] = []
    while not endings or endings[-1] != 0:
        directory = f"{root}/n{len(endings)}"
        prepare(directory, start)
        files = FaultyFileSystem()
        files.fail(len(endings), lambda: os.kill(os.getpid(), signal.SIGKILL), once=True)
        tier = open_tier(directory, files, durable=True)
        endings.append(in_fork(lambda tier=tier: write(tier, "new", replace=mode == "set")))  # type: ignore[misc]  # bound now
    return endings


def die_at_every_byte(root: str, reaction: str, step: str) -> list[int]:
    """Write with room for 0, 1, 2, … bytes: the process is killed there, or the kernel refuses the rest."""
    endings: list[int] = []
    size = 0
    while not endings or endings[-1] != 0:
        directory = f"{root}/n{len(endings)}"
        prepare(directory, "old")
        endings.append(in_fork(lambda limit=size, path=directory: _write_limited(path, limit, reaction)))  # type: ignore[misc]  # bound now
        size += int(step)
    return endings


def _write_limited(directory: str, limit: int, reaction: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if reaction == "die" else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    write(open_tier(directory), "new", replace=True)


# --- many at once -----------------------------------------------------------------------------------------------------


def write_proofs(directory: str, me: str, rounds: str) -> dict[str, int]:
    """Set, insert and delete one key, over and over."""

    async def work() -> dict[str, int]:
        tier, chance = open_tier(directory), random.Random(me)
        for number in range(int(rounds)):
            proof = make_proof(me, number, chance.choice((10, 1_000, 10_000, 200_000)))
            match chance.randrange(10):
                case 0:
                    await tier.delete(KEY)
                case 1 | 2 | 3 | 4:
                    await tier.insert(KEY, proof)
                case _:
                    await tier.set(KEY, proof)
        return {"failures": tier.statistics().failures}

    return asyncio.run(work())


def read_proofs(directory: str, _me: str, rounds: str) -> dict[str, int]:
    """Read the key, over and over, and count what was no value that somebody wrote."""

    async def work() -> dict[str, int]:
        tier, wrong = open_tier(directory), 0
        for _ in range(int(rounds)):
            hit = await tier.get(KEY)
            wrong += hit is not None and not is_proof(hit.value)
            wrong += sum([found != KEY async for found in tier.keys()])  # noqa: SIM118 - a tier is no dict
        counted = tier.statistics()
        return {"wrong": wrong, "failures": counted.failures, "rejections": counted.rejections}

    return asyncio.run(work())


def insert_all(directory: str, me: str, keys: str, version: str) -> dict[str, object]:
    """Insert every key, and read what is there then."""

    async def work() -> dict[str, object]:
        tier = open_tier(directory, version=int(version))
        order = list(range(int(keys)))
        random.Random(me).shuffle(order)
        won = [number for number in order if await tier.insert(key(number), me)]
        seen = {number: await tier.get(key(number)) for number in range(int(keys))}
        return {
            "won": won,
            "seen": {number: hit and hit.value for number, hit in seen.items()},
            "failures": tier.statistics().failures,
        }

    return asyncio.run(work())


def read_all(directory: str, _me: str, keys: str, version: str) -> dict[str, int]:
    """Read every key, of whatever version it is."""

    async def work() -> dict[str, int]:
        tier = open_tier(directory, version=int(version))
        hits = [await tier.get(key(number)) for number in range(int(keys))]
        return {"hits": len(hits) - hits.count(None), "failures": tier.statistics().failures}

    return asyncio.run(work())


def use_everything(directory: str, me: str, rounds: str) -> dict[str, int]:
    """Use a tier whose directory is deleted all the time; count wrong values."""

    async def work() -> dict[str, int]:
        tier, wrong, stored = open_tier(directory), 0, 0
        for number in range(int(rounds)):
            stored += await tier.insert(key(number), make_proof(me, number, 100))
            hit = await tier.get(key(number))
            wrong += hit is not None and not is_proof(hit.value)
            await tier.delete(key(number - 3))
            async with tier.lock():
                pass
        return {"wrong": wrong, "stored": stored}

    return asyncio.run(work())


def delete_directory(directory: str, _me: str, rounds: str) -> int:
    """Delete the directory, over and over."""
    for _ in range(int(rounds)):
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def share_after_fork(directory: str, rounds: str) -> list[int]:
    """Use one tier in a process and in its fork at the same time; return how both ended."""

    async def work(me: str) -> None:
        for number in range(int(rounds)):
            if not await tier.set(key((me, number)), number):
                raise AssertionError(number)
        found = [each async for each in tier.keys()]  # noqa: SIM118 - a tier is no dict
        if not {key((me, number)) for number in range(int(rounds))} <= set(found):
            raise AssertionError(len(found))
        for number in range(int(rounds)):
            hit = await tier.get(key((me, number)))
            if hit is None or hit.value != number:
                raise AssertionError(number)

    tier = open_tier(directory)
    write(tier, "before", replace=True)
    pids: list[int] = []
    for me in ("one", "two"):
        pid = os.fork()
        if pid == 0:
            os._exit(in_fork(lambda me=me: asyncio.run(work(me))))  # type: ignore[misc]  # bound now
        pids.append(pid)
    asyncio.run(work("parent"))
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def use_read_only() -> str:
    """Use a directory that this user may not write; as root, become a user for whom that means something."""
    with tempfile.TemporaryDirectory() as practice:
        # What is imported late is imported now: the other user may not be able to read this interpreter's library.
        _use_read_only(practice)
    with tempfile.TemporaryDirectory() as base:
        _use_read_only(base, become_nobody=os.geteuid() == 0)
    return "served"


def _use_read_only(base: str, *, become_nobody: bool = False) -> None:
    if become_nobody:
        os.chown(base, 65534, 65534)
        os.setgroups([])
        # The saved ids stay: what measures coverage writes its file as who it was started by.
        os.setresgid(65534, 65534, 0)
        os.setresuid(65534, 65534, 0)

    async def work() -> None:
        tier = open_tier(f"{base}/disk")
        await tier.set(KEY, "old")
        plant(tier, key("bad"), b"rubbish").chmod(0o600)
        directories = [path for path in Path(base, "disk").rglob("*") if path.is_dir()] + [Path(base, "disk")]
        for path in directories:
            path.chmod(0o500)
        reopened = open_tier(f"{base}/disk")
        for each in (tier, reopened):
            seen = [await each.get(KEY), await each.get(key("bad")), await each.get(key("missing"))]
            done = [await each.set(KEY, "new"), await each.insert(key("missing"), 1), await each.delete(KEY)]
            if os.geteuid() != 0 and (seen != [Hit("old"), None, None] or any(done)):
                raise AssertionError(seen, done)
        for path in directories:
            path.chmod(0o700)

    asyncio.run(work())
    if become_nobody:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


# --- locks ------------------------------------------------------------------------------------------------------------


def hold_lock(directory: str, which: str) -> int:
    """Take a lock and keep it until the end of this process."""

    async def work() -> int:
        tier = open_tier(directory)
        lock = tier.lock() if which == "tier" else tier.hold_host_lock(KEY)
        async with lock:
            print("held", flush=True)  # noqa: T201 - the parent waits for it
            await asyncio.to_thread(sys.stdin.readline)
        return 0

    return asyncio.run(work())


def try_lock(directory: str) -> str:
    """Take the lock if it is free."""

    async def work() -> str:
        try:
            async with open_tier(directory).lock(NON_BLOCKING):
                return "held"
        except FileLockTimeoutError:
            return "refused"

    return asyncio.run(work())


def contend(directory: str, me: str, rounds: str) -> dict[str, int]:
    """Take the host lock of one key, drop its file afterwards, and count meetings with somebody else inside."""

    async def work() -> dict[str, int]:
        tier, meetings, dropped = open_tier(directory), 0, 0
        await tier.get(KEY)
        occupied, counter = Path(directory, "occupied"), Path(directory, "counter")
        for _ in range(int(rounds)):
            async with tier.hold_host_lock(KEY, 60):
                try:
                    occupied.touch(exist_ok=False)
                except FileExistsError:
                    meetings += 1
                counter.write_text(str(int(counter.read_text()) + 1))
                occupied.unlink(missing_ok=True)
            dropped += await tier.drop_host_lock(KEY)
        return {"meetings": meetings, "dropped": dropped}

    return asyncio.run(work())


COMMANDS: Final[dict[str, Callable[..., object]]] = {
    function.__name__: function
    for function in (
        kill_at_every_call,
        die_at_every_byte,
        write_proofs,
        read_proofs,
        insert_all,
        read_all,
        use_everything,
        delete_directory,
        share_after_fork,
        use_read_only,
        hold_lock,
        try_lock,
        contend,
    )
}

if __name__ == "__main__":
    main()
