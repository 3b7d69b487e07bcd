"""A directory with limits: it keeps them, by removing what is worth least, and never what somebody just wrote (D16, D28, D29, I6)."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from acache.caches import FastCache
from acache.caches.urls import tier_from_url
from acache.events import TierEvent
from acache.exceptions import ConfigurationError
from acache.files import DISK_POLICIES, DiskPolicy, Keeper
from acache.files.choosing import Choice, choose, uses_of, with_uses
from acache.files.culling import Limits
from acache.files.ledger import SHARDS, Amount, Page
from acache.files.stock import Seen
from acache.testing import ManualClock
from acache.testing.files import FaultyFileSystem, StingyFileSystem, WatchedFileSystem
from acache.tiers import ChainTier, DiskTier, MemoryTier
from acache.types import Entry, Hit, Key, Written
from tests.disk.helpers import key, path_of, plant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.disk.conftest import MakeTier


#: In the year 2400, in nanoseconds: more than 63 bits.
FAR_FUTURE = 13_569_465_600 * 10**9


def stored(tier: DiskTier) -> list[Path]:
    """Return the files that hold entries."""
    return sorted(path for path in Path(tier._shelf.path).glob("??/*") if not path.name.startswith("."))


def occupied(tier: DiskTier) -> int:
    """Return the bytes of the files that hold entries."""
    return sum(path.stat().st_size for path in stored(tier))


def put(tier: DiskTier, name: object, value: object = "v", *, cost: float = 0.0, expires: float | None = None) -> bool:
    """Store in this thread, so that what is done behind the backs of writers is not done."""
    entry = Entry(value, tier.clock.wall(), expires, cost=cost)
    return tier._store(key(name), entry, tier._codec, True) is Written.NEW


def get(tier: DiskTier, name: object) -> object:
    """Return the value of a hit, noted as one, or ``None``; in this thread."""
    entry = tier._load(key(name), tier._codec)
    if entry is None or not tier._is_live(entry):
        return None
    keeper_of(tier).note(key(name))
    return entry.value


def get_plain(tier: DiskTier, name: object) -> object:
    """Return the stored value, or ``None``, and note nothing."""
    entry = tier._load(key(name), tier._codec)
    return None if entry is None else entry.value


def look(tier: DiskTier, seen: list[object]) -> None:
    """Add to ``seen`` what two entries hold now."""
    seen += [get_plain(tier, name) for name in ("a", "b")]


def keeper_of(tier: DiskTier) -> Keeper:
    """Return what keeps the tier within its limits."""
    assert tier._keeper is not None
    return tier._keeper


def cull(tier: DiskTier) -> int | None:
    """Cull in this thread."""
    return keeper_of(tier).cull(thorough=True)


def tidy(tier: DiskTier, *, writes: bool) -> None:
    """Do in this thread what is due."""
    now = tier.clock.monotonic()
    if keeper_of(tier).is_due(now, writes=writes):
        keeper_of(tier).tidy(now, writes=writes)


def tick(tier: DiskTier) -> None:
    """Wait until the file system's clock, which is coarse, has moved on."""
    probe = Path(tier._shelf.path, "probe")
    probe.touch()
    start = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == start:
        probe.chmod(0o600)
    probe.unlink()


def page_of(tier: DiskTier) -> Page:
    """Return what the ledger says."""
    with tier._shelf.ledger.open() as page:
        return page


# --- limits -----------------------------------------------------------------------------------------------------------


def test_one_large_entry_may_be_all_there_is(make_tier: MakeTier) -> None:
    """An entry that fits alone, if only just, makes all others go and stays."""
    tier = make_tier(max_bytes=10_000)
    for number in range(5):
        put(tier, number)
    tick(tier)
    put(tier, "large", b"x" * 9_700)
    tick(tier)
    assert stored(tier) == [path_of(tier, key("large"))]
    put(tier, "small")
    assert len(stored(tier)) <= 2


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_entries_never_exceed_the_limit(make_tier: MakeTier, limit: int) -> None:
    """After each write there are at most 1.05 times max_entries files, and one more for the writer (I6)."""
    tier = make_tier(max_entries=limit)
    for number in range(3 * limit + 10):
        assert put(tier, number)
        assert len(stored(tier)) <= 1.05 * limit + 1
    assert len(stored(tier)) >= 0.9 * limit - 1
    assert tier.statistics().evictions == 3 * limit + 10 - len(stored(tier))


def test_bytes_never_exceed_the_limit(make_tier: MakeTier) -> None:
    """The same of the bytes of all files, with values of all sizes (I6)."""
    tier, limit = make_tier(max_bytes=100_000), 100_000
    largest = 0
    for number in range(300):
        size = (number * 7919) % 4_000
        assert put(tier, number, b"x" * size)
        largest = max(largest, size + 500)
        assert occupied(tier) <= 1.05 * limit + largest
    assert occupied(tier) > 0.8 * limit


