"""A process that forks while locks are held and awaited; its exit code is 0 if both sides find what they should."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from acache.locks import NON_BLOCKING, KeyedLock, Lock, acquire_lock

lock, keys = Lock(), KeyedLock[str]()


async def use() -> None:
    """Use both as if they had never been used."""
    async with acquire_lock(lock, NON_BLOCKING), keys.hold("key", NON_BLOCKING):
        assert len(keys) == 1
    assert not lock.locked()
    assert len(keys) == 0


async def main() -> int:
    """Hold both, let a thread and a task wait, and fork."""
    await lock.acquire()
    holding = await keys.acquire("key")
    thread = threading.Thread(target=lock.acquire_sync)
    thread.start()
    waiting: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(lock.acquire()),
        asyncio.ensure_future(keys.acquire("key")),
    ]
    while lock.statistics().tasks_waiting < len(waiting):
        await asyncio.sleep(0)
    child = os.fork()
    if child == 0:
        assert len(keys) == 0
        asyncio.run(use())
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert lock.locked()
    assert keys.locked("key")
    lock.release()
    keys.release("key", holding)
    thread.join()
    lock.release()
    await asyncio.gather(*waiting)
    return status


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
