"""The eviction policies by themselves: who goes, and that nobody is lost on the way."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from acache.tiers.eviction import POLICIES, LeastLoss, Node, Policy, SecondChance, Sieve, Sketch, TinyLfu
from acache.types import Entry, Key


def node(number: int, *, cost: float = 0.0, size: int = 0) -> Node:
    return Node(Key(f"{number * 0x9E3779B97F4A7C15:064x}"), Entry(number, 0.0, cost=cost), None, size)


def evict(policy: Policy) -> Any:
    """Evict one, and return its value."""
    victims = evict_many(policy, 1)
    return victims[0].value if victims else None


def evict_many(policy: Policy, count: int) -> list[Node]:
    """Evict many, and return them."""
    victims: list[Node] = []
    policy.evict(count, victims)
    return victims


def filled(policy: Policy, nodes: Sequence[Node]) -> None:
    for each in nodes:
        policy.add(each)


def hits(policy: Policy, requests: Sequence[int], size: int) -> int:
    """Play requests to a cache of ``size`` entries; return how many were hits."""
    kept: dict[int, Node] = {}
    count = 0
    for number in requests:
        if number in kept:
            kept[number].visited = True
            count += 1
            continue
        if len(kept) == size:
            del kept[evict(policy)]
        kept[number] = node(number)
        policy.add(kept[number])
    return count


@pytest.mark.parametrize("name", POLICIES)
def test_an_empty_policy_has_no_victim(name: str) -> None:
    """Nobody can go where nobody is, before and after."""
    policy = POLICIES[name]()
    assert evict_many(policy, 1) == []
    policy.add(node(1))
    assert (evict(policy), evict(policy)) == (1, None)


@pytest.mark.parametrize("name", POLICIES)
def test_many_go_as_one_by_one(name: str) -> None:
    """Who goes when many go at once are those who would have gone one after the other."""
    one, many = POLICIES[name](), POLICIES[name]()
    for policy in (one, many):
        nodes = [node(number, cost=number % 7, size=number % 3) for number in range(500)]
        filled(policy, nodes)
        for each in nodes[::3]:
            each.visited = True
    assert [evict(one) for _ in range(100)] == [each.value for each in evict_many(many, 100)]
    assert len(evict_many(many, 1_000)) == 400
    assert evict_many(many, 1_000) == []


@pytest.mark.parametrize("at_once", [1, 7])
@pytest.mark.parametrize("name", POLICIES)
def test_everybody_goes_once(name: str, at_once: int) -> None:
    """Whatever was used, touched and discarded meanwhile, all that is left goes, each once."""
    chance = random.Random(name)
    policy = POLICIES[name]()
    kept: dict[int, Node] = {}
    for number in range(3_000):
        kept[number] = node(number, cost=chance.random(), size=chance.randrange(100))
        policy.add(kept[number])
        for _ in range(2):
            chosen = chance.choice(list(kept))
            match chance.randrange(4):
                case 0:
                    policy.discard(kept.pop(chosen))
                case 1:
                    policy.touch(kept[chosen])
                case _:
                    kept[chosen].visited = True
            if not kept:
                break
        if len(kept) > 50:
            for victim in evict_many(policy, at_once):
                del kept[victim.value]
    left = [evict(policy) for _ in kept]
    assert sorted(left) == sorted(kept)
    assert evict_many(policy, 1) == []


@pytest.mark.parametrize("name", POLICIES)
def test_all_used_is_none_used(name: str) -> None:
    """Where everybody was used somebody goes all the same, after one round."""
    policy = POLICIES[name]()
    nodes = [node(number, cost=1.0) for number in range(200)]
    filled(policy, nodes)
    for each in nodes:
        each.visited = True
    assert evict(policy) in range(200)


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_used_outlives_what_is_not(name: str) -> None:
    """Ten entries that are asked for between all others stay through a scan of many times the cache's size."""
    policy = POLICIES[name]()
    requests: list[int] = []
    for step in range(3_000):
        requests += [step % 10, step % 10, 1_000 + step]
    assert hits(policy, requests, 100) == 2 * 3_000 - 10


