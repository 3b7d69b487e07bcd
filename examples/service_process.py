"""Run the compile service as a process of its own: for the demo, and for tests that need a real one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio

from examples.compiler import Language

__all__ = ("ROOT", "running_service")

#: The repository's root, from where ``python -m examples...`` works.
ROOT: Final = Path(__file__).parents[1]

#: Seconds that a service may take to end when it is asked to.
_PATIENCE: Final = 10.0


@asynccontextmanager
async def running_service(directory: Path, language: Language, *, verbose: bool = False) -> AsyncGenerator[str]:
    """Start a service that caches in ``directory``, give its URL, and end it, whatever happens meanwhile.

    Its temporary files go next to ``directory``, so that removing the parent removes everything.
    """
    # The socket listens before the process exists: no port to guess, no start to wait for.
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
        options = "--fd", str(listener.fileno()), "--cache-dir", str(directory), "--language", language
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.compile_service", *options),
            pass_fds=[listener.fileno()],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(directory.parent)},
            start_new_session=True,  # Ctrl-C is for who started the service, and ends it below
            stderr=None if verbose else asyncio.subprocess.DEVNULL,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(_PATIENCE):
            await process.wait()
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
