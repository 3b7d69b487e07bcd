"""What a memory tier asks of an eviction policy."""

from __future__ import annotations

from typing import Protocol

from acache.tiers.eviction.node import Node

__all__ = ("Policy",)


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

    def evict(self) -> Node | None:
        """Take out the node that is missed least, and return it; ``None`` when the policy is empty.

        Every step to it but the last clears a bit, so a call takes one step for each hit on average.
        """
        ...
