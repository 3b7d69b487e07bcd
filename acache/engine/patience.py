"""Waiting for a task no longer than one likes, by the cache's clock."""

from __future__ import annotations

import asyncio
from typing import Any

from acache.clock import Clock

__all__ = ("end", "is_done_within")


async def is_done_within(task: asyncio.Task[Any], seconds: float, clock: Clock) -> bool:
    """Wait for ``task``, and tell whether it was done in so many seconds. Cancelled, it leaves the task alone."""
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(timer)
    return task.done()


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel ``task`` and wait until it is over; what it came to is nobody's."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
