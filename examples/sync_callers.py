"""The same cache from plain threads: no event loop in sight, and still one computation for all who ask.

    python -m examples.sync_callers

Four ways lead from synchronous code to the cache: a memoized ``def`` is simply called, ``.sync`` calls a memoized
``async def``, ``SyncCache`` has the cache's own methods as plain ones, and ``run_sync`` runs any coroutine function.
In the other direction, ``.aio`` awaits a memoized ``def`` without blocking the event loop.
"""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from acache import FastCache, MemoryTier, SyncCache, run_sync

cache = FastCache(MemoryTier(max_entries=1000))
runs: list[str] = []


@cache.memoize
async def render(page: str) -> str:
    """Stand for something slow and asynchronous, such as a query."""
    runs.append(page)
    await asyncio.sleep(0.05)
    return page.upper()


@cache.memoize
def checksum(page: str) -> int:
    """Stand for something slow and synchronous, such as parsing."""
    runs.append(page)
    time.sleep(0.05)
    return sum(page.encode())


async def in_coroutine() -> tuple[str, int]:
    """Use both functions from async code: the results of the threads are there already."""
    return await render("home"), await checksum.aio("home")


def main() -> None:
    """Call from eight threads at once, then from a coroutine."""
    together = threading.Barrier(8)

    def legacy_caller(_: int) -> tuple[str, int]:
        together.wait()
        return render.sync("home"), checksum("home")

    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(legacy_caller, range(8)))
    print("eight threads got", answers, "from", len(runs), "computations")

    print("a coroutine got", run_sync(in_coroutine), "from", len(runs), "computations")

    with SyncCache(cache) as plain:
        print("a key of one's own:", plain.get_or_set(("greeting", "en"), lambda: "hello"))
        print("and the counters:", plain.statistics().total)


if __name__ == "__main__":
    main()
