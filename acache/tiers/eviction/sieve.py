"""SIEVE: one queue that nothing moves in, and a hand (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024).

Entries stay in the order they came. A hit only sets a bit. To evict, a hand walks from the oldest to the newest, clears
the bits it meets and takes the first entry without one. A scan of keys used once therefore leaves the entries that are
used again. This is the policy of the paper, not an approximation: a bit is all it ever wanted.
"""

from __future__ import annotations

from typing import final

from acache.tiers.eviction.node import Node
from acache.tiers.eviction.policy import evict_each
from acache.tiers.eviction.queue import Queue

__all__ = ("Sieve",)


@final
class Sieve:
    """The queue and the hand."""

    __slots__ = ("_hand", "_queue", "add")

    def __init__(self) -> None:
        self._queue = Queue()
        self._hand: Node | None = None
        #: As the protocol has it; without a frame of its own, since every insert comes by.
        self.add = self._queue.append

    def discard(self, node: Node) -> None:
        """Take ``node`` out of the queue; the hand moves past it."""
        if self._hand is node:
            self._hand = node.newer
        self._queue.remove(node)

    def touch(self, node: Node) -> None:
        """Set the bit."""
        node.visited = True

    def evict(self, count: int, victims: list[Node]) -> None:
        """Take out the first entries without a bit; the hand moves to the younger neighbour of the last."""
        evict_each(count, victims, self._next)

    def _next(self) -> Node | None:
        node = self._hand or self._queue.oldest
        while node is not None and node.visited:
            node.visited = False
            node = node.newer or self._queue.oldest
        if node is not None:
            self._hand = node.newer
            self._queue.remove(node)
        return node
