"""Results kept as objects in this process: bounded by entries and by bytes, nothing encoded, nothing copied.

Everything a hit needs is one dictionary look-up and one attribute write (:mod:`acache.tiers.eviction`; where the entry has a time,
a hot path writes two), without a lock. Time is the monotonic clock's: a wall clock that jumps neither revives nor kills an entry.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias, final

from acache.clock import SYSTEM_CLOCK, Clock
from acache.codecs import Codec
from acache.events import RemovalCause
from acache.exceptions import ConfigurationError
from acache.mutexes import make_mutex
from acache.stats import FUNCTION_DIGITS, TierStatistics
from acache.tiers.base import Tier
from acache.tiers.eviction import Node, PolicyName, make_policy
from acache.tiers.limits import check_limit, check_weight
from acache.tiers.sizing import estimate_size
from acache.types import MISSING, Entry, Key, Missing, Written

__all__ = ("MemoryTier",)

#: When a tier is full one entry in so many is evicted, but not more than so many: many at once cost half as much each.
_PART_AT_ONCE: Final = 512
_MOST_AT_ONCE: Final = 64

#: Every insert returns it, and a member of an enumeration is slow to look up.
_NEW: Final = Written.NEW

_Gone: TypeAlias = tuple[Key, RemovalCause]


@final
class MemoryTier(Tier):
    """Keep up to ``max_entries`` entries, and up to ``max_bytes`` of size, as shared objects.

    ``None`` is no limit. What a value takes of ``max_bytes`` is what ``weigher`` says, an integer that is not negative; an
    estimate, without one. A value larger than ``max_bytes`` is not stored. ``policy`` says who goes when the tier is full
    (:mod:`acache.tiers.eviction`): ``"lfu"``, ``"sieve"``, ``"lru"``, or ``"cost"``, which keeps what took long to compute.
    From 1,024 ``max_entries`` on several go at once: one in 512, and 64 at most.
    Callers share the stored object: what one changes the next one sees, unless the memoized function asks for copies.

    A subscriber of ``events`` hears of every entry that goes, and why (:data:`~acache.events.RemovalCause`), once it is gone.

    Raises :class:`~acache.exceptions.ConfigurationError` for a limit that is no integer or below 1, an unknown policy, a
    weigher that cannot be called, and at a write for one that returns anything else: the value is not stored then, which an
    event tells too. Chains and caches go on without, since the caller has his result.
    """

    def __init__(
        self,
        max_entries: int | None = 1_000_000,
        max_bytes: int | None = None,
        *,
        policy: PolicyName = "lfu",
        weigher: Callable[[Any], int] | None = None,
        name: str = "memory",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(name=name, clock=clock)
        self.max_entries = max_entries = check_limit("max_entries", max_entries)
        self.max_bytes = max_bytes = check_limit("max_bytes", max_bytes)
        if weigher is not None and max_bytes is None:
            raise ConfigurationError("weigher", "it says what a value takes of max_bytes=; give that too")
        if weigher is not None and not callable(weigher):
            raise ConfigurationError("weigher", "give a function that takes a value and returns an integer")
        self.policy: PolicyName = policy
        self._weigher = weigher
        self._most_entries = sys.maxsize if max_entries is None else max_entries
        self._most_bytes = sys.maxsize if max_bytes is None else max_bytes
        self._at_once = min(_MOST_AT_ONCE, max(1, self._most_entries // _PART_AT_ONCE))
        self._mutex = make_mutex(self._start_afresh)
        self._nodes: dict[Key, Node] = {}
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Be empty: what a forked child finds half-changed would never be whole again, and hot paths must let go of it."""
        # Whether somebody is in the middle of a change, and what finalizers take out meanwhile, in the same thread. A change
        # has many steps, in each of which the collector may run: what is half-done must not be changed once more.
        self._changing = True
        self._late: list[tuple[Node, RemovalCause]] = []
        #: What the change of the moment has taken out, if somebody listens.
        self._gone: list[_Gone] = []
        before, self._nodes = self._nodes, {}
        self._queue = make_policy(self.policy)
        self._bytes = 0
        #: Entries of the functions that were asked for.
        self._population: dict[str, int] = {}
        # Nodes with a deadline, soonest first, so that expired entries are dropped without being asked for.
        self._expiring: list[Node] = []
        self._changing = False
        for node in before.values():
            node.kill()

    def __len__(self) -> int:
        return len(self._nodes)

    def peek(self, key: Key) -> Node | None:
        """Return the live node under ``key`` and note the hit, without waiting."""
        node = self._nodes.get(key)
        if node is None:
            return None
        if node.deadline is not None and self.clock.monotonic() >= node.deadline:
            self._take_out((node,), "expired")
            return None
        node.visited = True
        return node

    def node(self, key: Key) -> Node | None:
        """Return the entry under ``key`` as hot paths hold it, dead or live; looking does not count as a use."""
        return self._nodes.get(key)

    def put(self, key: Key, entry: Entry, *, replace: bool, still: Callable[[], bool] | None = None) -> Written:
        """Store ``entry`` without waiting, if ``still()`` holds at that moment; as :meth:`write` otherwise.

        A finalizer that runs in the middle of another change stores nothing; what it wants replaced goes.
        """
        size = 0 if self.max_bytes is None else self._weigh(key, entry.value, replace=replace)
        if size is None:
            return Written.FAILED
        # Whoever never heard of time does not pay for asking.
        timed = entry.expires is not None or self._expiring
        now = self.clock.monotonic() if timed else 0.0
        node = Node(key, entry, self._deadline(entry, now) if timed else None, size)
        gone = None
        try:
            with self._mutex:
                if self._changing:
                    return self._refuse(key, replace=replace)
                self._changing = True
                try:
                    if still is not None and not still():
                        return Written.FAILED
                    nodes = self._nodes
                    present = nodes.get(key)
                    if present is not None and not self._give_way(present, entry, now, replace=replace):
                        return Written.PRESENT
                    if timed:
                        self._drop_expired(now)
                    if len(nodes) >= self._most_entries or (size and self._bytes + size > self._most_bytes):
                        self._make_room(size)
                    nodes[key] = node
                    self._queue.add(node)
                    self._bytes += size
                    if self._population or timed:
                        self._note_arrival(node)
                finally:
                    gone = self._end_change() if self._late or self._gone else None
                    self._changing = False
        finally:
            if gone:
                self._tell(gone)
        return _NEW

    def renew(self, key: Key, entry: Entry) -> None:
        """Keep the entry under ``key``, if it is this one, until its ``expires``, which a use has moved. Never waits."""
        deadline = self._deadline(entry, self.clock.monotonic())
        with self._mutex:
            node = self._nodes.get(key)
            if node is None or node.entry is not entry or deadline is None:
                return
            node.deadline = deadline
            if node.due is not None or self._changing:  # in the middle of a change, the next use comes here again
                return
            self._changing = True
            try:
                node.due = deadline
                heapq.heappush(self._expiring, node)
            finally:
                gone = self._end_change()
        self._tell(gone)

    def _deadline(self, entry: Entry, now: float) -> float | None:
        """Return when an entry is over, in monotonic seconds: by its age, which a wall clock that jumps does not change."""
        if entry.expires is None:
            return None
        return now + max(0.0, entry.expires - entry.created - entry.age(now, self.clock.wall()))

    def forget(self, key: Key) -> bool:
        """Remove the entry without waiting; tell whether there was one."""
        return self._forget(key, "invalidated")

    def discard(self, key: Key, entry: Entry) -> None:
        """Remove the entry under ``key`` if it is still this one, without waiting."""
        node = self._nodes.get(key)
        if node is not None and node.entry is entry:
            self._take_out((node,), "invalidated")

    def population(self, prefix: str) -> int:
        """Return how many entries one function (the first 20 digits of its keys) has here.

        Asked first, it counts them; from then on they are counted as they come and go.
        """
        function = prefix[:FUNCTION_DIGITS]
        with self._mutex:
            known = self._population.get(function)
            if known is not None:
                return known
            if self._changing:
                return sum(key.startswith(function) for key in list(self._nodes))
            self._changing = True
            try:
                self._population[function] = sum(key.startswith(function) for key in self._nodes)
            finally:
                gone = self._end_change()
        self._tell(gone)
        return self._population[function]

    def statistics(self) -> TierStatistics:
        """Return a frozen copy of the counters; bytes only with ``max_bytes``."""
        size = self._bytes if self.max_bytes is not None else None
        return self._counters.snapshot(self.name, len(self._nodes), size)

    # --- the primitives, none of which waits ----------------------------------------------------------------------

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        node = self.peek(key)
        return None if node is None else node.entry

    def _read_now(self, key: Key, codec: Codec | None) -> Entry | Missing | None:
        node = self.peek(key)
        return (None if node is None else node.entry) or MISSING

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        return self.put(key, entry, replace=replace)

    async def _remove(self, key: Key) -> bool:
        return self.forget(key)

    async def _scan(self) -> AsyncGenerator[Key]:
        for key in list(self._nodes):
            if self.peek(key) is not None:
                yield key

    async def _clear(self, prefix: str) -> None:
        self._take_out([node for node in list(self._nodes.values()) if node.key.startswith(prefix)], "invalidated")

    def _is_live(self, entry: Entry) -> bool:
        return True  # peek() has judged by the monotonic clock

    # --- outside the mutex: users' code runs here -----------------------------------------------------------------

    def _refuse(self, key: Key, *, replace: bool) -> Written:
        if replace:
            self._forget(key, "replaced")
        return Written.FAILED

    def _weigh(self, key: Key, value: object, *, replace: bool) -> int | None:
        """Return what ``value`` takes, or ``None`` if it cannot be stored; what it was to replace goes then."""
        try:
            size = estimate_size(value) if self._weigher is None else check_weight(self._weigher(value))
            if size <= self._most_bytes:
                return size
        except ConfigurationError as error:
            self._degrade("write", key, error)
            if replace:
                self._forget(key, "replaced")
            raise
        except Exception as error:  # noqa: BLE001 - a value that cannot be weighed is one that cannot be stored
            self._degrade("write", key, error)
        if replace:
            self._forget(key, "replaced")
        return None

    def _tell(self, gone: Iterable[_Gone] | None) -> None:
        for key, cause in gone or ():
            self._tell_removal(key, cause)

    def _forget(self, key: Key, cause: RemovalCause) -> bool:
        node = self._nodes.get(key)
        return node is not None and self._take_out((node,), cause)

    def _take_out(self, nodes: Iterable[Node], cause: RemovalCause) -> bool:
        """Drop those of ``nodes`` that are in; tell whether there were any.

        A finalizer that runs in the middle of another change ends their lives now, and that change lets go of them.
        """
        with self._mutex:
            if self._changing:
                late = [node for node in nodes if node.live]
                self._late.extend((node, cause) for node in late)
                for node in late:
                    node.kill()
                return bool(late)
            self._changing = True
            try:
                dropped = [self._drop(node, cause) for node in nodes]
            finally:
                gone = self._end_change()
        if gone:
            self._tell(gone)
        return any(dropped)

    # --- bookkeeping, under the mutex -----------------------------------------------------------------------------

    def _make_room(self, size: int) -> None:
        # Before the new one is added, or a full queue of hits would evict that.
        while (is_full := len(self._nodes) >= self._most_entries) or (size and self._bytes + size > self._most_bytes):
            victims: list[Node] = []
            try:
                self._queue.evict(self._at_once if is_full else 1, victims)
            finally:  # also those it came to before an error, which nothing knows any more
                self._end(victims, "evicted")
            if not victims:
                break

    def _note_arrival(self, node: Node) -> None:
        if self._population:
            self._count(node.key, 1)
        if node.deadline is not None:
            heapq.heappush(self._expiring, node)

    def _give_way(self, node: Node, entry: Entry, now: float, *, replace: bool) -> bool:
        """Drop ``node`` for ``entry``, if it may be replaced or is over; tell whether it went."""
        if _is_over(node, now):
            return self._drop(node, "expired")
        return replace and self._drop(node, self._why_replaced(node, entry))

    def _why_replaced(self, node: Node, entry: Entry) -> RemovalCause | None:
        present = node.entry
        if present is None or entry.renews:
            return None
        age = present.age(self.clock.monotonic(), self.clock.wall())
        is_stale = present.stale_at is not None and age >= present.stale_at - present.created
        return "expired" if is_stale else "replaced"

    def _drop(self, node: Node, cause: RemovalCause | None) -> bool:
        """Take ``node`` out; tell whether it was in."""
        is_in = self._nodes.get(node.key) is node
        if is_in:
            self._queue.discard(node)
            self._end((node,), cause)
        return is_in

    def _end(self, nodes: Sequence[Node], cause: RemovalCause | None) -> None:
        """Take nodes that the policy has let go of out of the table, and count them if there is a cause to tell."""
        table, freed = self._nodes, 0
        for node in nodes:
            node.live = False  # first: of what is no longer in, nobody could end the life
            del table[node.key]
            freed += node.size
            node.value = node.entry = None  # the rest of kill()
        self._bytes -= freed
        if self._population:
            for node in nodes:
                self._count(node.key, -1)
        if cause is not None:
            counters = self._counters
            counters.gone[cause] += len(nodes)
            if counters.functions:
                for node in nodes:
                    counters.note_function(node.key, cause)
            if self.events.active:
                self._gone.extend((node.key, cause) for node in nodes)

    def _end_change(self) -> list[_Gone] | None:
        """Let go of what finalizers took out in the middle of this change; return what there is to tell of all of it."""
        while self._late:
            self._drop(*self._late.pop())
        gone = None
        if self._gone:
            gone, self._gone = self._gone, []
        self._changing = False
        return gone

    def _count(self, key: Key, change: int) -> None:
        function = key[:FUNCTION_DIGITS]
        if function in self._population:
            self._population[function] += change

    def _drop_expired(self, now: float) -> None:
        while self._expiring and (_is_due(self._expiring[0], now) or not self._expiring[0].live):
            node = heapq.heappop(self._expiring)
            if node.live and not _is_over(node, now):
                node.due = node.deadline  # it was used
                heapq.heappush(self._expiring, node)
            else:
                self._drop(node, "expired")
        if len(self._expiring) > 2 * len(self._nodes) + 64:
            self._expiring = [node for node in self._expiring if node.live]
            heapq.heapify(self._expiring)


def _is_due(node: Node, now: float) -> bool:
    return node.due is not None and node.due <= now


def _is_over(node: Node, now: float) -> bool:
    return node.deadline is not None and node.deadline <= now
