"""At most so many at once: a fair semaphore that belongs to no event loop.

It is the mutex of :mod:`acache.locks.mutex` with more than one token. Who has a place and asks for one again, further
down the same call, is let through: a limited function may call itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Final, final

from acache.exceptions import BridgeError
from acache.locks.mutex import Turnstile
from acache.locks.timeouts import BLOCKING

__all__ = ("Limiter",)


@final
class _Place:
    """A place that was taken. Context variables outlive it, in tasks that were started meanwhile."""

    __slots__ = ("is_held", "limiter")

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.is_held = True


_places: ContextVar[tuple[_Place, ...]] = ContextVar("acache_places", default=())


@final
class Limiter(Turnstile):
    """Let ``places`` computations run at once, over the tasks of any event loops and plain threads.

    Waiters are served in the order they came; otherwise as :class:`~acache.locks.Lock`.
    """

    __slots__ = ()

    @asynccontextmanager
    async def hold(self, *, wait: bool = True) -> AsyncGenerator[None]:
        """Have a place for an ``async with`` block. Cancelling the wait leaves nothing taken.

        Without ``wait``, because the caller blocks an event loop, :class:`~acache.exceptions.BridgeError` is raised if none is free.
        """
        if self._is_inside():
            yield
            return
        if wait:
            await self.acquire()
        else:
            self._acquire_now()
        with self._taken():
            yield

    @contextmanager
    def hold_sync(self, *, wait: bool = True) -> Generator[None]:
        """Do as :meth:`hold` in a plain thread, which is blocked meanwhile."""
        if self._is_inside():
            yield
            return
        if wait:
            self.acquire_sync(BLOCKING)
        else:
            self._acquire_now()
        with self._taken():
            yield

    def _acquire_now(self) -> None:
        if not self.acquire_nowait():
            raise BridgeError("as many computations as may run at once do so, and waiting would block this event loop")

    def _is_inside(self) -> bool:
        return any(place.limiter is self and place.is_held for place in _places.get())

    @contextmanager
    def _taken(self) -> Generator[None]:
        place: Final = _Place(self)
        holding: Final = self.held()
        before = _places.set((*_places.get(), place))
        try:
            yield
        finally:
            place.is_held = False
            holding.release()
            with suppress(ValueError):  # an async generator is cleaned up in another context, which is not told
                _places.reset(before)
