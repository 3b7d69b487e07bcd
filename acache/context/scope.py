"""Where a call runs: the switches and factors around it.

Scopes live in a context variable: they follow tasks, worker threads and bridged calls, and never leak to a neighbour.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, final

from acache.context.canonical import as_json

__all__ = ("PLAIN", "Scope", "current_scope", "disabled", "isolate", "read_only", "recompute")


@final
@dataclass(frozen=True, slots=True)
class Scope:
    """The switches and factors in force for one task and what it starts."""

    factors: Mapping[str, object] = field(default_factory=dict[str, object])
    disabled: bool = False
    recompute: bool = False
    read_only: bool = False


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
        as_json(value, f"isolate({name}=…)")
    outer = _scope.get()
    with _entered(replace(outer, factors=MappingProxyType({**outer.factors, **factors}))) as scope:
        yield scope


@contextmanager
def disabled() -> Generator[Scope]:
    """Run every cached call inside without the cache: nothing is read and nothing is stored."""
    with _entered(replace(_scope.get(), disabled=True)) as scope:
        yield scope


@contextmanager
def read_only() -> Generator[Scope]:
    """Serve every cached call inside from what is stored, or compute it, and store nothing.

    A deterministic cache computes nothing then, since nobody could agree on it: a call that is not stored raises
    :class:`~acache.exceptions.DeterminismLostError`.
    """
    with _entered(replace(_scope.get(), read_only=True)) as scope:
        yield scope


@contextmanager
def recompute() -> Generator[Scope]:
    """Compute every cached call inside anew, and store what it gives."""
    with _entered(replace(_scope.get(), recompute=True)) as scope:
        yield scope
