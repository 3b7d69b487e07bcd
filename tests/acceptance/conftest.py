"""Fixtures of the acceptance tests: forms that go with the test, and the caches of several workers on one directory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest

from acache import DeterministicCache, DiskTier, MemoryTier, register_form
from tests.acceptance.support import MakeWorker, RegisterForm


@pytest.fixture
def register() -> Generator[RegisterForm]:
    """Register forms that are unregistered when the test is over."""
    with ExitStack() as ends:

        def add(
            kind: Literal["compile", "runtime"], name: str, probe: Callable[[], object], volatile: bool = False
        ) -> Callable[[], None]:
            end = register_form(kind, name, probe, volatile)
            ends.callback(end)
            return end

        yield add


@pytest.fixture
async def make_worker(tmp_path: Path) -> AsyncGenerator[MakeWorker]:
    """Make the deterministic caches of workers, which share a directory as processes of one host do."""
    made: list[DeterministicCache] = []

    def make(*tiers: Any, **options: Any) -> DeterministicCache:
        given = tiers or (MemoryTier(), DiskTier(tmp_path / "shared"))
        options.setdefault("dump_on_close", False)
        made.append(DeterministicCache(*given, **options))
        return made[-1]

    yield make
    for cache in made:
        await cache.aclose()
