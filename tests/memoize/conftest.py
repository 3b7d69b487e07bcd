"""What the memoization tests share: a memory cache, and one spelling for calls of both kinds of functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest

from acache import FastCache, MemoryTier
from acache.testing import ManualClock

Body = Callable[..., Any]


@pytest.fixture
def clock() -> ManualClock:
    """Time that moves when a test says so."""
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> FastCache:
    """Make a cache in memory."""
    return FastCache(MemoryTier(clock=clock))


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
