"""W-TinyLFU: an entry may stay if it is asked for more often than the one that would go for it.

New entries come into a window of one percent. What leaves the window meets the oldest entry of the main part, and the
one that was seen less often lately goes; a sketch remembers how often, also for keys that are not held. The main part is
a segmented LRU: entries used in *probation* move to *protected*, which has four fifths of it. (Einziger, Friedman and
Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on Storage 2017.) The window does not adapt.

The window is first in, first out, and an entry is counted when it leaves it. One that was never seen before, and was not used
in the window, has lost before it meets anybody: what is asked for once, which is most of what comes, costs a look at one bit
(the doorkeeper of that paper).

A use is counted when its bit is seen: at the old end of a part. So counts are of rounds in which an entry was used, which
is what tells entries apart that are about to go; those used many times a round are all alike.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from acache.tiers.eviction.node import Node
from acache.tiers.eviction.queue import Queue
from acache.tiers.eviction.sketch import Sketch

__all__ = ("TinyLfu",)

#: One entry in so many is in the window; so much of the rest is protected.
_WINDOW: Final = 100
_PROTECTED: Final = 0.8
#: The mark of a node in the window; of others it is their queue.
_NEW: Final = object()


@final
class TinyLfu:
    """A window, a segmented main part, and the sketch that decides who may pass from one to the other."""

    __slots__ = ("_gone", "_probation", "_protected", "_room", "_sketch", "_spare", "_window")

    def __init__(self) -> None:
        #: Nodes that were taken out lie here until they are met; their mark is gone.
        self._window: deque[Node] = deque()
        self._probation = Queue()
        self._protected = Queue()
        self._sketch = Sketch()
        #: How many of the window were taken out.
        self._gone = 0
        #: How many come at most between two evictions: so many more may wait in the window.
        self._spare = 1
        #: How long the window may become until that is worked out again.
        self._room = 0

    def __len__(self) -> int:
        return len(self._window) - self._gone + self._probation.count + self._protected.count

    def add(self, node: Node) -> None:
        """Put ``node`` into the window."""
        node.mark = _NEW
        window = self._window
        window.append(node)
        if len(window) > self._room:
            self._settle()

    def discard(self, node: Node) -> None:
        """Take ``node`` out of the part it is in."""
        part, node.mark = node.mark, None
        if part is _NEW:
            self._gone += 1
        elif part is not None:
            part.remove(node)
        self._room = 0

    def touch(self, node: Node) -> None:
        """Count a use; make the node the newest of its part, or protect it."""
        part = node.mark
        if part is _NEW:
            node.visited = True  # it is counted when it leaves
            return
        self._sketch.add(node.key)
        if part is self._protected:
            part.renew(node)
            return
        self._move(node, self._protected)
        if self._protected.count > _PROTECTED * (self._protected.count + self._probation.count):
            oldest = self._oldest(self._protected)
            if oldest is not None:
                self._move(oldest, self._probation)

    def evict(self, count: int, victims: list[Node]) -> None:
        """Let the oldest of the window and the oldest of the main part meet; take out those seen less often."""
        window, sketch = self._window, self._sketch
        share, most = max(0, len(self) - count) // _WINDOW, len(victims) + count
        while len(window) > share and len(victims) < most:
            node = window[0]  # taken out when it was judged: an error in between would lose it
            if node.mark is not _NEW:
                window.popleft()
                self._gone -= 1
                continue
            seen = self._seen(node) if node.visited else sketch.add(node.key)
            if seen:
                node = self._meet(node, seen)
            window.popleft()
            node.mark = None
            victims.append(node)
        while len(victims) < most and (incumbent := self._incumbent()) is not None:
            self.discard(incumbent)
            victims.append(incumbent)
        self._spare = max(self._spare, count)

    def _settle(self) -> None:
        """Let those that the window has too many of into the main part: while the tier grows, nobody has to fight for it."""
        count = len(self)
        self._room = count // _WINDOW + self._spare
        while len(self._window) > self._room:
            oldest = self._window[0]
            if oldest.mark is _NEW:
                self._sketch.fit(count)
                self._seen(oldest)
                self._enter(oldest)
            else:
                self._gone -= 1
            self._window.popleft()

    def _meet(self, node: Node, seen: int) -> Node:
        """Let a node that leaves the window meet the oldest of the main part; take out the one that was seen less often."""
        incumbent = self._incumbent()
        if incumbent is None or seen < self._sketch.estimate(incumbent.key):
            return node
        incumbent.mark.remove(incumbent)
        self._enter(node)
        return incumbent

    def _incumbent(self) -> Node | None:
        return self._oldest(self._probation) or self._oldest(self._protected)

    def _seen(self, node: Node) -> int:
        """Count a node that leaves the window; return how often it was seen before."""
        seen = self._sketch.add(node.key)
        if node.visited:
            node.visited = False
            return self._sketch.add(node.key)
        return seen

    def _enter(self, node: Node) -> None:
        node.mark = self._probation
        self._probation.append(node)

    def _oldest(self, part: Queue) -> Node | None:
        """Return the oldest node of ``part`` without a bit; those before it are touched, and so moved."""
        node = part.oldest
        for _ in range(part.count):  # hits that go on meanwhile must not keep this going
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
