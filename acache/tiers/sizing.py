"""How many bytes a value holds, near enough to keep a limit, in a time that does not grow with the value.

Up to so many objects are counted one by one, each once. Of more a sample is taken: of each container some of its
items, at places spread over it, until its share of the sample is used up; the others are taken to be like them. Items
that come again in the sample are taken to come again in the rest too: what is new in it is as many times more as the
share of those that were seen once says (Good and Turing's estimate of what was not seen yet).
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Reversible, Sequence
from contextlib import suppress
from itertools import islice
from types import MemberDescriptorType
from typing import Any, Final, cast, final
from weakref import WeakKeyDictionary

__all__ = ("estimate_size",)

#: Objects that are counted one by one; and those of a sample, each of which takes longer.
_LIMIT: Final = 10_000
_SAMPLE: Final = 2_000
#: Of a container without places (a mapping, a set) the sample is chosen among so many items at its ends.
_ENDS: Final = 2_000
#: How deep a sample goes.
_DEPTH: Final = 50
#: An item's share of a sample, at least; and among how many items of a container its own share is divided, at most.
_LEAST: Final = 8
_WIDTH: Final = 50
_GOLDEN: Final = 0.6180339887498949
#: The slots that the program's classes declare, by class.
_slots: Final[WeakKeyDictionary[type, tuple[MemberDescriptorType, ...]]] = WeakKeyDictionary()


def estimate_size(value: object) -> int:
    """Estimate the bytes ``value`` holds, with all it refers to: exact for few objects, else by a sample of them."""
    exact = _count(value)
    return exact if exact is not None else round(_Sample().measure(value, _SAMPLE, 0))


def _own(item: object) -> int:
    return max(sys.getsizeof(item, 64), int(getattr(item, "nbytes", 0) or 0))


def _parts(item: object) -> tuple[Collection[object], ...]:
    """Return what ``item`` refers to, as far as it is followed."""
    if isinstance(item, Mapping):
        mapping = cast("Mapping[object, object]", item)
        return mapping.keys(), mapping.values()
    if isinstance(item, (list, tuple, set, frozenset, deque)):
        return (cast("Collection[object]", item),)
    if isinstance(item, type):
        return ()
    held = [*_in_slots(item), *([vars(item)] if hasattr(item, "__dict__") else ())]
    return (held,) if held else ()


def _in_slots(item: object) -> Iterator[object]:
    """Yield what the slots of ``item`` hold, as far as they are set."""
    kind = type(item)
    slots = _slots.get(kind)
    if slots is None:
        # Those that a class body names: the members of the interpreter's own types lead to modules and frames.
        classes = [vars(part) for part in kind.__mro__ if "__slots__" in vars(part)]
        slots = tuple(slot for part in classes for slot in part.values() if isinstance(slot, MemberDescriptorType))
        _slots[kind] = slots
    for slot in slots:
        with suppress(AttributeError):
            yield slot.__get__(item)


def _count(value: object) -> int | None:
    """Add up all objects; ``None`` if there are too many."""
    total, seen, pending = 0, set[int](), [value]
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        total += _own(item)
        for part in _parts(item):
            if len(part) + len(seen) > _LIMIT:
                return None
            pending.extend(part)
        if len(seen) > _LIMIT:
            return None
    return total


@final
class _Sample:
    """Measures values by samples, counting no object twice."""

    def __init__(self) -> None:
        # Objects, not their numbers: a mapping may make its items anew each time, in the same place.
        self._seen: dict[int, object] = {}
        self._left = 2 * _SAMPLE
        self._turn = 0

    def measure(self, item: object, allowance: int, depth: int) -> float:
        """Return the bytes of ``item`` and of what it holds; what was measured before has none."""
        self._left -= 1
        if id(item) in self._seen or self._left <= 0:
            return 0.0
        self._seen[id(item)] = item
        size = float(_own(item))
        if depth < _DEPTH:
            parts = _parts(item)
            size += sum(self._measure_part(part, max(_LEAST, allowance) // len(parts), depth + 1) for part in parts)
        return size

    def _measure_part(self, part: Collection[object], allowance: int, depth: int) -> float:
        number = len(part)
        if not number:
            return 0.0
        each = max(1, allowance // min(number, _WIDTH))
        end = self._left - allowance
        counts: dict[int, int] = {}
        size, looked = 0.0, 0
        for item in self._spread(part, number):
            if looked and self._left <= max(end, 0):
                break
            looked += 1
            counts[id(item)] = counts.get(id(item), 0) + 1
            size += self.measure(item, each, depth)
        once = sum(count == 1 for count in counts.values()) if looked < number else 0
        return size * (1 + (number - looked) * once / looked / len(counts)) if looked else 0.0

    def _spread(self, part: Collection[object], number: int) -> Iterator[object]:
        """Yield items so that any number of them, from the first on, are spread over ``part``."""
        if isinstance(part, Sequence):
            places = part
        else:
            places = list(islice(part, _ENDS // 2 if number > _ENDS else number))
            if number > _ENDS and isinstance(part, Reversible):
                places += islice(reversed(cast("Reversible[Any]", part)), _ENDS // 2)
            number = len(places)
        # Not from the same place in each, or of many pairs always the first would be seen.
        self._turn += 1
        return (places[place] for place in _places(number, self._turn))


def _places(number: int, turn: int) -> Iterable[int]:
    """Return all places below ``number``, in an order without runs (multiples of the golden ratio)."""
    step = max(1, round(number * _GOLDEN))
    while math.gcd(step, number) != 1:
        step += 1
    return ((turn + index) * step % number for index in range(number))
