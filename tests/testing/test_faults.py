"""The tier that breaks on demand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from acache.exceptions import ValueUnPicklingError
from acache.keys import encode_key
from acache.testing import Call, FaultyTier, ManualClock, settle
from acache.tiers import ChainTier, DiskTier, MemoryTier
from acache.types import Hit

if TYPE_CHECKING:
    from pathlib import Path

    from acache.testing.faults import Operation

KEY = encode_key("k")
NO_KEYS: list[str] = []


@pytest.fixture
def tier() -> FaultyTier:
    """Wrap a memory tier."""
    return FaultyTier(MemoryTier(clock=ManualClock()))


async def use(tier: FaultyTier) -> tuple[bool, Hit[int] | None, bool, list[str]]:
    """Do each operation once: write, read, remove, scan."""
    return await tier.set("k", 1), await tier.get("k"), await tier.delete("k"), await keys_of(tier)


async def keys_of(tier: FaultyTier) -> list[str]:
    """List the keys."""
    return [key async for key in tier.keys()]  # noqa: SIM118 - a tier is no dict


async def test_without_faults_it_is_the_tier(tier: FaultyTier) -> None:
    """A wrapper with no faults has the name, clock and reach of the tier, and its entries."""
    inner = tier.tier
    assert (tier.name, tier.clock, tier.reach) == (inner.name, inner.clock, inner.reach)
    await tier.set("k", 1)
    assert await inner.get("k") == await tier.get("k") == Hit(1)


BROKEN: tuple[tuple[Operation, object], ...] = (
    ("write", (False, None, False, NO_KEYS)),
    ("read", (True, None, True, NO_KEYS)),
    ("remove", (True, Hit(1), False, [KEY])),
)


@pytest.mark.parametrize(("operation", "outcome"), BROKEN)
async def test_broken_operation_is_a_miss_and_a_count(tier: FaultyTier, operation: Operation, outcome: object) -> None:
    """What breaks is no error for the caller, is counted and told; what does not break works."""
    tier.fail(operation)
    with tier.events.capture() as events:
        assert await use(tier) == outcome
    assert tier.statistics().failures == 1
    assert [event.outcome for event in events].count("failed") == 1
    tier.heal()
    assert await use(tier) == (True, Hit(1), True, [])


async def test_broken_scan(tier: FaultyTier) -> None:
    """A scan that breaks raises where keys are listed, and is a count where they are cleared."""
    tier.fail("scan", error=PermissionError)
    with pytest.raises(PermissionError):
        await keys_of(tier)
    await tier.clear()
    assert tier.statistics().failures == 1


async def test_everything_breaks(tier: FaultyTier) -> None:
    """``*`` is every operation."""
    tier.fail()
    assert (await tier.set("k", 1), await tier.get("k"), await tier.delete("k")) == (False, None, False)
    assert tier.statistics().failures == 3


async def test_which_and_how_often(tier: FaultyTier) -> None:
    """``after`` operations pass, then ``times`` break, then all is well; other operations are not counted."""
    await tier.set("k", 1)
    tier.fail("read", after=1, times=2)
    await tier.set("k", 1)
    assert [await tier.get("k") for _ in range(5)] == [Hit(1), None, None, Hit(1), Hit(1)]


async def test_the_latest_fault_wins(tier: FaultyTier) -> None:
    """Of two faults that strike at once the one planned last is seen; the other waits its turn."""
    tier.fail("read", error=OSError("first"), times=1)
    tier.fail("read", error=MemoryError("second"), times=1)
    with tier.events.capture() as events:
        await tier.get("k")
        await tier.get("k")
        await tier.get("k")
    assert [getattr(event, "reason", None) for event in events] == ["MemoryError", "OSError", None]


async def test_interrupts_are_not_degraded(tier: FaultyTier) -> None:
    """An error that is no Exception goes through the template as it would from a real tier."""
    tier.fail("write", error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        await tier.set("k", 1)


async def test_corruption(tmp_path: Path) -> None:
    """A corrupt entry is a miss and a rejection, or an error where the tier was told so."""
    tier = FaultyTier(MemoryTier())
    await tier.set("k", 1)
    tier.corrupt(times=1)
    assert [await tier.get("k"), await tier.get("k")] == [None, Hit(1)]
    assert (tier.statistics().rejections, tier.statistics().failures) == (1, 0)
    strict = FaultyTier(DiskTier(tmp_path, on_corrupt="raise"))
    strict.corrupt()
    with pytest.raises(ValueUnPicklingError):
        await strict.get("k")
    await strict.aclose()


async def test_hanging_operation(tier: FaultyTier) -> None:
    """A hanging operation can be waited for, holds its caller and nobody else, and goes on when it is released."""
    hang = tier.hang("write")
    writing = asyncio.create_task(tier.set("k", 1))
    await hang.reached.wait()
    assert await tier.get("k") is None
    assert not writing.done()
    hang.release()
    assert await writing is True
    assert await tier.get("k") == Hit(1)
    assert await tier.set("k", 2) is True


async def test_hanging_operation_is_cancelled(tier: FaultyTier) -> None:
    """A caller may give up on a hanging operation; healing releases the others."""
    hang = tier.hang("read", times=2)
    first, second = (asyncio.create_task(tier.get("k")) for _ in range(2))
    await hang.reached.wait()
    await settle()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    tier.heal()
    assert await second is None


async def test_calls_are_listed(tier: FaultyTier) -> None:
    """Each operation that reaches the tier is listed in order, those that break too."""
    tier.fail("read")
    await use(tier)
    assert tier.calls == [Call("write", KEY), Call("read", KEY), Call("remove", KEY), Call("scan", None)]


async def test_a_chain_survives_its_broken_parts(tmp_path: Path) -> None:
    """A chain with a broken tier serves what the others have, and its events tell of the broken one."""
    memory, disk = FaultyTier(MemoryTier()), FaultyTier(DiskTier(tmp_path))
    chain = ChainTier(memory, disk)
    await chain.set("k", 1)
    memory.fail()
    with chain.events.capture() as events:
        assert await chain.get("k") == Hit(1)
    assert ("memory", "failed") in {(event.tier, event.outcome) for event in events}
    disk.fail()
    assert await chain.get("k") is None
    await chain.aclose()
