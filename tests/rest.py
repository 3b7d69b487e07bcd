"""Waiting until nothing goes on by itself, with visits to the disk on the way."""

from __future__ import annotations

import asyncio

from acache.files.lane import LANE
from acache.testing import settle

__all__ = ("come_to_rest",)


async def come_to_rest() -> None:
    """Let every task go on until it waits for something that the test holds, with a few visits to the disk on the way."""
    for _ in range(4):
        await settle()
        while not LANE.is_idle:
            await asyncio.sleep(0)