def test_sieve_moves_its_hand_past_what_is_discarded() -> None:
    """Removing the entry under the hand moves the hand on."""
    queue = Sieve()
    nodes = [node(number) for number in range(3)]
    filled(queue, nodes)
    nodes[0].visited = True
    assert evict_many(queue, 1) == [nodes[1]]
    queue.discard(nodes[2])
    assert evict_many(queue, 2) == [nodes[0]]


def test_sieve_keeps_the_order_of_arrival() -> None:
    """A hit sets a bit and moves nothing: the survivor of a round is met again where it was."""
    queue = Sieve()
    nodes = [node(number) for number in range(4)]
    filled(queue, nodes)
    queue.touch(nodes[0])
    assert [evict(queue) for _ in range(4)] == [1, 2, 3, 0]


def test_second_chance_spares_what_was_used() -> None:
    """What was used since the last look goes after what was not; looked at exactly at each hit, that is LRU."""
    queue = SecondChance()
    nodes = [node(number) for number in range(4)]
    filled(queue, nodes)
    nodes[1].visited = nodes[0].visited = True
    assert [evict(queue) for _ in range(4)] == [2, 3, 0, 1]
    exact = SecondChance()
    filled(exact, nodes)
    for number in (1, 0, 3):
        nodes[number].visited = False
        exact.touch(nodes[number])
    assert [evict(exact) for _ in range(4)] == [2, 1, 0, 3]


def test_tiny_lfu_refuses_who_is_asked_for_less() -> None:
    """In a loop of more keys than there is room the cache keeps some of them, instead of none."""
    loop = [number % 150 for number in range(15_000)]
    assert hits(TinyLfu(), loop, 100) > 0.5 * len(loop)
    assert hits(SecondChance(), loop, 100) == 0


def test_tiny_lfu_remembers_who_went() -> None:
    """A key that comes back often enough is let in, although those inside were used too."""
    policy = TinyLfu()
    steady = list(range(100))
    requests = steady * 3 + [number for step in range(60) for number in (1_000, 2_000 + step)] + [1_000]
    before = hits(policy, requests, 100)
    assert before >= 2 * 97 + 40


def test_tiny_lfu_forgets() -> None:
    """What was popular for long gives way to what is popular now."""
    requests = [number % 100 for number in range(20_000)] + [1_000 + number % 100 for number in range(20_000)]
    assert hits(TinyLfu(), requests, 100) > 0.85 * len(requests)


def test_tiny_lfu_keeps_its_parts_in_proportion() -> None:
    """The window is about one percent, and at most four fifths of the rest are protected."""
    policy = TinyLfu()
    chance = random.Random(5)
    hits(policy, [min(chance.randrange(5_000), chance.randrange(5_000)) for _ in range(30_000)], 1_000)
    assert len(policy) == 1_000
    assert len(policy._window) in range(9, 12)
    assert policy._sketch.entries == 1_024
    assert 0 < len(policy._protected) <= 0.8 * 990 + 1


def test_tiny_lfu_lets_newcomers_wait_for_a_fight() -> None:
    """Where many go at once, those that come until then stay in the window: none of them passes by who is used."""
    policy = TinyLfu()
    used = [node(number) for number in range(2_000)]
    filled(policy, used)
    for each in used * 2:
        policy.touch(each)
    number = 2_000
    gone = evict_many(policy, 50)
    for _ in range(100):
        for _ in range(50):
            number += 1
            policy.add(node(number))
        gone = evict_many(policy, 50)
    assert not {each.value for each in gone} & {each.value for each in used}
    assert len(policy) == 1_950


