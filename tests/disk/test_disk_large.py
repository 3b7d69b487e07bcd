"""A directory of 100,000 entries is opened, and serves a hit, as soon as one of ten is (D28)."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from acache.testing.files import WatchedFileSystem
from acache.tiers import DiskTier
from acache.types import Hit
from tests.disk.helpers import key, path_of

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.integration

ENTRIES: Final = 100_000
#: Names that one file gets; file systems have a limit.
LINKS: Final = 10_000


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """Make a directory of so many entries, most of which are names of a few files."""
    path = tmp_path_factory.mktemp("large") / "disk"
    asyncio.run(fill(path))
    yield path
    shutil.rmtree(path)


async def fill(path: Path) -> None:
    """Store one entry, and give it the names of others."""
    tier = DiskTier(path)
    await tier.set(key("real"), "v")
    source = path_of(tier, key("real"))
    content = source.read_bytes()
    await tier.aclose()
    for number in range(ENTRIES - 1):
        target = path_of(tier, key(number))
        target.parent.mkdir(mode=0o700, exist_ok=True)
        if number % LINKS == 0:
            source = target
            source.write_bytes(content)
            source.chmod(0o600)
        else:
            os.link(source, target)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [{}, {"max_entries": 200_000}, {"max_bytes": 10**12, "max_age": "30d"}], ids=str)
def test_opening_takes_no_time(directory: Path, options: dict[str, Any]) -> None:
    """Opening and a first hit take less than 50 ms, with limits too, and list no directory."""
    calls: Counter[str] = Counter()
    watched = WatchedFileSystem(lambda call: calls.update((call,)))

    async def first_hit(**more: Any) -> float:
        start = time.perf_counter()
        tier = DiskTier(directory, **options, **more)
        hit = await tier.get(key("real"))
        took = time.perf_counter() - start
        assert hit == Hit("v")
        await tier.aclose()
        return took

    # The best of some: what else the machine does is not what opening takes.
    assert min(asyncio.run(first_hit()) for _ in range(5)) < 0.05
    asyncio.run(first_hit(files=watched))
    assert calls["open"] > 0
    assert calls["listdir"] == 0
