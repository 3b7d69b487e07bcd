"""What goes wrong with decoders, sinks and recordings of a user's in other caches goes right here: P20."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from acache import Cache, CallEvent, DeferredRecording, DeterministicCache, DiskTier, FastCache, Hit, MemoryTier
from acache.events import Event
from acache.exceptions import DeferredRecordingDroppedError
from acache.testing import ComputeCounter

# --- decoders -----------------------------------------------------------------------------------------------------------


def wrap(value: int) -> dict[str, int]:
    return {"value": value}


def look_up_what_is_not_there(stored: dict[str, int]) -> int:
    return stored["absent"]


async def look_up_later(stored: dict[str, int]) -> int:
    return stored["absent"]


@pytest.mark.parametrize("decoder", [look_up_what_is_not_there, look_up_later], ids=["sync", "async"])
@pytest.mark.parametrize("kind", [FastCache, DeterministicCache])
async def test_p20_a_decoder_that_fails_is_seen(
    tmp_path: Path, kind: Callable[..., Cache], decoder: Callable[..., Any]
) -> None:
    """A ``KeyError`` of a decoder reaches the caller as it is, call after call; it does not pass for a miss."""
    counter = ComputeCounter()
    async with kind(MemoryTier(), DiskTier(tmp_path)) as cache:
        coders: Any = {"custom_result_encoder": wrap, "custom_result_decoder": decoder}

        @cache.memoize(**coders)
        @counter.wrap
        async def f(n: int) -> int:
            return n

        @cache.memoize(**coders)
        @counter.wrap
        def plain(n: int) -> int:
            return n

        assert [await f(1), await plain.aio(1)] == [1, 1]
        replayed = cache.replay(**coders)(f)
        uses: list[Callable[[], Awaitable[object]]] = [lambda: f(1), lambda: plain.aio(1), lambda: replayed(1)]
        uses += [lambda: asyncio.to_thread(plain, 1), lambda: cache.get(f, ((1,), {}))]
        for use in uses * 2:
            with pytest.raises(KeyError, match="absent"):
                await use()
        counter.assert_computed(2)


async def test_p20_a_decoder_that_fails_is_an_event() -> None:
    """SPEC 20: a call that ends with the error of its decoder is told and counted, as one whose function fails is."""
    cache = FastCache()

    @cache.memoize(custom_result_encoder=wrap, custom_result_decoder=look_up_what_is_not_there)
    async def f(n: int) -> int:
        return n

    assert await f(1) == 1
    with cache.events.capture() as events, pytest.raises(KeyError):
        await f(1)
    assert [event.outcome for event in events if isinstance(event, CallEvent)] == ["failed"]
    assert f.cache_info().failed == 1


async def test_p20_coders_may_use_the_cache(tmp_path: Path) -> None:
    """Encoders and decoders, of parameters and of results, run under no lock: they may call memoized functions."""
    async with FastCache(MemoryTier(), DiskTier(tmp_path)) as cache:

        @cache.memoize
        async def twice(n: int) -> int:
            return 2 * n

        @cache.memoize
        def negated(n: int) -> int:
            return -n

        async def encode(value: int) -> int:
            assert await cache.get_or_set("entered", lambda: 1) == 1
            return await twice(value)

        @cache.memoize(
            custom_params_encoder=twice, custom_result_encoder=encode, custom_result_decoder=negated.aio, flight="host"
        )
        async def f(n: int) -> int:
            return n

        with anyio.fail_after(30):
            assert [await f(5), await f(5)] == [5, -10]
            assert list(await asyncio.gather(f(6), f(6), f(5))) == [6, 6, -10]


# --- sinks --------------------------------------------------------------------------------------------------------------


async def test_p20_a_sink_may_fail_and_may_use_the_cache(caplog: pytest.LogCaptureFixture) -> None:
    """SPEC 20: sinks are called under no lock: one may call the cache, subscribe and fail, and the call that told it goes on."""
    cache, heard = FastCache(), list[str]()

    @cache.memoize
    def inner(n: int) -> int:
        return n + 1

    @cache.memoize
    async def outer(n: int) -> int:
        return n * 2

    def sink(event: Event) -> None:
        heard.append(type(event).__name__)
        if len(heard) < 50:
            cache.events.subscribe(lambda event: None)()
            cache.statistics()
            inner(len(heard))
        raise AssertionError("a sink that fails")

    unsubscribe = cache.events.subscribe(sink)
    assert await outer(3) == 6
    unsubscribe()
    assert len(heard) >= 50
    assert "AssertionError" in caplog.text
    assert [await outer(3), inner.cache_info().currsize > 0] == [6, True]


# --- recordings ---------------------------------------------------------------------------------------------------------


class Recorder:
    """A function whose stored results come later, on one cache."""

    def __init__(self, cache: FastCache) -> None:
        self.kept: list[DeferredRecording] = []
        self.runs: list[int] = []
        decorate = cache.memoize(custom_result_encoder=self.encode, custom_result_decoder=str)
        self.f: Any = decorate(self.compute)
        self.plain: Any = decorate(self.compute_plain)

    def __cache_key__(self) -> str:
        return "recorder"

    async def compute(self, n: int) -> int:
        self.runs.append(n)
        return n

    def compute_plain(self, n: int) -> int:
        self.runs.append(n)
        return n

    def encode(self, value: int) -> DeferredRecording:
        self.kept.append(DeferredRecording())
        return self.kept[-1]


@pytest.fixture(params=["memory", "memory and disk"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> FastCache:
    """Make a cache without host locks, and one with them."""
    return FastCache() if request.param == "memory" else FastCache(MemoryTier(), DiskTier(tmp_path / "c"))


async def is_idle(cache: FastCache) -> None:
    with anyio.fail_after(30):
        while cache.statistics().in_flight:
            await asyncio.sleep(0)


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_p20_a_dropped_recording_is_nobodys_error_but_theirs_who_wait(cache: FastCache, sync: bool) -> None:
    """Who computed has the result; who waits for its stored form is told by name; the key is free for the next call."""
    recorder = Recorder(cache)

    async def f(n: int) -> Any:
        return await (asyncio.to_thread(recorder.plain, n) if sync else recorder.f(n))

    for round_ in (1, 2):
        assert await f(1) == 1
        waiting = [asyncio.ensure_future(f(1)) for _ in range(2)]
        with anyio.fail_after(30):
            while sum(flight.waiters for flight in cache._engine.flights) < len(waiting):
                await asyncio.sleep(0)
        recorder.kept.clear()
        gc.collect()
        with anyio.fail_after(30):
            ends = await asyncio.gather(*waiting, return_exceptions=True)
        await is_idle(cache)
        assert {type(end) for end in ends} == {DeferredRecordingDroppedError}
        assert len(recorder.runs) == round_
    assert await cache.get(recorder.f, ((1,), {})) is None
    await cache.aclose()


async def test_p20_a_recording_that_nobody_keeps_stores_nothing(
    cache: FastCache, caplog: pytest.LogCaptureFixture
) -> None:
    """An encoder that lets go of its recording at once costs no caller anything but the computation."""

    @cache.memoize(custom_result_encoder=lambda value: DeferredRecording(), custom_result_decoder=str)
    async def f(n: int) -> int:
        return n

    for _ in range(3):
        assert await f(1) == 1
        await is_idle(cache)
    assert f.cache_info().computed == 3
    assert await cache.get(f, ((1,), {})) is None
    await cache.aclose()


async def test_p20_finalizing_calls_nobody_back_under_a_lock(cache: FastCache) -> None:
    """A recording may be finalized by a sink, in the middle of an event, and whoever waits may use the cache at once."""
    recorder = Recorder(cache)

    def sink(event: Event) -> None:
        cache.statistics()
        while recorder.kept:
            recorder.kept.pop().finalize("by a sink")
        gc.collect()

    unsubscribe = cache.events.subscribe(sink)
    with anyio.fail_after(30):
        assert await recorder.f(1) == 1
        assert await recorder.f(1) == "by a sink"
        assert await asyncio.to_thread(recorder.plain, 2) == 2
        await is_idle(cache)
        assert await asyncio.to_thread(recorder.plain, 2) == "by a sink"
    unsubscribe()
    assert recorder.runs == [1, 2]
    assert await cache.get(recorder.f, ((1,), {})) == Hit("by a sink")
    await cache.aclose()


async def test_p20_finalizing_before_anybody_waits(cache: FastCache) -> None:
    """A recording that is finalized inside the encoder, before the engine has seen it, is stored as any other."""

    def encode(value: int) -> DeferredRecording:
        recording = DeferredRecording()
        recording.finalize(value + 1)
        return recording

    @cache.memoize(custom_result_encoder=encode, custom_result_decoder=abs)
    async def f(n: int) -> int:
        return n

    with anyio.fail_after(30):
        assert await f(1) == 1
        await is_idle(cache)
        assert await f(1) == 2
        assert await cache.insert(f, ((2,), {}), 2) is True
        assert await f(2) == 3
    await cache.aclose()
