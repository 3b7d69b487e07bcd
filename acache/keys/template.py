"""Keys spelled as ``"user:{user.id}:{page}"``: which parameters count, and what of them.

The looks are those of :meth:`str.format`, the result is not a text: the fields' values are encoded with their types, so
``1`` and ``"1"``, or a value that contains the separator, do not meet.

Tags are spelled the same way, and are texts: what an f-string would make of the template.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from string import Formatter
from typing import Any, Final

from acache.exceptions import ConfigurationError

__all__ = ("Field", "parse", "split")

_FIELD: Final = re.compile(r"([^\W\d]\w*)((?:\.[^\W\d]\w*|\[[^\[\]]+\])*)")
_STEP: Final = re.compile(r"\.(\w+)|\[([^\[\]]+)\]")


@dataclass(frozen=True, slots=True)
class Field:
    """One replacement field: a parameter, and the way from its value to what counts."""

    text: str
    parameter: str
    steps: tuple[Callable[[Any], Any], ...]

    def read(self, value: Any) -> Any:
        """Follow the steps from ``value``. Raises whatever its attributes and items raise."""
        for step in self.steps:
            value = step(value)
        return value


def parse(template: str, function: str) -> tuple[Field, ...]:
    """Take the fields of ``template``. Raises :class:`~acache.exceptions.ConfigurationError`, naming ``function``."""
    return tuple(piece for piece in split(template, function, "key") if isinstance(piece, Field))


def split(template: str, function: str, option: str) -> tuple[str | Field, ...]:
    """Take ``template``, given for ``option``, apart: what stands there as it is, and the fields between. Raises as :func:`parse`."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigurationError(function, f"{option}={template!r} is not a format string: {error}") from None
    parts: list[str | Field] = []
    for literal, field, spec, conversion in pieces:
        parts.append(literal)
        if field is None:
            continue
        if spec or conversion:
            raise ConfigurationError(
                function, f"field {field!r} of {option}= has a format, and values are not formatted"
            )
        parts.append(_field(field, function, option))
    return tuple(parts)


def _field(text: str, function: str, option: str) -> Field:
    match = _FIELD.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            function, f"field {text!r} of {option}= is not a parameter with .attributes and [items]"
        )
    steps: list[Callable[[Any], Any]] = []
    for attribute, index in _STEP.findall(match[2]):
        if attribute.startswith("_"):
            raise ConfigurationError(function, f"field {text!r} of {option}= reads a private attribute")
        steps.append(attrgetter(attribute) if attribute else itemgetter(int(index) if index.isdecimal() else index))
    return Field(text, match[1], tuple(steps))