def test_culling_runs_behind_the_backs_of_writers(tmp_path: Path) -> None:
    """Writes on a loop stay within the limits too; what goes is counted, and told with its cause."""
    tier = DiskTier(tmp_path / "disk", max_entries=50)

    async def work() -> None:
        for number in range(200):
            assert await tier.set(key(number), number)
            assert len(stored(tier)) <= 1.05 * 50 + 1

    with tier.events.capture() as events:
        # A loop of its own, whose end waits for the housekeeping; it is no matter here what may block it.
        asyncio.run(work())
    told = [event for event in events if isinstance(event, TierEvent) and event.operation == "evict"]
    assert {(event.outcome, event.reason) for event in told} == {("done", "evicted")}
    assert len({event.key for event in told}) == len(told) == tier.statistics().evictions == 200 - len(stored(tier))
    asyncio.run(tier.aclose())


def test_an_entry_larger_than_the_limit_is_not_stored(make_tier: MakeTier) -> None:
    """It would only make all others go; and what it was to replace is not what was set last."""
    tier = make_tier(max_bytes=10_000)
    assert put(tier, 1, "small")
    assert put(tier, 2, "other")
    entry = Entry(b"x" * 20_000, 0.0)
    assert tier._store(key(2), entry, tier._codec, False) is Written.FAILED
    assert len(stored(tier)) == 2
    assert tier._store(key(1), entry, tier._codec, True) is Written.FAILED
    assert stored(tier) == [path_of(tier, key(2))]


def test_a_smaller_limit_holds_at_the_next_write(make_tier: MakeTier) -> None:
    """A directory that is opened with a smaller limit is brought within it by the next write."""
    tier = make_tier(max_entries=500)
    for number in range(400):
        put(tier, number)
    put(make_tier(max_entries=20), "next")
    assert len(stored(tier)) <= 21


def test_replacing_evicts_nothing(make_tier: MakeTier) -> None:
    """Setting a few keys over and over leaves them where they are: what was replaced does not count for long."""
    tier = make_tier(max_entries=100)
    for number in range(800):
        put(tier, number % 60, number)
    assert (len(stored(tier)), tier.statistics().evictions) == (60, 0)


def test_cleared_directory_has_room(make_tier: MakeTier) -> None:
    """What was cleared does not count for long either."""
    tier = make_tier(max_entries=100)
    for _ in range(4):
        for number in range(100):
            put(tier, number)
        tier._shelf.clear()
    assert tier.statistics().evictions == 0


def test_others_are_counted_when_they_are_found(make_tier: MakeTier) -> None:
    """A directory that was filled without limits is counted by the first write with one, and brought within it."""
    plain = make_tier()
    for number in range(300):
        put(plain, number)
    tier = make_tier(max_entries=100)
    put(tier, "first")
    assert 90 <= len(stored(tier)) <= 106


# --- who goes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["lru", "lfu", "sieve"])
def test_what_was_used_stays(make_tier: MakeTier, policy: str) -> None:
    """Entries that this or another tier has hit since go after those that nobody asked for."""
    tier, other = (make_tier(max_entries=100, policy=policy) for _ in range(2))
    for number in range(100):
        put(tier, number)
    tick(tier)
    for number in range(10):
        assert get(tier, number) == get(other, 10 + number) == "v"
    tidy(other, writes=False)
    tick(tier)
    for number in range(100, 170):
        put(tier, number)
    assert [path_of(tier, key(number)).exists() for number in range(20)] == [True] * 20


def test_what_took_long_stays(make_tier: MakeTier) -> None:
    """With the policy "cost" a minute's compile outlives hundreds of cheap rows; with the other it does not."""
    for policy, survives in (("cost", True), ("lru", False)):
        tier = make_tier(policy, max_entries=50, policy=policy)
        put(tier, "compile", b"x" * 10_000, cost=60.0)
        tick(tier)
        for number in range(400):
            put(tier, number, cost=0.001)
        assert path_of(tier, key("compile")).exists() is survives


def test_the_dead_go_first(make_tier: MakeTier, manual_clock: ManualClock) -> None:
    """With the policy "cost", which looks into entries, expired and damaged ones go before the living."""
    tier = make_tier(max_entries=40, policy="cost")
    for number in range(20):
        put(tier, number, cost=100.0, expires=manual_clock.wall() + 10)
    put(tier, "bad")
    plant(tier, key("bad"), b"rubbish")
    manual_clock.advance(11)
    with tier.events.capture() as events:
        for number in range(100, 130):
            put(tier, number, cost=0.1)
    told = {event.key: event.reason for event in events if isinstance(event, TierEvent) and event.operation != "write"}
    assert told == {**{key(number): "expired" for number in range(20)}, key("bad"): "corrupt"}
    assert sorted(stored(tier)) == sorted(path_of(tier, key(number)) for number in range(100, 130))
    assert (tier.statistics().evictions, tier.statistics().expirations, tier.statistics().corruptions) == (0, 20, 1)


