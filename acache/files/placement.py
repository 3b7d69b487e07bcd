"""Let two threads that hand work to and fro share one processor, and run in turns.

Only one of them holds the interpreter, so a second processor is no gain, and one that sleeps takes as long to wake as several
small files take to write: 50 microseconds in a virtual machine, there and back again. Left alone, the kernel places a woken
thread where it ran before or where nobody runs, and so parts the two. Here the one that works is placed where the one that
waits runs; who waits lets it run before he sleeps, and then often need not. Measured: a small write takes half as long. While
other processes keep all processors busy, nothing is gained or lost.

Only Linux can be told; elsewhere, and where it is forbidden, threads stay where they are put.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, final

from acache.clock import SYSTEM_CLOCK, Clock

__all__ = ("Companion",)

#: Seconds after which somebody else must have got the processor; and for how many it is not offered again then: at first,
#: doubled up to the last as long as that goes on.
_TOO_LONG: Final = 0.001
_REST: Final = 0.005
_LAST_REST: Final = 1.0


def _find_current_processor() -> Callable[[], int] | None:
    if sys.platform != "linux":
        return None
    # PyDLL keeps the interpreter's lock: this call never waits, and has nothing to release it for.
    return getattr(ctypes.PyDLL(None), "sched_getcpu", None)


_current_processor: Final = _find_current_processor()


@final
class Companion:
    """A thread that works for others, by its native identifier. It must be alive as long as this is used.

    Nothing here raises, and nothing waits but :meth:`let_run`.
    """

    __slots__ = ("_clock", "_offer_at", "_processor", "_rest", "_thread")

    def __init__(self, thread: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._thread = thread
        self._clock = clock
        #: Where it was placed; below zero, if it may run anywhere.
        self._processor = -1
        self._offer_at = -math.inf
        self._rest = _REST

    def follow(self) -> bool:
        """Place it where the caller runs, and tell whether it is near."""
        processor = -1 if _current_processor is None else _current_processor()
        if processor != self._processor and processor >= 0:
            self._place(processor)
        return self._processor == processor >= 0

    def roam(self) -> None:
        """Let it run wherever the caller may."""
        if self._processor >= 0:
            self._place(-1)

    def let_run(self) -> None:
        """Let it run in the caller's place until it has to wait.

        Others who want the processor may take it then. Where they do, it is offered less and less, down to once a second.
        """
        now = self._clock.monotonic()
        if now < self._offer_at:
            return
        os.sched_yield()
        after = self._clock.monotonic()
        if after - now <= _TOO_LONG:
            self._rest = _REST
            return
        self._offer_at = after + self._rest
        self._rest = min(2 * self._rest, _LAST_REST)

    def _place(self, processor: int) -> None:
        with suppress(OSError):  # a sandbox forbids it, or the processor has just been taken from us
            os.sched_setaffinity(self._thread, os.sched_getaffinity(0) if processor < 0 else {processor})
            self._processor = processor
