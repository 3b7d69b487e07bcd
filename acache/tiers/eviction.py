"""Which entry goes when a memory tier is full: SIEVE, as a pure data structure.

SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024) keeps entries in the order they came. A hit only sets a
bit. To evict, a hand walks from the oldest to the newest, clears the bits it meets and takes the first entry without
one. A scan of keys used once therefore leaves the entries that are used again, and a hit needs no lock.
"""

from __future__ import annotations

from typing import Any, final

from acache.types import Entry, Key

__all__ = ("DEAD", "Node", "Sieve")


@final
class Node:
    """A live entry of a memory tier, as hot paths hold it.

    ``live`` turns false, for good, before ``value`` is dropped: whoever reads ``value`` first and ``live`` second never
    sees a value that is gone. ``deadline`` is monotonic seconds.
    """

    __slots__ = ("deadline", "entry", "key", "live", "newer", "older", "size", "value", "visited")

    def __init__(self, key: Key, entry: Entry | None, deadline: float | None, size: int) -> None:
        self.key = key
        self.entry = entry
        self.value: Any = None if entry is None else entry.value
        self.live = entry is not None
        self.visited = False
        self.deadline = deadline
        self.size = size
        self.newer: Node | None = None
        self.older: Node | None = None

    def kill(self) -> None:
        """End the entry: hot paths that still point here take the full path from now on."""
        self.live = False
        self.value = None
        self.entry = None


#: What a hot path points at before it has found anything.
DEAD = Node(Key("0" * 64), None, None, 0)


@final
class Sieve:
    """The queue and the hand. Not thread-safe: the tier holds its lock around every call."""

    __slots__ = ("_hand", "_newest", "_oldest")

    def __init__(self) -> None:
        self._newest: Node | None = None
        self._oldest: Node | None = None
        self._hand: Node | None = None

    def add(self, node: Node) -> None:
        """Put ``node`` at the young end."""
        node.older = self._newest
        if self._newest is None:
            self._oldest = node
        else:
            self._newest.newer = node
        self._newest = node

    def discard(self, node: Node) -> None:
        """Take ``node`` out of the queue; the hand moves past it."""
        if self._hand is node:
            self._hand = node.newer
        if node.newer is None:
            self._newest = node.older
        else:
            node.newer.older = node.older
        if node.older is None:
            self._oldest = node.newer
        else:
            node.older.newer = node.newer
        node.newer = node.older = None

    def victim(self) -> Node | None:
        """Return the entry to evict, and leave the hand on its younger neighbour; ``None`` when empty.

        Each step clears a bit, so a call takes at most one round, and one step per hit on average.
        """
        node = self._hand or self._oldest
        while node is not None and node.visited:
            node.visited = False
            node = node.newer or self._oldest
        self._hand = node
        return node
