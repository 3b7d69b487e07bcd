"""What a memoized call does, the same for ``async def`` and ``def``."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from acache import FastCache, disabled, isolate, recompute
from acache.exceptions import (
    CustomParamsEncoderRequiredError,
    CustomResultEncoderRequiredError,
    ReplayMissError,
    UserError,
)
from acache.testing import ManualClock

Define = Callable[[Callable[..., Any]], Callable[..., Any]]
Call = Callable[..., Any]


async def test_the_second_call_is_a_hit(cache: FastCache, define: Define, call: Call) -> None:
    """A call with arguments seen before does not run the function."""
    runs: list[int] = []

    @cache.memoize
    @define
    def f(x: int) -> int:
        runs.append(x)
        return x * 2

    assert [await call(f, 1), await call(f, 1), await call(f, 2)] == [2, 2, 4]
    assert runs == [1, 2]
    info = f.cache_info()
    assert (info.hits, info.misses, info.currsize) == (1, 2, 2)


async def test_k3_every_spelling_of_a_call_is_one_call(cache: FastCache, kind: str, call: Call) -> None:
    """K3: positional, keyword and default arguments make one key."""
    runs: list[int] = []

    def plain(x: int, y: int = 2, *rest: int, z: int = 3) -> int:
        runs.append(x)
        return x + y + z

    async def coroutine(x: int, y: int = 2, *rest: int, z: int = 3) -> int:
        return plain(x, y, z=z)

    f = cache.memoize(coroutine) if kind == "async" else cache.memoize(plain)
    for args, kwargs in [((1,), {}), ((1, 2), {}), ((), {"x": 1}), ((), {"z": 3, "y": 2, "x": 1}), ((1,), {"z": 3})]:
        assert await call(f, *args, **kwargs) == 6
    assert runs == [1]


async def test_k1_arguments_of_different_types_are_different(cache: FastCache, define: Define, call: Call) -> None:
    """K1: 1, True, 1.0, "1" and b"1" never share a result, at any depth, however often they are called."""

    @cache.memoize
    @define
    def kind_of(x: Any) -> str:
        return repr(x)

    values: list[Any] = [1, True, 1.0, "1", b"1", 0.0, -0.0, (1,), (True,), (1.0,), [1], frozenset({1}), None, ()]
    for _ in range(3):
        for value in values:
            assert await call(kind_of, value) == repr(value)


@pytest.mark.parametrize("value", [None, 0, "", False, ..., NotImplemented, [], ValueError("kept")])
async def test_v4_any_value_is_a_value(cache: FastCache, define: Define, call: Call, value: object) -> None:
    """V4: None, falsy values and exception instances are results like any other."""
    runs: list[int] = []

    @cache.memoize
    @define
    def f() -> object:
        runs.append(1)
        return value

    assert await call(f) is value
    assert await call(f) is value
    assert runs == [1]


async def test_k5_the_key_is_taken_before_the_function_runs(cache: FastCache, define: Define, call: Call) -> None:
    """K5: a function that changes its argument does not change which call it was."""

    @cache.memoize
    @define
    def take(items: list[int]) -> int:
        items.append(0)
        return len(items)

    assert await call(take, [1, 2]) == 3
    assert await call(take, [1]) == 2
    assert await call(take, [1, 2, 0]) == 4
    assert await call(take, [1, 2]) == 3


async def test_a4_an_exception_is_not_kept(cache: FastCache, define: Define, call: Call) -> None:
    """A4: what the function raises reaches the caller unchanged, and the next call runs it again."""
    runs: list[int] = []

    @cache.memoize
    @define
    def f() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError("first")
        return len(runs)

    with pytest.raises(ValueError, match="first"):
        await call(f)
    assert await call(f) == 2
    assert f.cache_info().failed == 1


async def test_a6_a_stop_iteration_does_not_hang(cache: FastCache, define: Define, call: Call) -> None:
    """A6: StopIteration from the function arrives as an error."""

    @cache.memoize
    @define
    def f() -> int:
        raise StopIteration

    with pytest.raises((RuntimeError, StopIteration)):
        await call(f)


async def test_results_expire(cache: FastCache, clock: ManualClock, define: Define, call: Call) -> None:
    """A result older than its ttl is computed anew; until then it is a hit."""
    runs: list[int] = []

    @cache.memoize(ttl="10s")
    @define
    def f() -> int:
        runs.append(1)
        return len(runs)

    assert await call(f) == 1
    clock.advance(9.9)
    assert await call(f) == 1
    clock.advance(0.2)
    assert await call(f) == 2
    assert await call(f) == 2


async def test_an_unencodable_argument_is_refused_before_the_function_runs(
    cache: FastCache, kind: str, call: Call
) -> None:
    """An argument that cannot be part of a key is an error that names function and parameter, and nothing runs."""
    runs: list[int] = []

    def plain(handle: object) -> None:
        runs.append(1)

    async def coroutine(handle: object) -> None:
        runs.append(1)

    f = cache.memoize(coroutine) if kind == "async" else cache.memoize(plain)
    with pytest.raises(CustomParamsEncoderRequiredError, match="handle") as caught:
        await call(f, object())
    assert "test_calls" in str(caught.value)
    assert runs == []


async def test_a18_a_coroutine_or_generator_is_no_result(cache: FastCache) -> None:
    """A18: what only one caller could use is refused, at the call or, if it can be known, at decoration."""

    async def inner() -> int:
        return 1

    @cache.memoize
    def returns_coroutine() -> object:
        return inner()

    @cache.memoize
    async def returns_generator() -> object:
        return (n for n in range(3))

    with pytest.raises(CustomResultEncoderRequiredError, match="coroutine"):
        returns_coroutine()
    with pytest.raises(CustomResultEncoderRequiredError, match="generator"):
        await returns_generator()

    def generate() -> Any:
        yield 1

    with pytest.raises(UserError, match="generator function"):
        cache.memoize(generate)


async def test_record_always_computes_and_refreshes_what_memoize_serves(
    cache: FastCache, define: Define, call: Call
) -> None:
    """memoize, record and replay of one raw function are one key space."""
    runs: list[int] = []

    @define
    def f(x: int) -> int:
        runs.append(x)
        return len(runs)

    memoized, recorded, replayed = cache.memoize(f), cache.record(f), cache.replay(f)
    with pytest.raises(ReplayMissError, match="no stored result"):
        await call(replayed, 1)
    with pytest.raises(KeyError):
        await call(replayed, 1)
    assert await call(memoized, 1) == 1
    assert await call(replayed, 1) == 1
    assert await call(recorded, 1) == 2
    assert await call(recorded, 1) == 3
    assert await call(memoized, 1) == 3
    assert await call(replayed, 1) == 3
    assert memoized.cache_key(1) == recorded.cache_key(1) == replayed.cache_key(1)


async def test_replay_of_a_memoized_function_is_of_the_raw_one(cache: FastCache, define: Define, call: Call) -> None:
    """Decorating what this cache memoized already means the function underneath."""

    @cache.memoize
    @define
    def f(x: int) -> int:
        return x

    replayed = cache.replay(f)
    assert await call(f, 1) == 1
    assert await call(replayed, 1) == 1
    with pytest.raises(ReplayMissError):
        await call(replayed, 2)


async def test_what_one_call_has_stored_can_be_asked_and_changed(cache: FastCache, define: Define, call: Call) -> None:
    """cache_get, cache_set, cache_contains, cache_invalidate and cache_refresh speak of one call's entry."""
    runs: list[int] = []

    @cache.memoize
    @define
    def f(x: int) -> str:
        runs.append(x)
        return f"run {len(runs)}"

    assert await f.cache_get(1) is None
    assert not await f.cache_contains(1)
    assert await call(f, 1) == "run 1"
    hit = await f.cache_get(1)
    assert hit is not None
    assert (hit.value, hit.tier) == ("run 1", "memory")
    assert await f.cache_contains(1)
    assert await f.cache_set("given", 1)
    assert await call(f, 1) == "given"
    assert await f.cache_refresh(1) == "run 2"
    assert await call(f, 1) == "run 2"
    assert await f.cache_invalidate(1)
    assert not await f.cache_invalidate(1)
    assert await call(f, 1) == "run 3"
    assert await call(f, 2) == "run 4"
    await f.cache_clear()
    assert (await call(f, 1), await call(f, 2)) == ("run 5", "run 6")


