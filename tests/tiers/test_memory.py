"""What the memory tier does beyond the tier contract: bounds, eviction, expiry on its own, live entries."""

from __future__ import annotations

import contextlib
import gc
import random
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from acache.events import Event, TierEvent
from acache.exceptions import ConfigurationError
from acache.testing import ManualClock
from acache.tiers import DiskTier, MemoryTier
from acache.tiers.eviction import DEAD, POLICIES, LeastLoss, Node, Policy, SecondChance, Sieve, TinyLfu
from acache.tiers.eviction.loss import _is_current
from acache.tiers.eviction.queue import Queue
from acache.tiers.eviction.tiny_lfu import _NEW
from acache.tiers.sizing import estimate_size
from acache.types import Entry, Hit, Key, Written
from tests.intruder import at_every_call


def key(n: int) -> Key:
    return Key(f"{n:064x}")


def entry(value: object, expires: float | None = None) -> Entry:
    return Entry(value, created=0.0, expires=expires)


def nodes_of(policy: Policy) -> list[Node]:
    """Return what a policy holds, and check its own count and the links of its queues, which go both ways."""
    match policy:
        case Sieve() | SecondChance():
            return linked(policy._queue)
        case TinyLfu():
            new = [node for node in policy._window if node.mark is _NEW]
            nodes = new + linked(policy._probation) + linked(policy._protected)
        case LeastLoss():
            nodes = [item[2] for item in policy._heap if _is_current(item)]
        case _:
            pytest.fail("a policy this test does not know")
    assert len(policy) == len(nodes)
    return nodes


def linked(queue: Queue) -> list[Node]:
    """Return what a queue holds."""
    nodes = list(queue)
    for older, newer in pairwise(nodes):
        assert newer.older is older
    assert queue.newest is (nodes[-1] if nodes else None)
    assert len(queue) == len(nodes)
    return nodes


def check(tier: MemoryTier) -> None:
    """Compare the table with the policy, which are kept apart: the same nodes, counted right, and nothing put off."""
    nodes = nodes_of(tier._queue)
    assert {id(node) for node in nodes} == {id(node) for node in tier._nodes.values()}
    assert len(nodes) == len(tier)
    assert all(node.live for node in nodes)
    assert tier._bytes == sum(node.size for node in nodes)
    assert all(tier._population[each] == sum(key.startswith(each) for key in tier._nodes) for each in tier._population)
    assert not isinstance(tier._queue, Sieve) or tier._queue._hand is None or tier._queue._hand in nodes
    assert not tier._changing
    assert tier._late == []


def removals(events: list[Event]) -> list[tuple[str, Key | None, str | None]]:
    """Return what events tell of entries that went."""
    return [
        (event.operation, event.key, event.reason)
        for event in events
        if isinstance(event, TierEvent) and event.operation in {"evict", "remove"}
    ]


def test_entries_are_bounded() -> None:
    """More entries than max_entries are never held."""
    tier = MemoryTier(max_entries=3)
    for n in range(10):
        assert tier.put(key(n), entry(n), replace=False) is Written.NEW
        assert len(tier) <= 3
        check(tier)
    assert tier.statistics().evictions == 7


def test_bytes_are_bounded() -> None:
    """The estimated bytes never exceed max_bytes, and a value that alone exceeds it is not stored."""
    tier = MemoryTier(max_bytes=10_000)
    for n in range(20):
        tier.put(key(n), entry(b"x" * 2_000), replace=False)
        check(tier)
    size = tier.statistics().bytes
    assert size is not None
    assert 4_000 < size <= 10_000
    assert tier.put(key(99), entry(b"x" * 20_000), replace=False) is Written.FAILED
    assert tier.peek(key(99)) is None
    assert len(tier) == 4


def test_a_value_grown_too_large_does_not_leave_the_old_one() -> None:
    """Replacing a value by one that does not fit removes the old one: it is not what was set last."""
    tier = MemoryTier(max_bytes=1_000)
    tier.put(key(1), entry(b"small"), replace=False)
    tier.put(key(1), entry(b"x" * 5_000), replace=True)
    assert tier.peek(key(1)) is None
    check(tier)


def test_used_entries_survive_a_scan() -> None:
    """Keys asked for once go before keys that were asked for again."""
    tier = MemoryTier(max_entries=10)
    for n in range(5):
        tier.put(key(n), entry(n), replace=False)
        tier.peek(key(n))
    for n in range(100, 105):
        tier.put(key(n), entry(n), replace=False)
    for n in range(1_000, 1_005):  # the scan
        tier.put(key(n), entry(n), replace=False)
        check(tier)
    assert [n for n in range(5) if tier.node(key(n)) is not None] == [0, 1, 2, 3, 4]


