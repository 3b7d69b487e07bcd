"""Somebody who comes in the middle of a step: what the garbage collector does to every thread, as often as a test likes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from typing import Any

__all__ = ("at_every_call",)


def at_every_call(
    prepare: Callable[[], tuple[Callable[[], object], Callable[[], object], Callable[[], object]]],
) -> int:
    """Run a step with an intruder at its first call or return of a call, then anew with him at its second, and so on.

    ``prepare()`` makes a step, an intruder and a check of what they left, all of them fresh. Calls, of C functions too, are where
    the collector, finalizers and signal handlers run, besides allocations. Returns how often he came.
    """
    for place in count():
        step, intrude, check = prepare()
        came = _run(step, intrude, place)
        check()
        if not came:
            return place
    raise AssertionError


def _run(step: Callable[[], object], intrude: Callable[[], object], place: int) -> bool:
    seen = 0
    came = False

    def profile(_frame: Any, _event: str, _argument: Any) -> None:
        nonlocal seen, came
        if seen == place:
            came = True
            sys.setprofile(None)
            intrude()
        seen += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        step()
    finally:
        sys.setprofile(before)
    return came
