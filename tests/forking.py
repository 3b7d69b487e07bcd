"""A child process made by ``os.fork()``, and what became of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

__all__ = ("fork_and_run",)


def fork_and_run(child: Callable[[], None]) -> int:
    """Run ``child`` in a child process; return its exit code, 1 if it fails."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a child that waits for ever would outlive the test
        code = 1
        try:
            child()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