def test_a_full_queue_of_used_entries_evicts_an_old_one_not_the_newcomer() -> None:
    """When every entry was used since the hand passed, the newcomer still stays."""
    tier = MemoryTier(max_entries=3)
    for n in range(3):
        tier.put(key(n), entry(n), replace=False)
        tier.peek(key(n))
    tier.put(key(9), entry(9), replace=False)
    assert tier.node(key(9)) is not None
    assert len(tier) == 3
    check(tier)


def test_expired_entries_go_without_being_asked_for() -> None:
    """A write drops what has expired meanwhile, so that expired entries do not pile up."""
    clock = ManualClock()
    tier = MemoryTier(clock=clock)
    for n in range(100):
        tier.put(key(n), entry(n, clock.wall() + 10), replace=False)
    clock.advance(11)
    tier.put(key(999), entry(None), replace=False)
    assert len(tier) == 1
    check(tier)


def test_renewed_entries_hide_no_others() -> None:
    """An entry whose end was moved stays, and those behind it that are over still go without being asked for."""
    clock = ManualClock(wall=0.0)
    tier = MemoryTier(clock=clock)
    used = entry("used", 10)
    tier.put(key(1), used, replace=True)
    tier.put(key(2), entry("idle", 11), replace=True)
    used.expires = 100
    tier.renew(key(1), used)
    tier.put(key(3), entry("late", 50), replace=True)
    clock.advance(13)
    tier.put(key(4), entry("new", 200), replace=True)
    assert sorted(tier._nodes) == [key(1), key(3), key(4)]
    clock.advance(95)
    tier.put(key(5), entry("new", 200), replace=True)
    assert sorted(tier._nodes) == [key(4), key(5)]
    tier.renew(key(1), used)  # it is gone, and stays so
    assert tier.peek(key(1)) is None


def test_an_entry_without_end_may_be_given_one() -> None:
    """An entry that was to stay for ever goes when a use has given it an end."""
    clock = ManualClock(wall=0.0)
    tier, lasting = MemoryTier(clock=clock), entry("lasting")
    tier.put(key(1), lasting, replace=True)
    lasting.expires = 10
    tier.renew(key(1), lasting)
    clock.advance(11)
    tier.put(key(2), entry("new", 50), replace=True)
    assert list(tier._nodes) == [key(2)]


def test_deadlines_of_removed_entries_do_not_pile_up() -> None:
    """Setting one key for ever again keeps the list of deadlines short."""
    clock = ManualClock()
    tier = MemoryTier(clock=clock)
    for n in range(1_000):
        tier.put(key(1), entry(n, clock.wall() + 1_000_000), replace=True)
    assert len(tier._expiring) < 200


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0 * 365])
async def test_c1_a_wall_clock_that_jumps_changes_nothing(jump: float) -> None:
    """Memory entries live by the monotonic clock: a jump of the wall clock neither kills nor revives."""
    clock = ManualClock()
    tier = MemoryTier(clock=clock)
    await tier.set("k", "v", ttl=60)
    clock.jump_wall(jump)
    assert await tier.get("k") is not None
    clock.advance(61)
    assert await tier.get("k") is None


def test_a_killed_node_says_so_before_it_drops_its_value() -> None:
    """A reader that takes the value first and then sees a live node has a real value."""
    tier = MemoryTier()
    tier.put(key(1), entry("v"), replace=False)
    node = tier.node(key(1))
    assert node is not None
    assert (node.live, node.value) == (True, "v")
    tier.forget(key(1))
    assert (node.live, node.value, node.entry) == (False, None, None)
    assert DEAD.live is False


def test_removed_values_are_released() -> None:
    """Nothing holds a value that was removed, not even who still holds its node."""

    class Value:
        pass

    tier = MemoryTier()
    value = Value()
    gone = weakref.ref(value)
    tier.put(key(1), entry(value), replace=False)
    node = tier.node(key(1))
    del value
    tier.forget(key(1))
    gc.collect()
    assert gone() is None
    assert node is not None


def test_a_value_whose_end_uses_the_tier_does_no_harm() -> None:
    """A finalizer that runs while its value is evicted may use the tier."""
    tier = MemoryTier(max_entries=1)

    class Value:
        def __del__(self) -> None:
            tier.put(key(7), entry("from the grave"), replace=True)

    tier.put(key(1), entry(Value()), replace=False)
    tier.put(key(2), entry("v"), replace=False)
    gc.collect()
    check(tier)