def seen(
    number: int, *, changed: float = 0.0, made: int = 0, uses: int = 0, worth: float = 0.0, size: int = 100
) -> Seen:
    """Describe a file as a census would; times in seconds."""
    modified = with_uses(made * 10**9, uses)
    name = f"{number:062x}"
    return Seen(Key(name + "00"), name, (0, number), int(changed * 10**9), modified, size, worth)


def numbers(found: Iterable[Seen]) -> list[int]:
    """Return which files these are."""
    return [each.identity[1] for each in found]


@pytest.mark.parametrize("policy", DISK_POLICIES)
def test_choice_ends_when_it_is_enough(policy: DiskPolicy) -> None:
    """No more goes than is needed, nor more than may go, worst first; by every policy the oldest of what is alike."""
    found = [seen(number, changed=number, made=number, worth=1.0) for number in (3, 1, 2, 0)]

    def gone(excess: Amount, most: int) -> list[int]:
        return numbers(choose(found, excess, most, policy).doomed)

    assert gone(Amount(150, 0), 4) == [0, 1]
    assert gone(Amount(0, 1), 4) == [0]
    assert gone(Amount(0, 9), 3) == [0, 1, 2]
    assert gone(Amount(), 4) == []
    assert choose([], Amount(5, 5), 4, policy).doomed == []


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("lru", [2, 0, 3, 1]),  # by the last use
        ("lfu", [0, 3, 2, 1]),  # unused ones by the last use, then by uses
        ("cost", [0, 2, 1, 3]),  # by seconds for each byte and each second of rest
        ("sieve", [0, 3, 1, 2]),  # by age, but for those used: they are passed over once
    ],
)
def test_each_policy_has_its_order(policy: DiskPolicy, order: list[int]) -> None:
    """Of the same four files each policy takes others first."""
    found = [
        seen(0, changed=20, made=1, worth=0.5, size=300),
        seen(1, changed=50, made=2, worth=1.0, uses=9),
        seen(2, changed=10, made=3, worth=3.0, uses=2),
        seen(3, changed=30, made=4, worth=90.0),
    ]
    assert numbers(choose(found, Amount(0, 4), 4, policy).doomed) == order


def test_sieve_goes_on_from_where_it_stopped() -> None:
    """What was passed over lies behind the hand and is safe until it comes round, unless it lies in another shard."""
    found = [seen(number, made=number, uses=number == 1) for number in range(1, 6)]
    first = choose(found, Amount(0, 2), 5, "sieve")
    assert (numbers(first.doomed), numbers(first.left), first.hands) == ([2, 3], [1], {0: 3 * 10**9})
    left = [seen(1, made=1), *found[3:], seen(9, made=9)]
    second = choose(left, Amount(0, 2), 5, "sieve", first.hands)
    assert (numbers(second.doomed), dict(second.left)) == ([4, 5], {})
    assert numbers(choose(left, Amount(0, 2), 5, "sieve", {7: 3 * 10**9}).doomed) == [1, 4]
    # The hand comes round.
    assert numbers(choose(left, Amount(0, 4), 5, "sieve", first.hands).doomed) == [4, 5, 9, 1]


def test_frequency_is_forgotten() -> None:
    """When as many files of a shard have gone as there are, those that stay count half as many uses; not before."""
    found = [seen(number, uses=number) for number in range(5)]
    first = choose(found, Amount(0, 2), 5, "lfu")
    assert (numbers(first.doomed), dict(first.left), first.hands) == ([0, 1], {}, {0: 2})
    second = choose(found, Amount(0, 1), 5, "lfu", {0: 4, 1: 9})
    assert {each.identity[1]: uses for each, uses in second.left.items()} == {1: 0, 2: 1, 3: 1, 4: 2}
    assert second.hands == {0: 0}
    assert choose(found, Amount(), 5, "lfu", {0: 9}) == Choice([], {}, {})


def test_uses_are_kept_in_a_time() -> None:
    """The seconds stay; a time that nobody wrote counts no use, nor does one without nanoseconds."""
    for second in (0, 1, 1_700_000_000):
        for uses in (0, 1, 255):
            assert uses_of(with_uses(second * 10**9 + 123_456_789, uses)) == uses
            assert with_uses(second * 10**9 + 5, uses) // 10**9 == second
    assert (uses_of(123_456_789), uses_of(10**18), uses_of(with_uses(0, 10**6))) == (0, 0, 255)


