"""A compiler behind a cache: the heart of the compile service, and all of it that concerns acache.

Each distinct unit (source, flags, compiler, target) is compiled once on this host, however many tasks, threads and
processes ask for it at the same time. Coroutines use :meth:`CachedCompiler.compile`, plain threads
:meth:`CachedCompiler.compile_sync`; both share keys, flights and results.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from acache import FastCache, MemoryTier, isolate
from acache.events import CallEvent, Event
from examples.compiler import Compiler, Flags, Identity

__all__ = ("CachedCompiler", "Compiled")


@dataclass(frozen=True, slots=True)
class Compiled:
    """One object, and how the cache came by it."""

    code: bytes
    call: CallEvent


class CachedCompiler:
    """Compiles through memory and disk. Use it as ``async with CachedCompiler(compiler, directory) as cached:``."""

    def __init__(self, compiler: Compiler, directory: Path) -> None:
        self.compiler = compiler
        self.cache = FastCache.from_url(
            "memory://?max_entries=10000&max_bytes=256MB",
            f"disk://{quote(str(directory))}",
        )
        self.cache.events.subscribe(_note)
        # Its own small cache: an identity lives as long as the process, a unit as long as the disk.
        probes = FastCache(MemoryTier())

        @probes.memoize
        async def identify(target: str | None) -> Identity:
            return await compiler.identify(target)

        # Two services on one directory do not compile one unit twice. An error is not cached.
        @self.cache.memoize(codec="raw", flight="host")
        async def compile_unit(source: str, flags: Flags, target: str | None) -> bytes:
            return await compiler.compile(source, flags, target)

        self.identify = identify
        self.compile_unit = compile_unit
        self._probes = probes

    async def __aenter__(self) -> Self:
        """Learn what the compiler is before the first request asks."""
        await self.identify(None)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the caches."""
        await self.cache.aclose()
        await self._probes.aclose()

    async def compile(self, source: str, flags: Flags = (), target: str | None = None) -> Compiled:
        """Return the object, compiled now or earlier.

        Raises what :meth:`examples.compiler.Compiler.compile` raises. A cancelled caller leaves the others alone; when
        the last one leaves, the compiler is killed.
        """
        self.compiler.check(flags, target)
        identity = await self.identify(target)
        # A new compiler version, or another target, is another key.
        with isolate(compiler=identity.version, target=identity.target), _observed() as calls:
            code = await self.compile_unit(source, flags, target)
        return Compiled(code, calls[-1])

    def compile_sync(self, source: str, flags: Flags = (), target: str | None = None) -> Compiled:
        """Do the same for a plain thread, and block it meanwhile."""
        self.compiler.check(flags, target)
        identity = self.identify.sync(target)
        with isolate(compiler=identity.version, target=identity.target), _observed() as calls:
            code = self.compile_unit.sync(source, flags, target)
        return Compiled(code, calls[-1])


# A sink hears every call of the cache. It runs in the caller's own context, so a context variable tells whose it was.
_calls: ContextVar[list[CallEvent] | None] = ContextVar("_calls", default=None)


def _note(event: Event) -> None:
    calls = _calls.get()
    if calls is not None and isinstance(event, CallEvent):
        calls.append(event)


@contextmanager
def _observed() -> Generator[list[CallEvent]]:
    """Collect what the cache says about the calls of this block, and of no other task."""
    calls: list[CallEvent] = []
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)
