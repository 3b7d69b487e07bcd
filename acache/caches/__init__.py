"""Caches: tiers, an engine and the decorators in one hand."""

from acache.caches.fast import FastCache as FastCache
from acache.caches.sync import SyncCache as SyncCache
from acache.caches.urls import tier_from_url as tier_from_url

__all__ = ("FastCache", "SyncCache", "tier_from_url")