# --- age --------------------------------------------------------------------------------------------------------------


async def test_old_entries_are_misses(make_tier: MakeTier, manual_clock: ManualClock) -> None:
    """An entry as old as max_age is a miss, an insert takes its place, and a copy above ends at the same time."""
    tier = make_tier(max_age="1h")
    memory = MemoryTier(clock=manual_clock)
    assert await tier.insert(key(1), "old")
    assert await ChainTier(memory, tier).get(key(1)) == Hit("old")
    hit = await tier.get(key(1))
    assert hit is not None
    assert hit.ttl == 3600
    manual_clock.advance(3600)
    assert await tier.get(key(1)) is None
    assert await memory.get(key(1)) is None
    assert await tier.insert(key(1), "new")
    assert await tier.get(key(1)) == Hit("new")


async def test_a_shorter_ttl_comes_first(make_tier: MakeTier) -> None:
    """max_age prolongs nothing."""
    tier = make_tier(max_age=3600)
    await tier.set(key(1), "v", ttl=10)
    hit = await tier.get(key(1))
    assert hit is not None
    assert hit.ttl == 10


async def test_old_entries_are_removed(make_tier: MakeTier, manual_clock: ManualClock) -> None:
    """A cull removes what is too old and nothing else; that is an expiration."""
    tier = make_tier(max_age="1h")
    for number in range(20):
        await tier.set(key(number), number)
    await asyncio.get_running_loop().shutdown_default_executor()  # what the first write has begun behind its back
    manual_clock.jump_wall(time.time() - manual_clock.wall())
    for number in range(5):
        os.utime(path_of(tier, key(number)), (0, time.time() - 3700))
    with tier.events.capture() as events:
        assert await tier.cull() == 5
    assert [(event.operation, event.reason) for event in events if isinstance(event, TierEvent)] == [
        ("evict", "expired")
    ] * 5
    assert (tier.statistics().evictions, tier.statistics().expirations, len(stored(tier))) == (0, 5, 15)


def test_writes_remove_what_is_old(make_tier: MakeTier, manual_clock: ManualClock) -> None:
    """Every so often a write looks for old entries, unless another tier did."""
    manual_clock.jump_wall(time.time() - manual_clock.wall())
    tiers = [make_tier(max_age=240) for _ in range(2)]

    def removes(tier: DiskTier) -> bool:
        put(tier, "old")
        os.utime(path_of(tier, key("old")), (0, 0))
        tidy(tier, writes=True)
        return not path_of(tier, key("old")).exists()

    assert [removes(tier) for tier in (tiers[0], tiers[0], tiers[1])] == [True, False, False]
    manual_clock.advance(300)
    assert [removes(tier) for tier in (tiers[1], tiers[0])] == [True, False]


async def test_nothing_is_done_for_a_closed_tier(make_tier: MakeTier, tmp_path: Path) -> None:
    """Housekeeping that comes late does not open, let alone make, the directory again."""
    tier = make_tier(max_entries=10)
    await tier.set(key(1), 1)
    await tier.get(key(1))
    await tier.aclose()
    await asyncio.to_thread(shutil.rmtree, tmp_path / "disk")
    await asyncio.to_thread(keeper_of(tier).tidy, 0.0, writes=True)
    assert not tier.path.exists()


# --- races and faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", DISK_POLICIES)
def test_files_from_the_future_are_culled(make_tier: MakeTier, policy: str) -> None:
    """A time of modification beyond what the ledger has room for, which a clock or a copy may leave, stops no cull."""
    peer, tier = make_tier(), make_tier(max_entries=2, policy=policy)
    for number in range(6):
        put(peer, number)
    for path in stored(peer):
        os.utime(path, ns=(FAR_FUTURE, FAR_FUTURE))
    assert cull(tier)
    assert len(stored(peer)) <= 2


@pytest.mark.parametrize("policy", DISK_POLICIES)
def test_d29_nothing_new_is_removed(make_tier: MakeTier, policy: str) -> None:
    """Whatever was replaced or used since it was looked at stays, at every system call of a cull."""
    peer = make_tier()
    number, struck = 0, True
    while struck:
        files = FaultyFileSystem()
        tier = make_tier(max_entries=1, policy=policy, files=files)
        peer._shelf.clear()
        for name in ("a", "b"):
            put(peer, name, "old")
        files.fail(number, lambda: [put(peer, name, "new") for name in ("a", "b")], once=True)
        assert cull(tier) in {0, 1, 2}
        struck = files.struck > 0
        files.heal()
        values = [get_plain(peer, name) for name in ("a", "b")]
        if struck:
            # Replaced before it was looked at, one of the two may go; replaced afterwards, none.
            assert "old" not in values
            assert values.count("new") >= 1
        number += 1
    assert number > 20


