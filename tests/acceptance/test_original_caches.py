"""The rows of the original about implementations and interfaces (4.4 and 4.5), under their own names."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from acache import DiskTier, FastCache, Hit, IsolationSchema, MemoryTier, Tier, isolate
from acache.exceptions import (
    CustomParamsEncoderRequiredError,
    CustomResultDecoderRequiredError,
    CustomResultEncoderRequiredError,
    KeyPicklingError,
    ValuePicklingError,
    ValueUnPicklingError,
)
from acache.testing import ComputeCounter, ManualClock
from tests.acceptance.support import entries, temporaries, the_entry

if TYPE_CHECKING:
    from acache.testing.plugin import ChangeSettings

# --- 4.4 Implementations ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "disk"])
async def tier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Tier]:
    """Every kind of tier in turn."""
    made = MemoryTier() if request.param == "memory" else DiskTier(tmp_path / "c")
    yield made
    await made.aclose()


async def test_get(tier: Tier) -> None:
    """SPEC 3: a key that was never stored is a miss, under the tier's lock as without it."""
    assert await tier.get("key") is None
    async with tier.lock(5):
        assert await tier.get("key") is None


@pytest.mark.parametrize("value", ["value", None, 0, b"", [None]])
async def test_insert(tier: Tier, value: object) -> None:
    """SPEC 1: a miss, an insert that says so, a hit with the value; a stored ``None`` is a hit."""
    async with tier.lock(5):
        assert await tier.get("key") is None
        assert await tier.insert("key", value) is True
        assert await tier.get("key") == Hit(value)


async def test_insert_will_not_overwrite(tier: Tier) -> None:
    """SPEC 2: a second insert of a key says that it stored nothing, and the first value stays."""
    assert [await tier.insert(("key", 1), value) for value in ("first", "second", None)] == [True, False, False]
    assert await tier.get(("key", 1)) == Hit("first")


async def test_key_encoding(tier: Tier) -> None:
    """A key that cannot be pickled is an error of that name in every tier, and nothing is stored."""
    uses: list[Callable[..., Awaitable[object]]] = [tier.get, tier.contains, tier.delete]
    uses += [partial(tier.insert, value=1), partial(tier.set, value=1)]
    for use in uses:
        with pytest.raises(KeyPicklingError):
            await use(lambda: None)
    assert [key async for key in tier.keys()] == []  # noqa: SIM118 - a tier is no dict


async def test_value_encoding(tier: Tier, tmp_path: Path) -> None:
    """A value that cannot be pickled is an error of that name on disk, which keeps nothing of it; memory takes any value."""
    value = threading.Lock()
    if isinstance(tier, MemoryTier):
        assert await tier.insert("key", value) is True
        assert await tier.get("key") == Hit(value)
        return
    for store in (tier.insert, tier.set):
        with pytest.raises(ValuePicklingError):
            await store("key", value)
    assert entries(tmp_path / "c") == temporaries(tmp_path) == []
    assert await tier.insert("key", "picklable") is True


class Garbler:
    """Writes, as the pickle codec, what is no pickle."""

    name = "pickle"
    data_only = False

    def encode(self, value: object) -> bytes:
        return b"garbage"

    def decode(self, data: memoryview) -> object:
        return bytes(data)


@pytest.mark.parametrize("content", [None, b"", b"\x12\x34\x56\x78garbage"], ids=["right header", "empty", "foreign"])
async def test_value_decoding(tmp_path: Path, content: bytes | None) -> None:
    """SPEC 5: an entry whose body cannot be read is ValueUnPicklingError to a tier that raises, else a miss; both can store anew."""
    for on_corrupt in ("raise", "miss"):
        writer = DiskTier(tmp_path, codec=Garbler())
        assert await writer.set("key", "value") is True
        if content is not None:
            the_entry(tmp_path).write_bytes(content)
        reader = DiskTier(tmp_path, on_corrupt="raise" if on_corrupt == "raise" else "miss")
        if on_corrupt == "raise":
            with pytest.raises(ValueUnPicklingError):
                await reader.get("key")
        else:
            assert await reader.get("key") is None
        assert await reader.insert("key", "anew") is True
        assert await reader.get("key") == Hit("anew")
        await writer.aclose()
        await reader.aclose()


async def test_version_mismatch(tmp_path: Path) -> None:
    """SPEC 5: after a change of version the entry is a miss, is removed and can be inserted; going back is the same again."""
    for version in (1, 2, 1, "2", 3):
        tier = DiskTier(tmp_path, version=version)
        assert await tier.get("key") is None
        assert entries(tmp_path) == []
        assert await tier.insert("key", f"of {version}") is True
        assert await tier.get("key") == Hit(f"of {version}")
        await tier.aclose()


