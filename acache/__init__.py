"""acache: an asyncio-native cache that computes a thing once.

::

    from acache import memoize

    @memoize(ttl="1h")
    async def compile_kernel(source: str, arch: str) -> bytes: ...

Importing this package reads no clock and no environment, starts no thread and loads no optional package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acache import exceptions as exceptions
from acache.bridge import run_sync as run_sync
from acache.caches import FastCache as FastCache
from acache.caches import SyncCache as SyncCache
from acache.clock import Clock as Clock
from acache.clock import SystemClock as SystemClock
from acache.codecs import Codec as Codec
from acache.codecs import JsonCodec as JsonCodec
from acache.codecs import PickleCodec as PickleCodec
from acache.codecs import RawCodec as RawCodec
from acache.codecs import Signer as Signer
from acache.context import IsolationSchema as IsolationSchema
from acache.context import disabled as disabled
from acache.context import isolate as isolate
from acache.context import isolation_context as isolation_context
from acache.context import isolation_key as isolation_key
from acache.context import recompute as recompute
from acache.defaults import fcache as _default_cache
from acache.defaults import memoize as memoize
from acache.events import CallEvent as CallEvent
from acache.events import TierEvent as TierEvent
from acache.exceptions import CacheError as CacheError
from acache.keys import register_key_type as register_key_type
from acache.stats import CacheInfo as CacheInfo
from acache.stats import CacheStatistics as CacheStatistics
from acache.tiers import ChainTier as ChainTier
from acache.tiers import DiskTier as DiskTier
from acache.tiers import MemoryTier as MemoryTier
from acache.tiers import Tier as Tier
from acache.types import MISSING as MISSING
from acache.types import Hit as Hit

if TYPE_CHECKING:
    #: The process's default cache, built when it is first asked for.
    fcache: FastCache

__version__ = "0.1.0"

__all__ = (
    "MISSING",
    "CacheError",
    "CacheInfo",
    "CacheStatistics",
    "CallEvent",
    "ChainTier",
    "Clock",
    "Codec",
    "DiskTier",
    "FastCache",
    "Hit",
    "IsolationSchema",
    "JsonCodec",
    "MemoryTier",
    "PickleCodec",
    "RawCodec",
    "Signer",
    "SyncCache",
    "SystemClock",
    "Tier",
    "TierEvent",
    "disabled",
    "exceptions",
    "fcache",
    "isolate",
    "isolation_context",
    "isolation_key",
    "memoize",
    "recompute",
    "register_key_type",
    "run_sync",
)


def __getattr__(name: str) -> Any:
    if name == "fcache":
        return _default_cache()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