def remove(tier: DiskTier, name: object) -> bool:
    """Remove in this thread, and tell whether there was anything."""
    return tier._shelf.remove(key(name))


def replace(tier: DiskTier, name: object) -> bool:
    """Store over what is there, in this thread, and tell whether there was anything."""
    there = path_of(tier, key(name)).exists()
    return put(tier, name, "new") and there


@pytest.mark.parametrize(("end", "made"), [(remove, 0), (replace, 2)], ids=["removed", "replaced"])
def test_what_a_peer_took_or_put_back_was_not_culled(
    make_tier: MakeTier, end: Callable[[DiskTier, object], bool], made: int
) -> None:
    """A file that a peer removes or replaces at any system call of a cull ends once: a cull tells what it took itself."""
    peer = make_tier()
    number, struck = 0, True
    while struck:
        files = FaultyFileSystem()
        tier = make_tier(max_entries=1, files=files)
        peer._shelf.clear()
        for name in ("a", "b"):
            put(peer, name)
        ended: list[bool] = []
        files.fail(number, partial(ended.extend, (end(peer, name) for name in ("a", "b"))), once=True)
        culled = cull(tier)
        struck = files.struck > 0
        files.heal()
        assert culled == tier.statistics().evictions == 2 + struck * made - sum(ended) - len(stored(peer))
        number += 1
    assert number > 20


@pytest.mark.parametrize("end", [remove, replace], ids=["removed", "replaced"])
def test_the_ledger_knows_what_a_peer_did_to_the_doomed(
    make_tier: MakeTier, end: Callable[[DiskTier, object], bool]
) -> None:
    """A file that a peer removes, or replaces, when it is about to go is off the ledger as if the cull had taken it."""
    files = FaultyFileSystem()
    tier, peer = make_tier(max_entries=1, files=files), make_tier(max_entries=1_000)
    for name in ("a", "b"):
        put(peer, name)
        tick(peer)
    assert cull(peer) == 0
    files.fail(0, lambda: end(peer, "a"), once=True, only="rename")
    assert cull(tier) == 0
    assert files.struck == 1
    assert page_of(tier).total == (occupied(peer), len(stored(peer)))


@pytest.mark.parametrize("policy", ["lfu", "sieve"])
def test_uses_are_counted_between_processes(make_tier: MakeTier, manual_clock: ManualClock, policy: str) -> None:
    """Hits are added to what the file counts, once a minute, and its age stays what it was; sieve takes them away when it passes."""
    tier, other = (make_tier(max_entries=10, policy=policy) for _ in range(2))
    put(tier, "used")
    path = path_of(tier, key("used"))
    made = path.stat().st_mtime_ns // 10**9

    def uses() -> int:
        status = path.stat()
        assert status.st_mtime_ns // 10**9 == made
        return uses_of(status.st_mtime_ns)

    assert uses() == 0
    for one, hits, counted in ((tier, 3, 3), (other, 4, 7), (tier, 500, 255)):
        for _ in range(hits):
            assert get(one, "used") == "v"
        tidy(one, writes=False)
        assert uses() == counted
        manual_clock.advance(61)
    for number in range(10):
        put(tier, number)
    assert uses() == (255 if policy == "lfu" else 0)


def test_policies_go_round_in_pieces(make_tier: MakeTier) -> None:
    """In a directory too large for one look, what is used stays by every policy that counts, over many culls."""
    for policy in ("lfu", "sieve"):
        tier = make_tier(policy, max_entries=2_000, policy=policy)
        for number in range(2_000):
            put(tier, number)
        for number in range(4_000):
            put(tier, ("new", number))
            if number % 200 == 0:
                for used in range(0, 2_000, 40):
                    keeper_of(tier).note(key(used))
                keeper_of(tier)._renew(tier._shelf)
        kept = [path_of(tier, key(number)).exists() for number in range(0, 2_000, 40)]
        assert sum(kept) >= 45
        assert len(stored(tier)) <= 2_100


