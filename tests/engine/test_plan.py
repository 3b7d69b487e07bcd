"""What is done with a call: every combination of everything that decides, against tables that say it in full.

The tables are data, not code: each line is a case, ``*`` stands for every value. That exactly one line is meant for each
combination is tested too, so neither the order of the lines nor what is left out of them decides anything.
"""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from acache.context import Scope
from acache.engine import Freshness, Mode, Route, Step, Verb, plan, step

ROUTES = """
    verb     mode           disabled  enabled  recompute  recache  read_only    route

    *        *              yes       *        *          *        *            off
    *        *              no        no       *          *        *            off

    replay   *              no        yes      *          *        *            REPLAY

    memoize  cached         no        yes      *          *        *            STRICT
    memoize  pre_populated  no        yes      *          *        *            STRICT
    record   cached         no        yes      *          *        *            STRICT
    record   pre_populated  no        yes      *          *        *            STRICT

    memoize  deterministic  no        yes      *          *        no           LOOKUP
    memoize  deterministic  no        yes      *          *        yes          AGREED
    record   deterministic  no        yes      *          *        no           LOOKUP
    record   deterministic  no        yes      *          *        yes          AGREED

    memoize  fast           no        yes      no         no       no           LOOKUP
    memoize  fast           no        yes      no         no       yes          READ
    memoize  fast           no        yes      yes        *        no           RECORD
    memoize  fast           no        yes      no         yes      no           RECORD
    memoize  fast           no        yes      yes        *        yes          BYPASS
    memoize  fast           no        yes      no         yes      yes          BYPASS
    record   fast           no        yes      *          *        no           RECORD
    record   fast           no        yes      *          *        yes          BYPASS
"""
#: What a call is that is switched off.
OFF = {"memoize": "BYPASS", "record": "BYPASS", "replay": "REFUSE"}

STEPS = """
    route    resting    nothing   FRESH     DUE                STALE              FALLBACK  DEAD

    LOOKUP   no         COMPUTE   SERVE     SERVE_AND_REFRESH  SERVE_AND_REFRESH  COMPUTE   COMPUTE
    LOOKUP   yes        COMPUTE   SERVE     SERVE              SERVE              SERVE     COMPUTE
    READ     no         COMPUTE   SERVE     SERVE              SERVE              COMPUTE   COMPUTE
    READ     yes        COMPUTE   SERVE     SERVE              SERVE              SERVE     COMPUTE
    REPLAY   *          REFUSE    SERVE     SERVE              SERVE              REFUSE    REFUSE
    STRICT   *          REFUSE    SERVE     SERVE              SERVE              REFUSE    REFUSE
    AGREED   *          REFUSE    SERVE     SERVE              SERVE              REFUSE    REFUSE
    REFUSE   *          REFUSE    SERVE     SERVE              SERVE              REFUSE    REFUSE
    RECORD   *          REFUSE    SERVE     SERVE              SERVE              REFUSE    REFUSE
    BYPASS   *          REFUSE    SERVE     SERVE              SERVE              REFUSE    REFUSE
"""


def rows(table: str) -> tuple[list[str], list[list[str]]]:
    """Return the head of a table, and its lines."""
    head, *lines = [line.split() for line in table.splitlines() if line.strip()]
    assert {len(line) for line in lines} == {len(head)}
    return head, lines


def meant(lines: list[list[str]], case: tuple[str, ...]) -> list[list[str]]:
    """Return the lines that are about a case: what they say, without what they are about."""
    size = len(case)
    return [
        line[size:] for line in lines if all(said in {"*", is_} for said, is_ in zip(line[:size], case, strict=True))
    ]


def _word(*, switch: bool) -> str:
    return "yes" if switch else "no"


@pytest.mark.parametrize(
    ("verb", "mode", "disabled", "enabled", "recompute", "recache", "read_only"),
    list(product(get_args(Verb), get_args(Mode), *[[False, True]] * 5)),
)
def test_every_combination(
    verb: Verb, mode: Mode, *, disabled: bool, enabled: bool, recompute: bool, recache: bool, read_only: bool
) -> None:
    """The route of every call is the one its line in the table says."""
    switches = (disabled, enabled, recompute, recache, read_only)
    (said,) = meant(rows(ROUTES)[1], (verb, mode, *(_word(switch=switch) for switch in switches)))
    scope = Scope(disabled=disabled, recompute=recompute, read_only=read_only)
    route = plan(verb, scope, enabled=enabled, recache=recache, mode=mode)
    assert route.name == (OFF[verb] if said == ["off"] else said[0])


@pytest.mark.parametrize(("route", "found", "resting"), list(product(Route, [None, *Freshness], [False, True])))
def test_every_step(route: Route, found: Freshness | None, *, resting: bool) -> None:
    """What is done with what was found is what the table says, for every route, and for keys that rest."""
    head, lines = rows(STEPS)
    (said,) = meant(lines, (route.name, _word(switch=resting)))
    column = head.index("nothing" if found is None else found.name) - 2
    assert step(route, found, resting=resting).name == said[column]


@pytest.mark.parametrize(("table", "answers"), [(ROUTES, {*Route.__members__, "off"}), (STEPS, set(Step.__members__))])
def test_every_line_says_something_possible(table: str, answers: set[str]) -> None:
    """No line of a table is about what does not exist."""
    head, lines = rows(table)
    size = 2 if table is STEPS else len(head) - 1
    known: dict[str, Any] = {"verb": get_args(Verb), "mode": get_args(Mode), "route": Route.__members__}
    for line in lines:
        for name, said in zip(head[:size], line[:size], strict=True):
            assert said in {"*", *known.get(name, ("yes", "no"))}
        assert set(line[size:]) <= answers


def test_what_stores_nothing_from_outside() -> None:
    """A result that is given is not stored where nothing is read, or nothing may be stored; a strict cache says so itself."""
    assert {route.name for route in Route if not route.stores} == {"BYPASS", "READ", "AGREED"}
