"""What the acceptance tests share: where entries lie, file systems with one fault each, and programs run beside the test."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

from acache import Clock, DeterministicCache, Tier
from acache.clock import SYSTEM_CLOCK
from acache.codecs import Codec
from acache.files import FileSystem
from acache.files.system import BytesLike
from acache.types import Entry, Key, Written

ROOT: Final = Path(__file__).parents[2]

#: How a program is told to go on once all of them are ready, and how it tells what it found.
PRELUDE: Final = """
import asyncio, json, os, signal, sys, threading
from pathlib import Path
from acache import *

def ready():
    print("ready", flush=True)
    sys.stdin.readline()

def tell(what):
    print(json.dumps(what), flush=True)
"""


def entries(directory: Path) -> list[Path]:
    """Return the files of the entries in a cache directory."""
    return sorted(directory.glob("[0-9a-f][0-9a-f]/*"))


def the_entry(directory: Path) -> Path:
    """Return the file of the only entry."""
    (path,) = entries(directory)
    return path


def temporaries(directory: Path) -> list[Path]:
    """Return the temporary files anywhere below a directory."""
    return sorted(directory.rglob(".tmp-*"))


def forget_temporaries(directory: Path) -> None:
    """Make what killed writers left old enough to be swept."""
    for path in temporaries(directory):
        os.utime(path, (0, 0), follow_symlinks=False)


def files_below(directory: Path) -> set[Path]:
    """Return every file anywhere below a directory."""
    return {path for path in directory.rglob("*") if path.is_file()}


#: Makes the deterministic cache of one worker.
MakeWorker: TypeAlias = Callable[..., DeterministicCache]


class RegisterForm(Protocol):
    """Registers a form until the test is over."""

    def __call__(
        self, kind: Literal["compile", "runtime"], name: str, probe: Callable[[], object], volatile: bool = False
    ) -> Callable[[], None]: ...


def choosing(name: str, runs: list[int] | None = None) -> Callable[[int], Coroutine[Any, Any, str]]:
    """Return one function as a worker has it: each worker computes another result. ``runs`` lists what it ran for."""

    async def choose(n: int) -> str:
        if runs is not None:
            runs.append(n)
        return f"{n} by {name}"

    return choose


class Shared(Tier):
    """A tier beyond this process, as far as a test goes: ``reach`` and ``strong`` say who agrees on what it holds."""

    def __init__(self, *, reach: Literal[1, 2] = 2, strong: bool = True, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(name="shared", clock=clock)
        self.reach = reach
        self.has_strong_consistency = strong
        self.entries: dict[Key, Entry] = {}

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        return self.entries.get(key)

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        if key in self.entries and not replace:
            return Written.PRESENT
        self.entries[key] = entry
        return Written.NEW

    async def _remove(self, key: Key) -> bool:
        return self.entries.pop(key, None) is not None

    async def _scan(self) -> AsyncGenerator[Key]:
        for key in list(self.entries):
            yield key


class FullDisk(FileSystem):
    """Has room for ``room`` bytes more (``None``: enough): a write takes what fits and fails with ENOSPC then."""

    __slots__ = ("room",)

    def __init__(self, room: int | None) -> None:
        self.room = room

    def writev(self, fd: int, buffers: Sequence[BytesLike]) -> int:
        if self.room is None:
            return super().writev(fd, buffers)
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().writev(fd, [b"".join(buffers)[: self.room]])
        self.room -= written
        return written


class ReadOnlyDisk(FileSystem):
    """Can be read; everything else fails with ``error``."""

    __slots__ = ("_error",)

    def __init__(self, error: int) -> None:
        self._error: Final = error

    def _refuse(self, *_args: object, **_options: object) -> Any:
        raise OSError(self._error, os.strerror(self._error))

    def open(self, path: str, flags: int, mode: int = 0o600, *, at: int | None = None) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self._refuse()
        return super().open(path, flags, mode, at=at)

    create = mkdir = rmdir = unlink = rename = rename_new = chmod = fchmod = writev = _refuse


class ForeignDirectories(FileSystem):
    """Says that every directory belongs to the user ``nobody``."""

    __slots__ = ()

    def fstat(self, fd: int) -> os.stat_result:
        status = super().fstat(fd)
        if not stat.S_ISDIR(status.st_mode):
            return status
        return os.stat_result((*status[:4], 65534, *status[5:]))


def child_environment(**changes: str) -> dict[str, str]:
    """Return an environment in which a child finds acache, and no setting of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACACHE_")}
    return {**kept, "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path)), **changes}


class Program:
    """Code of a test, after :data:`PRELUDE`, in an interpreter of its own."""

    def __init__(self, code: str, *args: object, options: Sequence[str] = (), **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", PRELUDE + code, *map(str, args)],
            env=child_environment(**environment),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def hear(self) -> str:
        """Wait for its next line."""
        assert self.process.stdout is not None
        return (await asyncio.to_thread(self.process.stdout.readline)).rstrip()

    def go(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self) -> Any:
        """Wait for its end and return what it told last; fail if it failed."""
        output, errors = self.process.communicate(timeout=60)
        if self.process.returncode or errors:
            raise AssertionError(f"the program ended with {self.process.returncode}: {errors}")
        return json.loads(output.splitlines()[-1])

    def end(self) -> None:
        """End it, whatever it does. Idempotent."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate()


def run(code: str, *args: object, options: Sequence[str] = (), **environment: str) -> Any:
    """Run one program to its end and return what it told."""
    program = Program(code, *args, options=options, **environment)
    try:
        return program.result()
    finally:
        program.end()


async def run_aside(code: str, *args: object, options: Sequence[str] = (), **environment: str) -> Any:
    """Run one program to its end while the loop goes on, and return what it told."""
    return await asyncio.to_thread(run, code, *args, options=options, **environment)


@asynccontextmanager
async def running(code: str, *args: object, count: int = 1) -> AsyncGenerator[list[Program]]:
    """Run programs for the length of an ``async with`` block; all have said that they are ready."""
    programs = [Program(code, *args) for _ in range(count)]
    try:
        for program in programs:
            assert await program.hear() == "ready"
        yield programs
    finally:
        for program in programs:
            program.end()


async def run_together(code: str, *args: object, count: int) -> list[Any]:
    """Start programs, let them go on at the same moment, and return what each told."""
    async with running(code, *args, count=count) as programs:
        for program in programs:
            program.go()
        # All of them, also when one has failed: one that is killed leaves what it was writing.
        results = [asyncio.to_thread(program.result) for program in programs]
        ends = await asyncio.gather(*results, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return ends
