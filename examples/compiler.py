"""Compilers as coroutines: the part of the compile service that knows nothing about caching.

A compiler runs as a child process that reads the source from its standard input and works in a private directory. What
it makes depends on the source, the flags and the compiler alone, so that the result can be cached: the environment is
cleared, times and paths do not reach the object, and only flags that cannot name a file are accepted.

This is an example, not a sandbox: C itself can read files (``#include``, ``.incbin``). Give a service that strangers
can reach a sandbox of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias

import anyio
from anyio.lowlevel import RunVar

__all__ = (
    "CCompiler",
    "CompileError",
    "CompileTimeoutError",
    "Compiler",
    "Flags",
    "Identity",
    "Language",
    "PythonCompiler",
    "RefusedError",
    "find_compiler",
)

Flags: TypeAlias = tuple[str, ...]
Language: TypeAlias = Literal["c", "python"]

_log = logging.getLogger("examples.compiler")

#: A compiler that fails may say a lot; a client sees this many characters of it.
_MESSAGE_LIMIT: Final = 16_384


class CompileError(Exception):
    """Raised when the compiler refuses the source; the text is the compiler's own."""


class CompileTimeoutError(TimeoutError):
    """Raised when the compiler took too long and was killed."""


class RefusedError(ValueError):
    """Raised for a flag or a target that the service does not pass on to a compiler."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an object depends on besides its source and flags."""

    version: str
    target: str


class Compiler(ABC):
    """Turns one source text into one object. Safe to share between tasks, event loops and threads.

    ``runs`` counts compilations that were really started, ``active`` those that are running now. Cancelling
    :meth:`compile` kills the compiler and everything it started.
    """

    language: ClassVar[Language]

    def __init__(self, driver: str, *, timeout: float = 30.0) -> None:
        self.driver = driver
        self.timeout = timeout
        self.runs = 0
        self.active = 0
        # One semaphore for each event loop: an asyncio semaphore serves a single one.
        self._slots: RunVar[asyncio.Semaphore] = RunVar("compiler slots")

    @abstractmethod
    def check(self, flags: Flags, target: str | None) -> None:
        """Raise :class:`RefusedError` for a flag or target that is not known to be safe and reproducible."""

    @abstractmethod
    async def identify(self, target: str | None = None) -> Identity:
        """Ask the compiler for its version and for what it compiles to."""

    @abstractmethod
    def command(self, source: bytes, flags: Flags, target: str | None, directory: str) -> list[str]:
        """Return the command that reads the source from its standard input and writes ``unit.o`` in ``directory``."""

    async def compile(self, source: str, flags: Flags = (), target: str | None = None) -> bytes:
        """Run the compiler and return the object it wrote.

        Raises :class:`RefusedError`, :class:`CompileError` and :class:`CompileTimeoutError`.
        """
        self.check(flags, target)
        text = source.encode()
        async with self._slot(), anyio.TemporaryDirectory(prefix="compile-") as directory:
            self.runs += 1
            self.active += 1
            try:
                await self._run(self.command(text, flags, target, directory), text, directory)
            finally:
                self.active -= 1
            return await anyio.Path(directory, "unit.o").read_bytes()

    def _slot(self) -> asyncio.Semaphore:
        """Return the semaphore of the running loop: as many compilers as there are processors."""
        try:
            return self._slots.get()
        except LookupError:
            slots = asyncio.Semaphore(os.cpu_count() or 1)
            self._slots.set(slots)
            return slots

    async def _run(self, command: list[str], stdin: bytes = b"", directory: str = "/") -> str:
        # A task of its own: cancelled half-way, a start leaves the children of the process, and may never end.
        starting = asyncio.ensure_future(_start(command, directory))
        try:
            process = await asyncio.shield(starting)
            async with asyncio.timeout(self.timeout):
                out, err = await process.communicate(stdin)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await _kill(await starting)
            if isinstance(error, TimeoutError):
                raise CompileTimeoutError(f"the compiler was killed after {self.timeout:g} seconds") from None
            raise
        if process.returncode != 0:
            message = err.decode(errors="replace")[:_MESSAGE_LIMIT]
            raise CompileError(message or f"the compiler ended with code {process.returncode}")
        return out.decode(errors="replace")