@dataclass(slots=True)
class Slotted:
    """Has its values in slots, and one that is never set."""

    value: object
    other: object = field(init=False)


@attrs.define
class Defined:
    """Has its values in slots, as attrs does it."""

    value: object


def in_a_deque(value: object) -> deque[object]:
    """Hold a value in a queue."""
    return deque((value,))


class Below(Slotted):
    """Has a dictionary too."""


@pytest.mark.parametrize("make", [Slotted, Defined, Below, in_a_deque], ids=["dataclass", "attrs", "below", "deque"])
def test_values_in_slots_and_deques_count(make: Callable[[object], object]) -> None:
    """What an object holds is found wherever it has it, so that max_bytes is a limit for any value."""
    assert 100_000 < estimate_size(make(b"x" * 100_000)) < 102_000
    tier = MemoryTier(max_bytes=250_000)
    for number in range(10):
        tier.put(key(number), Entry(make(bytes(100_000)), 0.0), replace=True)
    assert len(tier) == 2
    assert estimate_size(len) < 1_000


def test_the_population_of_a_function_is_counted() -> None:
    """The entries of one function are those with its 20 digits in front."""
    tier = MemoryTier()
    for n in range(5):
        tier.put(Key("a" * 20 + f"{n:044x}"), entry(n), replace=False)
    tier.put(Key("b" * 20 + "0" * 44), entry(0), replace=False)
    assert (tier.population("a" * 20), tier.population("b" * 20), tier.population("c" * 20)) == (5, 1, 0)
    tier.forget(Key("b" * 20 + "0" * 44))
    tier.put(Key("a" * 20 + "f" * 44), entry(0), replace=False)
    tier.put(Key("a" * 20 + "f" * 44), entry(1), replace=True)
    tier.put(Key("d" * 20 + "0" * 44), entry(0), replace=False)
    assert [tier.population(name * 20) for name in "abcd"] == [6, 0, 0, 1]
    check(tier)


def test_threads_keep_the_structure_whole() -> None:
    """Threads that put, peek and forget at once leave a consistent tier within its bounds."""
    tier = MemoryTier(max_entries=50)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for step in range(3_000):
                n = (seed * 7919 + step * 104729) % 120
                tier.put(key(n), entry(n), replace=step % 2 == 0)
                node = tier.peek(key((n * 31) % 120))
                value = None if node is None else node.value
                assert node is None or not node.live or value == (n * 31) % 120
                if step % 5 == 0:
                    tier.forget(key((n * 17) % 120))
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    check(tier)


def test_removals_tell_their_cause() -> None:
    """Subscribers hear of every entry that goes, once, with its cause; evictions and expirations are counted."""
    clock = ManualClock()
    tier = MemoryTier(max_entries=3, max_bytes=10_000, policy="sieve", clock=clock)
    with tier.events.capture() as events:
        for n in range(4):
            tier.put(key(n), entry(n), replace=False)
        tier.put(key(1), entry("again"), replace=True)
        tier.forget(key(2))
        tier.forget(key(2))
        tier.put(key(3), entry(b"x" * 20_000), replace=True)
        tier.put(key(5), entry(5, clock.wall() + 5), replace=False)
        tier.put(key(6), entry(6, clock.wall() + 5), replace=False)
        clock.advance(5)
        assert tier.peek(key(5)) is None
        tier.put(key(7), entry(7), replace=False)
    assert removals(events) == [
        ("evict", key(0), "evicted"),
        ("remove", key(1), "replaced"),
        ("remove", key(2), "invalidated"),
        ("remove", key(3), "replaced"),
        ("evict", key(5), "expired"),
        ("evict", key(6), "expired"),
    ]
    assert (tier.statistics().evictions, tier.statistics().expirations) == (1, 2)
    check(tier)


async def test_clearing_tells_too() -> None:
    """What was cleared was invalidated; an insert over an expired entry found it expired."""
    clock = ManualClock()
    tier = MemoryTier(clock=clock)
    tier.put(key(1), entry(1), replace=False)
    tier.put(key(2), entry(2, clock.wall() + 5), replace=False)
    clock.advance(5)
    with tier.events.capture() as events:
        tier.put(key(2), entry("new"), replace=False)
        await tier.clear()
    assert removals(events) == [
        ("evict", key(2), "expired"),
        ("remove", key(1), "invalidated"),
        ("remove", key(2), "invalidated"),
    ]