def test_who_was_evicted_before_an_error_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the middle, as one near the end of the stack, loses nobody: who is out is among the victims."""
    policy = TinyLfu()
    nodes = [node(number, cost=1.0) for number in range(300)]
    filled(policy, nodes)
    victims: list[Node] = []
    real = Sketch.add
    for step in range(40):
        calls = iter(range(step % 5))

        def fail(sketch: Sketch, key: Key, calls: Iterator[int] = calls) -> int:
            if next(calls, None) is None:
                raise RecursionError
            return real(sketch, key)

        monkeypatch.setattr(Sketch, "add", fail)
        with suppress(RecursionError):
            policy.evict(5, victims)
    monkeypatch.undo()
    left = evict_many(policy, 300)
    assert len(victims) > 40
    assert len(policy) == 0
    assert sorted(each.value for each in victims + left) == list(range(300))


def test_a_compile_outlives_a_thousand_cheap_rows() -> None:
    """Sixty seconds are not given up for milliseconds, a thousand times over; nor are they kept for ever."""
    policy = LeastLoss()
    policy.add(node(0, cost=60.0))
    filled(policy, [node(number, cost=0.001) for number in range(1, 100)])
    for number in range(100, 1_100):
        assert evict(policy) != 0
        policy.add(node(number, cost=0.001))
    costly = LeastLoss()
    costly.add(node(0, cost=60.0))
    filled(costly, [node(number, cost=50.0) for number in range(1, 4)])
    for number in range(4, 20):
        if evict(costly) == 0:
            return
        costly.add(node(number, cost=50.0))
    pytest.fail("nobody ever asked for it")


def test_least_loss_counts_bytes_and_uses() -> None:
    """Of equal costs the larger goes first, and of equal sizes the one used less."""
    policy = LeastLoss()
    nodes = [node(0, cost=1.0, size=100), node(1, cost=1.0, size=10), node(2, cost=1.0, size=10)]
    filled(policy, nodes)
    nodes[1].visited = True
    assert [evict(policy) for _ in range(3)] == [0, 2, 1]


def test_least_loss_does_not_pile_up() -> None:
    """What was discarded or weighed anew leaves no more behind than there is."""
    policy = LeastLoss()
    kept = node(0, cost=100.0)
    policy.add(kept)
    for number in range(5_000):
        policy.touch(kept)
        other = node(number, cost=1_000.0)
        policy.add(other)
        policy.discard(other)
    assert len(policy) == 1
    assert len(policy._heap) < 100
    assert evict_many(policy, 1) == [kept]


def test_a_sketch_never_counts_too_few() -> None:
    """Estimates are at least what was counted, up to 16, and seldom more."""
    chance = random.Random(6)
    sketch = Sketch()
    sketch.fit(1_000)
    keys = [node(number).key for number in range(1_000)]
    counts = [chance.randrange(8) for _ in keys]
    for key, count in zip(keys, counts, strict=True):
        for _ in range(count):
            sketch.add(key)
    estimates = [sketch.estimate(key) for key in keys]
    assert all(estimate >= count for estimate, count in zip(estimates, counts, strict=True))
    assert sum(estimate > count for estimate, count in zip(estimates, counts, strict=True)) < 50
    for _ in range(100):
        sketch.add(keys[0])
    assert sketch.estimate(keys[0]) == 16
    assert sum(map(sketch.estimate, keys)) < sum(counts) + 100


def test_a_sketch_that_grows_forgets_half() -> None:
    """Making room for more keys, by as many doublings as it takes, halves what was counted and shuts the door."""
    sketch = Sketch()
    sketch.fit(64)
    keys = [node(number).key for number in range(50)]
    for number, key in enumerate(keys):
        for _ in range(number % 5):
            sketch.add(key)
    sketch.fit(65)
    assert [sketch.estimate(key) for key in keys] == [max(0, number % 5 - 1) // 2 for number in range(50)]
    sketch.fit(10_000)
    assert sketch.entries == 16_384
    assert not any(map(sketch.estimate, keys))


def test_a_sketch_forgets_by_halves() -> None:
    """After four additions for each entry the door is shut, and all counts are halved."""
    sketch = Sketch()
    first, second = node(0).key, node(1).key
    for _ in range(13):
        sketch.add(first)
    sketch.add(second)
    number = 1
    while sketch.estimate(first) >= 13:
        number += 1
        sketch.add(node(number).key)
    assert (sketch.estimate(first), sketch.estimate(second)) == (6, 0)
    assert number == 4 * 16 + 1 - 13  # the other twelve of the first, and the one after the last


def test_a_sketch_keeps_most_new_keys_at_the_door() -> None:
    """Among keys that are all new, one in twenty is taken for a known one at most, however many come."""
    sketch = Sketch()
    sketch.fit(1_000)
    assert sum(sketch.add(node(number).key) > 0 for number in range(20_000)) < 1_000
