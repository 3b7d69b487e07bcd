"""What a chain does beyond the tier contract: where it reads, where it writes, and which races it wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from acache.caches import DeterministicCache, FastCache
from acache.codecs import Codec
from acache.events import TierEvent
from acache.exceptions import BridgeError, ConfigurationError
from acache.testing import FaultyTier, ManualClock
from acache.tiers import ChainTier, DiskTier, MemoryTier, Tier
from acache.types import Entry, Key, Written
from tests.intruder import at_every_call

KEY = Key("a" * 64)


def wide(name: str = "wide") -> FaultyTier:
    """Make a tier of host reach that a test can hold up."""
    tier = FaultyTier(MemoryTier(name=name))
    tier.reach = 1
    return tier


class LateTier(Tier):
    """Finds what the tier it wraps holds at once, but answers reads only when a test lets it."""

    reach = 1

    def __init__(self, tier: MemoryTier) -> None:
        super().__init__(name="late")
        self.tier = tier
        self.found = asyncio.Event()
        self.answer = asyncio.Event()

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        entry = await self.tier.read(key)
        self.found.set()
        await self.answer.wait()
        return entry

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        return await self.tier.write(key, entry, replace=replace)

    async def _remove(self, key: Key) -> bool:
        return await self.tier.remove(key)

    async def _scan(self) -> AsyncGenerator[Key]:
        async for key in self.tier.keys():
            yield key


def entry(value: object) -> Entry:
    return Entry(value, created=0.0)


def held(tier: MemoryTier) -> object:
    node = tier.node(KEY)
    return None if node is None else node.value


def test_tiers_are_ordered_and_flattened() -> None:
    """A chain goes from the narrowest reach to the widest, whatever the order it was given; chains inside dissolve."""
    memory, disk = MemoryTier(), wide()
    chain = ChainTier(ChainTier(disk), memory, disk)
    assert chain.tiers == (memory, disk)
    assert (chain.memory, chain.reach) == (memory, 1)
    with pytest.raises(ConfigurationError, match="at least one"):
        ChainTier()


@pytest.mark.parametrize("make", [ChainTier, FastCache, DeterministicCache])
def test_tiers_with_different_clocks_are_refused(make: Callable[..., object], tmp_path: Path) -> None:
    """A tier compares what another wrote down with its own time, so all have one clock, those inside and behind others too."""
    clock = ManualClock()
    disk = DiskTier(tmp_path, clock=clock)
    for others in ((MemoryTier(),), (ChainTier(MemoryTier(clock=clock)), FaultyTier(MemoryTier(clock=ManualClock())))):
        with pytest.raises(ConfigurationError, match=r"^clock: .*'memory' .*give all tiers one clock$"):
            make(*others, disk)


def test_every_tier_of_a_chain_has_its_clock(tmp_path: Path) -> None:
    """Wrapped tiers, and the bundles that a deterministic cache adds, go by the clock of the others."""
    clock = ManualClock()
    tiers = FaultyTier(MemoryTier(clock=clock)), DiskTier(tmp_path, clock=clock)
    chain = DeterministicCache(*tiers, dump_on_close=False).tier
    assert isinstance(chain, ChainTier)
    assert [tier.clock for tier in (chain, *chain.tiers)] == [clock] * 4


async def test_a_hit_below_fills_the_tiers_above() -> None:
    """What the wide tier had is in memory afterwards, and the hit names where it was."""
    memory, disk = MemoryTier(), wide()
    chain = ChainTier(memory, disk)
    await disk.write(KEY, entry("v"), replace=False)
    hit = await chain.get(KEY)
    assert hit is not None
    assert (hit.value, hit.tier) == ("v", "wide")
    assert held(memory) == "v"
    again = await chain.get(KEY)
    assert again is not None
    assert again.tier == "memory"


async def test_an_insert_that_loses_below_goes_nowhere() -> None:
    """Memory never holds what the shared tier refused."""
    memory, disk = MemoryTier(), wide()
    await disk.write(KEY, entry("first"), replace=False)
    assert await ChainTier(memory, disk).write(KEY, entry("second"), replace=False) is Written.PRESENT
    assert held(memory) is None


async def test_an_insert_that_wins_below_replaces_what_is_above() -> None:
    """When the wide tier lost its entry, the new one is the entry in every tier."""
    memory, disk = MemoryTier(), wide()
    memory.put(KEY, entry("old"), replace=False)
    assert await ChainTier(memory, disk).write(KEY, entry("new"), replace=False) is Written.NEW
    assert held(memory) == "new"


async def test_a_broken_wide_tier_leaves_the_narrow_one_working() -> None:
    """An outage below is a miss below; what can be stored above is."""
    memory, disk = MemoryTier(), wide()
    chain = ChainTier(memory, disk)
    disk.fail("*", error=OSError)
    assert await chain.set("k", 1)
    hit = await chain.get("k")
    assert hit is not None
    assert hit.value == 1
    assert await chain.get("other") is None


@pytest.mark.parametrize("change", ["remove", "set", "clear"])
async def test_a_change_beats_a_fill_that_began_before_it(change: str) -> None:
    """A reader that found the old value below must not put it above after a delete, a set or a clear of its key."""
    memory, late = MemoryTier(), LateTier(MemoryTier())
    chain = ChainTier(memory, late)
    await late.write(KEY, entry("old"), replace=False)
    reader = asyncio.create_task(chain.read(KEY))
    await late.found.wait()
    if change == "remove":
        assert await chain.remove(KEY)
    elif change == "clear":
        await chain.clear()
    else:
        await chain.write(KEY, entry("new"), replace=True)
    late.answer.set()
    found = await reader
    assert found is not None
    assert found.value == "old"  # the reader began before the change, and may see what was there then
    assert held(memory) == ("new" if change == "set" else None)


async def test_a_clear_spares_the_fills_that_begin_after_it() -> None:
    """Fills work again once a change is through."""
    memory, late = MemoryTier(), LateTier(MemoryTier())
    late.answer.set()
    chain = ChainTier(memory, late)
    await chain.clear()
    await late.write(KEY, entry("v"), replace=False)
    await chain.read(KEY)
    assert held(memory) == "v"


async def test_writes_of_one_key_leave_all_tiers_agreeing() -> None:
    """Two sets at once: whichever is last is last in every tier."""
    memory, disk = MemoryTier(), wide()
    chain = ChainTier(memory, disk)
    hang = disk.hang("write", times=1)
    first = asyncio.create_task(chain.write(KEY, entry("first"), replace=True))
    await hang.reached.wait()
    second = asyncio.create_task(chain.write(KEY, entry("second"), replace=True))
    await asyncio.sleep(0)
    hang.release()
    await asyncio.gather(first, second)
    below = await disk.read(KEY)
    assert below is not None
    assert held(memory) == below.value == "second"


async def test_a_cancelled_set_does_not_leave_the_old_value_above_the_new_one() -> None:
    """A set cancelled while the wide tier writes leaves memory without the old value."""
    memory, disk = MemoryTier(), wide()
    chain = ChainTier(memory, disk)
    await chain.write(KEY, entry("old"), replace=True)
    hang = disk.hang("write", times=1)
    setting = asyncio.create_task(chain.write(KEY, entry("new"), replace=True))
    await hang.reached.wait()
    setting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await setting
    assert held(memory) is None
    hang.release()
    assert len(chain._writing) == 0


async def test_publish_asks_whether_it_still_may() -> None:
    """A publication that lost its right stores nothing anywhere."""
    memory, disk = MemoryTier(), wide()
    chain = ChainTier(memory, disk)
    assert await chain.publish(KEY, entry(1), replace=True, codec=None, still=lambda: False) is Written.FAILED
    assert await chain.read(KEY) is None


async def test_nothing_is_kept_of_reads_and_writes_that_ended() -> None:
    """The books of fills and writes are empty when nothing is under way."""
    chain = ChainTier(MemoryTier(), wide())
    await chain.set("a", 1)
    await chain.get("a")
    await chain.get("b")
    await chain.delete("a")
    assert (len(chain._watches), len(chain._writing)) == (0, 0)


async def test_keys_of_all_tiers_are_listed_once() -> None:
    """An entry in two tiers is one key."""
    memory, disk = MemoryTier(), wide()
    chain = ChainTier(memory, disk)
    await chain.set("both", 1)
    await disk.set("below", 2)
    keys = chain.keys()
    assert len([key async for key in keys]) == 2


@pytest.mark.parametrize("others", [1, 2])
def test_a10_a_reader_is_finalized_in_the_middle_of_a_step(others: int) -> None:
    """A10: readers of one key may end in the middle of each other's beginning and end; a change of the key ends all."""

    def prepare() -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
        chain = ChainTier(MemoryTier())
        readers: list[AbstractContextManager[Any]] = [chain.watching(KEY) for _ in range(others)]
        for reader in readers:
            reader.__enter__()

        def step() -> None:
            with chain.watching(KEY) as watch:
                assert watch.fresh
                chain._end_watches(KEY)
                assert not watch.fresh

        def intrude() -> None:
            for reader in readers:
                reader.__exit__(None, None, None)
            readers.clear()

        def check() -> None:
            intrude()
            assert chain._watches == {}

        return step, intrude, check

    assert at_every_call(prepare) > 5