def test_a_listener_may_use_the_tier() -> None:
    """A subscriber hears of a removal when it is done, and no lock is held: it may store the entry again elsewhere or here."""
    tier = MemoryTier(max_entries=2)
    heard: list[Key | None] = []

    def listen(event: Event) -> None:
        if isinstance(event, TierEvent) and event.reason == "evicted" and len(heard) < 5:
            heard.append(event.key)
            assert event.key is not None
            assert tier.node(event.key) is None
            thread = threading.Thread(target=tier.put, args=(event.key, entry("back")), kwargs={"replace": False})
            thread.start()
            thread.join(10)
            assert not thread.is_alive()

    tier.events.subscribe(listen)
    for n in range(3):
        tier.put(key(n), entry(n), replace=False)
    assert len(heard) == 5
    check(tier)


async def test_a_weigher_says_what_values_take() -> None:
    """max_bytes is in the weigher's units; zero is a weight too."""
    tier = MemoryTier(max_bytes=10, weigher=len)
    for n in range(5):
        assert await tier.set(n, "x" * 4)
    assert (len(tier), tier.statistics().bytes) == (2, 8)
    assert await tier.set("empty", "")
    assert not await tier.set("long", "x" * 11)
    assert (len(tier), tier.statistics().bytes) == (3, 8)


@pytest.mark.parametrize("weight", [-1, 1.5, None, True, "7"])
async def test_a_weigher_that_returns_nonsense_is_named(weight: Any) -> None:
    """A negative weight, or none, is the caller's error by name; the value is not stored, nor is what it was to replace."""
    weights: list[Any] = [1, 1, weight, weight, weight]
    tier = MemoryTier(max_bytes=10, weigher=lambda _value: weights.pop(0))
    assert await tier.set("set", "old")
    assert await tier.set("inserted", "old")
    for name in ("set", "new"):
        with pytest.raises(ConfigurationError, match="weigher"):
            await tier.set(name, "new")
    with pytest.raises(ConfigurationError, match="weigher"):
        await tier.insert("inserted", "new")
    assert tier.statistics().failures == 3
    assert [await tier.get(name) for name in ("set", "new", "inserted")] == [None, None, Hit("old")]
    check(tier)


async def test_a_weigher_that_fails_is_a_failed_write() -> None:
    """An exception in a weigher is an event and a count, and the value is not stored."""
    tier = MemoryTier(max_bytes=10, weigher=int)
    assert await tier.set("k", "7")
    assert not await tier.set("k", "no number")
    assert (await tier.get("k"), tier.statistics().failures) == (None, 1)


def test_a_weigher_needs_a_limit() -> None:
    """A weigher without max_bytes would never be asked."""
    with pytest.raises(ConfigurationError, match="weigher"):
        MemoryTier(weigher=len)


def test_an_unknown_policy_is_named() -> None:
    """The message names the option and the policies there are."""
    with pytest.raises(ConfigurationError, match=r"policy: unknown; known policies: lfu, sieve, lru, cost"):
        MemoryTier(policy="arc")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the rule


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_keeps_the_limits(policy: Any) -> None:
    """With every policy both limits hold after each step, and the table, the policy and the count of bytes agree."""
    chance = random.Random(policy)
    clock = ManualClock()
    tier = MemoryTier(max_entries=20, max_bytes=1_000, policy=policy, weigher=len, clock=clock)
    for step in range(4_000):
        name = key(min(chance.randrange(60), chance.randrange(60)))
        match chance.randrange(10):
            case 0:
                tier.forget(name)
            case 1:
                clock.advance(1)
            case 2 | 3 | 4:
                node = tier.peek(name)
                assert node is None or node.key == name
            case _:
                expires = clock.wall() + 5 if step % 3 == 0 else None
                value = Entry("x" * chance.randrange(200), 0.0, expires, cost=chance.random())
                tier.put(name, value, replace=step % 2 == 0)
        assert len(tier) <= 20
        assert tier._bytes == sum(node.size for node in tier._nodes.values()) <= 1_000
    left: list[Node] = []
    tier._queue.evict(1_000, left)
    assert sorted(node.key for node in left) == sorted(tier._nodes)
    assert all(tier._nodes[node.key] is node for node in left)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_large_tier_makes_room_for_several(policy: Any) -> None:
    """Of a tier of thousands several go at once, one in 512: each of them once, counted and told, with all it weighed."""
    tier = MemoryTier(max_entries=5_000, max_bytes=10**9, weigher=len, policy=policy)
    keys = [Key(f"{number % 2:020x}{number:044x}") for number in range(12_000)]
    assert [tier.population(key) for key in keys[:2]] == [0, 0]
    assert [sum(tier.removals(key).values()) for key in keys[:2]] == [0, 0]
    told: list[Key | None] = []

    def hear(event: Event) -> None:
        assert isinstance(event, TierEvent)
        if event.operation == "evict":
            told.append(event.key)

    tier.events.subscribe(hear)
    sizes: list[int] = []
    for number, name in enumerate(keys):
        tier.put(name, Entry("x" * (number % 7), 0.0), replace=True)
        sizes.append(len(tier))
    assert max(sizes) == 5_000
    assert min(sizes[5_000:]) == 5_000 - 9 + 1
    gone = set(keys) - set(tier._nodes)
    assert len(told) == len(gone)
    assert set(told) == gone
    assert tier.statistics().evictions == len(gone) == 12_000 - len(tier)
    assert tier.statistics().bytes == sum(len(node.value) for node in tier._nodes.values())
    for function in (0, 1):
        assert tier.population(keys[function]) == sum(int(name[:20], 16) == function for name in tier._nodes)
        assert tier.removals(keys[function])["evicted"] == sum(int(name[:20], 16) == function for name in gone)


