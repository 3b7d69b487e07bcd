"""From the answers of forms to an isolation key; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, final

from acache.context.canonical import as_object, digest

__all__ = ("Isolation", "Reading", "Texts", "isolation_of")

#: Names, each with a value as JSON.
Texts: TypeAlias = tuple[tuple[str, str], ...]

#: Hex digits of an isolation key, and of a factor.
_KEY_DIGITS: Final = 32
_FACTOR_DIGITS: Final = 16


@final
@dataclass(frozen=True, slots=True)
class Isolation:
    """The isolation of one call: its ``key``, and why it is what it is.

    ``factors`` has one digest for each selected form, named ``runtime.<form>`` or ``compile.<form>``; for the scope, one
    for each name given to :func:`~acache.context.isolate`, named ``scope.<name>``.
    """

    key: str
    factors: Mapping[str, str]


class Reading(NamedTuple):
    """The selected forms as JSON, at one moment; ``scope`` is ``None`` if that form is not selected."""

    runtime: Texts
    compile: Texts
    scope: Texts | None

    @property
    def text(self) -> str:
        """The isolation context as JSON: a half with no form selected is null."""
        scope = () if self.scope is None else (("scope", as_object(self.scope)),)
        halves = {"runtime_context": (*self.runtime, *scope), "compile_context": self.compile}
        return as_object((half, as_object(texts) if texts else "null") for half, texts in halves.items())


@lru_cache(maxsize=1024)
def isolation_of(reading: Reading) -> Isolation:
    """Return the key and the factors of ``reading``: equal readings have equal keys, in every process."""
    halves = {"runtime": reading.runtime, "compile": reading.compile, "scope": reading.scope or ()}
    factors = {f"{half}.{name}": digest(text, _FACTOR_DIGITS) for half, texts in halves.items() for name, text in texts}
    return Isolation(digest(reading.text, _KEY_DIGITS), MappingProxyType(factors))
