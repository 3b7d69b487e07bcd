"""What a value takes of max_bytes, when nobody says so: exact for few objects, near enough for many."""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import Any

import pytest

from acache.tiers import MemoryTier
from acache.tiers.sizing import estimate_size
from acache.types import Entry, Key


class Record:
    """An object of a user's."""

    def __init__(self, number: int) -> None:
        self.number = number + 1_000
        self.text = str(number) * 3


SHARED = [bytes(1_000) for _ in range(10)]
LARGE: dict[str, Any] = {
    "texts": [str(number) * 20 for number in range(60_000)],
    "mapping": {number + 1_000: str(number) * 10 for number in range(60_000)},
    "proxy": MappingProxyType({number + 1_000: str(number) * 10 for number in range(30_000)}),
    "set": {str(number) * 5 for number in range(40_000)},
    "lists in a list": [[str((one, two)) for two in range(200)] for one in range(200)],
    "three deep": [[[str((one, two, three)) for three in range(30)] for two in range(30)] for one in range(30)],
    "pairs": [(number + 1_000, str(number) * 50) for number in range(30_000)],
    "rows": [{"id": number + 1_000, "name": str(number) * 20, "tags": [str(number)]} for number in range(20_000)],
    "lists in a mapping": {str(one): [one * 1_000 + two for two in range(100)] for one in range(1_000)},
    "objects": [Record(number) for number in range(20_000)],
    "small and large in turn": [b"x" * (5_000 if number % 2 else 1) for number in range(30_000)],
    "growing": [str(number) * (number // 300 + 1) for number in range(30_000)],
    "one large among few": {"large": [str(number) * 9 for number in range(50_000)], "small": 1},
    "the same again": [SHARED[number % 10] for number in range(100_000)],
}


def true_size(value: object) -> int:
    """Add up everything."""
    total, seen, pending = 0, dict[int, object](), [value]
    while pending:
        item: Any = pending.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        total += sys.getsizeof(item)
        if isinstance(item, (dict, MappingProxyType)):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set)):
            pending += item
        elif isinstance(item, Record):
            pending.append(vars(item))
    return total


@pytest.mark.parametrize("name", LARGE)
def test_large_values_are_estimated(name: str) -> None:
    """What holds more objects than are counted is estimated to within a factor of two, and the same each time."""
    size = estimate_size(LARGE[name])
    assert 0.5 < size / true_size(LARGE[name]) < 2
    assert estimate_size(LARGE[name]) == size


def test_an_estimate_does_not_take_longer_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many objects there are, a bounded number of them is looked at."""
    looks = 0
    look = sys.getsizeof

    def counting(item: object, default: int) -> int:
        nonlocal looks
        looks += 1
        return look(item, default)

    monkeypatch.setattr(sys, "getsizeof", counting)
    wide: dict[int, Any] = dict.fromkeys(range(500_000), 1.5)
    chain: list[Any] = []
    for _ in range(100_000):
        chain = [chain]
    bush: list[Any] = [1.5]
    for number in range(40):
        bush = [list(bush), bush, [number]]
    for value in (wide, list(range(10**6)), chain, [bush, list(range(20_000))]):
        looks = 0
        assert estimate_size(value) > 0
        assert looks <= 10_000 + 5_000


def test_bytes_are_bounded_by_true_sizes() -> None:
    """A tier of so many bytes keeps as many large values as fit, not all of them."""
    tier = MemoryTier(max_bytes=10_000_000)
    for number in range(5):
        value = [f"{number} {each}" * 10 for each in range(30_000)]
        tier.put(Key(f"{number:064x}"), Entry(value, 0.0), replace=False)
    held = sum(true_size(node.value) for node in tier._nodes.values())
    assert 5_000_000 < held < 15_000_000
    assert 0 < len(tier) < 5
