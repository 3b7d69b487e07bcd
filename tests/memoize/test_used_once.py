"""What only its first user could use is stored nowhere, by whatever door it comes."""

from __future__ import annotations

import gc
import io
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acache import ChainTier, DeferredRecording, DeterministicCache, DiskTier, FastCache, MemoryTier
from acache.exceptions import CustomResultEncoderRequiredError, UserError, ValueEncodingError
from acache.tiers import Tier

Call = Callable[..., Any]


async def coroutine() -> int:
    return 1


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Cursor:
    """An iterator of somebody's own."""

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> int:
        return 1


MAKERS: tuple[Callable[[], Any], ...] = (
    *(coroutine, generator, async_generator, Cursor, io.BytesIO),
    *(lambda: map(str, [1]), lambda: iter([1]), lambda: zip([1], [2], strict=True), lambda: (n for n in [1])),
)


@pytest.fixture(params=MAKERS, ids=lambda make: type(make()).__name__ if make is not coroutine else "coroutine")
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Make a value that can be used once."""
    maker: Callable[[], Any] = request.param
    return maker


async def test_a_call_refuses_it(cache: FastCache, kind: str, call: Call, make: Callable[[], Any]) -> None:
    """A18: a result that can be used only once is an error that names the function, for every caller; nothing is stored."""

    def plain() -> Any:
        return make()

    async def task() -> Any:
        return make()

    raw = plain if kind == "sync" else task
    for f in (cache.memoize(raw), cache.record(raw), cache.memoize(version=1, on_unencodable="warn")(raw)):
        for _ in range(2):
            with pytest.raises(CustomResultEncoderRequiredError, match=rf"{raw.__name__} .* can be used only once"):
                await call(f)
        assert not await f.cache_contains()
    gc.collect()  # a coroutine that was not closed would warn


async def test_no_side_door_takes_it(cache: FastCache, make: Callable[[], Any]) -> None:
    """A18: what is stored by hand is refused as a result is, and what was there stays."""

    @cache.memoize
    def f(x: int) -> int:
        return x

    f(1)
    with pytest.raises(CustomResultEncoderRequiredError, match=r"a result of .*f cannot be stored"):
        await f.cache_set(make(), 1)
    with pytest.raises(CustomResultEncoderRequiredError, match=r"a result of .*f cannot be stored"):
        await cache.insert(f, ((2,), {}), make())
    if make is not coroutine:  # which is awaited
        with pytest.raises(CustomResultEncoderRequiredError, match="a result of get_or_set cannot be stored"):
            await cache.get_or_set("key", make)
    with pytest.raises(ValueEncodingError, match="only once"):
        await cache.set_many({"a": 1, "key": make()})
    gc.collect()
    hit = await f.cache_get(1)
    assert hit is not None
    assert hit.value == 1
    assert await cache.get_many(["a", "key"]) == {}
    assert len(cache.tier.memory or ()) == 1


@pytest.mark.parametrize("place", ["memory", "disk", "chain"])
async def test_no_tier_takes_it(tmp_path: Path, place: str, make: Callable[[], Any]) -> None:
    """A18: a tier that is used by itself refuses it too, whether or not its codec would take it."""
    tiers: dict[str, Callable[[], Tier]] = {
        "memory": MemoryTier,
        "disk": lambda: DiskTier(tmp_path),
        "chain": lambda: ChainTier(MemoryTier(), DiskTier(tmp_path)),
    }
    tier = tiers[place]()
    for store in (tier.set, tier.insert):
        with pytest.raises(ValueEncodingError, match="can be used only once"):
            await store("key", make())
    with pytest.raises(ValueEncodingError, match="can be used only once"):
        await tier.set_many({"other": 1, "key": make()})
    gc.collect()
    assert await tier.get_many(["other", "key"]) == {}
    await tier.aclose()


async def test_no_encoder_makes_one(cache: FastCache, define: Call, call: Call, make: Callable[[], Any]) -> None:
    """What a result encoder returns, or finalizes later, is held in memory, so it has to serve more than once."""

    def later(_value: object) -> DeferredRecording:
        recording = DeferredRecording()
        recording.finalize(make())
        return recording

    def now(_value: object) -> Any:
        return make()

    encoders = [later] if make is coroutine else [later, now]  # or it would be awaited
    for version, encoder in enumerate(encoders):

        @cache.memoize(version=version, custom_result_encoder=encoder, custom_result_decoder=list)
        @define
        def f() -> list[int]:
            return [1]

        with pytest.raises(CustomResultEncoderRequiredError, match="can be used only once"):
            await f.cache_set([1])
        assert not await f.cache_contains()
    gc.collect()


async def test_workers_that_agree_refuse_it_too(tmp_path: Path) -> None:
    """A deterministic cache stores each value by itself, and none of them when one can be used only once."""
    async with DeterministicCache(MemoryTier(), DiskTier(tmp_path), dump_on_close=False) as cache:
        with pytest.raises(UserError, match="can be used only once"):
            await cache.set_many({"a": 1, "b": iter([1])})
        assert await cache.get_many(["a", "b"]) == {}
