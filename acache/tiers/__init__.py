"""Key-value tiers, each usable on its own: memory, disk, and a chain of them."""

from acache.tiers.base import Tier as Tier
from acache.tiers.chain import ChainTier as ChainTier
from acache.tiers.disk import DiskTier as DiskTier
from acache.tiers.memory import MemoryTier as MemoryTier

__all__ = ("ChainTier", "DiskTier", "MemoryTier", "Tier")
