"""Which tags the results of a function have: texts, templates over the arguments, and what a function says of the result.

Texts and templates are known before the function runs. What is said of a result is not, and whoever needs the tags of a
computation under way (:meth:`TagRecipe.known`) does without those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, TypeAlias, cast, final

from acache.callables import is_coroutine_function
from acache.exceptions import ConfigurationError, UserError
from acache.keys.binding import Binder, Signature
from acache.keys.identity import FunctionIdentity
from acache.keys.template import Field, split

__all__ = ("TagRecipe", "Tags", "check_tags")

#: Takes the result and the arguments of a call and returns its tags.
TagsOf: TypeAlias = Callable[Concatenate[Any, ...], str | Iterable[str]]
#: What users give for ``tags=``.
Tags: TypeAlias = str | TagsOf | Iterable[str | TagsOf]


@dataclass(frozen=True, slots=True)
class _Template:
    """Texts and fields in turn, and what reads the values of the fields' parameters."""

    parts: tuple[str | Field, ...]
    bind: Binder

    def fill(self, label: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        values = iter(self.bind(*args, **kwargs))
        return "".join([part if isinstance(part, str) else _read(label, part, next(values)) for part in self.parts])


@final
class TagRecipe:
    """Makes the tags of one function's results. Immutable.

    Raises :class:`~acache.exceptions.ConfigurationError` for what is neither a text nor a plain function, for an empty text, and for a
    template with a field that names no parameter.
    """

    __slots__ = ("_functions", "_label", "_templates", "_texts", "given")

    def __init__(self, identity: FunctionIdentity, tags: Tags) -> None:
        self._label = identity.label
        #: As it was given, for those who ask.
        self.given: tuple[object, ...] = (tags,) if callable(tags) else _several(tags)
        texts: list[str] = []
        templates: list[_Template] = []
        functions: list[Callable[..., object]] = []
        for tag in self.given:
            if isinstance(tag, str):
                parts = split(tag, self._label, "tags")
                if any(isinstance(part, Field) for part in parts):
                    templates.append(_template(identity, parts))
                else:
                    texts.append("".join(cast("tuple[str, ...]", parts)))
            elif not callable(tag) or is_coroutine_function(tag):
                raise ConfigurationError("tags", f"{self._label} has one that is neither a text nor a plain function")
            else:
                functions.append(tag)
        self._texts = check_tags(texts)
        self._templates = tuple(templates)
        self._functions = tuple(functions)

    def known(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the tags that a call has whatever it comes to.

        Raises :class:`~acache.exceptions.UserError` for a field that cannot be read.
        """
        filled = [template.fill(self._label, args, kwargs) for template in self._templates]
        return tuple(dict.fromkeys((*self._texts, *filled)))

    def of(self, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the tags that a call has for its result.

        Raises what the user's functions raise, and :class:`~acache.exceptions.ConfigurationError` for anything but texts.
        """
        said: list[str] = []
        for function in self._functions:
            said += check_tags(function(result, *args, **kwargs))
        return tuple(dict.fromkeys(said))


def check_tags(tags: object) -> tuple[str, ...]:
    """Return one tag or several, which are texts and not empty; else raise :class:`~acache.exceptions.ConfigurationError`."""
    checked: list[str] = []
    for tag in _several(tags):
        if not isinstance(tag, str):
            raise ConfigurationError("tags", f"a tag is a text, not {type(tag).__name__}")
        if not tag:
            raise ConfigurationError("tags", "a tag is not empty")
        checked.append(tag)
    return tuple(checked)


def _several(tags: object) -> tuple[object, ...]:
    kind = type(tags).__name__
    if isinstance(tags, str):
        return (tags,)
    if isinstance(tags, Iterable) and not isinstance(tags, (bytes, Mapping)):
        return tuple(cast("Iterable[object]", tags))
    raise ConfigurationError("tags", f"expected texts, not {kind}")


def _template(identity: FunctionIdentity, parts: tuple[str | Field, ...]) -> _Template:
    signature = Signature.of(identity.function, identity.qualname)
    fields = [part for part in parts if isinstance(part, Field)]
    for field in fields:
        if field.parameter not in signature.names:
            raise ConfigurationError(identity.label, f"field {field.text!r} of tags= names no parameter")
    args, kwargs = identity.bound
    bind = signature.binder([field.parameter for field in fields])
    return _Template(parts, partial(bind, *args, **kwargs) if args or kwargs else bind)


def _read(label: str, field: Field, value: Any) -> str:
    try:
        return format(field.read(value))
    except Exception as error:  # noqa: BLE001 - an attribute of the user's may raise anything
        problem = f"field {field.text!r} of tags= of {label} could not be read: {type(error).__qualname__}"
        raise UserError(problem) from None
