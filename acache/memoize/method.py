"""Memoized functions that live in classes: the descriptor, and what it is bound to an instance or class.

A memoized function outside a class is a plain function, the fastest thing to call. In a class body it is a
:class:`MemoizedMethod`, so that ``obj.method.cache_invalidate(x)`` knows its ``obj`` as ``obj.method(x)`` does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from types import MethodType
from typing import Any, Final, final

from acache.memoize.function import FACE_METHODS, Memoized

__all__ = ("BoundMemoized", "MemoizedMethod", "is_in_class", "unbound")

#: Not of one call, so there is nothing to bind.
_UNBOUND: Final = frozenset({"cache_clear", "cache_info", "cache_parameters"})


def is_in_class(function: Callable[..., Any]) -> bool:
    """Tell from its qualified name whether a function was defined in a class body."""
    scope, _, _ = getattr(function, "__qualname__", "").rpartition(".")
    return bool(scope) and not scope.endswith("<locals>")


def unbound(function: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return what a bound method, memoized or not, is a method of: the function, and the object in front of its arguments."""
    if isinstance(function, BoundMemoized):
        return function.face, (function.__self__,)
    if isinstance(function, MethodType):
        return function.__func__, (function.__self__,)
    return function, ()


class _Callable:
    """Calls a face, with the instance it is bound to in front; has everything a memoized function has."""

    __slots__ = ("_bound", "_memoized", "face")

    def __init__(self, memoized: Memoized, face: Callable[..., Any], bound: tuple[Any, ...]) -> None:
        self._memoized = memoized
        self.face = face
        self._bound = bound

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.face(*self._bound, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name not in FACE_METHODS:
            return getattr(self.face, name)
        method = getattr(self._memoized, name)
        if not self._bound or name in _UNBOUND:
            return method
        if name == "cache_with":
            return self._with
        return partial(_set, method, self._bound) if name == "cache_set" else partial(method, *self._bound)

    def _with(self, /, **options: Any) -> Any:
        face = self._memoized.cache_with(**options)
        return type(self)(face.__acache__, face, self._bound)


def _set(method: Callable[..., Any], bound: tuple[Any, ...], value: Any, /, *args: Any, **kwargs: Any) -> Any:
    return method(value, *bound, *args, **kwargs)


class BoundMemoized(_Callable):
    """A memoized method of one instance, or of one class."""

    __slots__ = ()

    @property
    def __self__(self) -> Any:
        """The object the method is bound to."""
        return self._bound[0]

    @property
    def __acache_wrapped__(self) -> MethodType:
        """The raw method of the same object: what names a call of this one."""
        return MethodType(self._memoized.raw, self._bound[0])

    def __repr__(self) -> str:
        # Not the instance: its repr may show what it holds.
        return f"<bound memoized method {self._memoized.recipe.label}>"


class _AsyncBound(BoundMemoized):
    """A bound coroutine function, as :mod:`asyncio` and :mod:`inspect` recognize one."""

    __slots__ = ()
    _is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)
    _is_coroutine_mark = getattr(inspect, "_is_coroutine_mark", None)


@final
class MemoizedMethod(_Callable):
    """A memoized function in a class body. ``owner_first``: it binds the class (a classmethod), not the instance."""

    __slots__ = ("__dict__", "_owner_first")

    def __init__(self, memoized: Memoized, face: Callable[..., Any], *, owner_first: bool = False) -> None:
        super().__init__(memoized, face, ())
        self._owner_first = owner_first
        update_wrapper(self, face)

    def __get__(self, instance: Any, owner: type | None = None) -> MemoizedMethod | BoundMemoized:
        bound = owner if self._owner_first else instance
        if bound is None:
            return self
        kind = _AsyncBound if self._memoized.is_async else BoundMemoized
        return kind(self._memoized, self.face, (bound,))