async def test_clearing_one_function_leaves_the_others(cache: FastCache, define: Define, call: Call) -> None:
    """cache_clear is of one function and version; cache.clear is of all."""

    @cache.memoize
    @define
    def f(x: int) -> int:
        return x

    @cache.memoize
    @define
    def g(x: int) -> int:
        return x

    await call(f, 1)
    await call(g, 1)
    await f.cache_clear()
    assert (f.cache_info().currsize, g.cache_info().currsize) == (0, 1)
    await cache.clear()
    assert g.cache_info().currsize == 0


async def test_isolation_separates_results(cache: FastCache, define: Define, call: Call) -> None:
    """A result made under one factor is not served under another, and is again under the first."""
    runs: list[int] = []

    @cache.memoize
    @define
    def f() -> int:
        runs.append(1)
        return len(runs)

    assert await call(f) == 1
    with isolate(target="sm90"):
        assert await call(f) == 2
        with isolate(target="sm80", level=3):
            assert await call(f) == 3
        with isolate(level=3):
            assert await call(f) == 4
        assert await call(f) == 2
    with isolate(level=3, target="sm80"):
        assert await call(f) == 3
    assert await call(f) == 1
    assert len(runs) == 4


async def test_a_switched_off_cache_neither_reads_nor_stores(cache: FastCache, define: Define, call: Call) -> None:
    """Inside disabled(), every call runs, even with arguments no key could hold, and nothing is kept."""
    runs: list[int] = []

    @define
    def f(x: object) -> int:
        runs.append(1)
        return len(runs)

    memoized, replayed = cache.memoize(f), cache.replay(f)
    assert await call(memoized, 1) == 1
    with disabled():
        assert await call(memoized, 1) == 2
        assert await call(memoized, object()) == 3
        assert await memoized.cache_get(1) is None
        assert await memoized.cache_set(9, 1) is False
        assert not await memoized.cache_contains(1)
        with pytest.raises(ReplayMissError):
            await call(replayed, 1)
    assert await call(memoized, 1) == 1
    assert memoized.cache_info().bypassed == 2


