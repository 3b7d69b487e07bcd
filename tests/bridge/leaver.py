"""A process that uses the bridge and then ends or forks; run by the tests as ``python leaver.py <scenario>``.

Its exit code is 0 and its error output empty if all is well.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable

import anyio.to_thread

from acache.bridge import RunHere, drive, run_sync
from acache.exceptions import BridgeError

kept: list[object] = []


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


async def use_threads() -> None:
    await asyncio.get_running_loop().run_in_executor(None, int)
    await anyio.to_thread.run_sync(int)


def check_the_bridge() -> None:
    assert run_sync(answer) == 42
    assert drive(lambda run_here: run_here(lambda: 42)) == 42
    run_sync(use_threads)


# --- ending -------------------------------------------------------------------------------------------------------


def end_at_once() -> None:
    """Use it and end."""
    check_the_bridge()


def end_with_tasks() -> None:
    """Leave tasks behind: one that cleans up, one that fails at it, an open generator."""

    async def clean_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            os.write(1, b"cleaned up\n")

    async def fail() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    async def generate() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            os.write(1, b"closed\n")

    async def start() -> None:
        generator = generate()
        kept.extend((asyncio.ensure_future(clean_up()), asyncio.ensure_future(fail()), generator))
        await anext(generator)
        await asyncio.sleep(0)

    run_sync(start)


def end_in_the_middle() -> None:
    """Leave tasks behind that are almost done: one succeeds, one fails."""

    async def finish() -> None:
        await asyncio.sleep(0.05)
        os.write(1, b"finished\n")

    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise ValueError

    async def start() -> None:
        kept.extend((asyncio.ensure_future(finish()), asyncio.ensure_future(fail())))

    run_sync(start)


def end_with_a_daemon_thread() -> None:
    """Leave a daemon thread that waits for a call."""
    started = threading.Event()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    threading.Thread(target=run_sync, args=(wait,), daemon=True).start()
    started.wait()


def end_by_atexit() -> None:
    """Use it in an exit handler, for the first time and with a portal that runs already."""
    atexit.register(check)
    if len(sys.argv) > 2:
        check()


def check() -> None:
    assert run_sync(answer) == 42
    os.write(1, b"checked\n")


def end_by_a_late_finalizer() -> None:
    """Use it when it is over: an error, not a wait."""

    class Late:
        def __del__(self, call: Callable[..., object] = run_sync, error: type[Exception] = BridgeError) -> None:
            try:
                call(answer)
            except error:
                os.write(1, b"refused\n")

    kept.append(Late())
    check_the_bridge()


def end_below() -> None:
    """Leave a task behind on the loop of a blocking call on the portal, which nobody needs any more."""
    from acache.bridge import portal  # noqa: PLC0415 - as above

    portal.IDLE = 0.0  # type: ignore[misc]  # as above

    async def clean_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            os.write(1, b"cleaned up\n")

    async def leave(run_here: RunHere) -> None:
        kept.append(asyncio.ensure_future(clean_up()))
        await asyncio.sleep(0)

    async def call() -> None:
        drive(leave)

    run_sync(call)
    while not portal._leaving:
        run_sync(answer)
    assert drive(lambda run_here: run_here(lambda: 42)) == 42


def end_stubbornly() -> None:
    """Leave a task that does not let itself be cancelled."""
    from acache.bridge import portal  # noqa: PLC0415 - only this scenario has no time to wait

    portal.GRACE = 0.1  # type: ignore[misc]  # as above

    async def stay() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def start() -> None:
        kept.append(asyncio.ensure_future(stay()))
        await asyncio.sleep(0)

    run_sync(start)


# --- forking ------------------------------------------------------------------------------------------------------


def fork_and_check(also: Callable[[], object] = bool, leave: Callable[[int], object] = sys.exit) -> None:
    """Use it in a child, then in the parent again."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs
        check_the_bridge()
        also()
        leave(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    check_the_bridge()


def fork_after_use() -> None:
    """Fork while the portal runs: child and grandchild have their own."""
    check_the_bridge()
    fork_and_check(fork_and_check)


def fork_before_use() -> None:
    """Fork before there is a portal."""
    fork_and_check()


def fork_during_a_call() -> None:
    """Fork in one thread while others wait for calls and keep starting new ones."""
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            run_sync(answer)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        fork_and_check()
    over.set()
    for thread in threads:
        thread.join()


def fork_in_a_worker_thread() -> None:
    """Fork in a thread whose loop does not exist in the child."""

    async def main() -> None:
        # The exit of a worker thread ends no process.
        await anyio.to_thread.run_sync(fork_and_check, bool, os._exit)

    asyncio.run(main())


def fork_in_a_driven_function() -> None:
    """Fork in a function that drive runs: in the child, drive raises."""

    def fork() -> int:
        return os.fork()

    async def main(run_here: RunHere) -> int:
        return await run_here(fork)

    try:
        child = drive(main)
    except BridgeError:
        check_the_bridge()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    check_the_bridge()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
