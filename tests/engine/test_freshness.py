"""How good a result still is: pure decisions, as tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from acache.clock import as_seconds
from acache.engine import Freshness, Options, Timing
from acache.engine.freshness import Ends, begun, judge, touched
from acache.engine.resting import FIRST_REST, LONGEST_REST, Resting
from acache.exceptions import ConfigurationError
from acache.types import Key

FRESH, DUE, STALE, FALLBACK, DEAD = Freshness


@pytest.mark.parametrize(
    ("timing", "age", "left", "expected"),
    [
        (Timing(), 5, math.inf, FRESH),
        (Timing(), 5, 1, FRESH),
        (Timing(), 5, 0, DEAD),
        (Timing(refresh_after=5), 4.9, 9, FRESH),
        (Timing(refresh_after=5), 5, 9, DUE),
        (Timing(stale_ttl=3), 9, 0, STALE),
        (Timing(stale_ttl=3), 9, -2.9, STALE),
        (Timing(stale_ttl=3), 9, -3, DEAD),
        (Timing(stale_on_error=5), 9, 0, FALLBACK),
        (Timing(stale_on_error=5), 9, -5, DEAD),
        (Timing(stale_ttl=3, stale_on_error=5), 9, -3, FALLBACK),
        (Timing(stale_ttl=5, stale_on_error=3), 9, -4, STALE),
        (Timing(refresh_after=1, stale_ttl=3), 9, -1, STALE),
    ],
)
def test_judge(timing: Timing, age: float, left: float, expected: Freshness) -> None:
    """Age, the time left and the windows decide; every boundary belongs to what follows it."""
    assert judge(timing, age=age, left=left, cost=1.0, draw=1.0) is expected


@pytest.mark.parametrize(("draw", "expected"), [(1.0, FRESH), (0.9, FRESH), (0.1, DUE), (1e-9, DUE)])
def test_early_refresh(draw: float, expected: Freshness) -> None:
    """XFetch: a small draw begins earlier by beta times the cost; a large cost or beta does too."""
    assert judge(Timing(early=1.0), age=8, left=2.0, cost=1.0, draw=draw) is expected
    assert judge(Timing(early=100.0), age=8, left=2.0, cost=1.0, draw=0.9) is DUE
    assert judge(Timing(early=1.0), age=8, left=2.0, cost=100.0, draw=0.9) is DUE


@pytest.mark.parametrize(
    ("timing", "ttl", "expected"),
    [
        (Timing(), None, Ends(None, None)),
        (Timing(), 20, Ends(30, None)),
        (Timing(refresh_after=5), None, Ends(None, None)),
        (Timing(refresh_after=5), 20, Ends(30, 30)),
        (Timing(stale_ttl=5), 20, Ends(35, 30)),
        (Timing(stale_ttl=5, stale_on_error=9), 20, Ends(39, 30)),
        (Timing(idle=4), 20, Ends(30, 14)),
        (Timing(idle=4, stale_ttl=5), 20, Ends(35, 14)),
        (Timing(idle=4), None, Ends(18, 14, sliding=True)),
        (Timing(idle=4, stale_ttl=5), None, Ends(23, 14, sliding=True)),
    ],
)
def test_the_ends_of_a_new_entry(timing: Timing, ttl: float | None, expected: Ends) -> None:
    """Made at 10: it is stale after its ttl or its idle, is kept for the windows, and always comes to an end if it can be stale."""
    assert begun(timing, now=10, ttl=ttl) == expected


@pytest.mark.parametrize(
    ("timing", "ends", "expected"),
    [
        (Timing(), Ends(30, None), Ends(30, None)),
        (Timing(idle=4), Ends(30, 12), Ends(30, 24)),
        (Timing(idle=4), Ends(23, 22), Ends(23, 23)),
        (Timing(idle=4, stale_ttl=5), Ends(28, 12), Ends(28, 23)),
        (Timing(idle=4), Ends(None, None), Ends(28, 24, sliding=True)),
        (Timing(idle=4), Ends(22, 21, sliding=True), Ends(28, 24, sliding=True)),
        (Timing(idle=4, stale_ttl=5), Ends(22, 21, sliding=True), Ends(33, 24, sliding=True)),
        (Timing(idle=4), Ends(99, 21, sliding=True), Ends(99, 24, sliding=True)),
    ],
)
def test_a_use_moves_the_ends(timing: Timing, ends: Ends, expected: Ends) -> None:
    """Used at 20: it is good for idle seconds more, not beyond its own time; the end moves only if it has none, and never back."""
    assert touched(timing, now=20, ends=ends) == expected


def test_rests_grow() -> None:
    """Each failure in a row doubles the rest, up to a limit; a success ends it."""
    resting, key, now = Resting(), Key("0" * 64), 100.0
    rests: list[float] = []
    for _ in range(9):
        resting.fail(key, now)
        rest = FIRST_REST
        while resting.is_resting(key, now + rest):
            rest *= 2
        rests.append(rest)
        now += rest
    assert rests[:4] == [1.0, 2.0, 4.0, 8.0]
    assert rests[-1] <= 2 * LONGEST_REST
    resting.succeed(key)
    assert not resting.is_resting(key, now)


def test_a_rest_is_not_made_longer_by_what_began_before_it() -> None:
    """What fails while the key rests was begun before the rest, so the rest stays what it is."""
    resting, key = Resting(), Key("0" * 64)
    for _ in range(8):
        resting.fail(key, 100.0)
    assert resting.is_resting(key, 100.0 + FIRST_REST - 0.1)
    assert not resting.is_resting(key, 100.0 + FIRST_REST)


def test_rests_are_bounded() -> None:
    """Failures of ever new keys do not fill the memory."""
    resting = Resting()
    for number in range(11_000):
        resting.fail(Key(f"{number:064x}"), 0.0)
    assert len(resting._rests) == 10_000
    assert not resting.is_resting(Key(f"{0:064x}"), 0.5)


async def _never_asked(_value: object) -> bool:
    raise AssertionError


class _NeverAsked:
    async def __call__(self, _value: object) -> bool:
        raise AssertionError


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"ttl": -1}, "ttl"),
    ({"ttl": 10, "refresh_after": 10}, "refresh_after"),
    ({"ttl": 10, "idle": 10}, "idle"),
    ({"jitter": 1}, "jitter"),
    ({"stale_ttl": 1}, "stale_ttl"),
    ({"stale_on_error": 1}, "stale_on_error"),
    ({"early_refresh": 1}, "early_refresh"),
    ({"ttl": 10, "early_refresh": 0}, "early_refresh"),
    ({"ttl": 10, "early_refresh": True}, "early_refresh"),
    ({"ttl": 10, "early_refresh": float("inf")}, "early_refresh"),
    ({"ttl": 10, "early_refresh": float("nan")}, "early_refresh"),
    ({"finish_in_background": True}, "finish_in_background"),
    ({"finish_in_background": True, "timeout": float("inf")}, "finish_in_background"),
    ({"finish_in_background": "no", "timeout": 1}, "finish_in_background"),
    ({"finish_in_background": 1, "timeout": 1}, "finish_in_background"),
    ({"ttl": 10, "stale_ttl": 1, "timeout": 1, "soft_timeout": 1}, "soft_timeout"),
    ({"ttl": 10, "soft_timeout": 1}, "soft_timeout"),
    ({"timeout": -1}, "timeout"),
    ({"cache_exceptions": BaseException}, "cache_exceptions"),
    ({"cache_exceptions": ("ValueError",)}, "cache_exceptions"),
    ({"cache_exceptions": {ValueError: -1}}, "cache_exceptions"),
    ({"cache_exceptions": "ValueError"}, "cache_exceptions"),
    ({"cache_exceptions": 5}, "cache_exceptions"),
    ({"cache_exceptions": [[ValueError]]}, "cache_exceptions"),
    ({"cache_exceptions": iter([ValueError])}, "cache_exceptions"),
    ({"cache_exceptions": [KeyboardInterrupt]}, "cache_exceptions"),
    ({"cache_exceptions": [ValueError], "ttl": int}, "cache_exceptions"),
    ({"cache_exceptions": ValueError, "ttl": int}, "cache_exceptions"),
    ({"on_unencodable": "ignore"}, "on_unencodable"),
    ({"store_if": _never_asked}, "store_if"),
    ({"store_if": _NeverAsked()}, "store_if"),
    ({"ttl": _never_asked}, "ttl"),
    ({"ttl": _NeverAsked()}, "ttl"),
]


@pytest.mark.parametrize(("options", "named"), CONTRADICTIONS)
def test_contradictions(options: dict[str, Any], named: str) -> None:
    """Options that cannot be, or contradict each other, are an error that names one of them."""
    with pytest.raises(ConfigurationError, match=named):
        Options.build("m.f", **options)


def test_what_only_looks_contradictory_is_accepted() -> None:
    """A result that is used lives longer than ``idle``, so it may be refreshed later; ``stale_ttl`` may be the longer time."""
    accepted: list[dict[str, Any]] = [
        {"idle": 5, "refresh_after": 6},
        {"idle": 5, "refresh_after": 5, "ttl": 10},
        {"ttl": 1, "stale_ttl": 100, "refresh_after": 0.5},
        {"ttl": 1, "stale_ttl": 9, "soft_timeout": 1, "finish_in_background": True},
        {"timeout": 1, "finish_in_background": True},
        {"cache_exceptions": ()},
    ]
    for options in accepted:
        Options.build("m.f", **options)


@pytest.mark.parametrize("collect", [tuple, list, set, frozenset])
def test_exceptions_are_given_in_any_collection(collect: Callable[[Any], Any]) -> None:
    """A tuple, a list or a set of types is good; each has the ttl of the function."""
    options = Options.build("m.f", ttl=60, cache_exceptions=collect((KeyError, OSError)))
    assert options.exception_ttl(KeyError()) == options.exception_ttl(OSError()) == (True, 60.0)
    assert options.exception_ttl(ValueError()) == (False, None)


def test_exceptions_and_their_times() -> None:
    """The nearest class of an exception says how long it is good; without one of its own, the ttl."""
    options = Options.build("m.f", ttl=60, cache_exceptions={LookupError: "10s", KeyError: None})
    assert options.exception_ttl(KeyError()) == (True, None)
    assert options.exception_ttl(IndexError()) == (True, 10.0)
    assert options.exception_ttl(ValueError()) == (False, None)
    assert Options.build("m.f", ttl="1m", cache_exceptions=ValueError).exception_ttl(UnicodeError()) == (True, 60.0)
    assert as_seconds("1m") == 60.0