def test_a_huge_tier_makes_room_for_sixty_four() -> None:
    """However large a tier is, no more than 64 go at once."""
    tier = MemoryTier(max_entries=40_000)
    for number in range(40_001):
        tier.put(key(number), Entry(number, 0.0), replace=True)
    assert len(tier) == 40_000 - 64 + 1


def test_what_expired_is_told_by_a_put_that_stores_nothing() -> None:
    """What goes in the middle of a call is told, even if the call itself comes to nothing."""
    clock = ManualClock()
    tier = MemoryTier(clock=clock)
    told: list[Key | None] = []
    tier.put(key(1), Entry(1, clock.wall(), clock.wall() + 5), replace=True)
    tier.events.subscribe(lambda event: told.append(event.key))

    def forget() -> bool:
        tier.forget(key(1))  # as a finalizer does
        return False

    assert tier.put(key(2), Entry(2, 0.0), replace=True, still=forget) is Written.FAILED
    assert told == [key(1)]


@pytest.mark.parametrize("tier", [MemoryTier, partial(DiskTier, "/nowhere")])
@pytest.mark.parametrize("option", ["max_entries", "max_bytes"])
@pytest.mark.parametrize("limit", [0, -5, "5", "secret", 1.5, float("nan"), float("inf"), True, False, [], b"7", 2.0])
def test_a_limit_is_a_positive_integer(tier: Any, option: str, limit: Any) -> None:
    """Anything else is refused at once: the option is named, what to do is said, and the value is not shown."""
    with pytest.raises(ConfigurationError, match=rf"^{option}: a limit is .*; use None for no limit$") as caught:
        tier(**{option: limit})
    assert "secret" not in str(caught.value)


def test_integers_of_other_types_are_limits() -> None:
    """What can be an index is an integer."""
    assert MemoryTier(np.int64(5), np.uint8(7)).max_entries == 5  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the rule


@pytest.mark.parametrize("weigher", [5, "len", [len]])
def test_a_weigher_is_a_function(weigher: Any) -> None:
    """One that cannot be called is refused before anything is stored."""
    with pytest.raises(ConfigurationError, match=r"^weigher: give a function"):
        MemoryTier(max_bytes=5, weigher=weigher)


@pytest.mark.parametrize("policy", [None, 5, ["lru"], b"lru", "LRU"])
def test_a_policy_is_a_name(policy: Any, tmp_path: Path) -> None:
    """Whatever is no name of a policy is refused as an unknown one, by both tiers."""
    for make in (MemoryTier, partial(DiskTier, tmp_path)):
        with pytest.raises(ConfigurationError, match=r"^policy: unknown.*known policies: "):
            make(policy=policy)


def test_sizes_follow_containers_and_survive_circles() -> None:
    """Sizes count what containers hold, each object once, and end on circles."""
    assert estimate_size(b"x" * 1_000) > 1_000
    assert estimate_size([b"x" * 1_000, b"y" * 1_000]) > 2_000
    assert estimate_size({"a": (b"x" * 1_000,)}) > 1_000
    shared = b"z" * 10_000
    assert estimate_size([shared] * 5) < 2 * 10_000
    circle: list[object] = []
    circle.append(circle)
    assert estimate_size(circle) > 0

    class Holder:
        def __init__(self) -> None:
            self.data = b"x" * 5_000

    assert estimate_size(Holder()) > 5_000
    assert estimate_size(Holder) > 0


