"""A live entry of a memory tier, as hot paths hold it."""

from __future__ import annotations

import math
from typing import Any, Final, final

from acache.types import Entry, Key

__all__ = ("DEAD", "Node")

_NEVER: Final = -math.inf


@final
class Node:
    """An entry, its place in the policy's order, and the bit that a hit sets.

    ``live`` turns false, for good, before ``value`` is dropped: whoever reads ``value`` first and ``live`` second never
    sees a value that is gone. ``deadline`` is monotonic seconds, and ``due`` when that is looked at: a use may have moved
    it meanwhile. ``used`` is when a hot path that asks for the time last led here, in monotonic seconds. ``mark`` is the
    policy's own.
    """

    __slots__ = (
        "deadline",
        "due",
        "entry",
        "key",
        "live",
        "mark",
        "newer",
        "older",
        "size",
        "used",
        "value",
        "visited",
    )

    def __init__(self, key: Key, entry: Entry, deadline: float | None, size: int) -> None:
        self.key = key
        self.entry: Entry | None = entry
        self.value: Any = entry.value
        self.live = True
        self.visited = False
        self.used = _NEVER
        self.deadline = self.due = deadline
        self.size = size
        self.newer: Node | None = None
        self.older: Node | None = None
        self.mark: Any = None

    def __lt__(self, other: Node) -> bool:
        """Order by ``due``: so nodes lie in a heap themselves, and not in a tuple each, which takes 100 bytes more."""
        return self.due < other.due  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand] - there they have one

    def kill(self) -> None:
        """End the entry: hot paths that still point here take the full path from now on."""
        self.live = False
        self.value = None
        self.entry = None


def _make_dead() -> Node:
    node = Node(Key("0" * 64), Entry(None, 0.0), None, 0)
    node.kill()
    return node


#: What a hot path points at before it has found anything.
DEAD: Final = _make_dead()