def test_d16_readers_see_the_value_or_none(make_tier: MakeTier) -> None:
    """At every system call of a cull a reader gets whole values or misses, and what he has open stays readable."""
    reader = make_tier()
    number, struck = 0, True
    while struck:
        files = FaultyFileSystem()
        tier = make_tier(max_entries=1, files=files)
        for name in ("a", "b"):
            put(reader, name)
        seen: list[object] = []
        with reader._shelf.open(key("a")) as blob:
            files.fail(number, partial(look, reader, seen), once=True)
            cull(tier)
            struck = files.struck > 0
            files.heal()
            assert len(blob.read()) == blob.size
        assert set(seen) <= {None, "v"}
        number += 1
    assert number > 20


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_faults_of_the_housekeeping_are_nobodys_errors(make_tier: MakeTier, error: int) -> None:
    """Whichever system call fails, a write that was published says so, and the limits hold once the disk works again."""
    files = FaultyFileSystem()
    tier = make_tier(max_entries=5, files=files)
    number, struck = 0, True
    while struck:
        while len(stored(tier)) < 5:
            put(tier, (number, len(stored(tier))))
        files.fail(number, error, once=True)
        try:
            written = put(tier, (number, "last"))
        except OSError:
            written = False
        struck = files.struck > 0
        files.heal()
        assert path_of(tier, key((number, "last"))).exists() or not written
        number += 1
    assert number > 20
    cull(tier)
    put(tier, "end")
    assert len(stored(tier)) <= 6


async def test_disk_that_fails_for_good(make_tier: MakeTier) -> None:
    """A cull that cannot do anything is a failure in the statistics, and no error."""
    files = FaultyFileSystem()
    tier = make_tier(max_entries=5, files=files)
    await tier.set(key(1), 1)
    files.fail(0, errno.EIO)
    assert await tier.cull() == 0
    assert tier.statistics().failures == 1


def test_short_reads_and_writes(make_tier: MakeTier) -> None:
    """A ledger that is read and written in pieces is the same ledger."""
    tier = make_tier(max_entries=10, files=StingyFileSystem(700))
    for number in range(40):
        put(tier, number)
    assert len(stored(tier)) <= 11
    assert page_of(tier).is_counted


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\0" * 4132, None])
def test_damaged_ledger_is_begun_anew(make_tier: MakeTier, damage: bytes | None) -> None:
    """A ledger that is empty, damaged or gone is begun anew, and the limits hold from the next write on."""
    tier = make_tier(max_entries=30)
    for number in range(30):
        put(tier, number)
    path = Path(tier._shelf.path, ".ledger")
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    for number in range(100, 110):
        put(tier, number)
        assert len(stored(tier)) <= 32
    assert page_of(tier).total.files <= 32


def test_ledger_whose_bytes_were_changed(make_tier: MakeTier) -> None:
    """One flipped bit is damage."""
    assert Page(bytes(Page().pack())).pack() == Page().pack()
    page = Page()
    page.add(7, Amount(100, 1))
    data = page.pack()
    assert Page(bytes(data)).total == (100, 1)
    for place in (0, 9, 20, 40, len(data) - 1):
        broken = bytearray(data)
        broken[place] ^= 4
        assert Page(bytes(broken)).total == (0, 0)


def test_ledger_that_cannot_be_opened(make_tier: MakeTier) -> None:
    """A directory in the place of the ledger keeps nobody from writing."""
    tier = make_tier(max_entries=3)
    tier._shelf.prepare_locks()
    Path(tier._shelf.path, ".ledger").mkdir()
    assert all(put(tier, number) for number in range(10))


def test_pages_settle_what_was_added_meanwhile() -> None:
    """A shard that is set right keeps what was added since the look began; the hand goes round all of them."""
    page = Page()
    page.add(3, Amount(100, 1))
    before = page.shard(3)
    page.add(3, Amount(50, 1))
    page.settle(3, before, Amount(70, 1))
    assert (page.shard(3), page.total) == ((120, 2), (120, 2))
    assert (page.next_shard(), page.next_shard(SHARDS + 2), page.is_counted) == (0, 2, False)
    for _ in range(SHARDS):
        page.turn()
    assert (page.next_shard(), page.is_counted) == (0, True)


class PausingFileSystem(WatchedFileSystem):
    """Counts pauses, which take no time."""

    __slots__ = ("pauses",)

    def __init__(self) -> None:
        self.pauses = 0
        super().__init__(self._count)

    def _count(self, operation: str) -> None:
        self.pauses += operation == "pause"


def test_only_one_culls(make_tier: MakeTier) -> None:
    """While somebody culls, nobody else does; a write beyond the limit waits for him, once, and later ones are refused."""
    files = PausingFileSystem()
    tier = make_tier(max_entries=2, files=files)
    put(tier, 0)
    with tier._shelf.lock_culling() as alone:
        assert alone
        assert cull(make_tier(max_entries=1)) is None
        assert put(tier, 1)
        assert files.pauses == 0
        assert put(tier, 2)
        waited = files.pauses
        assert waited > 10
        with tier.events.capture() as events:
            assert not any(put(tier, number) for number in range(3, 50))
        assert (len(stored(tier)), files.pauses) == (3, waited)
    assert [(event.operation, event.outcome, event.reason) for event in events if isinstance(event, TierEvent)] == [
        ("write", "failed", "full")
    ] * 47
    assert tier.statistics().failures == 47
    assert put(tier, 9)
    assert len(stored(tier)) <= 2


