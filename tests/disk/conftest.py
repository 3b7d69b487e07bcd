"""Disk tiers for tests: with a clock that stands still, closed at the end, and nothing done behind the scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from acache.tiers import DiskTier
from tests.disk.helpers import Child

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from pathlib import Path

    from acache.testing import ManualClock


class MakeTier(Protocol):
    """Make a tier in this test's directory; two calls make two tiers on the same files."""

    def __call__(self, sub: str = "disk", **options: Any) -> DiskTier: ...


@pytest.fixture
async def make_tier(tmp_path: Path, manual_clock: ManualClock) -> AsyncGenerator[MakeTier]:
    """Make tiers that share a directory and the time, and do not sweep unless asked."""
    tiers: list[DiskTier] = []

    def make(sub: str = "disk", **options: Any) -> DiskTier:
        options.setdefault("clock", manual_clock)
        tier = DiskTier(tmp_path / sub, **options)
        tier._sweep_at = float("inf")
        tiers.append(tier)
        return tier

    yield make
    for tier in tiers:
        await tier.aclose()


@pytest.fixture
def tier(make_tier: MakeTier) -> DiskTier:
    """Make an ordinary tier."""
    return make_tier()


@pytest.fixture
def spawn() -> Generator[Callable[..., Child]]:
    """Start child processes, and end those that are left."""
    children: list[Child] = []

    def start(command: str, *args: object) -> Child:
        children.append(Child(command, *args))
        return children[-1]

    yield start
    for child in children:
        child.kill()
