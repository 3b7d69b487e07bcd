"""Mutexes for short steps that any thread, any finalizer and any forked child may take.

They are reentrant, because the garbage collector may run in the middle of a step, wherever something is allocated or called, and
finalize what takes the mutex again: a coroutine of a closed loop that leaves its flight, a value whose ``__del__`` uses the cache.
A plain lock would wait for its own thread there. So what a step has read may be changed before it writes, by whole steps of
finalizers: who holds a mutex decides with one operation (``setdefault``, ``add``, ``pop``), or looks again. What no lock can help
is a finalizer that waits for another thread, which waits for the mutex.

After ``os.fork()`` a mutex that another thread held would be held for ever. It is made anew in the child, and its owner mends or
throws away what that thread may have left half-done. One that is free, or held by the forking thread, stays as it is. The
other way, to take every mutex before a fork, would need an order among all of them, whatever cache they belong to.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final
from weakref import WeakMethod, ref

__all__ = ("make_mutex",)

#: Every mutex there is, and the method of its owner that mends what it protects.
_mutexes: Final[dict[ref[threading.RLock], WeakMethod[Callable[[], object]] | None]] = {}


def make_mutex(mend: Callable[[], object] | None = None) -> threading.RLock:
    """Make one. ``mend``, a bound method, is called in a forked child if another thread held it at the fork.

    It does not keep its object alive.
    """
    mutex = threading.RLock()
    # The callback is a method of the dictionary: at the interpreter's exit there are no globals.
    _mutexes[ref(mutex, _mutexes.pop)] = None if mend is None else WeakMethod(mend)
    return mutex


def _renew() -> None:
    """Free, in a child, the mutexes of threads that do not exist here; then mend, which may run finalizers that take any."""
    menders = [_mutexes.get(reference) for reference in list(_mutexes) if _is_freed(reference())]
    for mender in menders:
        mend = None if mender is None else mender()
        if mend is not None:
            mend()


def _is_freed(mutex: threading.RLock | None) -> bool:
    """Free ``mutex`` if another thread has it; tell whether one had."""
    if mutex is None:
        return False
    if mutex.acquire(blocking=False):  # also if it is the forking thread that has it, and will go on with its step
        mutex.release()
        return False
    mutex._at_fork_reinit()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: SLF001 - as logging does
    return True


# Before the handlers of whatever makes a mutex: they are called in the order of their registration.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
