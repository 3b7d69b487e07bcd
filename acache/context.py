"""Where a call runs: the scope of switches and factors around it, and the isolation key made of its environment.

A result is only valid in the environment it was made in. An :class:`IsolationSchema` says which *forms* of that
environment a function's keys contain; :func:`isolate` adds factors of the caller's own for a ``with`` block. Scopes live
in a context variable: they follow tasks, worker threads and bridged calls, and never leak to a neighbour.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final

from acache.exceptions import ConfigurationError

__all__ = (
    "DEFAULT_SCHEMA",
    "PLAIN",
    "IsolationSchema",
    "Scope",
    "current_scope",
    "disabled",
    "isolate",
    "isolation_context",
    "isolation_key",
    "isolation_key_now",
    "recompute",
)

Selection: TypeAlias = bool | Mapping[str, bool]
_Probe: TypeAlias = Callable[[], object]


@final
@dataclass(frozen=True, slots=True)
class Scope:
    """The switches and factors in force for one task and what it starts."""

    factors: Mapping[str, object] = field(default_factory=dict[str, object])
    disabled: bool = False
    recompute: bool = False


#: The scope of a call around which nothing has been switched: the hot path compares with it by identity.
PLAIN: Final = Scope(MappingProxyType({}))
_scope: ContextVar[Scope] = ContextVar("acache_scope", default=PLAIN)

#: Return the scope of the running task or thread.
current_scope: Final = _scope.get


@contextmanager
def _entered(scope: Scope) -> Generator[Scope]:
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        _scope.reset(token)


@contextmanager
def isolate(**factors: object) -> Generator[Scope]:
    """Add ``factors`` to the isolation key of every cached call inside, async or sync, forked or bridged.

    An inner value overrides the outer one of the same name. Raises
    :class:`~acache.exceptions.ConfigurationError`, naming the factor, for what JSON cannot hold.
    """
    for name, value in factors.items():
        _as_json(value, f"isolate({name}=…)")
    outer = _scope.get()
    with _entered(replace(outer, factors=MappingProxyType({**outer.factors, **factors}))) as scope:
        yield scope


@contextmanager
def disabled() -> Generator[Scope]:
    """Run every cached call inside without the cache: nothing is read and nothing is stored."""
    with _entered(replace(_scope.get(), disabled=True)) as scope:
        yield scope


@contextmanager
def recompute() -> Generator[Scope]:
    """Compute every cached call inside anew, and store what it gives."""
    with _entered(replace(_scope.get(), recompute=True)) as scope:
        yield scope


@lru_cache(maxsize=1)
def _python() -> dict[str, object]:
    return {
        "implementation": sys.implementation.name,
        "version": platform.python_version(),
        # What sysconfig calls SOABI, without the files that sysconfig reads.
        "abi": EXTENSION_SUFFIXES[0],
    }


@lru_cache(maxsize=1)
def _platform() -> dict[str, object]:
    # Not platform.libc_ver(): it reads the interpreter's file, on whatever thread asks first.
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {}) else ""
    return {"system": platform.system(), "machine": platform.machine(), "libc": libc or ""}


def _scope_factors() -> dict[str, object]:
    return dict(_scope.get().factors)


_COMPILE_FORMS: Final[Mapping[str, _Probe]] = {"python": _python, "platform": _platform}
_RUNTIME_FORMS: Final[Mapping[str, _Probe]] = {"scope": _scope_factors}


@final
class IsolationSchema:
    """Which forms of the environment are part of a key.

    Each half is ``True`` (every form), ``False`` (none), or a mapping of form names to booleans. Raises
    :class:`~acache.exceptions.ConfigurationError` for an unknown form.
    """

    __slots__ = ("compile_context", "runtime_context")

    def __init__(self, runtime_context: Selection = True, compile_context: Selection = True) -> None:
        self.runtime_context = _selected("runtime_context", runtime_context, _RUNTIME_FORMS)
        self.compile_context = _selected("compile_context", compile_context, _COMPILE_FORMS)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IsolationSchema):
            return NotImplemented
        return (self.runtime_context, self.compile_context) == (other.runtime_context, other.compile_context)

    def __hash__(self) -> int:
        return hash((self.runtime_context, self.compile_context))

    def __repr__(self) -> str:
        return f"IsolationSchema(runtime_context={self.runtime_context}, compile_context={self.compile_context})"


def _selected(half: str, selection: Selection, forms: Mapping[str, _Probe]) -> tuple[str, ...]:
    """Return the names of the selected forms, sorted."""
    if isinstance(selection, bool):
        return tuple(sorted(forms)) if selection else ()
    if not isinstance(selection, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not type-checked
        raise ConfigurationError(half, f"expected True, False or a mapping of form names, not {type(selection)!r}")
    unknown = sorted(set(selection) - set(forms))
    if unknown:
        raise ConfigurationError(half, f"unknown form {unknown[0]!r}; known forms: {', '.join(sorted(forms))}")
    return tuple(sorted(name for name, wanted in selection.items() if wanted))


DEFAULT_SCHEMA: Final = IsolationSchema()


async def isolation_context(schema: IsolationSchema = DEFAULT_SCHEMA) -> dict[str, dict[str, Any] | None]:
    """Return the selected forms of the present environment; a half with none selected is ``None``."""
    return _context_now(schema)


async def isolation_key(schema: IsolationSchema = DEFAULT_SCHEMA) -> str:
    """Return 32 hex digits that differ whenever a selected form differs. Stable over processes."""
    return isolation_key_now(schema, _scope.get())


@lru_cache(maxsize=1024)
def _key_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@lru_cache(maxsize=64)
def _plain_key(schema: IsolationSchema) -> str:
    """Return the key outside every scope: fixed for the process, since the compile forms are."""
    token = _scope.set(PLAIN)
    try:
        return _key_of(_as_json(_context_now(schema), "isolation context"))
    finally:
        _scope.reset(token)


def isolation_key_now(schema: IsolationSchema, scope: Scope) -> str:
    """Return the isolation key for ``scope`` (the current one) without waiting."""
    if not scope.factors:
        return _plain_key(schema)
    return _key_of(_as_json(_context_now(schema), "isolation context"))


def _context_now(schema: IsolationSchema) -> dict[str, dict[str, Any] | None]:
    return {
        "runtime_context": {name: _RUNTIME_FORMS[name]() for name in schema.runtime_context} or None,
        "compile_context": {name: _COMPILE_FORMS[name]() for name in schema.compile_context} or None,
    }


def _as_json(value: object, subject: str) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(subject, f"JSON cannot hold a value of type {type(value).__name__}") from error
