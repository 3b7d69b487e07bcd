"""What the memoization tests share: a memory cache, and one spelling for calls of both kinds of functions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from acache import DiskTier, FastCache, MemoryTier
from acache.testing import ManualClock
from tests.memoize.helpers import Source

Body = Callable[..., Any]


@pytest.fixture
def clock() -> ManualClock:
    """Time that moves when a test says so."""
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> FastCache:
    """Make a cache in memory."""
    return FastCache(MemoryTier(clock=clock))


@pytest.fixture(params=["memory", "disk", "both"])
async def tiered(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncGenerator[FastCache]:
    """Make a cache over each kind of tier, and over both."""
    memory, disk = MemoryTier(clock=clock), DiskTier(tmp_path / "cache", clock=clock)
    async with FastCache(*{"memory": (memory,), "disk": (disk,), "both": (memory, disk)}[request.param]) as cache:
        yield cache


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    """Whether a test's functions are ``async def`` or ``def``."""
    return str(request.param)


@pytest.fixture
def define(kind: str) -> Callable[[Body], Body]:
    """Make an ``async def`` of a plain body when the test runs for those; identity and signature stay."""

    def as_kind(body: Body) -> Body:
        if kind == "sync":
            return body
        return _async_twin(body)

    return as_kind


def _async_twin(body: Body) -> Body:
    @wraps(body)
    async def twin(*args: Any, **kwargs: Any) -> Any:
        return body(*args, **kwargs)

    return twin


@pytest.fixture
def call(kind: str) -> Callable[..., Any]:
    """Call a memoized function of either kind, and await what has to be."""

    async def of_kind(function: Any, *args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return await result if kind == "async" else result

    return of_kind


@pytest.fixture
def source() -> Source:
    """Make a source that works."""
    return Source()


@pytest.fixture
def memoized(cache: FastCache, define: Callable[..., Any], call: Callable[..., Any], source: Source) -> Any:
    """Memoize the source under options, and call what comes of it."""

    def make(**options: Any) -> Any:
        def f(n: int) -> int:
            return source(n)

        face = cache.memoize(**options)(define(f))

        async def ask(n: int = 1) -> Any:
            return await call(face, n)

        ask.face = face  # type: ignore[attr-defined]
        return ask

    return make
