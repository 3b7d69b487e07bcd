"""Which function a call belongs to: a module, a qualname, and what is bound already.

Whatever a caller has in hand (a method, a partial, a memoized wrapper, an object that can be called) comes down to one
plain function and the arguments it carries, so that ``partial(f, 1)(2)`` and ``f(1, 2)``, or ``obj.m(x)`` and
``C.m(obj, x)``, are one call with one key. Decorators other than acache's own are not looked through: what a decorator does
to arguments cannot be seen from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import BuiltinFunctionType, MappingProxyType, MethodType, MethodWrapperType, ModuleType
from typing import Any, Final

from acache.exceptions import ConfigurationError
from acache.types import Params

__all__ = ("FunctionIdentity", "identify")

_NO_KEYWORDS: Final[Mapping[str, Any]] = MappingProxyType({})
_NATIVE: Final = (BuiltinFunctionType, MethodWrapperType)
_UNBOUND: Final[Params] = ((), _NO_KEYWORDS)


@dataclass(frozen=True, slots=True)
class FunctionIdentity:
    """The name of a function, the function, and the arguments bound to it. Equal when the names are."""

    module: str
    qualname: str
    #: The plain function, or whatever else is called in the end.
    function: Callable[..., Any] = field(compare=False)
    #: Positional and keyword arguments that come before those of a call.
    bound: Params = field(default=_UNBOUND, compare=False)

    @property
    def label(self) -> str:
        """``module.qualname``, for messages."""
        return f"{self.module}.{self.qualname}" if self.module else self.qualname

    @property
    def is_lambda(self) -> bool:
        """Whether the function has no name of its own."""
        return self.qualname.rpartition(".")[2] == "<lambda>"

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NO_KEYWORDS) -> FunctionIdentity:
        """Return the identity with more arguments bound, after those that are."""
        before, keywords = self.bound
        bound = (before + args, MappingProxyType({**keywords, **kwargs}))
        return FunctionIdentity(self.module, self.qualname, self.function, bound)


def identify(fn: Any) -> FunctionIdentity:
    """Find the function behind ``fn``. Raises :class:`~acache.exceptions.ConfigurationError` if it cannot be called."""
    # A method passes attribute look-ups on to its function, which would lose its object: it comes first.
    if isinstance(fn, MethodType):
        return identify(fn.__func__).bind((fn.__self__,))
    if isinstance(fn, partial):
        return identify(fn.func).bind(fn.args, fn.keywords)
    callee: Any = fn
    if isinstance(fn, staticmethod | classmethod):
        return identify(callee.__func__)
    raw = getattr(fn, "__acache_wrapped__", None)
    if raw is not None and raw is not fn:
        return identify(raw)
    if not callable(fn):
        raise ConfigurationError(type(fn).__qualname__, "only functions and objects that can be called are memoized")
    if isinstance(getattr(fn, "__qualname__", None), str):
        return _named(fn)
    return identify(type(fn).__call__).bind((fn,))


def _named(fn: Any) -> FunctionIdentity:
    owner: Any = getattr(fn, "__self__", None) if isinstance(fn, _NATIVE) else None
    if owner is not None and not isinstance(owner, ModuleType | type):
        # A bound method of a C type: [].append is list.append and a list.
        cls: Any = owner.__class__
        function = getattr(cls, fn.__name__)
        return FunctionIdentity(cls.__module__, fn.__qualname__, function).bind((owner,))
    module = getattr(fn, "__module__", None) or getattr(getattr(fn, "__objclass__", owner), "__module__", None)
    return FunctionIdentity(module if isinstance(module, str) else "", fn.__qualname__, fn)
