"""One thread for small blocking calls, and the shortest way to it and back.

An executor's hop costs some 50 microseconds and lets its threads fight for the interpreter; a queue, one thread and
``call_soon_threadsafe`` cost half of that, a fifth under load. A call that comes alone is given the loop's own processor
(:mod:`acache.files.placement`): it is mostly done before the loop would have slept, and where it has to wait for the disk, the
loop goes on. One thread must not hold everybody up, though: while a call takes long, later ones are to go elsewhere
(:attr:`Lane.is_free`).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeAlias, final
from weakref import WeakKeyDictionary

from acache.clock import SYSTEM_CLOCK
from acache.files.placement import Companion
from acache.mutexes import make_mutex

__all__ = ("LANE", "Lane")

#: Seconds after which a call counts as long.
_LONG: Final = 0.005
#: Calls that may wait before others go elsewhere.
_QUEUE: Final = 64
#: Seconds between two looks of a loop for what is done: the first, doubled up to the last while nothing is.
_LOOK: Final = 0.001
_LAST_LOOK: Final = 0.05

_Job: TypeAlias = tuple[asyncio.AbstractEventLoop, "_Outbox", "asyncio.Future[Any]", Callable[[], Any]]
_Settle: TypeAlias = Callable[["asyncio.Future[Any]", Any], None]
_Done: TypeAlias = tuple["asyncio.Future[Any]", _Settle, Any]


@final
class Lane:
    """Runs calls one after another in a daemon thread, which is started when it is first needed."""

    def __init__(self) -> None:
        self._starting = make_mutex()
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._queue: SimpleQueue[_Job] = SimpleQueue()
        #: One item for each call that waits or runs. (A queue is empty a moment before its last call runs.)
        self._unfinished: deque[None] = deque()
        self._thread: threading.Thread | None = None
        self._companion: Companion | None = None
        self._busy_since: float | None = None
        self._outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Outbox] = WeakKeyDictionary()

    @property
    def is_free(self) -> bool:
        """Whether a call given now would run soon."""
        since = self._busy_since
        return (since is None or SYSTEM_CLOCK.monotonic() - since < _LONG) and len(self._unfinished) < _QUEUE

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not self._unfinished

    def run(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run ``function`` in the thread; the future, of the running loop, has its outcome. It is not interrupted."""
        if self._thread is None:
            self._start()
        loop = asyncio.get_running_loop()
        outbox = self._outboxes.get(loop)
        if outbox is None:
            outbox = self._outboxes[loop] = _Outbox()
        future = loop.create_future()
        outbox.expect(loop)
        self._unfinished.append(None)
        job = (loop, outbox, future, function)
        companion = self._companion
        if companion is None or outbox.expected > 1 or not self._bring_near(companion):
            self._queue.put(job)
            return future
        outbox.watch()
        try:
            self._queue.put(job)
            companion.let_run()
        finally:
            outbox.see(loop)
        return future

    def forget(self) -> None:
        """Start afresh in a forked child, which has no such thread."""
        self._start_afresh()

    def _bring_near(self, companion: Companion) -> bool:
        if len(self._outboxes) == 1:
            return companion.follow()
        companion.roam()  # between several loops it would be drawn to and fro
        return False

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._work, args=(self._queue,), name="acache-io", daemon=True)
                thread.start()
                self._thread = thread

    def _work(self, queue: SimpleQueue[_Job]) -> None:
        self._companion = Companion(threading.get_native_id())
        while True:
            loop, outbox, future, function = queue.get()
            self._busy_since = SYSTEM_CLOCK.monotonic()
            outbox.put((future, *_outcome_of(_nothing if future.cancelled() else function)))
            if not outbox.is_watched and (queue.empty() or not outbox.looks):
                outbox.wake(loop)
            self._busy_since = None
            self._unfinished.popleft()
            del loop, outbox, future, function  # an idle thread keeps nothing alive


@final
class _Outbox:
    """What is done for one loop.

    The thread wakes the loop when it has nothing more to do. If it has, the loop looks for itself, every millisecond: so a
    wake-up, which costs as much as a small file, serves many calls, and no outcome waits for a call that hangs.
    """

    __slots__ = ("_done", "expected", "is_watched", "looks")

    def __init__(self) -> None:
        self._done: deque[_Done] = deque()
        #: Calls whose outcome has not been seen, whether the loop looks for them by the clock, and whether it is about to,
        #: once the thread has had its turn. Changed in the loop only.
        self.expected = 0
        self.looks = False
        self.is_watched = False

    def expect(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look for one more outcome. In the loop."""
        self.expected += 1
        if self.expected > 1 and not self.looks:
            self.looks = True
            loop.call_later(_LOOK, self._look, loop, _LOOK)

    def watch(self) -> None:
        """Promise to :meth:`see` what is there soon. In the loop."""
        self.is_watched = True

    def see(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do so in the loop's next round. In the loop."""
        # In this order: the thread first leaves an outcome, and then looks whether it has to wake the loop.
        self.is_watched = False
        if self._done:
            loop.call_soon(self._empty)

    def put(self, done: _Done) -> None:
        """Leave an outcome for the loop. In the thread."""
        self._done.append(done)

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the loop see what is there. In the thread."""
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
            loop.call_soon_threadsafe(self._empty)

    def _look(self, loop: asyncio.AbstractEventLoop, pause: float) -> None:
        pause = _LOOK if self._empty() else min(2 * pause, _LAST_LOOK)
        self.looks = self.expected > 0
        if self.looks:
            loop.call_later(pause, self._look, loop, pause)

    def _empty(self) -> bool:
        seen = False
        while self._done:
            future, settle, outcome = self._done.popleft()
            self.expected -= 1
            seen = True
            settle(future, outcome)
        return seen


def _nothing() -> None:
    """Be called in the place of what nobody waits for any more."""


def _outcome_of(function: Callable[[], Any]) -> tuple[_Settle, Any]:
    # A frame of its own, which an error keeps alive, and which therefore must not know the future that gets the error.
    try:
        return _succeed, function()
    except BaseException as error:  # noqa: BLE001 - whoever awaits it raises it
        return _fail, error


def _succeed(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


#: The lane of this process.
LANE: Final = Lane()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LANE.forget)
