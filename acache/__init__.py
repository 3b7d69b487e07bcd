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
from acache import preloading as _preloading  # noqa: F401  # pyright: ignore[reportUnusedImport] - for what it imports
from acache.bridge import run_sync as run_sync
from acache.caches import Cache as Cache
from acache.caches import DeterministicCache as DeterministicCache
from acache.caches import FastCache as FastCache
from acache.caches import SyncCache as SyncCache
from acache.clock import Clock as Clock
from acache.clock import SystemClock as SystemClock
from acache.codecs import Codec as Codec
from acache.codecs import JsonCodec as JsonCodec
from acache.codecs import PickleCodec as PickleCodec
from acache.codecs import RawCodec as RawCodec
from acache.codecs import Signer as Signer
from acache.context import CompileContext as CompileContext
from acache.context import IsolationSchema as IsolationSchema
from acache.context import RuntimeContext as RuntimeContext
from acache.context import SelectedCompileContext as SelectedCompileContext
from acache.context import SelectedRuntimeContext as SelectedRuntimeContext
from acache.context import disabled as disabled
from acache.context import isolate as isolate
from acache.context import isolation_context as isolation_context
from acache.context import isolation_key as isolation_key
from acache.context import read_only as read_only
from acache.context import recompute as recompute
from acache.context import register_form as register_form
from acache.context import reprobe as reprobe
from acache.defaults import dcache as _dcache
from acache.defaults import fcache as _fcache
from acache.defaults import icache as _icache
from acache.defaults import memoize as memoize
from acache.engine import DeferredRecording as DeferredRecording
from acache.engine import Explanation as Explanation
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
    #: The process's caches, each built when it is first asked for: the default one, and the deterministic one.
    fcache: FastCache
    dcache: DeterministicCache
    #: The deterministic one if ``ACACHE_ENABLE_DETERMINISTIC_CACHING`` is on at this moment, else the default one.
    icache: Cache

__version__ = "0.1.0"

#: Not the caches: asking for one builds it, which a star import must not do.
__all__ = (
    "MISSING",
    "Cache",
    "CacheError",
    "CacheInfo",
    "CacheStatistics",
    "CallEvent",
    "ChainTier",
    "Clock",
    "Codec",
    "CompileContext",
    "DeferredRecording",
    "DeterministicCache",
    "DiskTier",
    "Explanation",
    "FastCache",
    "Hit",
    "IsolationSchema",
    "JsonCodec",
    "MemoryTier",
    "PickleCodec",
    "RawCodec",
    "RuntimeContext",
    "SelectedCompileContext",
    "SelectedRuntimeContext",
    "Signer",
    "SyncCache",
    "SystemClock",
    "Tier",
    "TierEvent",
    "disabled",
    "exceptions",
    "isolate",
    "isolation_context",
    "isolation_key",
    "memoize",
    "read_only",
    "recompute",
    "register_form",
    "register_key_type",
    "reprobe",
    "run_sync",
)


_CACHES = {"dcache": _dcache, "fcache": _fcache, "icache": _icache}


def __getattr__(name: str) -> Any:
    if name in _CACHES:
        return _CACHES[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
