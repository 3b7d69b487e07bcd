"""What the tests of policies share: a function that counts its runs, and waiting for what nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from acache import FastCache

Define = Callable[..., Any]


class Source:
    """What a memoized function computes: the number of its run, or an error."""

    def __init__(self) -> None:
        self.runs = 0
        self.error: Exception | None = None

    def __call__(self, n: int) -> int:
        self.runs += 1
        if self.error is not None:
            raise self.error
        return self.runs


async def refreshed(cache: FastCache) -> None:
    """Wait until what runs behind the callers has been computed and stored."""
    while len(cache._engine._background):
        await asyncio.sleep(0.001)
