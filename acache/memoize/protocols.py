"""What type checkers see of a memoized function: the wrapped signature, kept exactly, and what ``cache_*`` takes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, overload

from acache.engine import Explanation
from acache.stats import CacheInfo
from acache.types import Hit

__all__ = ("AsyncMany", "AsyncMemoized", "StreamMemoized", "SyncMany", "SyncMemoized")

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
K_contra = TypeVar("K_contra", contravariant=True)
V = TypeVar("V")
Y = TypeVar("Y")


class _Entries(Protocol[P, R]):
    """What is said of the entries of calls. All but four are coroutines; on a method they take the call without self."""

    @property
    def __wrapped__(self) -> Callable[..., Any]: ...
    @property
    def __name__(self) -> str: ...

    # What these do is said where they are implemented: acache.memoize.function.
    async def cache_get(self, /, *args: P.args, **kwargs: P.kwargs) -> Hit[R] | None: ...
    async def cache_set(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def cache_contains(self, /, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def cache_invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def cache_refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def cache_explain(self, /, *args: P.args, **kwargs: P.kwargs) -> Explanation: ...
    async def cache_touch(self, /, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def cache_clear(self) -> None: ...
    def cache_with(self, /, **options: Any) -> Self: ...
    def cache_key(self, /, *args: P.args, **kwargs: P.kwargs) -> str: ...
    def cache_info(self) -> CacheInfo: ...
    def cache_parameters(self) -> dict[str, Any]: ...


class _Memoized(_Entries[P, R], Protocol[P, R]):
    """What memoized functions of both kinds have."""

    @property
    def aio(self) -> Callable[P, Coroutine[Any, Any, R]]:
        """The awaitable form; a plain function's body runs in a worker thread."""
        ...

    @property
    def sync(self) -> Callable[P, R]:
        """The blocking form; a coroutine function's body runs on the bridge's loop."""
        ...


class AsyncMemoized(_Memoized[P, R], Protocol[P, R]):
    """A memoized ``async def``."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function, or await what an equal call has come to."""
        ...

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> AsyncMemoized[P, R]: ...
    @overload
    def __get__(
        self: AsyncMemoized[Concatenate[S, Q], R], instance: S, owner: type | None = None, /
    ) -> AsyncMemoized[Q, R]: ...


class SyncMemoized(_Memoized[P, R], Protocol[P, R]):
    """A memoized ``def``."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, or return what an equal call has come to."""
        ...

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> SyncMemoized[P, R]: ...
    @overload
    def __get__(
        self: SyncMemoized[Concatenate[S, Q], R], instance: S, owner: type | None = None, /
    ) -> SyncMemoized[Q, R]: ...


class StreamMemoized(_Entries[P, list[Y]], Protocol[P, Y]):
    """A memoized async generator function. One stream is stored as the list of what it yields."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Y, None]:
        """Iterate over what the generator yields, or what that of an equal call has yielded so far and goes on to yield."""
        ...

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> StreamMemoized[P, Y]: ...
    @overload
    def __get__(
        self: StreamMemoized[Concatenate[S, Q], Y], instance: S, owner: type | None = None, /
    ) -> StreamMemoized[Q, Y]: ...


class _Many(_Entries[[K_contra], V], Protocol[K_contra, V, R_co]):
    """What both kinds of functions over many keys have; ``cache_*`` are about one key."""

    async def aio(self, keys: Iterable[K_contra], /) -> R_co:
        """Load from a task."""
        ...

    def sync(self, keys: Iterable[K_contra], /) -> R_co:
        """Load from a plain thread, which is blocked meanwhile."""
        ...


class AsyncMany(_Many[K_contra, V, R_co], Protocol[K_contra, V, R_co]):
    """A memoized ``async def`` over many keys."""

    def __call__(self, keys: Iterable[K_contra], /) -> Coroutine[Any, Any, R_co]:
        """Return the results for ``keys``, computing those that are not stored."""
        ...

    async def one(self, key: K_contra, /) -> V:
        """Return the result for ``key``; :class:`~acache.exceptions.AbsentKeyError` if there is none."""
        ...


class SyncMany(_Many[K_contra, V, R_co], Protocol[K_contra, V, R_co]):
    """A memoized ``def`` over many keys. It runs in worker threads, for several callers at once."""

    def __call__(self, keys: Iterable[K_contra], /) -> R_co:
        """Return the results for ``keys``, computing those that are not stored."""
        ...

    def one(self, key: K_contra, /) -> V:
        """Return the result for ``key``; :class:`~acache.exceptions.AbsentKeyError` if there is none."""
        ...
