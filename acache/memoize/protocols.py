"""What type checkers see of a memoized function: the wrapped signature, kept exactly, and what ``cache_*`` takes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, overload

from acache.engine import Explanation
from acache.stats import CacheInfo
from acache.types import Hit

__all__ = ("AsyncMemoized", "SyncMemoized")

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")


class _Memoized(Protocol[P, R]):
    """What both kinds have. All but three are coroutines on both kinds; on a method they take the call without self."""

    @property
    def __wrapped__(self) -> Callable[..., Any]: ...
    @property
    def __name__(self) -> str: ...
    @property
    def aio(self) -> Callable[P, Coroutine[Any, Any, R]]:
        """The awaitable form; a plain function's body runs in a worker thread."""
        ...

    @property
    def sync(self) -> Callable[P, R]:
        """The blocking form; a coroutine function's body runs on the bridge's loop."""
        ...

    # What these do is said where they are implemented: acache.memoize.function.
    async def cache_get(self, *args: P.args, **kwargs: P.kwargs) -> Hit[R] | None: ...
    async def cache_set(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def cache_contains(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def cache_invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def cache_refresh(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def cache_explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation: ...
    async def cache_touch(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def cache_clear(self) -> None: ...
    def cache_with(self, **options: Any) -> Self: ...
    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str: ...
    def cache_info(self) -> CacheInfo: ...
    def cache_parameters(self) -> dict[str, Any]: ...


class AsyncMemoized(_Memoized[P, R], Protocol[P, R]):
    """A memoized ``async def``."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
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

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, or return what an equal call has come to."""
        ...

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> SyncMemoized[P, R]: ...
    @overload
    def __get__(
        self: SyncMemoized[Concatenate[S, Q], R], instance: S, owner: type | None = None, /
    ) -> SyncMemoized[Q, R]: ...
