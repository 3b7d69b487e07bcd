"""Memoization: the decorators, the hot path, and what a memoized function can do."""

from acache.memoize.decorate import Decorator as Decorator
from acache.memoize.decorate import MemoizeOptions as MemoizeOptions
from acache.memoize.decorate import Studio as Studio
from acache.memoize.decorate import memoized_of as memoized_of
from acache.memoize.function import Memoized as Memoized
from acache.memoize.hot import CLOSED as CLOSED
from acache.memoize.hot import Gate as Gate
from acache.memoize.many import ManyDecorator as ManyDecorator
from acache.memoize.many import MemoizeManyOptions as MemoizeManyOptions
from acache.memoize.method import unbound as unbound
from acache.memoize.protocols import AsyncMany as AsyncMany
from acache.memoize.protocols import AsyncMemoized as AsyncMemoized
from acache.memoize.protocols import StreamMemoized as StreamMemoized
from acache.memoize.protocols import SyncMany as SyncMany
from acache.memoize.protocols import SyncMemoized as SyncMemoized
from acache.memoize.registry import add_infos as add_infos

__all__ = (
    "CLOSED",
    "AsyncMany",
    "AsyncMemoized",
    "Decorator",
    "Gate",
    "ManyDecorator",
    "MemoizeManyOptions",
    "MemoizeOptions",
    "Memoized",
    "StreamMemoized",
    "Studio",
    "SyncMany",
    "SyncMemoized",
    "add_infos",
    "memoized_of",
    "unbound",
)
