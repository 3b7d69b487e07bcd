"""Results kept as objects in this process: bounded by entries and by bytes, nothing encoded, nothing copied.

Everything a hit needs is one dictionary look-up and one attribute write (:mod:`acache.tiers.eviction`), without a
lock. Time is the monotonic clock's: a wall clock that jumps neither revives nor kills an entry.
"""

from __future__ import annotations

import heapq
import sys
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from itertools import count
from typing import Final, cast, final

from acache.clock import SYSTEM_CLOCK, Clock
from acache.codecs import Codec
from acache.exceptions import ConfigurationError
from acache.stats import TierStatistics
from acache.tiers.base import Tier
from acache.tiers.eviction import Node, Sieve
from acache.types import MISSING, Entry, Key, Missing, Written

__all__ = ("MemoryTier", "estimate_size")

#: Hex digits of a key that name its namespace and function.
FUNCTION_DIGITS: Final = 20
_ESTIMATE_LIMIT: Final = 10_000


@final
class MemoryTier(Tier):
    """Keep up to ``max_entries`` entries, and up to ``max_bytes`` of estimated size, as shared objects.

    ``None`` is no limit. A value larger than ``max_bytes`` is not stored. Callers share the stored object: what one
    changes the next one sees, unless the memoized function asks for copies.
    """

    def __init__(
        self,
        max_entries: int | None = 1_000_000,
        max_bytes: int | None = None,
        *,
        name: str = "memory",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(name=name, clock=clock)
        for option, limit in (("max_entries", max_entries), ("max_bytes", max_bytes)):
            if limit is not None and limit < 1:
                raise ConfigurationError(option, "a limit is at least 1; use None for no limit")
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._nodes: dict[Key, Node] = {}
        self._queue = Sieve()
        self._bytes = 0
        self._population: Counter[str] = Counter()
        # Nodes with a deadline, soonest first, so that expired entries are dropped without being asked for.
        self._expiring: list[tuple[float, int, Node]] = []
        self._order = count()
        # Never held while anything else runs: reentrant, because dropping a value may run its finalizer, which may
        # use the cache.
        self._mutex = threading.RLock()

    def __len__(self) -> int:
        return len(self._nodes)

    def peek(self, key: Key) -> Node | None:
        """Return the live node under ``key`` and note the hit, without waiting."""
        node = self._nodes.get(key)
        if node is None:
            return None
        if node.deadline is not None and self.clock.monotonic() >= node.deadline:
            with self._mutex:
                self._drop(node)
            return None
        node.visited = True
        return node

    def node(self, key: Key) -> Node | None:
        """Return the entry under ``key`` as hot paths hold it, dead or live; looking does not count as a use."""
        return self._nodes.get(key)

    def put(self, key: Key, entry: Entry, *, replace: bool) -> Written:
        """Store ``entry`` without waiting; as :meth:`write` otherwise."""
        size = estimate_size(entry.value) if self.max_bytes is not None else 0
        if self.max_bytes is not None and size > self.max_bytes:
            with self._mutex:
                self._forget(key)
            return Written.FAILED
        now = self.clock.monotonic()
        deadline = None if entry.expires is None else now + max(0.0, entry.expires - self.clock.wall())
        node = Node(key, entry, deadline, size)
        with self._mutex:
            present = self._nodes.get(key)
            if present is not None:
                if not replace and (present.deadline is None or now < present.deadline):
                    return Written.PRESENT
                self._drop(present)
            self._drop_expired(now)
            evicted = self._make_room(size)
            self._add(node)
        for gone in evicted:
            self._emit("evict", "done", gone)
        return Written.NEW

    def forget(self, key: Key) -> bool:
        """Remove the entry without waiting; tell whether there was one."""
        with self._mutex:
            return self._forget(key)

    def discard(self, key: Key, entry: Entry) -> None:
        """Remove the entry under ``key`` if it is still this one, without waiting."""
        with self._mutex:
            node = self._nodes.get(key)
            if node is not None and node.entry is entry:
                self._drop(node)

    def population(self, prefix: str) -> int:
        """Return how many entries one function (the first 20 digits of its keys) has here."""
        return self._population[prefix[:FUNCTION_DIGITS]]

    def statistics(self) -> TierStatistics:
        """Return a frozen copy of the counters; bytes are estimated, and only with ``max_bytes``."""
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
        with self._mutex:
            for key in [key for key in self._nodes if key.startswith(prefix)]:
                self._forget(key)

    def _is_live(self, entry: Entry) -> bool:
        return True  # peek() has judged by the monotonic clock

    # --- bookkeeping, under the mutex -----------------------------------------------------------------------------

    def _add(self, node: Node) -> None:
        self._nodes[node.key] = node
        self._queue.add(node)
        self._bytes += node.size
        self._population[node.key[:FUNCTION_DIGITS]] += 1
        if node.deadline is not None:
            heapq.heappush(self._expiring, (node.deadline, next(self._order), node))

    def _drop(self, node: Node) -> None:
        if self._nodes.get(node.key) is not node:
            return
        del self._nodes[node.key]
        self._queue.discard(node)
        self._bytes -= node.size
        function = node.key[:FUNCTION_DIGITS]
        self._population[function] -= 1
        if not self._population[function]:
            del self._population[function]
        node.kill()

    def _forget(self, key: Key) -> bool:
        node = self._nodes.get(key)
        if node is None:
            return False
        self._drop(node)
        return True

    def _drop_expired(self, now: float) -> None:
        while self._expiring and (self._expiring[0][0] <= now or not self._expiring[0][2].live):
            self._drop(heapq.heappop(self._expiring)[2])
        if len(self._expiring) > 2 * len(self._nodes) + 64:
            self._expiring = [item for item in self._expiring if item[2].live]
            heapq.heapify(self._expiring)

    def _make_room(self, size: int) -> list[Key]:
        """Evict until one more entry of ``size`` fits; before it is added, or a full queue of hits would evict it."""
        evicted: list[Key] = []
        while self._is_full(size) and (node := self._queue.victim()) is not None:
            self._drop(node)
            evicted.append(node.key)
        self._counters.evictions += len(evicted)
        return evicted

    def _is_full(self, size: int) -> bool:
        full = self.max_entries is not None and len(self._nodes) >= self.max_entries
        return full or (self.max_bytes is not None and self._bytes + size > self.max_bytes)


def estimate_size(value: object) -> int:
    """Estimate the bytes ``value`` holds: containers are followed, each object counted once, at most 10,000 of them."""
    total = 0
    seen: set[int] = set()
    pending = [value]
    while pending and len(seen) < _ESTIMATE_LIMIT:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        total += max(sys.getsizeof(item, 64), int(getattr(item, "nbytes", 0) or 0))
        if isinstance(item, Mapping):
            mapping: Mapping[object, object] = item  # pyright: ignore[reportUnknownVariableType] - of anything
            pending.extend(mapping.keys())
            pending.extend(mapping.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            pending.extend(cast("list[object]", item))
        elif hasattr(item, "__dict__") and not isinstance(item, type):
            pending.append(vars(item))
    return total
