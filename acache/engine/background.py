"""Work that no caller waits for: refreshes, results that come late, and computations that outlived their callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, final

from acache.bridge import in_event_loop, run_soon

__all__ = ("Background",)


@final
class Background:
    """Tasks that are held until they are done: an event loop itself keeps only weak references."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Callable[[], Coroutine[Any, Any, object]], name: str) -> None:
        """Begin ``work()`` on the running loop or, in a plain thread, on the loop that serves it; do not wait.

        It sees the context variables of the caller. It must not raise.
        """
        context = copy_context()

        def begin() -> None:
            self.hold(asyncio.get_running_loop().create_task(work(), name=name, context=context))

        if in_event_loop():
            begin()
        else:
            run_soon(begin)

    def hold(self, task: asyncio.Task[Any]) -> None:
        """Keep ``task`` until it is done, and look at its error, which then is nobody's."""
        self._tasks.add(task)
        task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()
