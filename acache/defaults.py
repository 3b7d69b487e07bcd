"""The cache that works without being set up: memory and disk, in the user's cache directory or ``ACACHE_DIR``.

It is built when it is first asked for, from the settings of that moment; nothing is created on disk before the first
result is stored.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Final

from acache.caches import FastCache
from acache.config import cache_directory, settings
from acache.memoize import Decorator
from acache.tiers import DiskTier, MemoryTier

__all__ = ("fcache", "memoize")

_MAX_ENTRIES: Final = 100_000
_MAX_BYTES: Final = 256 * 1024 * 1024
_building = threading.Lock()


@cache
def _build() -> FastCache:
    memory = MemoryTier(max_entries=_MAX_ENTRIES, max_bytes=_MAX_BYTES)
    return FastCache(memory, DiskTier(cache_directory(settings()), sub_dir="fast"))


def fcache() -> FastCache:
    """Return the process's default cache, building it the first time."""
    with _building:
        return _build()


#: Memoize a function on the default cache.
memoize: Final = Decorator("memoize", lambda: fcache().studio)
