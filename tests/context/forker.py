"""Processes that fork between and during probes; the exit code is 0 if both sides find what they should."""

from __future__ import annotations

import asyncio
import sys
import threading

from acache.context import DEFAULT_SCHEMA, PLAIN, isolation_key, isolation_key_now, isolation_now, register_form
from tests.forking import fork_and_run

asked: list[int] = []


def fork_after_a_probe() -> int:
    """Find results in the child: it asks no form again, and has the same key."""
    register_form("compile", "compiler", lambda: asked.append(1))
    key = asyncio.run(isolation_key())

    def child() -> None:
        assert isolation_key_now(DEFAULT_SCHEMA, PLAIN) == asyncio.run(isolation_key()) == key
        assert asked == [1]

    return fork_and_run(child)


def fork_during_a_probe() -> int:
    """Find a probe that is under way started anew in the child; the parent's goes on."""
    started, gate = threading.Event(), threading.Event()

    def probe() -> str:
        asked.append(1)
        started.set()
        gate.wait()
        return "found"

    register_form("compile", "compiler", probe)
    keys: list[str] = []
    waiter = threading.Thread(target=lambda: keys.append(isolation_key_now(DEFAULT_SCHEMA, PLAIN)))
    waiter.start()
    started.wait()

    def child() -> None:
        assert isolation_now(DEFAULT_SCHEMA, PLAIN) is None
        gate.set()
        assert asyncio.run(isolation_key()) == isolation_key_now(DEFAULT_SCHEMA, PLAIN)
        assert asked == [1, 1]

    code = fork_and_run(child)
    gate.set()
    waiter.join()
    assert keys == [asyncio.run(isolation_key())]
    assert asked == [1]
    return code


def fork_with_locks_held() -> int:
    """Fork while a thread registers forms all the time: it does not lock the child out."""
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            register_form("runtime", "churning", lambda: 1)()

    thread = threading.Thread(target=churn)
    thread.start()

    def child() -> None:
        register_form("compile", "compiler", lambda: asked.append(1))()
        assert asyncio.run(isolation_key())

    codes = [fork_and_run(child) for _ in range(50)]
    over.set()
    thread.join()
    return max(codes)


if __name__ == "__main__":
    raise SystemExit(globals()[sys.argv[1]]())