def test_a_sink_runs_under_no_lock_of_the_chain() -> None:
    """No lock is held while user code runs: who hears of an eviction that a fill caused may wait for another reader."""
    memory, below = MemoryTier(max_entries=1), MemoryTier()
    below.reach = 0
    chain = ChainTier(memory, below)
    below.put(KEY, entry("below"), replace=True)
    memory.put(Key("b" * 64), entry("evicted"), replace=True)
    free: list[bool] = []

    def listen(event: object) -> None:
        if not isinstance(event, TierEvent) or event.operation != "evict":
            return
        with ThreadPoolExecutor(1) as pool:
            taken = pool.submit(chain._mutex.acquire, blocking=False).result(5)
            free.append(taken)
            if taken:
                pool.submit(chain._mutex.release).result(5)

    chain.events.subscribe(listen)
    assert chain.find_now(KEY) is not None
    assert memory.node(KEY) is not None
    assert free == [True]


async def test_many_that_cannot_be_copied_are_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that would wait for ever, for a loop that a sync call blocks, is given up, and nobody misses a hit for it."""
    near, far = DiskTier(tmp_path / "near"), DiskTier(tmp_path / "far")
    chain = ChainTier(near, far)
    await far.set("k", "v")

    def refuse(*_: object) -> object:
        raise BridgeError("it would wait for a blocked loop")

    monkeypatch.setattr(chain, "_holding", refuse)
    found = await chain.get_many(["k"])
    assert [hit.value for hit in found.values()] == ["v"]
    assert await near.get("k") is None
