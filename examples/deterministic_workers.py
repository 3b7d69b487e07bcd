"""Workers that measure for themselves, and still all use the same results: now, and in the next run.

    python -m examples.deterministic_workers

Four processes look for the fastest chunk size of some hash functions. Measurements are noisy, so they find different winners;
each uses the one that was stored first. Each then dumps a bundle of what it has used. Four more processes load one of the bundles
and start on empty directories: they measure nothing, and refuse what the bundle does not hold. Last comes a process with
another result, whose dump into that bundle is refused. The exit code is 0 only if all that held.
"""

import asyncio
import hashlib
import json
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Final, Literal, TypeAlias, TypedDict, cast

from acache import DeterministicCache, DiskTier, MemoryTier
from acache.engine import Strictness
from acache.engine.bundles import Bundle
from acache.exceptions import DeterministicCachingIMCDumpConflictError, StrictDeterministicCachingKeyNotFoundError

WORKERS: Final = 4
ALGORITHMS: Final = ("sha256", "blake2b", "sha3_256")
CHUNK_SIZES: Final = (16, 32, 64, 128)
DATA: Final = bytes(1 << 20)

Role: TypeAlias = Literal["tune", "replay", "stray"]


class Report(TypedDict):
    """What one worker says at its end; chunk sizes are in KiB."""

    used: dict[str, int]
    measured: dict[str, int]
    #: Of the bundle it dumped.
    digest: str
    #: The name of the error that it ran into on purpose.
    refused: str


# --- in a worker ------------------------------------------------------------------------------------------------------


class Tuner:
    """Finds the fastest chunk size, and remembers what it found itself."""

    def __init__(self, cache: DeterministicCache) -> None:
        self.measured: dict[str, int] = {}

        # By default one process of a host would measure and the others wait; here each measures, so that they can differ.
        @cache.memoize(flight="process")
        def fastest_chunk_size(algorithm: str) -> int:
            best = min(CHUNK_SIZES, key=lambda size: seconds(algorithm, size))
            self.measured[algorithm] = best
            return best

        self.fastest_chunk_size = fastest_chunk_size


def seconds(algorithm: str, size: int) -> float:
    """Measure how long it takes to hash the data in chunks of ``size`` KiB."""
    hasher, start = hashlib.new(algorithm), perf_counter()
    for offset in range(0, len(DATA), size << 10):
        hasher.update(DATA[offset : offset + (size << 10)])
    hasher.digest()
    return perf_counter() - start


async def work(role: Role, directory: Path, own: Path, given: Path) -> Report:
    """Use a cache on ``directory`` as ``role`` says, and dump what was used into the bundle ``own``."""
    strict: Strictness | None = "pre_populated" if role == "replay" else None
    async with DeterministicCache(MemoryTier(), DiskTier(directory), strict=strict, dump_on_close=False) as cache:
        tuner = Tuner(cache)
        if role == "replay":
            await cache.load(given)
        if role == "stray":  # stands for measurements that came out as no other worker's
            await cache.insert(tuner.fastest_chunk_size, (ALGORITHMS[:1], {}), 1)
        used = {algorithm: await tuner.fastest_chunk_size.aio(algorithm) for algorithm in ALGORITHMS}
        refused = await refusal(role, cache, tuner, given)
        await cache.dump(own)
    bundle = await Bundle.open(own)
    await bundle.aclose()
    return Report(used=used, measured=tuner.measured, digest=bundle.digest, refused=refused)


async def refusal(role: Role, cache: DeterministicCache, tuner: Tuner, given: Path) -> str:
    """Do what must be refused, and return the name of the error."""
    try:
        if role == "replay":
            await tuner.fastest_chunk_size.aio("md5")
        if role == "stray":
            await cache.dump(given)
    except (StrictDeterministicCachingKeyNotFoundError, DeterministicCachingIMCDumpConflictError) as error:
        return type(error).__name__
    return ""


def worker(role: Role, *paths: str) -> None:
    """Wait until all workers are there, then work and report."""
    print("ready", flush=True)
    sys.stdin.readline()
    directory, own, given = map(Path, paths)
    print(json.dumps(asyncio.run(work(role, directory, own, given))))


# --- in the program that starts them ----------------------------------------------------------------------------------


async def start(role: Role, number: int, root: Path) -> Process:
    """Start one worker. Those that tune share a directory; any other has one of its own, which is empty."""
    directory = root / ("shared" if role == "tune" else f"{role}-{number}")
    own, given = root / f"{role}-{number}.bundle", root / "tune-0.bundle"
    command = "-m", "examples.deterministic_workers", role, str(directory), str(own), str(given)
    return await asyncio.create_subprocess_exec(sys.executable, *command, stdin=PIPE, stdout=PIPE)


async def run(role: Role, count: int, root: Path) -> list[Report]:
    """Let ``count`` workers begin at the same moment, print what they report, and return it."""
    processes = [await start(role, number, root) for number in range(count)]
    for process in processes:
        if process.stdout is not None:
            await process.stdout.readline()
    outputs = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    reports: list[Report] = [json.loads(output) for output, _ in outputs]
    for number, report in enumerate(reports):
        cells = (f"{cell(report, algorithm):20}" for algorithm in ALGORITHMS)
        print(f"{f'{role} {number}':10}", *cells, report["digest"][:8], "", report["refused"])
    return reports


def cell(report: Report, algorithm: str) -> str:
    """Say what a worker used, and what it had measured itself if that was another one."""
    used, measured = report["used"][algorithm], report["measured"].get(algorithm)
    return f"{used} KiB" if measured in {None, used} else f"{used} KiB, not {measured}"


def problems(tuned: list[Report], replayed: list[Report], stray: Report) -> Iterator[str]:
    """Yield what is off."""
    used, digest = tuned[0]["used"], tuned[0]["digest"]
    together = (*tuned, *replayed)
    if any(report["used"] != used for report in together):
        yield "the workers do not agree"
    if any(all(report["measured"].get(name) != size for report in tuned) for name, size in used.items()):
        yield "a result is used that nobody has measured"
    if any(report["measured"] for report in replayed):
        yield "a replay has measured"
    if any(report["refused"] != StrictDeterministicCachingKeyNotFoundError.__name__ for report in replayed):
        yield "a replay did not refuse an unknown call"
    if any(report["digest"] != digest for report in together):
        yield "equal results have bundles of different digests"
    if stray["digest"] == digest:
        yield "different results have bundles of one digest"
    if stray["refused"] != DeterministicCachingIMCDumpConflictError.__name__:
        yield "a conflict was not refused"


async def main(root: Path) -> list[str]:
    """Run all workers, and return what is off."""
    print(f"{'':10}", *(f"{algorithm:20}" for algorithm in ALGORITHMS), "bundle    refused")
    tuned = await run("tune", WORKERS, root)
    replayed = await run("replay", WORKERS, root)
    [stray] = await run("stray", 1, root)
    return list(problems(tuned, replayed, stray))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        worker(cast("Role", sys.argv[1]), *sys.argv[2:])
    else:
        with tempfile.TemporaryDirectory() as directory:
            sys.exit("\n".join(asyncio.run(main(Path(directory)))) or 0)
