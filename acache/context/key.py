"""The isolation of a call: what the forms of its schema and the factors of its scope come to at this moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from acache.bridge import in_event_loop, run_sync
from acache.context.canonical import as_json
from acache.context.probing import answer, answer_now, notice_torch, start
from acache.context.reading import Isolation, Reading, Texts, isolation_of
from acache.context.registry import REGISTRY, Era
from acache.context.schema import DEFAULT_SCHEMA, IsolationSchema, Plan, check_schema, plan_of
from acache.context.scope import Scope, current_scope
from acache.exceptions import BridgeError

__all__ = (
    "isolation",
    "isolation_context",
    "isolation_here",
    "isolation_key",
    "isolation_key_now",
    "isolation_now",
)

#: Schemas whose isolation an era keeps.
_MAX_SCHEMAS: Final = 1024


def isolation_now(schema: IsolationSchema, scope: Scope) -> Isolation | None:
    """Return the isolation of a call in ``scope``, or ``None`` if a probe has to be waited for first.

    Outside scopes and without volatile forms it is looked up. Raises
    :class:`~acache.exceptions.ConfigurationError`, naming the form, for a probe that fails.
    """
    notice_torch()
    era = REGISTRY.era
    if not (scope.factors and schema.is_scoped):
        known = era.isolations.get(schema)
        if known is not None:
            return known
    plan = plan_of(schema, era)
    reading = None if plan.is_awaited else _reading_now(plan, era, scope)
    return None if reading is None else _made(schema, plan, era, reading)


async def isolation(schema: IsolationSchema = DEFAULT_SCHEMA) -> Isolation:
    """Return the isolation of a call here, when all its forms have been probed.

    Raises as :func:`isolation_now`, and :class:`~acache.exceptions.ConfigurationError` for what is no schema.
    """
    check_schema("an isolation key", schema)
    scope = current_scope()
    now = isolation_now(schema, scope)
    return await _isolation(schema, scope) if now is None else now


async def isolation_key(schema: IsolationSchema = DEFAULT_SCHEMA) -> str:
    """Return 32 hex digits that differ whenever a selected form differs; stable over processes. Raises as :func:`isolation`."""
    return (await isolation(schema)).key


async def isolation_context(schema: IsolationSchema = DEFAULT_SCHEMA) -> dict[str, dict[str, Any] | None]:
    """Return the selected forms of the present environment; a half with none selected is ``None``.

    They are as JSON has them, and yours to change. Raises as :func:`isolation`.
    """
    check_schema("an isolation context", schema)
    notice_torch()
    era = REGISTRY.era
    reading = await _reading(plan_of(schema, era), era, current_scope())
    context: dict[str, dict[str, Any] | None] = json.loads(reading.text)
    return context


def isolation_key_now(schema: IsolationSchema, scope: Scope) -> str:
    """Return the isolation key of a call in ``scope``; where something has to be waited for, over the bridge.

    Raises as :func:`isolation_here`.
    """
    return isolation_here(schema, scope).key


def isolation_here(schema: IsolationSchema, scope: Scope) -> Isolation:
    """Return the isolation of a call in ``scope``; where something has to be waited for, over the bridge.

    Raises as :func:`isolation_now`, and :class:`~acache.exceptions.BridgeError` where waiting would block an event loop.
    """
    now = isolation_now(schema, scope)
    if now is None and in_event_loop():
        raise BridgeError(
            "a form of the isolation schema has to be waited for, and this thread is running an event loop: "
            "`await isolation_context()` with this schema once before, or await the call if the form is volatile"
        )
    return run_sync(_isolation, schema, scope) if now is None else now


async def _isolation(schema: IsolationSchema, scope: Scope) -> Isolation:
    era = REGISTRY.era
    plan = plan_of(schema, era)
    return _made(schema, plan, era, await _reading(plan, era, scope))


def _made(schema: IsolationSchema, plan: Plan, era: Era, reading: Reading) -> Isolation:
    made = isolation_of(reading)
    if not (plan.is_volatile or reading.scope):
        if len(era.isolations) >= _MAX_SCHEMAS:
            era.isolations.clear()
        era.isolations[schema] = made
    return made


def _reading_now(plan: Plan, era: Era, scope: Scope) -> Reading | None:
    texts: list[str] = []
    for question in (*plan.runtime, *plan.compile):
        text = answer_now(question, era)
        if text is None:
            return None
        texts.append(text)
    return _combined(plan, texts, scope)


async def _reading(plan: Plan, era: Era, scope: Scope) -> Reading:
    questions = (*plan.runtime, *plan.compile)
    started = [start(question) for question in questions]  # all of them, before the first is waited for
    texts = [await answer(question, shared, era) for question, shared in zip(questions, started, strict=True)]
    return _combined(plan, texts, scope)


def _combined(plan: Plan, texts: Sequence[str], scope: Scope) -> Reading:
    names = [question.form.name for question in (*plan.runtime, *plan.compile)]
    pairs = tuple(zip(names, texts, strict=True))
    boundary = len(plan.runtime)
    return Reading(pairs[:boundary], pairs[boundary:], _factors(scope) if plan.is_scoped else None)


def _factors(scope: Scope) -> Texts:
    return tuple((name, as_json(value, f"isolate({name}=…)")) for name, value in sorted(scope.factors.items()))
