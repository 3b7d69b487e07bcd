"""What to do with a call, as a pure function of how it was declared and what is switched on."""

from __future__ import annotations

from enum import Enum, auto
from typing import Literal, TypeAlias

from acache.context import Scope
from acache.engine.freshness import Freshness

__all__ = ("Mode", "Route", "Step", "Verb", "plan", "step")

#: How a function was decorated.
Verb: TypeAlias = Literal["memoize", "record", "replay"]
#: What a cache promises: the best it can; that all workers agree; and that nothing is computed at all, with what is
#: cached, or with what was loaded.
Mode: TypeAlias = Literal["fast", "deterministic", "cached", "pre_populated"]


class Route(Enum):
    """The way of one call through the engine."""

    #: Run the function; read nothing, store nothing.
    BYPASS = auto()
    #: Run the function and store the result over what is there.
    RECORD = auto()
    #: Serve what is stored, else compute it once and store it.
    LOOKUP = auto()
    #: Serve what is stored, else compute it once; store nothing.
    READ = auto()
    #: Serve what is stored, else refuse.
    REPLAY = auto()
    #: As REPLAY, because the whole cache is strict: another error, and nothing may be inserted either.
    STRICT = auto()
    #: As REPLAY, because workers agree on what is stored only, and nothing may be stored: another error.
    AGREED = auto()
    #: Refuse: nothing may be read and nothing may be computed.
    REFUSE = auto()

    @property
    def stores(self) -> bool:
        """Whether something given from outside may be stored."""
        return self not in {Route.BYPASS, Route.READ, Route.AGREED}


def plan(verb: Verb, scope: Scope, *, enabled: bool, recache: bool, mode: Mode = "fast") -> Route:
    """Choose the route. A replay never computes, whatever is switched on.

    A deterministic cache does not record over what is there: its workers would no longer agree.
    """
    off = scope.disabled or not enabled
    if verb == "replay":
        return Route.REFUSE if off else Route.REPLAY
    if off:
        return Route.BYPASS
    if mode in {"cached", "pre_populated"}:
        return Route.STRICT
    if mode == "fast" and (verb == "record" or scope.recompute or recache):
        return Route.BYPASS if scope.read_only else Route.RECORD
    if scope.read_only:
        return Route.READ if mode == "fast" else Route.AGREED
    return Route.LOOKUP


class Step(Enum):
    """What to do with what was found."""

    #: Serve it.
    SERVE = auto()
    #: Serve it, and compute it anew behind the caller.
    SERVE_AND_REFRESH = auto()
    #: Compute, once for all who ask.
    COMPUTE = auto()
    #: Compute nothing and serve nothing.
    REFUSE = auto()


def step(route: Route, found: Freshness | None, *, resting: bool) -> Step:
    """Choose what a route that looks things up does with what it has found; ``None``: nothing.

    While the key rests, because computing it failed lately, whatever there is will do.
    """
    if route in {Route.LOOKUP, Route.READ}:
        if found is None or found is Freshness.DEAD:
            return Step.COMPUTE
        if found is Freshness.FRESH or resting:
            return Step.SERVE
        if found is Freshness.FALLBACK:
            return Step.COMPUTE
        return Step.SERVE if route is Route.READ else Step.SERVE_AND_REFRESH
    return Step.SERVE if found is not None and found.is_served else Step.REFUSE
