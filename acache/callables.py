"""Whether what can be called has to be awaited: one answer for functions of users, wherever they are given."""

from __future__ import annotations

import inspect

__all__ = ("is_coroutine_function",)


def is_coroutine_function(function: object) -> bool:
    """Tell whether calling ``function``, which may be an object with an ``async def __call__``, makes a coroutine."""
    call = getattr(function, "__call__", None)  # noqa: B004 - asks how it is called, not whether
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
