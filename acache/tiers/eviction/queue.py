"""Nodes in a row, linked through themselves: add at one end, take out anywhere, and no allocation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from acache.tiers.eviction.node import Node

__all__ = ("Queue",)


@final
class Queue:
    """A doubly linked list from the oldest node to the newest."""

    __slots__ = ("count", "newest", "oldest")

    def __init__(self) -> None:
        self.newest: Node | None = None
        self.oldest: Node | None = None
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Node]:
        node = self.oldest
        while node is not None:
            yield node
            node = node.newer

    def append(self, node: Node) -> None:
        """Put ``node`` at the young end."""
        newest = self.newest
        node.older = newest
        if newest is None:
            self.oldest = node
        else:
            newest.newer = node
        self.newest = node
        self.count += 1

    def remove(self, node: Node) -> None:
        """Take ``node`` out."""
        newer, older = node.newer, node.older
        if newer is None:
            self.newest = older
        else:
            newer.older = older
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        node.newer = node.older = None
        self.count -= 1

    def renew(self, node: Node) -> None:
        """Make ``node`` the newest."""
        self.remove(node)
        self.append(node)
