"""Single flight: one computation per key, however many tasks, event loops and threads ask for it.

A flight is a task of its own, in a copy of its first caller's context. It belongs to the table, not to that caller: each
waiter holds a count, a cancelled waiter leaves the others alone, and the computation is cancelled when the last one has
left. Waiters wait on futures of their own loops and are woken across threads, so nothing is bound to one loop.

A flight may publish what it computed only while it *holds* (:meth:`Flight.holds`): a delete, clear or set of its key
takes that away and takes the flight out of the table, so that later callers start anew. When a flight's loop dies,
a waiter of another loop takes the flight over.

Every change of the table happens under one mutex, in which nothing waits and no user code runs. It is one for all tables,
because flights of different caches may wait for each other: a caller that would close a circle of waiting flights gets
a :class:`~acache.exceptions.RecursiveCallError` instead of a deadlock. A sync call in the thread of an event loop blocks that
loop, and so every flight it leads waits for what the call waits for; who would close a circle through a blocked loop gets
a :class:`~acache.exceptions.BridgeError`, be it the sync call or whoever comes later.

In the middle of every step under the mutex the garbage collector may carry out others, those of callers and computations whose
loop was closed, in the same thread: see :mod:`acache.mutexes`.
"""

from acache.flight.flight import Flight, LeaderLost
from acache.flight.table import FlightTable, computing_for, current_flight
from acache.flight.waking import is_woken, wake

__all__ = (
    "Flight",
    "FlightTable",
    "LeaderLost",
    "computing_for",
    "current_flight",
    "is_woken",
    "wake",
)
