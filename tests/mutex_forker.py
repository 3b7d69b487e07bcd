"""A process that forks while other threads are in the middle of things; its exit code is 0 if the children do their work."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack

from acache import DiskTier, FastCache, MemoryTier, mutexes
from acache.config import settings
from acache.context import IsolationSchema, isolation_key
from acache.listeners import Listeners
from acache.testing import ManualClock
from acache.types import Entry, Key

#: Seconds after which a child hangs.
PATIENCE = 10.0
FORKS = 40

cache = FastCache(MemoryTier(), DiskTier(sys.argv[2]))


@cache.memoize(tags=["all"])
async def square(x: int) -> int:
    """Be asked for by parent and child."""
    return x * x


@cache.memoize
def cube(x: int) -> int:
    """Be asked for by parent and child, from plain threads too."""
    return x**3


@cache.memoize
async def stream(x: int) -> AsyncGenerator[int, None]:
    """Be followed by parent and child."""
    for n in range(x):
        yield n


async def use(x: int) -> None:
    """Use everything that has a mutex."""
    assert await square(x) == x * x
    assert [n async for n in stream(3)] == [0, 1, 2]
    assert await asyncio.to_thread(cube, x) == x**3
    await cache.invalidate_tags("all")
    assert await square(x) == x * x
    assert await isolation_key(IsolationSchema())
    assert cache.statistics().total.failed == 0
    settings()
    clock = ManualClock()
    clock.advance(1)

    @cache.memoize
    async def local(x: int) -> int:
        return x

    assert await local(x) == x


def fork(work: Callable[[], object]) -> int:
    """Run ``work`` in a child; return its exit code."""
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        try:
            work()
        except BaseException:  # noqa: BLE001 - shown, and then the child ends here
            traceback.print_exc()
            os._exit(2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def held() -> int:
    """Fork while another thread has every mutex there is."""
    asyncio.run(use(2))
    taken, leave = threading.Event(), threading.Event()

    def take() -> None:
        with ExitStack() as stack:
            for reference in list(mutexes._mutexes):
                mutex = reference()
                if mutex is not None:
                    stack.enter_context(mutex)
            taken.set()
            leave.wait()

    thread = threading.Thread(target=take)
    thread.start()
    taken.wait()
    status = fork(lambda: asyncio.run(use(3)))
    leave.set()
    thread.join()
    asyncio.run(use(4))
    return status


def half_changed() -> int:
    """Fork while another thread is in the middle of an insert."""
    tier = MemoryTier(max_entries=2, policy="sieve")
    tier.put(key(1), Entry("old", 0.0), replace=True)
    old = tier.node(key(1))
    assert old is not None
    reached, leave = threading.Event(), threading.Event()
    add = tier._queue.add

    def wait_first(node: object) -> None:
        reached.set()
        leave.wait()
        add(node)  # type: ignore[arg-type]

    tier._queue.add = wait_first  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: tier.put(key(2), Entry("new", 0.0), replace=True))
    thread.start()
    reached.wait()

    def check() -> None:
        assert not old.live, "what is no longer in the table would be served for ever by who points at it"
        assert len(tier) == 0
        for n in range(10):
            tier.put(key(n), Entry(n, 0.0), replace=True)
        assert len(tier) == 2

    status = fork(check)
    leave.set()
    thread.join()
    assert old.live
    assert len(tier) == 2
    return status


def half_told() -> int:
    """Fork while another thread has invalidated a tag and nobody has heard of it yet."""
    memory = FastCache(MemoryTier())
    runs: list[int] = []

    @memory.memoize(tags="all")
    def count(x: int) -> int:
        runs.append(x)
        return len(runs)

    assert [count(1), count(1)] == [1, 1]
    reached, leave = threading.Event(), threading.Event()
    tell = Listeners.tell

    def wait_first(self: Listeners) -> None:
        if threading.current_thread() is thread:
            reached.set()
            leave.wait()
        tell(self)

    Listeners.tell = wait_first  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: asyncio.run(memory.invalidate_tags("all")))
    thread.start()
    reached.wait()

    def check() -> None:
        assert count(1) == 2, "nobody would ever tell the child"

    status = fork(check)
    leave.set()
    thread.join()
    Listeners.tell = tell  # type: ignore[method-assign]
    assert count(1) == 2
    return status


def key(n: int) -> Key:
    """Return the key number ``n``."""
    return Key(f"{n:064x}")


def storm() -> int:
    """Fork again and again while other threads' loops call, and let each child call too."""
    stop = False
    ready = threading.Barrier(3)

    async def call() -> None:
        n = 0
        ready.wait()  # asyncio's own locks, which it takes when a loop begins, are not made anew in a child
        while not stop:
            n += 50
            await asyncio.gather(*(square(n + each) for each in range(50)))

    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=lambda: asyncio.run(call())) for _ in range(2)]
    for thread in threads:
        thread.start()
    ready.wait()
    status = 0
    for n in range(FORKS):
        status = status or fork(lambda n=n: asyncio.run(use(-n)))  # type: ignore[misc]
    stop = True
    for thread in threads:
        thread.join()
    return status


if __name__ == "__main__":
    raise SystemExit(
        {"held": held, "half_changed": half_changed, "half_told": half_told, "storm": storm}[sys.argv[1]]()
    )
