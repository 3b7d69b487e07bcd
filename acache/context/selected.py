"""The types of a selection by name; their keys follow the forms that are registered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypedDict

from acache.context.forms import Form, Kind

__all__ = (
    "CompileSelection",
    "RuntimeSelection",
    "SelectedCompileContext",
    "SelectedRuntimeContext",
    "follow",
)


class SelectedRuntimeContext(TypedDict):
    """Which runtime forms a key contains; ``environment`` may be the names of variables.

    Its required keys are the registered forms of the moment. A mapping with some of them will do.
    """

    determinism: bool
    environment: bool | Sequence[str]
    numeric_precision: bool
    scope: bool


class SelectedCompileContext(TypedDict):
    """Which compile forms a key contains; ``packages`` may be the names of distributions.

    Its required keys are the registered forms of the moment. A mapping with some of them will do.
    """

    accelerator_properties: bool
    packages: bool | Sequence[str]
    platform: bool
    python: bool
    runtime: bool
    runtime_version: bool


_Some: TypeAlias = Mapping[str, bool | Sequence[str]]
RuntimeSelection: TypeAlias = bool | SelectedRuntimeContext | _Some
CompileSelection: TypeAlias = bool | SelectedCompileContext | _Some

_TYPES: Final[Mapping[Kind, Any]] = {"runtime": SelectedRuntimeContext, "compile": SelectedCompileContext}


def follow(kind: Kind, forms: Iterable[Form]) -> None:
    """Let the type of that half have exactly the keys of ``forms``."""
    keys = {form.name: bool | Sequence[str] if form.takes_names else bool for form in forms}
    _TYPES[kind].__annotations__ = keys
    _TYPES[kind].__required_keys__ = frozenset(keys)
