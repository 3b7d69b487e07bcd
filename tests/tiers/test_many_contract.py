"""Many entries at once: the same as one by one, on every tier, and in one round trip where that is faster."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from acache import ChainTier, DiskTier, Hit, MemoryTier, Tier
from acache.exceptions import EntryRejectedError, KeyEncodingError, ValueEncodingError
from acache.files import threads
from acache.keys import encode_key
from acache.testing import FaultyTier, ManualClock, cancel_sweep, settle
from acache.testing.files import WatchedFileSystem
from acache.types import Entry, Written

KINDS = ("memory", "disk", "chain", "chain of one", "chain of disks", "faulty", "disk that is not warm")
ENCODING = ("disk", "chain", "chain of disks", "disk that is not warm")


def make(kind: str, path: Path, clock: ManualClock) -> Tier:
    """Return a new, empty tier."""
    memory = MemoryTier(clock=clock)
    match kind:
        case "memory":
            return memory
        case "disk":
            return DiskTier(path, clock=clock)
        case "chain":
            return ChainTier(memory, DiskTier(path, clock=clock))
        case "chain of one":
            return ChainTier(memory)
        case "chain of disks":
            return ChainTier(DiskTier(path, clock=clock), DiskTier(path, sub_dir="b", clock=clock, name="wide"))
        case "faulty":
            return FaultyTier(memory)
        case _:
            tier = DiskTier(path, clock=clock)
            tier._shelf.read_warm = lambda key: None  # type: ignore[method-assign]  # as where the kernel cannot be asked
            return tier


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def kind() -> str:
    return "chain"


@pytest.fixture
def tier(kind: str, tmp_path: Path, clock: ManualClock) -> Tier:
    return make(kind, tmp_path / "tier", clock)


every_tier = pytest.mark.parametrize("kind", KINDS)


@every_tier
async def test_what_is_set_is_got(tier: Tier) -> None:
    """Every value comes back under its key as given; what is not there is absent."""
    values: dict[Any, Any] = {"a": 1, ("b", 2): None, 3: [1, 2], 4.5: b"", None: "none"}
    assert await tier.set_many(values) == 5
    assert await tier.get_many([*values, "absent"]) == {key: Hit(value) for key, value in values.items()}
    assert await tier.get("a") == Hit(1)
    await tier.aclose()


@every_tier
async def test_nothing_is_nothing(tier: Tier) -> None:
    """No keys are no work."""
    assert await tier.get_many([]) == {}
    assert await tier.set_many({}) == 0
    assert tier.statistics().misses == 0
    await tier.aclose()


@every_tier
@pytest.mark.parametrize("count", [1, 4, 5, 300])
async def test_any_number(tier: Tier, count: int) -> None:
    """Few entries and many, in any order and with repetitions, come back the same."""
    assert await tier.set_many({number: number for number in range(count)}) == count
    keys = [*range(count - 1, -1, -1), 0, 0, -1]
    assert await tier.get_many(iter(keys)) == {number: Hit(number) for number in range(count)}
    await tier.aclose()


@every_tier
async def test_set_replaces(tier: Tier) -> None:
    """A later value takes the place of an earlier one, whichever way it comes."""
    await tier.set("a", 1)
    await tier.set_many({"a": 2, "b": 2})
    await tier.set("b", 3)
    assert await tier.get_many(["a", "b"]) == {"a": Hit(2), "b": Hit(3)}
    await tier.aclose()


@every_tier
async def test_time_counts_for_each(tier: Tier, clock: ManualClock) -> None:
    """Entries end at their own time."""
    await tier.set_many({"a": 1, "b": 2}, ttl=10)
    await tier.set_many({"c": 3}, ttl=20)
    clock.advance(10)
    assert await tier.get_many(["a", "b", "c"]) == {"c": Hit(3)}
    clock.advance(10)
    assert await tier.get_many(["a", "b", "c"]) == {}
    await tier.aclose()


@every_tier
async def test_equal_keys_are_one(tier: Tier) -> None:
    """Of keys that are equal the first counts: the answer could not tell them apart."""
    await tier.set(1, "one")
    await tier.set(True, "true")
    assert await tier.get_many([1, True]) == {1: Hit("one")}
    await tier.aclose()


@every_tier
async def test_keys_that_cannot_be_one(tier: Tier) -> None:
    """A key without an encoding is the caller's error, before anything is stored."""
    with pytest.raises(KeyEncodingError):
        await tier.set_many({"a": 1, object(): 2})
    with pytest.raises(KeyEncodingError):
        await tier.get_many(["a", object()])
    assert await tier.get("a") is None
    await tier.aclose()


