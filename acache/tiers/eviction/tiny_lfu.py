"""W-TinyLFU: an entry may stay if it is asked for more often than the one that would go for it.

New entries come into a window of one percent. What leaves the window meets the oldest entry of the main part, and the
one that was seen less often lately goes; a sketch remembers how often, also for keys that are not held. The main part is
a segmented LRU: entries used in *probation* move to *protected*, which has four fifths of it. (Einziger, Friedman and
Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on Storage 2017.) The window does not adapt.

A use is counted when its bit is seen: at the old end of a part. So counts are of rounds in which an entry was used, which
is what tells entries apart that are about to go; those used many times a round are all alike. Measured:
from 1 point fewer to 2.2 points more hits than if every use were counted at once.
"""

from __future__ import annotations

from typing import Final, final

from acache.tiers.eviction.node import Node
from acache.tiers.eviction.queue import Queue
from acache.tiers.eviction.sketch import Sketch

__all__ = ("TinyLfu",)

#: One entry in so many is in the window; so much of the rest is protected.
_WINDOW: Final = 100
_PROTECTED: Final = 0.8


@final
class TinyLfu:
    """A window, a segmented main part, and the sketch that decides who may pass from one to the other."""

    __slots__ = ("_count", "_probation", "_protected", "_sketch", "_window")

    def __init__(self) -> None:
        self._window = Queue()
        self._probation = Queue()
        self._protected = Queue()
        self._sketch = Sketch()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, node: Node) -> None:
        """Put ``node`` into the window. While the tier grows, nobody has to fight for the main part."""
        node.mark = self._window
        self._window.append(node)
        self._count += 1
        self._sketch.fit(self._count)
        self._sketch.add(node.key)
        if len(self._window) * _WINDOW > max(self._count, _WINDOW):
            oldest = self._oldest(self._window)
            if oldest is not None:
                self._move(oldest, self._probation)

    def discard(self, node: Node) -> None:
        """Take ``node`` out of the part it is in."""
        node.mark.remove(node)
        self._count -= 1

    def touch(self, node: Node) -> None:
        """Count a use; make the node the newest of its part, or protect it."""
        self._sketch.add(node.key)
        if node.mark is not self._probation:
            node.mark.renew(node)
            return
        self._move(node, self._protected)
        if len(self._protected) > _PROTECTED * (len(self._protected) + len(self._probation)):
            oldest = self._oldest(self._protected)
            if oldest is not None:
                self._move(oldest, self._probation)

    def victim(self) -> Node | None:
        """Let the oldest of the window and the oldest of the main part meet; return the one seen less often."""
        incumbent = self._oldest(self._probation) or self._oldest(self._protected)
        candidate = self._oldest(self._window)
        if incumbent is None or candidate is None:
            return incumbent or candidate
        if len(self._window) * _WINDOW < self._count:
            return incumbent
        if self._sketch.estimate(candidate.key) <= self._sketch.estimate(incumbent.key):
            return candidate
        self._move(candidate, self._probation)
        return incumbent

    def _oldest(self, part: Queue) -> Node | None:
        """Return the oldest node of ``part`` without a bit; those before it are touched, and so moved."""
        node = part.oldest
        for _ in range(len(part)):  # hits that go on meanwhile must not keep this going
            if node is None or not node.visited:
                break
            node.visited = False
            self.touch(node)
            node = part.oldest
        return node

    def _move(self, node: Node, part: Queue) -> None:
        node.mark.remove(node)
        node.mark = part
        part.append(node)
