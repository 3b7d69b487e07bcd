"""Memoized calls under isolation contexts: one snapshot for every kind of call, and no hit of another environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from acache import FastCache, IsolationSchema, isolate, isolation_context, register_form, run_sync
from acache.context import reprobe
from acache.exceptions import BridgeError, ConfigurationError


@contextmanager
def form(name: str, probe: Callable[[], Any], *, volatile: bool = False) -> Generator[None]:
    """Register a compile form for a block."""
    end = register_form("compile", name, probe, volatile=volatile)
    try:
        yield
    finally:
        end()


def counted(cache: FastCache, **options: Any) -> Any:
    """Memoize a function that counts its runs."""
    runs = 0

    async def run(n: int) -> int:
        nonlocal runs
        runs += 1
        return runs

    return cache.memoize(**options)(run)


@pytest.mark.parametrize("asked", ["async", "plain"])
async def test_a_volatile_form_is_asked_at_every_call(cache: FastCache, asked: str) -> None:
    """A changed setting is a miss and, changed back, a hit again, also for calls that were hot."""
    setting = "one"

    async def slow() -> str:
        await asyncio.sleep(0)
        return setting

    def quick() -> str:
        return setting

    f = counted(cache)
    assert [await f(1), await f(1)] == [1, 1]
    with form("setting", slow if asked == "async" else quick, volatile=True):
        assert [await f(1), await f(1)] == [2, 2]
        setting = "two"
        assert [await f(1), await f(1)] == [3, 3]
        setting = "one"
        assert await f(1) == 2
        excluding = counted(cache, ischema=IsolationSchema(True, {"python": True}), version=2)
        assert await excluding(1) == 1
        setting = "three"
        assert await excluding(1) == 1
    assert await f(1) == 1


async def test_a_new_answer_of_a_probe_drops_hot_paths(cache: FastCache) -> None:
    """After reprobe() no call is served what was made under the old answer."""
    compiler = "gcc 13"
    with form("cc", lambda: compiler):
        f = counted(cache)
        assert [await f(1), await f(1), await f(1)] == [1, 1, 1]
        compiler = "gcc 14"
        assert await f(1) == 1, "probed once"
        reprobe("cc")
        assert [await f(1), await f(1)] == [2, 2]
        assert f.cache_info().hits == 4
        assert (await f.cache_explain(2)).differs == ("argument 'n'",)


async def test_one_snapshot_for_every_kind_of_call(cache: FastCache) -> None:
    """Async, sync, bridged and threaded calls of one environment share a key, in a scope too."""

    async def probe() -> str:
        await asyncio.sleep(0)
        return "answer"

    with form("tool", probe):
        f = counted(cache)
        assert await f(1) == 1
        assert await asyncio.to_thread(f.sync, 1) == 1
        assert await asyncio.to_thread(run_sync, f, 1) == 1
        with isolate(target="x"):
            assert await f(1) == 2
            assert await asyncio.to_thread(f.sync, 1) == 2
            assert await asyncio.create_task(f(1)) == 2


def test_a_thread_waits_for_a_probe(cache: FastCache) -> None:
    """A sync call whose forms have not been probed waits for them over the bridge."""

    async def probe() -> str:
        await asyncio.sleep(0)
        return "answer"

    @cache.memoize
    def f(n: int) -> int:
        return n

    with form("tool", probe):
        assert f(1) == f(1) == 1
        assert f.cache_info().hits == 1


async def test_a_loop_is_not_blocked_for_a_probe(cache: FastCache) -> None:
    """A sync call on an event loop's thread that would have to wait for a probe is an error that says what to do."""

    async def probe() -> str:
        return "answer"

    @cache.memoize
    def f(n: int) -> int:
        return n

    with form("tool", probe):
        with pytest.raises(BridgeError, match="isolation_context"):
            f(1)
        await isolation_context()
        assert f(1) == 1


async def test_a_failing_probe_fails_the_call(cache: FastCache) -> None:
    """No call runs, or is served, under a form that cannot be told."""

    def probe() -> str:
        raise OSError

    f = counted(cache)
    assert await f(1) == 1
    with form("tool", probe), pytest.raises(ConfigurationError, match="tool"):
        await f(1)
    assert await f(1) == 1


async def test_a_selected_form_that_is_gone(cache: FastCache) -> None:
    """A schema whose form is no longer registered is an error at the call, not a hit of another environment."""
    with form("tool", lambda: 1):
        f = counted(cache, ischema=IsolationSchema(False, {"tool": True}))
        assert [await f(1), await f(1)] == [1, 1]
    with pytest.raises(ConfigurationError, match="tool"):
        await f(1)
