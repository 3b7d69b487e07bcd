"""The cache of most programs: best effort.

A tier that is broken, full or away is a miss and an event, never an error of a memoized call.
"""

from __future__ import annotations

from typing import Self, final

from acache.caches.base import Cache
from acache.caches.urls import tier_from_url
from acache.locks import DEFAULT_TIMEOUT
from acache.tiers import ChainTier, MemoryTier, Tier

__all__ = ("FastCache",)


@final
class FastCache(Cache):
    """Keep results in ``tiers``, read from the narrowest (memory) to the widest; one :class:`MemoryTier` by default.

    ``namespace`` keeps caches that share a tier apart. ``host_timeout`` is how many seconds a call waits for another
    process that computes the same key before it computes it itself. Opens lazily; ``async with`` closes it.
    """

    def __init__(self, *tiers: Tier, namespace: str = "", host_timeout: float = DEFAULT_TIMEOUT) -> None:
        super().__init__(ChainTier(*(tiers or (MemoryTier(),))), namespace=namespace, host_timeout=host_timeout)

    @classmethod
    def from_url(cls, *urls: str, namespace: str = "", host_timeout: float = DEFAULT_TIMEOUT) -> Self:
        """Make a cache of the tiers that ``urls`` name.

        ``memory://?max_entries=10000&max_bytes=64MB`` and ``disk://~/.cache/app?version=1&codec=json``. Raises
        :class:`~acache.exceptions.ConfigurationError` for an unknown scheme or option, naming those it knows.
        """
        return cls(*(tier_from_url(url) for url in urls), namespace=namespace, host_timeout=host_timeout)
