"""Keys whose computation failed lately: each is left in peace for a while, longer each time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, final

from acache.types import Key

__all__ = ("Resting",)

#: Seconds of the first rest, and of the longest: each one is twice as long as the one before.
FIRST_REST: Final = 1.0
LONGEST_REST: Final = 60.0
_MAX_KEYS: Final = 10_000


@final
class Resting:
    """Until when which keys rest, in monotonic seconds; the latest ten thousand of them. Safe to use from any thread."""

    def __init__(self) -> None:
        self._rests: OrderedDict[Key, tuple[float, float]] = OrderedDict()

    def fail(self, key: Key, now: float) -> None:
        """Let ``key`` rest from ``now`` on, unless it does: what fails then was begun before, or was told already."""
        if self.is_resting(key, now):
            return
        rest = min(2 * self._rests.pop(key, (0.0, FIRST_REST / 2))[1], LONGEST_REST)
        self._rests[key] = (now + rest, rest)
        while len(self._rests) > _MAX_KEYS:
            self._rests.popitem(last=False)

    def succeed(self, key: Key) -> None:
        """Forget that it failed."""
        if self._rests:
            self._rests.pop(key, None)

    def is_resting(self, key: Key, now: float) -> bool:
        """Tell whether ``key`` should not be tried now."""
        rest = self._rests.get(key) if self._rests else None
        return rest is not None and now < rest[0]
