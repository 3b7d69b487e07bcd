"""What the tests of the examples share: the service without a network, and a script that pretends to be a compiler."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from examples.cached_compiler import CachedCompiler
from examples.compile_service import BODY_LIMIT, create_app
from examples.compiler import Compiler
from tests.examples.standin import FakeCC, Serve


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Start a service on the test's own cache directory, and return a client of it."""

    @asynccontextmanager
    async def start(compiler: Compiler, *, body_limit: int = BODY_LIMIT) -> AsyncGenerator[httpx.AsyncClient]:
        async with CachedCompiler(compiler, tmp_path / "cache") as cached:
            transport = httpx.ASGITransport(create_app(cached, body_limit=body_limit))
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                yield client

    return start


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make temporary files go to a directory of the test's own, and return it."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def fake_cc(tmp_path: Path) -> FakeCC:
    """Write a shell script that answers as a C compiler does, and return its path."""

    def write(*, version: str = "fake 1.0", compiling: str = "cat > unit.o") -> Path:
        script = tmp_path / "cc"
        script.write_text(
            "#!/bin/sh\n"
            'case "$1" in\n'
            f"    --version) echo '{version}' ;;\n"
            "    -dumpmachine) echo fake-machine ;;\n"
            f"    *) {compiling} ;;\n"
            "esac\n"
        )
        script.chmod(0o700)
        return script

    return write
