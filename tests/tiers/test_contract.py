"""Every tier, and every wrapper of one, keeps the contract of tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acache.testing import FaultyTier, ManualClock
from acache.testing.contracts import EncodingTierContract, TierContract
from acache.tiers import ChainTier, DiskTier, MemoryTier, Tier

if TYPE_CHECKING:
    from pathlib import Path


class TestMemoryTier(TierContract):
    """Objects in this process."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return a memory tier without limits."""
        return MemoryTier(clock=clock)


class TestBoundedMemoryTier(TierContract):
    """Objects in this process, with both limits in force and wide enough."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return a memory tier that counts entries and bytes."""
        return MemoryTier(max_entries=1_000, max_bytes=64_000_000, clock=clock)


class TestDiskTier(EncodingTierContract):
    """Files on this host."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return a disk tier."""
        return DiskTier(tmp_path / "disk", clock=clock)


class TestDurableDiskTier(EncodingTierContract):
    """Files that survive a power failure, of another version, in a sub-directory."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return a disk tier with its options set."""
        return DiskTier(tmp_path / "disk", sub_dir="a/b", version=3, durable=True, clock=clock)


class TestChainOfOne(TierContract):
    """A chain of one tier is that tier."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return memory in a chain."""
        return ChainTier(MemoryTier(clock=clock))


class TestChain(TierContract):
    """Memory over disk."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return the chain that a cache uses."""
        return ChainTier(MemoryTier(clock=clock), DiskTier(tmp_path / "disk", clock=clock))


class TestChainWithSmallMemory(TierContract):
    """Memory that forgets almost everything, over disk."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return a chain whose memory holds two entries."""
        return ChainTier(MemoryTier(max_entries=2, clock=clock), DiskTier(tmp_path / "disk", clock=clock))


class TestChainOfDisks(EncodingTierContract):
    """Two disks: the chain has no memory to share objects."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return a chain of two directories."""
        return ChainTier(DiskTier(tmp_path / "near", clock=clock), DiskTier(tmp_path / "far", clock=clock))


class TestFaultyMemoryTier(TierContract):
    """The wrapper for tests changes nothing while it has no faults."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return memory that could fail."""
        return FaultyTier(MemoryTier(clock=clock))


class TestFaultyDiskTier(EncodingTierContract):
    """The wrapper over files."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return a disk that could fail."""
        return FaultyTier(DiskTier(tmp_path / "disk", clock=clock))


class TestChainOfFaultyTiers(TierContract):
    """The wrapper inside a chain, around a chain."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return a chain that could fail in every place."""
        memory, disk = MemoryTier(clock=clock), DiskTier(tmp_path / "disk", clock=clock)
        return FaultyTier(ChainTier(FaultyTier(memory), FaultyTier(disk)))
