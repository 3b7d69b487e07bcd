"""Arguments to parameters, once per call and at the speed of a call.

``inspect.Signature.bind`` takes longer than everything else about a key. A function with the same parameters, which does
nothing but return them, lets the interpreter do the same work: positions and keywords come to one form, defaults are
filled in, and a wrong call raises the :class:`TypeError` that the function itself would raise. The source of that function
is made of parameter names only; defaults are referred to, never spelled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from inspect import Parameter
from keyword import iskeyword
from types import FunctionType
from typing import Any, Final, TypeAlias

__all__ = ("Binder", "Signature")

#: Takes the arguments of a call and returns the values of the parameters.
Binder: TypeAlias = Callable[..., tuple[Any, ...]]

_STARS: Final[Mapping[object, str]] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def _loose(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args, kwargs


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a function; ``None`` when they are not known, as for some builtins."""

    qualname: str
    parameters: tuple[Parameter, ...] | None

    @classmethod
    def of(cls, function: Callable[..., Any], qualname: str) -> Signature:
        """Read the parameters of ``function`` itself: those of a function it wraps may not be what it takes."""
        try:
            parameters = tuple(inspect.signature(function, follow_wrapped=False).parameters.values())
        except (ValueError, TypeError):
            return cls(qualname, None)
        names = [parameter.name for parameter in parameters]
        usable = all(name.isidentifier() and not iskeyword(name) for name in names)
        return cls(qualname, parameters if usable else None)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, without stars."""
        return tuple(parameter.name for parameter in self.parameters or ())

    @property
    def defaults(self) -> dict[str, Any]:
        """The default of each parameter that has one."""
        return {
            parameter.name: parameter.default
            for parameter in self.parameters or ()
            if parameter.default is not Parameter.empty
        }

    def takers(self, count: int) -> list[str]:
        """Return which parameter each of the first ``count`` positional arguments goes to; an empty name if none does."""
        names = [
            parameter.name
            for parameter in self.parameters or ()
            if parameter.kind in {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}
        ]
        kinds = {parameter.kind: parameter.name for parameter in self.parameters or ()}
        names += [kinds.get(Parameter.VAR_POSITIONAL, "")] * (count - len(names))
        return names[:count]

    @property
    def takes_any_keyword(self) -> bool:
        """Whether keywords beyond the named ones are accepted."""
        return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in self.parameters or ())

    def binder(self, wanted: Collection[str], dropped: frozenset[str] = frozenset()) -> Binder:
        """Make a function that returns the values of the ``wanted`` parameters, in the order of ``wanted``.

        Keywords named in ``dropped`` are left out of ``**kwargs``. With unknown parameters it returns the positional and
        the keyword arguments as they came.
        """
        if self.parameters is None:
            return _loose
        # Longer than any parameter name, so that no parameter hides it.
        hidden = "_" * (1 + max(map(len, self.names), default=0))
        kinds = {parameter.name: parameter.kind for parameter in self.parameters}
        values = [
            f"{{k: v for k, v in {name}.items() if k not in {hidden}}}"
            if dropped and kinds[name] is Parameter.VAR_KEYWORD
            else name
            for name in wanted
        ]
        defaults = [parameter.default for parameter in self.parameters]
        source = f"lambda {_spell(self.parameters)}: ({''.join(value + ', ' for value in values)})"
        binder: FunctionType = eval(source, {"defaults": defaults, hidden: dropped})  # noqa: S307 - identifiers only
        binder.__qualname__ = self.qualname
        return binder


def _spell(parameters: tuple[Parameter, ...]) -> str:
    """Write the parameter list; the default of number ``n`` is ``defaults[n]``."""
    words: list[str] = []
    last = None
    for number, parameter in enumerate(parameters):
        kind = parameter.kind
        if last is Parameter.POSITIONAL_ONLY and kind is not last:
            words.append("/")
        if kind is Parameter.KEYWORD_ONLY and last not in {Parameter.KEYWORD_ONLY, Parameter.VAR_POSITIONAL}:
            words.append("*")
        default = "" if parameter.default is Parameter.empty else f"=defaults[{number}]"
        words.append(f"{_STARS.get(kind, '')}{parameter.name}{default}")
        last = kind
    if last is Parameter.POSITIONAL_ONLY:
        words.append("/")
    return ", ".join(words)