async def _start(command: list[str], directory: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=directory,
        env=_environment(directory),
        start_new_session=True,
    )


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the whole group, because a driver such as cc has children of its own, and wait for the end."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _environment(directory: str) -> dict[str, str]:
    """Nothing of the service's own environment may change an object; ``TMPDIR`` keeps what a killed compiler leaves."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TMPDIR": directory,
        "SOURCE_DATE_EPOCH": "0",  # the value of __DATE__ and __TIME__
        "PYTHONHASHSEED": "0",  # the order of constants in Python's bytecode
    }


#: Flags that cannot name a file, start a program or make two runs differ. An unknown flag is refused, because one that
#: reads a file would make the cache wrong; ``-march=native`` because the key does not know the processor.
_C_FLAG: Final = re.compile(
    r"""
      -O(?:[0-3sgz]|fast)?
    | -g[0-3]?
    | -std=(?:c|gnu|iso9899:)[0-9a-z]+
    | -[DU][A-Za-z_]\w*
    | -D[A-Za-z_]\w*=[\w.+-]*
    | -f(?:no-)?(?:omit-frame-pointer|strict-aliasing|unroll-loops|inline|inline-functions|vectorize|tree-vectorize
        |slp-vectorize|tree-slp-vectorize|fast-math|math-errno|trapping-math|wrapv|trapv|pic|PIC|pie|PIE|plt|common
        |builtin|signed-char|unsigned-char|short-enums|stack-protector|stack-protector-strong|stack-protector-all
        |function-sections|data-sections|exceptions|semantic-interposition|delete-null-pointer-checks|freestanding)
    | -m(?:arch|tune|cpu)=(?!native)[\w.+-]+
    | -m(?:no-)?(?:sse|sse2|sse3|ssse3|sse4\.1|sse4\.2|avx|avx2|fma|bmi|bmi2|popcnt|lzcnt|red-zone)
    | -m(?:32|64)
    """,
    re.VERBOSE | re.ASCII,
)

#: A target is the prefix of a cross compiler's name, as in ``aarch64-linux-gnu-gcc``.
_TARGET: Final = re.compile(r"\w+(?:-[\w.]+){1,4}", re.ASCII)


class CCompiler(Compiler):
    """The system's C compiler; for another target, the cross compiler of that name."""

    language = "c"

    def check(self, flags: Flags, target: str | None) -> None:
        """Accept flags of the list above and targets whose compiler is installed."""
        for flag in flags:
            if not _C_FLAG.fullmatch(flag):
                raise RefusedError(f"the flag {flag!r} is not allowed")
        if target is not None and not _TARGET.fullmatch(target):
            raise RefusedError(f"the target {target!r} is not a target")

    async def identify(self, target: str | None = None) -> Identity:
        """Run ``cc --version`` and ``cc -dumpmachine``. Raises :class:`RefusedError` for an unknown target."""
        self.check((), target)
        driver = self._driver(target)
        if target is not None and await asyncio.to_thread(shutil.which, driver) is None:
            raise RefusedError(f"no compiler for the target {target!r} is installed")
        version, machine = await asyncio.gather(self._run([driver, "--version"]), self._run([driver, "-dumpmachine"]))
        return Identity(version.strip(), machine.strip())

    def command(self, source: bytes, flags: Flags, target: str | None, directory: str) -> list[str]:
        """Return the driver's command, which keeps chance (names it invents) and the directory out of the object."""
        seed = hashlib.sha256(source).hexdigest()[:16]
        reproducible = f"-frandom-seed={seed}", f"-ffile-prefix-map={directory}=."
        return [self._driver(target), *flags, *reproducible, "-x", "c", "-c", "-", "-o", "unit.o"]

    def _driver(self, target: str | None) -> str:
        return self.driver if target is None else f"{target}-gcc"


_COMPILE_PYTHON: Final = """
import pathlib, py_compile, sys
pathlib.Path("unit.py").write_bytes(sys.stdin.buffer.read())
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
try:
    py_compile.compile("unit.py", "unit.o", optimize=int(sys.argv[1]), doraise=True, invalidation_mode=mode)
except py_compile.PyCompileError as error:
    sys.exit(error.msg)
"""


class PythonCompiler(Compiler):
    """Python's own compiler in a child process, for machines without a C compiler: objects are ``.pyc`` files."""

    language = "python"

    def __init__(self, driver: str = sys.executable, *, timeout: float = 30.0) -> None:
        super().__init__(driver, timeout=timeout)

    def check(self, flags: Flags, target: str | None) -> None:
        """Accept ``-O0``, ``-O1`` and ``-O2``, and the running interpreter as the only target."""
        for flag in flags:
            if not re.fullmatch("-O[012]", flag):
                raise RefusedError(f"the flag {flag!r} is not allowed")
        if target not in {None, sys.implementation.cache_tag}:
            raise RefusedError(f"bytecode for {target!r} cannot be made here")

    async def identify(self, target: str | None = None) -> Identity:
        """Return the version of this interpreter, which is the one that compiles."""
        self.check((), target)
        return Identity(f"Python {sys.version}", str(sys.implementation.cache_tag))

    def command(self, source: bytes, flags: Flags, target: str | None, directory: str) -> list[str]:
        """Return an interpreter without site-packages or user settings; the last flag counts, as in C."""
        level = flags[-1].removeprefix("-O") if flags else "0"
        return [self.driver, "-s", "-S", "-P", "-c", _COMPILE_PYTHON, level]


def find_compiler(language: Language | None = None, *, timeout: float = 30.0) -> Compiler:
    """Return the C compiler (``$CC``, cc, gcc or clang), or Python's own when there is none, and say so in the log.

    ``language`` asks for one of the two. Raises :class:`FileNotFoundError` when C is asked for and not there.
    """
    names = filter(None, (os.environ.get("CC"), "cc", "gcc", "clang"))
    driver = next(filter(None, map(shutil.which, names)), None)
    if language == "python" or (language is None and driver is None):
        _log.warning("compiling Python sources to bytecode%s", "" if driver else ": there is no C compiler here")
        return PythonCompiler(timeout=timeout)
    if driver is None:
        raise FileNotFoundError("no C compiler: set CC, or install cc, gcc or clang")
    return CCompiler(driver, timeout=timeout)
