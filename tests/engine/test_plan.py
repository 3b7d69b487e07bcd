"""The plan of a call: every combination of verb and switches."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from acache.context import Scope
from acache.engine import Mode, Route, Verb, plan

NORMAL = {"memoize": Route.LOOKUP, "record": Route.RECORD, "replay": Route.REPLAY}


@pytest.mark.parametrize(
    ("verb", "mode", "disabled", "recompute", "enabled", "recache"),
    list(product(get_args(Verb), get_args(Mode), *[[False, True]] * 4)),
)
def test_every_combination(
    verb: Verb, mode: Mode, *, disabled: bool, recompute: bool, enabled: bool, recache: bool
) -> None:
    """Off beats everything; a replay never computes, nor does a strict cache; a deterministic one never records over."""
    scope = Scope(disabled=disabled, recompute=recompute)
    if disabled or not enabled:
        expected = Route.REFUSE if verb == "replay" else Route.BYPASS
    elif verb == "replay":
        expected = Route.REPLAY
    elif mode in {"cached", "pre_populated"}:
        expected = Route.STRICT
    elif mode == "deterministic":
        expected = Route.LOOKUP
    elif recompute or recache:
        expected = Route.RECORD
    else:
        expected = NORMAL[verb]
    assert plan(verb, scope, enabled=enabled, recache=recache, mode=mode) is expected


@pytest.mark.parametrize(("verb", "mode", "disabled"), list(product(get_args(Verb), get_args(Mode), [False, True])))
def test_read_only(verb: Verb, mode: Mode, *, disabled: bool) -> None:
    """Where nothing may be stored, workers that agree compute nothing either; whoever else computes keeps it to himself."""
    scope = Scope(disabled=disabled, read_only=True)
    if disabled:
        expected = Route.REFUSE if verb == "replay" else Route.BYPASS
    elif verb == "replay":
        expected = Route.REPLAY
    elif mode == "fast":
        expected = Route.READ if verb == "memoize" else Route.BYPASS
    else:
        expected = Route.AGREED if mode == "deterministic" else Route.STRICT
    assert plan(verb, scope, enabled=True, recache=False, mode=mode) is expected
    assert plan(verb, scope, enabled=True, recache=False, mode=mode).stores is (
        expected in {Route.REPLAY, Route.REFUSE, Route.STRICT}
    )