def test_each_writer_is_one_beyond(make_tier: MakeTier) -> None:
    """However many there are while the culler is stopped, each has stored one entry beyond, and a smaller cull helps all."""
    limit = 40
    tiers = [make_tier(max_entries=limit, files=PausingFileSystem()) for _ in range(3)]
    for number in range(limit):
        put(tiers[0], number)
    with tiers[0]._shelf.lock_culling():
        for number in range(limit, 4 * limit):
            put(tiers[number % 3], number)
            assert len(stored(tiers[0])) <= 1.05 * limit + len(tiers)
        for path in stored(tiers[0])[:20]:
            path.unlink()
        assert not put(tiers[1], "on paper it is full")
    assert all(put(tier, number) for number, tier in enumerate(tiers))
    assert len(stored(tiers[0])) <= 1.05 * limit


def test_a_culler_that_lives_lets_others_write(make_tier: MakeTier) -> None:
    """Who was refused writes again as soon as there is room, though the lock is still held; he does not wait for it."""
    files = PausingFileSystem()
    tier, culler = make_tier(max_entries=10, files=files), make_tier(max_entries=10)
    for number in range(10):
        put(tier, number)
    with tier._shelf.lock_culling():
        while put(tier, ("beyond", files.pauses)):
            pass
        pauses = files.pauses
        with culler._shelf.ledger.open() as page:
            for shard in range(SHARDS):
                page.settle(shard, page.shard(shard), Amount())
        assert put(tier, "room") is True
        assert files.pauses == pauses


def test_a_replacement_that_is_refused_leaves_nothing(make_tier: MakeTier) -> None:
    """What was there is not what was set last, and makes room."""
    tier = make_tier(max_entries=2, files=PausingFileSystem())
    with tier._shelf.lock_culling():
        while put(tier, ("new", len(stored(tier)))):
            pass
        with tier.events.capture() as events:
            assert not put(tier, ("new", 0), "again")
        assert get_plain(tier, ("new", 0)) is None
    assert [event.reason for event in events if isinstance(event, TierEvent)] == ["full", "replaced"]


def test_a_stopped_writer_holds_the_ledger(make_tier: MakeTier) -> None:
    """While nobody can tell how much there is, one write waits and passes, and the others are refused at once."""
    files = PausingFileSystem()
    tier = make_tier(max_entries=100, files=files)
    put(tier, 0)
    with make_tier(max_entries=100)._shelf.ledger.open():
        assert put(tier, 1)
        waited = files.pauses
        assert waited > 0
        assert not any(put(tier, number) for number in range(2, 9))
        assert files.pauses == waited
    assert all(put(tier, number) for number in range(2, 9))
    assert page_of(tier).total.files == len(stored(tier)) == 9


def test_a_tier_that_is_closed_meanwhile_culls_nothing(make_tier: MakeTier) -> None:
    """What was published is; the next one who opens the directory makes room."""
    files = FaultyFileSystem()
    tier = make_tier(max_entries=1, files=files)
    put(tier, 0)
    files.fail(2, tier._shelf.close, once=True, only="flock")  # when the ledger is let go
    assert put(tier, 1)
    assert (files.struck, len(stored(tier))) == (1, 2)
    assert put(tier, 2)
    assert len(stored(tier)) == 1


def test_without_a_ledger_nothing_is_refused(make_tier: MakeTier) -> None:
    """Who cannot tell how much there is keeps no limit, even if he could not cull before."""
    tier = make_tier(max_entries=2, files=PausingFileSystem())
    with tier._shelf.lock_culling():
        while put(tier, len(stored(tier))):
            pass
        path = Path(tier._shelf.path, ".ledger")
        path.unlink()
        path.mkdir()
        assert all(put(tier, ("more", number)) for number in range(5))


async def test_a_refused_write_is_nobodys_error(make_tier: MakeTier) -> None:
    """A caller has his result, and what others share is kept in memory."""
    disk = make_tier(max_entries=1, files=PausingFileSystem())
    cache = FastCache(MemoryTier(clock=disk.clock), disk)

    @cache.memoize
    async def f(n: int) -> int:
        return n

    lock = disk._shelf.lock_culling()
    assert await asyncio.to_thread(lock.__enter__)
    try:
        assert [await f(number) for number in range(6)] == list(range(6))
        assert [await f(number) for number in range(6)] == list(range(6))
        assert f.cache_info().computed == 6
        assert len(await asyncio.to_thread(stored, disk)) <= 2
        assert disk.statistics().failures >= 4
    finally:
        await asyncio.to_thread(lock.__exit__, None, None, None)
    await cache.aclose()


