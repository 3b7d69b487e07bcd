"""Async code for callers that are not async.

A plain thread that needs something done asynchronously has it done on the *portal*: one event loop in one daemon thread
of this process, started on first use. A worker thread that an event loop started (``anyio.to_thread``) uses that loop
instead, so that what belongs to the loop, such as a connection, keeps working. Code on the portal that makes a blocking call
has a portal of its own below, as deep as it goes; those end when they are idle.

:func:`run_sync` waits for a coroutine. :func:`drive` does too, and meanwhile serves it: it runs, in the waiting thread,
what has to run there. So the engine is written once, async, and the body of a memoized ``def`` still runs in the
thread of its caller, where recursion and thread-local state work as they do without a cache.
"""

from acache.bridge.crossing import RunHere, add_hold_up, drive, is_held_up, run_sync
from acache.bridge.portal import in_event_loop, run_soon
from acache.bridge.working import run_in_worker

__all__ = ("RunHere", "add_hold_up", "drive", "in_event_loop", "is_held_up", "run_in_worker", "run_soon", "run_sync")
