"""Where a call runs: the scope of switches and factors around it, and the isolation key made of its environment.

A result is only valid in the environment it was made in. An :class:`IsolationSchema` says which *forms* of that
environment a function's keys contain; :func:`register_form` adds forms; :func:`isolate` adds factors of the caller's own for
a ``with`` block.

From the bottom up: *canonical* (JSON), *scope* (switches and factors), *forms* (the nouns), *accelerator* and *builtin* (the
forms every process has), *reading* (from answers to a key), *selected* and *registry* (the forms there are), *schema* (which of
them count), *probing* (asking them), *key* (the isolation of a call).
"""

from __future__ import annotations

from acache.context.key import isolation as isolation
from acache.context.key import isolation_context as isolation_context
from acache.context.key import isolation_here as isolation_here
from acache.context.key import isolation_key as isolation_key
from acache.context.key import isolation_key_now as isolation_key_now
from acache.context.key import isolation_now as isolation_now
from acache.context.probing import reprobe as reprobe
from acache.context.reading import Isolation as Isolation
from acache.context.registry import CompileContext as CompileContext
from acache.context.registry import RuntimeContext as RuntimeContext
from acache.context.registry import on_reprobe as on_reprobe
from acache.context.registry import register_form as register_form
from acache.context.schema import DEFAULT_SCHEMA as DEFAULT_SCHEMA
from acache.context.schema import IsolationSchema as IsolationSchema
from acache.context.schema import check_schema as check_schema
from acache.context.scope import PLAIN as PLAIN
from acache.context.scope import Scope as Scope
from acache.context.scope import current_scope as current_scope
from acache.context.scope import disabled as disabled
from acache.context.scope import isolate as isolate
from acache.context.scope import read_only as read_only
from acache.context.scope import recompute as recompute
from acache.context.selected import SelectedCompileContext as SelectedCompileContext
from acache.context.selected import SelectedRuntimeContext as SelectedRuntimeContext

__all__ = (
    "DEFAULT_SCHEMA",
    "PLAIN",
    "CompileContext",
    "Isolation",
    "IsolationSchema",
    "RuntimeContext",
    "Scope",
    "SelectedCompileContext",
    "SelectedRuntimeContext",
    "check_schema",
    "current_scope",
    "disabled",
    "isolate",
    "isolation",
    "isolation_context",
    "isolation_here",
    "isolation_key",
    "isolation_key_now",
    "isolation_now",
    "on_reprobe",
    "read_only",
    "recompute",
    "register_form",
    "reprobe",
)