async def test_recompute_computes_and_stores(cache: FastCache, define: Define, call: Call) -> None:
    """Inside recompute(), every call runs and its result replaces what was stored."""
    runs: list[int] = []

    @cache.memoize
    @define
    def f() -> int:
        runs.append(1)
        return len(runs)

    assert await call(f) == 1
    with recompute():
        assert await call(f) == 2
    assert await call(f) == 2


async def test_store_if_chooses_what_is_kept(
    cache: FastCache, define: Define, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    """Only results the predicate accepts are kept; a predicate that fails costs nobody a result."""
    runs: list[int] = []

    @cache.memoize(store_if=lambda value: 10 // (value - 3) < 0)
    @define
    def f(x: int) -> int:
        runs.append(x)
        return x

    assert [await call(f, 1), await call(f, 1)] == [1, 1]
    assert [await call(f, 5), await call(f, 5)] == [5, 5]
    assert [await call(f, 3), await call(f, 3)] == [3, 3]
    assert runs == [1, 5, 5, 3, 3]
    assert "store_if" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("copy", ["deepcopy", "decode"])
async def test_v3_copies_keep_callers_apart(cache: FastCache, define: Define, call: Call, copy: Any) -> None:
    """V3: with copy=, what one caller does to a result no other caller sees."""

    @cache.memoize(copy=copy)
    @define
    def rows() -> dict[str, list[int]]:
        return {"rows": [1]}

    for _ in range(3):
        mine = await call(rows)
        assert mine == {"rows": [1]}
        mine["rows"].append(9)


async def test_results_are_shared_by_default(cache: FastCache, define: Define, call: Call) -> None:
    """Without copy=, every caller gets the stored object itself."""

    @cache.memoize
    @define
    def rows() -> list[int]:
        return []

    assert await call(rows) is await call(rows)


async def test_encoder_and_decoder_stand_between_result_and_store(cache: FastCache, define: Define, call: Call) -> None:
    """A miss returns the function's own result; a hit, from memory too, returns the decoded one."""

    async def encode(value: int) -> str:
        await asyncio.sleep(0)
        return f"<{value}>"

    @cache.memoize(custom_result_encoder=encode, custom_result_decoder=lambda text: ("decoded", text))
    @define
    def f(x: int) -> Any:
        return x

    assert await call(f, 1) == 1
    assert await call(f, 1) == ("decoded", "<1>")


async def test_a_params_encoder_names_the_call(cache: FastCache, define: Define) -> None:
    """With a params encoder, sync or async, a function or an object, any argument is fine."""
    runs: list[int] = []

    async def encode(*args: object, **kwargs: object) -> str:
        await asyncio.sleep(0)
        return "always"

    def encode_at_once(*args: object, **kwargs: object) -> str:
        return "always"

    class Encoder:
        async def __call__(self, *args: object, **kwargs: object) -> str:
            return "always"

    encoders: list[Callable[..., Any]] = [encode_at_once, encode, Encoder()]
    for version, encoder in enumerate(encoders):
        runs.clear()

        @cache.memoize(custom_params_encoder=encoder, version=version)
        @define
        def f(handle: object) -> int:
            runs.append(1)
            return len(runs)

        # A plain function with an async encoder waits for the bridge, which the test's own loop must not.
        assert await f.aio(object()) == await asyncio.to_thread(f.sync, object()) == 1


async def test_events_tell_of_every_call(cache: FastCache, define: Define, call: Call) -> None:
    """While somebody listens, hits of the hot path are told of too; without listeners they are still counted."""

    @cache.memoize
    @define
    def f(x: int) -> int:
        return x

    with cache.events.capture() as events:
        await call(f, 1)
        await call(f, 1)
    calls = [event for event in events if hasattr(event, "function")]
    assert [getattr(event, "outcome", None) for event in calls] == ["computed", "hit"]
    assert [getattr(event, "tier", None) for event in calls] == [None, "memory"]
    await call(f, 1)
    await call(f, 1)
    info = f.cache_info()
    assert (info.hits, info.misses, info.computed) == (3, 1, 1)
    total = cache.statistics().total
    assert (total.hits, total.misses, total.currsize) == (3, 1, 1)


async def test_aio_and_sync_are_the_same_call(cache: FastCache, define: Define) -> None:
    """Both faces of a function share its key, its entry and its counters."""
    runs: list[int] = []

    @cache.memoize
    @define
    def f(x: int) -> int:
        runs.append(x)
        return x

    assert await f.aio(1) == 1
    assert await asyncio.to_thread(f.sync, 1) == 1
    assert await asyncio.to_thread(f.sync, 2) == 2
    assert await f.aio(2) == 2
    assert f.sync(1) == 1  # a hit needs no loop, so it may be asked on one
    assert runs == [1, 2]


async def test_hits_are_counted_for_the_function_whoever_served_them(cache: FastCache) -> None:
    """All that is made of one function has its counts, hot hits too; and what is gone has been counted."""

    def body(n: int) -> int:
        return n

    f, replay = cache.memoize(body), cache.replay(body)
    assert [f(1), f(1), f(1), replay(1), replay(1)] == [1] * 5
    assert f.cache_info().hits == replay.cache_info().hits == cache.statistics().total.hits == 4
    del f
    gc.collect()
    assert replay.cache_info().hits == cache.statistics().total.hits == 4
    del replay
    gc.collect()
    assert cache.statistics().total[:2] == (4, 1)