def discard(tier: MemoryTier, doomed: Key) -> None:
    """Take out what is there now, as who found it dead."""
    node = tier.node(doomed)
    if node is not None and node.entry is not None:
        tier.discard(doomed, node.entry)


#: What a finalizer may do to a tier with the keys 0 to 3, of which 3 is the newest and 0 has a deadline; what else may be going on.
CHANGES: dict[str, Callable[[MemoryTier], object]] = {
    "put": lambda tier: tier.put(key(9), entry("new"), replace=False),
    "put over": lambda tier: tier.put(key(1), entry("new"), replace=True),
    "put with a deadline": lambda tier: tier.put(key(9), entry("new", 1e12), replace=True),
    "forget": lambda tier: tier.forget(key(1)),
    "forget the newest": lambda tier: tier.forget(key(3)),
    "forget all": lambda tier: [tier.forget(each) for each in list(tier._nodes)],
    "discard": lambda tier: discard(tier, key(2)),
    "expire": lambda tier: tier.peek(key(0)),
    "clear": lambda tier: run(tier.clear()),
    "count": lambda tier: tier.population(key(0)),
    "renew": lambda tier: end(tier, key(3)),
}


def end(tier: MemoryTier, name: Key) -> None:
    """Give an entry an end, as a first use of it may."""
    node = tier.node(name)
    held = None if node is None else node.entry
    if held is not None:
        held.expires = tier.clock.wall() + 50
        tier.renew(name, held)


def run(coroutine: Any) -> None:
    """Run what never waits."""
    with contextlib.suppress(StopIteration):
        coroutine.send(None)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("change", CHANGES)
def test_a10_finalizers_change_a_tier_in_the_middle_of_a_change(change: str, policy: Any) -> None:
    """A10: a finalizer may change a tier at any moment, in the thread that is changing it; then all is whole, and what it forgot gone."""
    for intrusion in CHANGES:
        assert at_every_call(lambda intrusion=intrusion: prepared(policy, change, intrusion)) > 1  # type: ignore[misc]


def prepared(
    policy: Any, change: str, intrusion: str
) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    """Make a full tier, a change of it, another one to come in the middle, and a look at what they leave."""
    clock = ManualClock()
    tier = MemoryTier(max_entries=4, policy=policy, clock=clock)
    for n in range(4):
        tier.put(key(n), entry(n, clock.wall() + 1 if n == 0 else None), replace=True)
    tier.population(key(0))
    tier.peek(key(2))
    clock.advance(5)
    doomed = tier.node(key(1))
    assert doomed is not None
    done = [change]

    def intrude() -> None:
        done.append(intrusion)
        CHANGES[intrusion](tier)

    def look() -> None:
        check(tier)
        assert len(tier) <= 4
        assert "forget" not in done or not doomed.live
        for n in range(20, 30):
            tier.put(key(n), entry(n), replace=True)
        check(tier)
        assert len(tier) == 4

    return lambda: CHANGES[change](tier), intrude, look


def test_a_value_that_puts_another_in_its_own_place_when_it_goes() -> None:
    """A finalizer that runs while its value is replaced does not get in between."""
    tier = MemoryTier(max_entries=4)
    answers: list[Written] = []

    class Stubborn:
        def __del__(self) -> None:
            answers.append(tier.put(key(0), entry("again"), replace=True))

    tier.put(key(0), entry(Stubborn()), replace=True)
    tier.put(key(0), entry("new"), replace=True)
    assert answers == [Written.FAILED]
    kept = tier.node(key(0))
    assert kept is not None
    assert kept.value == "new"
    check(tier)


def test_what_is_put_off_is_told_once() -> None:
    """Who listens hears of what a finalizer took out in the middle of a change."""
    tier = MemoryTier(max_entries=4)

    class Farewell:
        def __del__(self) -> None:
            assert tier.forget(key(1))
            assert tier._nodes[key(1)].value is None
            assert not tier.forget(key(1))

    tier.put(key(0), entry(Farewell()), replace=True)
    tier.put(key(1), entry("other"), replace=True)
    with tier.events.capture() as events:
        tier.put(key(0), entry("new"), replace=True)
    assert removals(events) == [("remove", key(0), "replaced"), ("remove", key(1), "invalidated")]
    check(tier)
