"""The caches that work without being set up: memory and disk, in the user's cache directory or ``ACACHE_DIR``.

Each is built when it is first asked for, from the settings of that moment; nothing is created on disk before the first
result is stored.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from acache.caches import Cache, DeterministicCache, FastCache
from acache.config import cache_directory, settings
from acache.memoize import Decorator
from acache.mutexes import make_mutex
from acache.tiers import DiskTier, MemoryTier

__all__ = ("dcache", "fcache", "icache", "memoize")

_MAX_ENTRIES: Final = 100_000
_MAX_BYTES: Final = 256 * 1024 * 1024
_building: Final = make_mutex()


def _memory() -> MemoryTier:
    return MemoryTier(max_entries=_MAX_ENTRIES, max_bytes=_MAX_BYTES)


@cache
def _fast() -> FastCache:
    return FastCache(_memory(), DiskTier(cache_directory(settings()), sub_dir="fast"))


@cache
def _deterministic() -> DeterministicCache:
    return DeterministicCache(_memory(), DiskTier(cache_directory(settings()), sub_dir="deterministic"))


def fcache() -> FastCache:
    """Return the process's default cache, building it the first time."""
    with _building:
        return _fast()


def dcache() -> DeterministicCache:
    """Return the process's deterministic cache, building it the first time. Raises as its constructor."""
    with _building:
        return _deterministic()


def icache() -> Cache:
    """Return the deterministic cache if ``ACACHE_ENABLE_DETERMINISTIC_CACHING`` is on at this moment, else the fast one."""
    return dcache() if settings().enable_deterministic_caching else fcache()


#: Memoize a function on the default cache.
memoize: Final = Decorator("memoize", lambda: fcache().studio)