# --- 4.5 Interfaces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [None, IsolationSchema(), IsolationSchema(False, False)])
async def test_defaults(isolated_cache: FastCache, manual_clock: ManualClock, schema: IsolationSchema | None) -> None:
    """SPEC 14: a second call of a slow function takes no time; ``get`` finds its result by the memoized function and by the raw one."""
    cache = isolated_cache

    async def slow(n: int, *, times: int = 2) -> int:
        manual_clock.advance("5s")
        return n * times

    memoized = cache.memoize(ischema=schema)(slow)
    assert [await memoized(3), await memoized(n=3), await memoized(3, times=2)] == [6, 6, 6]
    assert manual_clock.monotonic() == ManualClock().monotonic() + 5
    for function in (slow, memoized):
        assert await cache.get(function, ((3,), {}), ischema=schema) == Hit(6)
        assert await cache.get(function, ((3,), {"times": 2})) == Hit(6)
        assert await cache.get(function, ((4,), {})) is None
        assert await cache.insert(function, ((3,), {}), "other") is False
    assert await cache.insert(slow, ((4,), {}), 8) is True
    assert await memoized(4) == 8
    assert manual_clock.monotonic() == ManualClock().monotonic() + 5


class Table:
    """Has a method to memoize."""

    def __cache_key__(self) -> str:
        return "table"

    async def row(self, n: int) -> int:
        return n


@pytest.mark.parametrize("memoized_before", [False, True], ids=["later", "before"])
async def test_get_and_insert_take_a_bound_method(isolated_cache: FastCache, memoized_before: bool) -> None:
    """SPEC 4: a bound method has one key, raw or memoized, whether it was memoized before or is later."""
    table = Table()
    memoized = isolated_cache.memoize(table.row) if memoized_before else None
    assert await isolated_cache.insert(table.row, ((1,), {}), 10) is True
    assert await isolated_cache.get(table.row, ((1,), {})) == Hit(10)
    memoized = memoized or isolated_cache.memoize(table.row)
    assert await memoized(1) == 10
    assert await isolated_cache.get(memoized, ((1,), {})) == Hit(10)


async def constant_later(*_args: object, **_kwargs: object) -> str:
    return "constant"


def constant(*_args: object, **_kwargs: object) -> str:
    return "constant"


@pytest.mark.parametrize("encoder", [constant, constant_later], ids=["sync", "async"])
async def test_custom_params_encoder(isolated_cache: FastCache, encoder: Callable[..., Any]) -> None:
    """SPEC 10: with an encoder any argument will do; it gets the call's arguments, and what it returns is the key."""
    counter, seen = ComputeCounter(), list[Any]()

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return encoder(*args, **kwargs)

    async def call(function: Callable[[], int], *, plus: int = 0) -> int:
        return function() + plus

    counted = counter.wrap(lambda: 1)
    memoized = isolated_cache.memoize(custom_params_encoder=spy)(call)
    assert [await memoized(counted, plus=1), await memoized(lambda: 99)] == [2, 2]
    counter.assert_computed(1)
    assert seen[0] == ((counted,), {"plus": 1})
    assert await isolated_cache.get(call, ((counted,), {})) == Hit(2)
    assert await isolated_cache.get(call, ((counted,), {}), custom_params_encoder=lambda *_: "other") is None


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("tiers", ["memory", "disk", "both"])
async def test_custom_result_encoder_and_decoder(tmp_path: Path, is_async: bool, tiers: str) -> None:
    """SPEC 11: the first call has the function's own result; later ones have what the decoder makes of what the encoder made."""

    def encode(value: object) -> dict[str, object]:
        return {"encoded": value}

    def decode(stored: object) -> tuple[str, object]:
        return "decoded", stored

    async def encode_later(value: object) -> object:
        return encode(value)

    async def decode_later(stored: object) -> object:
        return decode(stored)

    kinds: dict[str, list[Tier]] = {"memory": [MemoryTier()], "disk": [DiskTier(tmp_path)]}
    kinds["both"] = [*kinds["memory"], *kinds["disk"]]
    async with FastCache(*kinds[tiers]) as cache:

        @cache.memoize(
            custom_result_encoder=encode_later if is_async else encode,
            custom_result_decoder=decode_later if is_async else decode,
        )
        async def f(n: int) -> Any:
            return n

        later = ("decoded", {"encoded": 1})
        assert [await f(1), await f(1), await f(1)] == [1, later, later]
        assert await cache.get(f, ((1,), {})) == Hit(later)


