"""Caches: tiers, an engine and the decorators in one hand."""

from acache.caches.base import Cache as Cache
from acache.caches.deterministic import Consistency as Consistency
from acache.caches.deterministic import DeterministicCache as DeterministicCache
from acache.caches.fast import FastCache as FastCache
from acache.caches.sync import SyncCache as SyncCache
from acache.caches.urls import tier_from_url as tier_from_url

__all__ = ("Cache", "Consistency", "DeterministicCache", "FastCache", "SyncCache", "tier_from_url")
