"""pytest fixtures for caches that behave the same in every run. Installing acache installs them.

pytest loads this module when it starts, in every project of that environment. Python imports the packages around it on
the way; whatever else a fixture needs waits until a test asks for it. ``pytest -p no:acache`` leaves it all out.
"""

# ruff: noqa: PLC0415 - imports are inside the fixtures, see above

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from acache.caches import FastCache
    from acache.config import Settings
    from acache.testing.clock import ManualClock

__all__ = ("ChangeSettings", "acache_settings", "isolated_cache", "manual_clock")

pytest.register_assert_rewrite("acache.testing.contracts")


class ChangeSettings(Protocol):
    """What the fixture :func:`acache_settings` gives: ``acache_settings(disable=True)``."""

    def __call__(self, **changes: Any) -> Settings:
        """Change settings until the test ends, and return those that hold now."""
        ...


@pytest.fixture
def manual_clock() -> ManualClock:
    """Make a clock that moves only when the test says so."""
    from acache.testing.clock import ManualClock

    return ManualClock()


@pytest.fixture
def isolated_cache(tmp_path: Path, manual_clock: ManualClock) -> Generator[FastCache]:
    """Make an empty cache over memory and disk that only this test sees, and close it afterwards.

    Its files are in ``tmp_path`` and its time is ``manual_clock``. It serves sync and async tests alike.
    """
    from acache.caches import FastCache
    from acache.tiers import DiskTier, MemoryTier

    cache = FastCache(MemoryTier(clock=manual_clock), DiskTier(tmp_path / "acache", clock=manual_clock))
    yield cache
    # A loop of its own, and no policy touched: the test's loop, if it had one, may be closed by now.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(cache.aclose())


@pytest.fixture
def acache_settings() -> Generator[ChangeSettings]:
    """Give a function that changes acache's settings of this process until the test ends."""
    from acache import config

    with ExitStack() as changes:
        yield lambda **settings: changes.enter_context(config.override(**settings))