async def test_d28_opening_lists_nothing(make_tier: MakeTier) -> None:
    """Opening a directory, reading, and a write within the limits list no directory, however many files there are."""
    await make_tier(max_entries=1_000).set(key(0), "v")
    files = FaultyFileSystem()
    tier = make_tier(max_entries=1_000, files=files)
    files.fail(0, lambda: pytest.fail("a directory was listed"), only="listdir")
    assert await tier.get(key(0)) == Hit("v")
    assert await tier.set(key(1), 1)
    assert (await tier.get(key(1)), files.struck) == (Hit(1), 0)


def test_hits_are_noted_without_writing(make_tier: MakeTier, manual_clock: ManualClock) -> None:
    """Hits renew a file once a minute, not each time; a policy that counts no uses leaves its age alone."""
    tier = make_tier(max_entries=10, policy="lru")
    put(tier, 1)

    def renews() -> bool:
        tick(tier)
        before = path_of(tier, key(1)).stat()
        assert get(tier, 1) == "v"
        tidy(tier, writes=False)
        after = path_of(tier, key(1)).stat()
        assert (before.st_mtime_ns, before.st_mode) == (after.st_mtime_ns, after.st_mode)
        return before.st_ctime_ns != after.st_ctime_ns

    assert [renews() for _ in range(3)] == [True, False, False]
    manual_clock.advance(61)
    assert [renews() for _ in range(2)] == [True, False]


async def test_hits_are_noted_on_every_way(make_tier: MakeTier) -> None:
    """A hit that needs no thread is noted as one that does."""
    for files in (None, FaultyFileSystem()):
        tier = make_tier(max_entries=10, files=files)
        await tier.set(key(1), 1)
        keeper_of(tier)._renew_at = float("inf")
        assert await tier.get(key(1)) == Hit(1)
        assert keeper_of(tier)._used == {key(1): 1}


async def test_removals_tell_their_cause(make_tier: MakeTier) -> None:
    """Subscribers hear why an entry went: somebody asked for it, it was damaged, its version is no more."""
    tier = make_tier(version=2)
    await tier.set(key(1), 1)
    await make_tier(version=1).set(key(2), 2)
    plant(tier, key(3), b"rubbish")
    with tier.events.capture() as events:
        await tier.delete(key(1))
        await tier.delete(key(1))
        for number in (2, 3):
            assert await tier.get(key(number)) is None
    told = [event for event in events if isinstance(event, TierEvent) and event.operation == "remove"]
    assert [(event.key, event.reason) for event in told] == [
        (key(1), "invalidated"),
        (key(2), "invalidated"),
        (key(3), "corrupt"),
    ]


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_bytes", 0),
        ("max_entries", -1),
        ("max_age", 0),
        ("max_age", "-1s"),
        ("policy", "random"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, option: str, value: Any) -> None:
    """A limit below 1, an age that is not positive and an unknown policy are refused by name."""
    with pytest.raises(ConfigurationError, match=option):
        DiskTier(tmp_path, **{option: value})


def test_limits_by_url(tmp_path: Path) -> None:
    """The options are there in URLs, sizes and durations as people write them."""
    tier = tier_from_url(f"disk://{tmp_path}?max_bytes=2GB&max_entries=10&max_age=7d&policy=cost")
    assert isinstance(tier, DiskTier)
    assert tier._keeper is not None
    assert tier._keeper.limits == Limits(2 * 10**9, 10, 7 * 86400.0, "cost", tier._worth)
    assert isinstance(seconds := tier_from_url(f"disk://{tmp_path}?max_age=90"), DiskTier)
    assert seconds._max_age == 90
    for query in ("max_age=0", "max_age=soon", "max_entries=0", "max_entries=-3", "max_entries=many", "policy=fifo"):
        with pytest.raises(ConfigurationError, match=query.split("=", maxsplit=1)[0]):
            tier_from_url(f"disk://{tmp_path}?{query}")
    for query in (
        "max_entries=secret",
        "max_entries=1.5",
        "max_bytes=secret",
        "max_bytes=2XB",
        "durable=x",
    ):
        with pytest.raises(
            ConfigurationError, match=r": (a number is written|a size is a number|expected 1 or 0)"
        ) as caught:
            tier_from_url(f"disk://{tmp_path}?{query}")
        assert "secret" not in str(caught.value)
    memory = tier_from_url("memory://?policy=lru&max_bytes=1MB")
    assert isinstance(memory, MemoryTier)
    assert (memory.policy, memory.max_bytes) == ("lru", 10**6)
