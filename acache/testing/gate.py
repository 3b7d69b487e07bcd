"""An event that tasks of any loop, and plain threads, may wait for: the switch under the other tools of this kit."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import final

import anyio

from acache.mutexes import make_mutex

__all__ = ("PATIENCE", "Gate")

#: Seconds after which a wait counts as a mistake of the test: it fails by name instead of hanging.
PATIENCE = 30.0


@final
class Gate:
    """A door that opens once. ``name`` appears in the error of a wait that took too long."""

    __slots__ = ("_lock", "_open", "_waiters", "name")

    def __init__(self, name: str = "gate") -> None:
        self.name = name
        self._open = threading.Event()
        self._waiters: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._lock = make_mutex()

    @property
    def is_open(self) -> bool:
        """Whether waiting is over."""
        return self._open.is_set()

    def open(self) -> None:
        """Let everybody through, now and later. Idempotent."""
        with self._lock:
            self._open.set()
            waiters, self._waiters = self._waiters, {}
        for event, loop in waiters.items():
            with suppress(RuntimeError):  # that loop is closed, and nobody waits there any more
                loop.call_soon_threadsafe(event.set)

    async def wait(self, timeout: float = PATIENCE) -> None:
        """Wait until the door opens; :class:`TimeoutError` after ``timeout`` real seconds."""
        event = asyncio.Event()
        with self._lock:
            if self._open.is_set():
                return
            self._waiters[event] = asyncio.get_running_loop()
        try:
            with anyio.fail_after(timeout):
                await event.wait()
        except TimeoutError:
            raise self._too_long(timeout) from None
        finally:
            with self._lock:
                self._waiters.pop(event, None)

    def wait_blocking(self, timeout: float = PATIENCE) -> None:
        """Block this thread until the door opens; :class:`TimeoutError` after ``timeout`` real seconds."""
        if not self._open.wait(timeout):
            raise self._too_long(timeout)

    def _too_long(self, timeout: float) -> TimeoutError:
        return TimeoutError(f"{self.name} did not open within {timeout:g} seconds")