@every_tier
async def test_statistics_count_each(tier: Tier) -> None:
    """A batch counts as its entries do one by one."""
    await tier.set_many({"a": 1, "b": 2})
    await tier.get_many(["a", "b", "c"])
    counted = tier.statistics()
    assert (counted.writes, counted.hits, counted.misses) == (2, 2, 1)
    await tier.aclose()


@every_tier
async def test_the_entry_face(tier: Tier, clock: ManualClock) -> None:
    """Entries are written and read together as they are one by one; one that is there stays, unless it may be replaced."""
    keys = [encode_key(number) for number in range(6)]
    entries = {key: Entry(number, clock.wall()) for number, key in enumerate(keys)}
    some = dict(list(entries.items())[:3])
    assert await tier.write_many(some, replace=False) == dict.fromkeys(some, Written.NEW)
    again = {key: Entry("other", clock.wall()) for key in keys}
    assert list((await tier.write_many(again, replace=False)).values()) == [Written.PRESENT] * 3 + [Written.NEW] * 3
    found = await tier.read_many(keys)
    assert [found[key].value for key in keys] == [0, 1, 2, "other", "other", "other"]
    await tier.aclose()


@pytest.mark.parametrize("kind", ENCODING)
async def test_a_value_that_cannot_be_encoded(tier: Tier, kind: str) -> None:
    """It is an error when the others are stored; no tier holds it, nor what was there before it in memory only."""
    if isinstance(tier, ChainTier) and tier.memory is not None:
        await tier.memory.set("bad", 0)
    with pytest.raises(ValueEncodingError):
        await tier.set_many({"a": 1, "bad": lambda: 0, "b": 2})
    assert await tier.get_many(["a", "bad", "b"]) == {"a": Hit(1), "b": Hit(2)}
    await tier.aclose()


@every_tier
async def test_cancelled_anywhere(tier: Tier) -> None:
    """Wherever a batch is cancelled, every entry is the old one or the new one, in all tiers, and later batches work."""
    number = 0

    async def replace() -> int:
        return await tier.set_many(dict.fromkeys(range(8), number + 1))

    await tier.set_many(dict.fromkeys(range(8), number))
    async for step in cancel_sweep(replace):
        await settle()
        found = await tier.get_many(range(8))
        assert {hit.value for hit in found.values()} <= {number, number + 1}
        assert len(found) == 8
        if not step.was_cancelled:
            assert {hit.value for hit in found.values()} == {number + 1}
        number += 2
        assert await tier.set_many(dict.fromkeys(range(8), number)) == 8
    await tier.aclose()


# --- the disk -----------------------------------------------------------------------------------------------------


async def test_one_hop_for_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred entries are one call in a thread, not a hundred."""
    hops: list[object] = []

    def watched(way: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def hop(function: Any) -> Any:
            hops.append(function)
            return way(function)

        return hop

    for way in ("_hop", "_in_executor"):
        monkeypatch.setattr(threads, way, watched(getattr(threads, way)))
    chain = ChainTier(MemoryTier(), DiskTier(tmp_path))
    assert await chain.set_many({number: number for number in range(100)}) == 100
    assert len(hops) == 1
    assert chain.memory is not None
    await chain.memory.clear()
    assert len(await chain.get_many(range(100))) == 100
    assert len(hops) == 2
    assert len(await chain.get_many(range(100))) == 100
    assert len(hops) == 2
    await chain.aclose()


async def test_a_damaged_entry_is_a_miss_of_its_own(tmp_path: Path) -> None:
    """One that fails verification is rejected and counted; the others of its batch are hits."""
    tier = DiskTier(tmp_path)
    await tier.set_many({number: number for number in range(8)})
    key = encode_key(3)
    path = tier.path / key[62:] / key[:62]
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert sorted(await tier.get_many(range(8))) == [0, 1, 2, 4, 5, 6, 7]
    assert tier.statistics().rejections == 1
    await tier.aclose()


async def test_a_damaged_entry_is_raised_if_wanted(tmp_path: Path) -> None:
    """With ``on_corrupt="raise"`` it is the caller's error."""
    tier = DiskTier(tmp_path, on_corrupt="raise")
    await tier.set_many({number: number for number in range(8)})
    key = encode_key(3)
    (tier.path / key[62:] / key[:62]).write_bytes(b"no entry")
    with pytest.raises(EntryRejectedError):
        await tier.get_many(range(8))
    await tier.aclose()


