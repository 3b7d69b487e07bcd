"""A compiler that only pretends, so that a test decides when it starts and ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import anyio
import httpx

from acache.testing import Gate
from examples.compiler import CCompiler, Flags, Identity

#: The fixtures of this directory.
Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
FakeCC: TypeAlias = Callable[..., Path]


class StandIn(CCompiler):
    """Checks flags and counts as the C compiler does, but only copies the source, when it is let."""

    def __init__(self, version: str = "1.0") -> None:
        super().__init__("cc")
        self.version = version
        self.probes = 0
        self.started = Gate("the start of the compiler")
        self.finish = Gate("the end of the compiler")
        self.finish.open()

    async def identify(self, target: str | None = None) -> Identity:
        """Name the version this stand-in was given."""
        self.check((), target)
        self.probes += 1
        return Identity(self.version, target or "standin")

    def command(self, source: bytes, flags: Flags, target: str | None, directory: str) -> list[str]:
        """Return the flags, for :meth:`_run` to write down."""
        return list(flags)

    async def _run(self, command: list[str], stdin: bytes = b"", directory: str = "/") -> str:
        self.started.open()
        await self.finish.wait()
        await anyio.Path(directory, "unit.o").write_bytes(" ".join(command).encode() + b"\n" + stdin)
        return ""
