"""What a memory tier asks of an eviction policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from acache.tiers.eviction.node import Node

__all__ = ("Policy", "evict_each")


class Policy(Protocol):
    """An order of nodes. Not thread-safe: the tier holds its lock around every call; only ``visited`` changes outside."""

    def add(self, node: Node) -> None:
        """Take in a node that is in no policy yet."""
        ...

    def discard(self, node: Node) -> None:
        """Let go of a node that was added and not evicted."""
        ...

    def touch(self, node: Node) -> None:
        """Do what a hit means to the policy. Called when a bit is seen; at every hit, the policy would be exact."""
        ...

    def evict(self, count: int, victims: list[Node]) -> None:
        """Take out ``count`` nodes, those that are missed least, or all there are, and add each to ``victims`` at once.

        All other steps clear a bit, so a call takes one step for each hit on average.
        """
        ...


def evict_each(count: int, victims: list[Node], evict: Callable[[], Node | None]) -> None:
    """Evict ``count`` times, or until there is nobody left."""
    for _ in range(count):
        node = evict()
        if node is None:
            break
        victims.append(node)