async def test_a_full_disk(tmp_path: Path, clock: ManualClock) -> None:
    """What was written before the disk was full is stored, no more is tried for a while, and nothing is raised."""
    left = 3
    tried = 0

    def meet(call: str) -> None:
        nonlocal left, tried
        if call == "writev":
            tried += 1
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "full")

    tier = DiskTier(tmp_path, files=WatchedFileSystem(meet), clock=clock)
    assert await tier.set_many({number: number for number in range(8)}) == 3
    assert tried == 4
    assert tier.statistics().failures == 5
    assert await tier.set_many({8: 8}) == 0
    assert tried == 4
    assert sorted(await tier.get_many(range(9))) == [0, 1, 2]
    left = 100
    clock.advance(1)
    assert await tier.set_many({8: 8}) == 1
    await tier.aclose()


# --- the chain ----------------------------------------------------------------------------------------------------


async def test_a_chain_asks_for_what_is_missing(tmp_path: Path) -> None:
    """A wider tier is asked once, for what no narrower one has, and fills those above; a hit names its tier."""
    narrow, wide = FaultyTier(MemoryTier(name="narrow")), DiskTier(tmp_path)
    chain = ChainTier(narrow, wide)
    await wide.set_many({"a": 1, "b": 2})
    await narrow.set("b", "narrow")
    hits = await chain.get_many(["a", "b", "c"])
    assert {key: (hit.value, hit.tier) for key, hit in hits.items()} == {"a": (1, "disk"), "b": ("narrow", "narrow")}
    assert wide.statistics().hits == 1
    assert await narrow.get("a") == Hit(1)
    await chain.aclose()


async def test_the_wide_tier_is_written_first(tmp_path: Path) -> None:
    """What a wider tier could not take, because it is broken, a narrower one may; what nobody shares comes last."""
    order: list[str] = []
    narrow, wide = FaultyTier(MemoryTier(name="narrow")), FaultyTier(DiskTier(tmp_path))
    for tier in (narrow, wide):
        tier.events.subscribe(lambda event, name=tier.name: order.append(name))  # type: ignore[misc]
    chain = ChainTier(narrow, wide)
    assert await chain.set_many({"a": 1, "b": 2}) == 2
    assert order == ["disk", "disk", "narrow", "narrow"]
    wide.fail("write", times=1)
    assert await chain.set_many({"a": 3, "b": 4}) == 2
    assert (await wide.get("a"), await narrow.get("a")) == (Hit(1), Hit(3))
    await chain.aclose()


async def test_tiers_that_agree_leave_out_what_one_refused(tmp_path: Path) -> None:
    """Where workers have to agree, no narrower tier holds what the others never see."""
    narrow, wide = MemoryTier(), FaultyTier(DiskTier(tmp_path))
    chain = ChainTier(narrow, wide, agrees=True)
    wide.fail("write", times=1)
    assert await chain.set_many({"a": 1, "b": 2}) == 1
    assert await narrow.get_many(["a", "b"]) == {"b": Hit(2)}
    await chain.aclose()


async def test_a_fill_gives_way_to_a_write(tmp_path: Path) -> None:
    """What a batch found below is not copied above once its key has changed."""
    narrow, wide = MemoryTier(), FaultyTier(DiskTier(tmp_path))
    chain = ChainTier(narrow, wide)
    await chain.set_many({"a": "old", "b": "old"})
    await narrow.clear()
    hang = wide.hang("read", times=1, after=1)  # "a" is read, and the batch goes on to "b"
    reading = asyncio.create_task(chain.get_many(["a", "b"]))
    await hang.reached.wait()
    await chain.set("a", "new")
    hang.release()
    assert (await reading)["a"] == Hit("old")
    assert await narrow.get_many(["a", "b"]) == {"a": Hit("new"), "b": Hit("old")}
    await chain.aclose()


async def test_batches_that_overlap_do_not_wait_in_a_circle() -> None:
    """Batches in any order, single writes and removals of the same keys come to an end."""
    chain = ChainTier(FaultyTier(MemoryTier(name="a")), FaultyTier(MemoryTier(name="b")))
    keys = list(range(10))
    work: list[Coroutine[Any, Any, object]] = []
    for turn in range(10):
        batch = keys[turn:] + keys[:turn]
        work += [chain.set_many(dict.fromkeys(batch, turn)), chain.set(turn, turn), chain.delete(turn)]
        work.append(chain.get_many(reversed(batch)))
    async with asyncio.timeout(10):
        await asyncio.gather(*work)
    first, second = [await tier.get_many(keys) for tier in chain.tiers]
    assert first == second
