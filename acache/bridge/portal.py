"""The event loop that serves plain threads, and the way to the loop that fits the calling thread.

It is a loop in a thread of our own and not :func:`anyio.from_thread.start_blocking_portal`, which ends when a background
task raises ``SystemExit``, and in a child of ``os.fork()`` waits for ever for a thread that does not exist there.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, final

import anyio
import anyio.from_thread

from acache.exceptions import BridgeError
from acache.loops import call_soon
from acache.mutexes import make_mutex

__all__ = ("GRACE", "in_event_loop", "is_exiting", "run_soon")

_OVER: Final = "sync calls are over: no event loop can be started at the interpreter's exit"
#: Seconds that cancelled work may take to clean up before its caller, or the interpreter's exit, goes on without it.
GRACE: Final = 5.0
#: Seconds that the interpreter's exit leaves to calls under way before it cancels them.
DRAIN: Final = 1.0
#: Seconds after which a portal below the first ends, if its one user has not called it.
IDLE: Final = 5.0


def in_event_loop() -> bool:
    """Tell whether this thread is running an event loop at this moment."""
    return asyncio._get_running_loop() is not None  # noqa: SLF001 - in asyncio's __all__; the public twin raises


def run_soon(function: Callable[[], object]) -> None:
    """Run ``function`` on the loop that serves this thread.

    It is the loop that started this thread as a worker, if one did and is still there; else the portal. Raises
    :class:`~acache.exceptions.BridgeError` if no portal can be started.
    """
    if not in_event_loop() and not _here.forked:
        with suppress(anyio.NoEventLoopError, anyio.RunFinishedError):
            anyio.from_thread.run_sync(function)
            return
    try:
        is_there = call_soon(_portal().loop, function)
    except RecursionError:
        raise
    except RuntimeError as error:
        raise BridgeError(_OVER) from error
    if not is_there:
        raise BridgeError(_OVER)


def is_exiting() -> bool:
    """Tell whether the portal has been stopped for good."""
    return _exiting


@final
class _Portal:
    """An event loop in a daemon thread of its own.

    Blocking calls of code on that loop go to a portal *below*, one level deeper, which nobody else uses. So the thread of this
    one may let it go at any time when it is not in a call: nothing more can come.
    """

    def __init__(self, level: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.level = level
        #: Set when nothing more will be asked of it.
        self.unwanted = asyncio.Event()
        self._stopped = self.loop.create_future()
        #: Whether the portal below was called since the last look; ``None`` if nobody looks.
        self._called_below: bool | None = None
        self._thread = threading.Thread(target=self._run, name=f"acache-portal-{level}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self.loop.close()
            raise

    def stop(self) -> None:
        """Let what runs finish, then cancel it and let it clean up, and end the thread; in the end go on without it."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._stop)
        self._thread.join(DRAIN + GRACE)

    def note_call_below(self) -> None:
        """Let go of the portal below when it was not called for a while. In this portal's thread only, as what follows."""
        if self._called_below is None:
            self.loop.call_later(IDLE, self._look_below)
        self._called_below = True

    def _look_below(self) -> None:
        if self._called_below:
            self._called_below = False
            self.loop.call_later(IDLE, self._look_below)
        else:
            self._called_below = None
            self._let_go_below()

    def _let_go_below(self) -> None:
        with _starting:
            below = _portals.pop(self, None)
            if below is None:
                return  # also at exit, where it is stopped
            _leaving.add(below)
        below.loop.call_soon_threadsafe(below.unwanted.set)

    def _stop(self) -> None:
        self.unwanted.set()
        self._stopped.set_result(None)

    def _run(self) -> None:
        _here.portal = self
        # To anyio, this task is what its worker threads belong to.
        main = self.loop.create_task(self._serve())
        while not main.done():
            # asyncio lets the first two, of a background task, end the loop, and anybody may stop it (RuntimeError):
            # other callers shall not suffer for that.
            with suppress(KeyboardInterrupt, SystemExit, RuntimeError):
                self.loop.run_until_complete(main)
        self.loop.close()
        self._let_go_below()
        with _starting:
            _leaving.discard(self)

    async def _serve(self) -> None:
        await self.unwanted.wait()
        # What still runs is not cut short; it may take as long as the process.
        while (tasks := _others()) and not self._stopped.done():
            await asyncio.wait({*tasks, self._stopped}, return_when=asyncio.FIRST_COMPLETED)
        await _watch(_others(), DRAIN)
        # Without a limit, since a task that is left would be logged at exit: it is for stop() to lose patience.
        while tasks := _others():
            for task in tasks:
                task.cancel()
            await _watch(tasks, None)
        await self.loop.shutdown_asyncgens()


def _others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def _watch(tasks: set[asyncio.Task[Any]], seconds: float | None) -> None:
    """Wait for the end of ``tasks`` and look at their errors, so that asyncio does not print them at exit."""
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=seconds)
        for task in done:
            if not task.cancelled():
                task.exception()


class _Here(threading.local):
    """What is known of a thread."""

    #: The portal whose thread it is.
    portal: _Portal | None = None
    #: Whether it was a worker thread's twin once: the loop it knows of is its parent's.
    forked = False


_here: Final = _Here()
#: The portals by whom they serve: ``None`` is every thread that is not a portal's.
_portals: Final[dict[_Portal | None, _Portal]] = {}
#: Those that serve nobody any more, and have something left to do.
_leaving: Final[set[_Portal]] = set()
_starting: Final = make_mutex()
_exiting = False


def _portal() -> _Portal:
    """Return the portal for this thread: the one of the process.

    Only code on the portal's own loop that makes a blocking call (:func:`drive`) needs another, one level deeper.
    """
    above = _here.portal
    if above is not None:
        above.note_call_below()
    portal = _portals.get(above)
    if portal is None:
        with _starting:
            portal = _portals.get(above)
            if portal is None and _exiting:
                raise RuntimeError("the portal has been stopped")
            if portal is None:
                portal = _portals[above] = _Portal(0 if above is None else above.level + 1)
    return portal


def _stop_portals() -> None:
    global _exiting  # noqa: PLW0603 - there is one process
    with _starting:
        _exiting = True
        portals = {*_portals.values(), *_leaving}
        _portals.clear()
    # The deepest first: those above may be waiting for them.
    for portal in sorted(portals, key=lambda portal: portal.level, reverse=True):
        portal.stop()


def _forget_portals() -> None:
    # Their threads do not exist in the child. Their loops must not be closed there: the selector is the parent's too.
    _portals.clear()
    _leaving.clear()
    _here.portal = None
    _here.forked = True


# At import, and so before whatever uses the bridge registers its own: handlers run in the reverse order.
atexit.register(_stop_portals)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_portals)
