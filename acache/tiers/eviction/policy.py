"""What a memory tier asks of an eviction policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from acache.tiers.eviction.node import Node

__all__ = ("Policy", "up_to")


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

    def evict(self, count: int) -> list[Node]:
        """Take out ``count`` nodes, those that are missed least, or all there are.

        Every other step clears a bit, so a call takes one step for each hit on average.
        """
        ...


def up_to(count: int, evict: Callable[[], Node | None]) -> list[Node]:
    """Evict ``count`` times, or until there is nobody left."""
    evicted: list[Node] = []
    while len(evicted) < count and (node := evict()) is not None:
        evicted.append(node)
    return evicted