async def test_custom_ischema(isolated_cache: FastCache, manual_clock: ManualClock) -> None:
    """SPEC 8: with isolation on one form the same setting is a hit, and a changed one takes the full time; left out, it changes nothing."""
    start = manual_clock.monotonic()

    async def slow(n: int) -> float:
        manual_clock.advance("5s")
        return manual_clock.monotonic() - start

    only = isolated_cache.memoize(ischema=IsolationSchema({"scope": True}, compile_context=False))(slow)
    none = isolated_cache.memoize(version=2, ischema=IsolationSchema({"scope": False}))(slow)
    with isolate(target="sm90"):
        assert [await only(1), await only(1)] == [5.0, 5.0]
        assert await none(1) == 10.0
    with isolate(target="sm80"):
        assert [await only(1), await only(1)] == [15.0, 15.0]
        assert await none(1) == 10.0
    with isolate(target="sm90"):
        assert [await only(1), await none(1)] == [5.0, 10.0]


async def test_params_encoder_required(isolated_cache: FastCache) -> None:
    """SPEC 7: an argument that cannot be a key is an error of the awaited call, before the function runs; of ``get`` and ``insert`` too."""
    counter = ComputeCounter()

    @isolated_cache.memoize
    async def f(argument: object) -> None:
        counter.wrap(lambda: None)()

    call = f(threading.Lock())  # no error yet
    with pytest.raises(CustomParamsEncoderRequiredError, match="f") as caught:
        await call
    assert caught.value.__cause__ is not None
    params = ((lambda: None,), dict[str, Any]())
    with pytest.raises(CustomParamsEncoderRequiredError):
        await isolated_cache.get(f, params)
    with pytest.raises(CustomParamsEncoderRequiredError):
        await isolated_cache.insert(f, params, None)
    counter.assert_computed(0)


async def test_result_encoder_required(isolated_cache: FastCache) -> None:
    """SPEC 7: a result that cannot be stored is an error of the awaited call and of ``insert``; nothing is stored."""
    runs = list[int]()

    @isolated_cache.memoize
    async def f(n: int) -> Callable[[], int]:
        runs.append(n)
        return lambda: n

    with pytest.raises(CustomResultEncoderRequiredError, match="f") as caught:
        await f(1)
    assert caught.value.__cause__ is not None
    with pytest.raises(CustomResultEncoderRequiredError):
        await isolated_cache.insert(f, ((1,), {}), lambda: 1)
    assert await isolated_cache.get(f, ((1,), {})) is None
    assert runs == [1]


def test_result_encoder_and_decoder_required(isolated_cache: FastCache) -> None:
    """SPEC 10: a decoder alone, and an encoder alone, are errors at decoration."""

    async def f() -> None:
        """Do nothing."""

    decorators: list[Callable[..., Any]] = [isolated_cache.memoize, isolated_cache.record, isolated_cache.replay]
    for decorator in decorators:
        with pytest.raises(CustomResultEncoderRequiredError):
            decorator(custom_result_decoder=str)(f)
        with pytest.raises(CustomResultDecoderRequiredError):
            decorator(custom_result_encoder=str)(f)


@pytest.mark.parametrize("switch", [{"enable": False}, {"disable": True}], ids=["enable=0", "disable=1"])
async def test_caching_module_disabled(
    isolated_cache: FastCache, tmp_path: Path, acache_settings: ChangeSettings, switch: dict[str, bool]
) -> None:
    """SPEC 15: switched off, ``get`` finds nothing, ``insert`` stores nothing and every call runs; the switch is read at each call."""
    runs = list[int]()

    @isolated_cache.memoize
    async def f(n: int) -> int:
        runs.append(n)
        return len(runs)

    assert [await f(1), await f(1)] == [1, 1]
    before = entries(tmp_path / "acache")
    acache_settings(**switch)
    assert [await f(1), await f(1), await f(2)] == [2, 3, 4]
    assert await isolated_cache.get(f, ((1,), {})) is None
    assert await isolated_cache.insert(f, ((3,), {}), 3) is False
    assert await isolated_cache.get_or_set("key", lambda: 5) == 5
    assert await f(lambda: None) == 5  # type: ignore[arg-type]  # not even a key is made
    assert entries(tmp_path / "acache") == before
    acache_settings(enable=True, disable=False)
    assert [await f(1), await f(2)] == [1, 6]


async def test_result_encoder_sees_each_result_once(isolated_cache: FastCache) -> None:
    """Callers that share one run share one encoding."""
    encoded, release = list[int](), asyncio.Event()

    def encode(value: int) -> int:
        encoded.append(value)
        return value

    @isolated_cache.memoize(custom_result_encoder=encode, custom_result_decoder=abs)
    async def f(n: int) -> int:
        await release.wait()
        return n

    calls = asyncio.gather(*[f(1) for _ in range(5)])
    await asyncio.sleep(0)
    release.set()
    with anyio.fail_after(30):
        assert await calls == [1] * 5
    assert encoded == [1]
