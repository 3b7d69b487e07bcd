"""Waiting for tasks no longer than one likes, by the cache's clock."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from acache.clock import Clock

__all__ = ("end", "is_any_done_within")


async def is_any_done_within(seconds: float, clock: Clock, *tasks: asyncio.Task[Any]) -> bool:
    """Wait for one of ``tasks``, and tell whether one was done in so many seconds. Cancelled, it leaves them alone."""
    if seconds == math.inf:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return True
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({*tasks, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(timer)
    return any(task.done() for task in tasks)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel ``task`` and wait until it is over; what it came to is nobody's."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
