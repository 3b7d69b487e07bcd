"""Work that no caller waits for: refreshes, results that come late, and computations that outlived their callers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Final, final
from weakref import WeakSet

from acache.bridge import in_event_loop, run_soon
from acache.types import Key

__all__ = ("Background",)


@final
class Background:
    """Tasks that are held until they are done: an event loop itself keeps only weak references."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        #: By key, the refresh under way; ``None``: it is about to begin on another loop.
        self._refreshing: dict[Key, asyncio.Task[Any] | None] = {}
        _all.add(self)

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Callable[[], Coroutine[Any, Any, object]], name: str) -> None:
        """Begin ``work()`` on the running loop or, in a plain thread, on the loop that serves it; do not wait.

        It sees the context variables of the caller. It must not raise.
        """
        self._start(work, name, self.hold)

    def _start(
        self,
        work: Callable[[], Coroutine[Any, Any, object]],
        name: str,
        begun: Callable[[asyncio.Task[Any]], object],
    ) -> None:
        context = copy_context()

        def begin() -> None:
            begun(asyncio.get_running_loop().create_task(work(), name=name, context=context))

        if in_event_loop():
            begin()
        else:
            run_soon(begin)

    def refresh(self, key: Key, work: Callable[[], Coroutine[Any, Any, object]], name: str) -> None:
        """Do as :meth:`start`, unless the key is being refreshed: once at a time."""
        if self.is_refreshing(key):
            return
        refreshing = self._refreshing

        def begun(task: asyncio.Task[Any]) -> None:
            refreshing[key] = task
            task.add_done_callback(lambda _: refreshing.pop(key, None))
            self.hold(task)

        refreshing[key] = None
        try:
            self._start(work, name, begun)
        except BaseException:
            refreshing.pop(key, None)
            raise

    def is_refreshing(self, key: Key) -> bool:
        """Tell whether a refresh of ``key`` is under way; one whose event loop was closed is not."""
        task = self._refreshing.get(key)
        return key in self._refreshing and (task is None or not task.get_loop().is_closed())

    def hold(self, task: asyncio.Task[Any]) -> None:
        """Keep ``task`` until it is done, and look at its error, which then is nobody's."""
        self._tasks.add(task)
        task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    def forget_all(self) -> None:
        """Start afresh in a forked child, where nothing of this goes on."""
        _of_the_parent.append(self._tasks)
        self._tasks, self._refreshing = set(), {}


_all: Final[WeakSet[Background]] = WeakSet()
#: Tasks that never end here. They are kept, because asyncio complains of one that is thrown away.
_of_the_parent: Final[list[set[asyncio.Task[Any]]]] = []


def _after_fork() -> None:
    for background in list(_all):
        background.forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
