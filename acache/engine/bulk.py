"""Many calls at once: the other half of the engine, which reads and writes for all of them in one round trip for each tier."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from acache.codecs import refuse_used_once
from acache.engine.call import Call
from acache.engine.core import Engine
from acache.engine.freshness import Freshness
from acache.engine.groups import Origin
from acache.engine.plan import Route, Step
from acache.engine.reporting import INSERTED
from acache.tiers.base import Tier, attempt, count_stored
from acache.types import Entry, Hit, Key, Written

__all__ = ("find_many", "look_up_many", "put_many", "run_many")


async def run_many(engine: Engine, calls: Sequence[Call], route: Route) -> list[Any]:
    """Do as :meth:`Engine.run` for each call; return the result of each or, in its place, the exception.

    The calls are of one function. Cancelled, all of them are.
    """
    if route in {Route.RECORD, Route.REFUSE}:
        return await gather(*(engine.run(call, route) for call in calls), return_exceptions=True)
    if route is Route.READ:
        calls = [replace(call, stores=False) for call in calls]
    stored = await find_many(engine, calls)
    outcomes: list[Any] = [None] * len(calls)
    rest: list[int] = []
    for place, call in enumerate(calls):
        hit = stored.get(call.key)
        found = None if hit is None else engine._found(call, *hit)
        step = engine._step(call, route, found)
        if step is Step.COMPUTE:
            rest.append(place)
        else:
            outcomes[place] = await attempt(engine._carry_out(call, route, step, found))
    await engine.groups.learn(calls[place] for place in rest)
    computed = await gather(*(engine._join(calls[place]) for place in rest), return_exceptions=True)
    for place, result in zip(rest, computed, strict=True):
        outcomes[place] = result
    return outcomes


async def find_many(engine: Engine, calls: Sequence[Call]) -> dict[Key, tuple[Entry, Tier]]:
    """Look into the tiers, as each call of one function would, for what is fresh, and then for what there is."""
    if not calls:
        return {}
    by_key = {call.key: call for call in calls}
    codec = calls[0].options.codec
    found: dict[Key, tuple[Entry, Tier]] = {}
    if not calls[0].options.timing.is_plain:
        found = await engine.chain.find_many(
            by_key, codec, lambda key, entry: engine._finder.freshness(by_key[key], entry) is Freshness.FRESH
        )
    rest = [key for key in by_key if key not in found]
    return found | await engine.chain.find_many(rest, codec) if rest else found


async def look_up_many(engine: Engine, calls: Sequence[Call], route: Route) -> list[Hit[Any] | None]:
    """Do as :meth:`Engine.look_up` for each call."""
    stored = await find_many(engine, calls)

    async def find(call: Call) -> tuple[Entry, Tier] | None:
        return stored.get(call.key)

    return [await engine.look_up(replace(call, find=find), route) for call in calls]


async def put_many(engine: Engine, calls: Sequence[Call], values: Sequence[Any], route: Route) -> int:
    """Do as :meth:`Engine.put` for each call, over what is there; return how many values were stored.

    Raises for the first value that cannot be encoded, when the others are stored; and before anything is, for one that
    can be used only once.
    """
    for call, value in zip(calls, values, strict=True):
        refuse_used_once(value, call.label)
    if engine.determinism is not None:  # it asks the tiers about each of them, and never replaces
        written = [
            await attempt(engine.put(call, value, route, replace=True))
            for call, value in zip(calls, values, strict=True)
        ]
        for outcome in written:
            if isinstance(outcome, Exception):
                raise outcome
        return written.count(True)
    entries: dict[Key, Entry] = {}
    for call, value in zip(calls, values, strict=True):
        entry = engine._storing.entry(call, value, value, 0.0, Origin(call.factors()))
        if entry is not None:
            entries[call.key] = entry
            engine.flights.invalidate(call.key)
    results = await engine.chain.write_many(entries, replace=True)
    for call in calls:
        result = results.get(call.key)
        if isinstance(result, Written):
            engine._report(call, INSERTED[result], action="insert")
    return count_stored(results)
