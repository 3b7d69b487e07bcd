"""How often a function really ran, and with what: the figure that a cache is there to lower."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

from acache.callables import is_coroutine_function
from acache.keys import encode_key

if TYPE_CHECKING:
    from acache.types import Key

__all__ = ("ComputeCounter",)

F = TypeVar("F", bound=Callable[..., Any])


@final
class ComputeCounter:
    """Counts the runs of the functions it wraps, from any task, loop and thread.

    Wrap below the cache::

        counter = ComputeCounter()


        @cache.memoize
        @counter.wrap
        async def compile_unit(source): ...


        counter.assert_computed(1)

    Arguments are told apart as keys are: ``1``, ``True`` and ``"1"`` are three.
    """

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        # Appending is atomic, and the count is the length: threads need no lock.
        self._runs: list[Key] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}(runs={self.total}, distinct={len(set(self._runs))})"

    @property
    def total(self) -> int:
        """How many runs there were; one that raised is one."""
        return len(self._runs)

    def runs(self, /, *args: object, **kwargs: object) -> int:
        """Return how many runs had these very arguments."""
        return self._runs.count(_key(args, kwargs))

    def wrap(self, function: F) -> F:
        """Return ``function``, counted at the start of each run; ``async def`` stays ``async def``.

        Arguments that cannot be part of a key raise :class:`~acache.exceptions.KeyEncodingError` in the call.
        """
        if is_coroutine_function(function):

            @functools.wraps(function)
            async def counted_async(*args: Any, **kwargs: Any) -> Any:
                self._runs.append(_key(args, kwargs))
                return await function(*args, **kwargs)

            return cast("F", counted_async)

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._runs.append(_key(args, kwargs))
            return function(*args, **kwargs)

        return cast("F", counted)

    def assert_computed(self, times: int) -> None:
        """Raise :class:`AssertionError` unless there were ``times`` runs in all."""
        if self.total != times:
            raise AssertionError(f"computed {self.total} times, not {times}")

    def assert_computed_once_each(self) -> None:
        """Raise :class:`AssertionError` if any arguments were computed twice."""
        repeated = len(self._runs) - len(set(self._runs))
        if repeated:
            raise AssertionError(f"{repeated} of {self.total} runs repeated arguments that were computed before")

    def reset(self) -> None:
        """Start counting from zero."""
        self._runs.clear()


def _key(args: tuple[object, ...], kwargs: dict[str, object]) -> Key:
    return encode_key((args, kwargs))
