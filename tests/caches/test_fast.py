"""The cache object: what it offers besides decorators, and that broken tiers cost nobody a result."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from acache import (
    CallEvent,
    FastCache,
    Hit,
    IsolationSchema,
    MemoryTier,
    SyncCache,
    TierEvent,
    config,
    disabled,
    isolate,
)
from acache.exceptions import (
    ConfigurationError,
    CustomParamsEncoderRequiredError,
    CustomResultEncoderRequiredError,
    KeyEncodingError,
    LockTimeoutError,
    UnsafeDirectoryError,
)
from acache.testing import FaultyTier, ManualClock
from acache.tiers import DiskTier


@pytest.fixture
def cache() -> FastCache:
    return FastCache(MemoryTier())


async def test_get_and_insert_take_raw_and_memoized_functions(cache: FastCache) -> None:
    """One function has one key, raw or memoized; an insert never overwrites."""

    async def f(x: int, y: int = 0) -> object:
        return x + y

    memoized = cache.memoize(f)
    assert await cache.get(f, ((1,), {})) is None
    assert await cache.insert(f, ((1,), {}), "given")
    assert not await cache.insert(memoized, ((1,), {"y": 0}), "late")
    hit = await cache.get(memoized, ((), {"x": 1}))
    assert hit == Hit("given")
    assert hit is not None
    assert hit.tier == "memory"
    assert await memoized(1) == "given"


async def test_get_knows_the_options_a_function_was_memoized_with(cache: FastCache) -> None:
    """version=, ignore= and coders count for get and insert of the raw function too."""

    async def f(x: int, verbose: bool = False) -> int:
        return x

    memoized = cache.memoize(
        version=3, ignore=("verbose",), custom_result_encoder=str, custom_result_decoder=lambda text: ("decoded", text)
    )(f)
    assert await memoized(1, verbose=True) == 1
    assert await cache.get(f, ((1,), {"verbose": False})) == Hit(("decoded", "1"))


async def test_get_and_insert_of_a_function_that_was_never_memoized(cache: FastCache) -> None:
    """A function needs no decorator to have entries."""

    def f(x: int) -> int:
        return x

    assert await cache.insert(f, ((1,), {}), None)
    assert await cache.get(f, ((1,), {})) == Hit(None)


class Scale:
    """A class with a method that was memoized, or not."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __cache_key__(self) -> int:
        return self.factor

    def times(self, n: int) -> object:
        return self.factor * n


async def test_get_and_insert_take_bound_methods(cache: FastCache) -> None:
    """A bound method is a call with its object in front, memoized or raw."""
    two, three = Scale(2), Scale(3)
    assert await cache.insert(two.times, ((5,), {}), "two")
    assert await cache.get(three.times, ((5,), {})) is None
    assert await cache.get(Scale.times, ((Scale(2), 5), {})) == Hit("two")
    memoized = cache.memoize(Scale.times)
    assert await cache.get(memoized.__get__(two), ((5,), {})) == Hit("two")
    assert memoized(two, 5) == "two"


async def test_per_call_options(cache: FastCache) -> None:
    """Isolation and coders can be given per call."""

    def f(x: Any) -> Any:
        return x

    nothing = IsolationSchema(runtime_context=False, compile_context=False)
    with isolate(target="a"):
        assert await cache.insert(f, ((1,), {}), "any target", ischema=nothing)
    assert await cache.get(f, ((1,), {}), ischema=nothing) == Hit("any target")
    assert await cache.get(f, ((1,), {})) is None

    def constant(*args: object, **kwargs: object) -> str:
        return "constant"

    with pytest.raises(CustomParamsEncoderRequiredError):
        await cache.get(f, ((object(),), {}))
    assert await cache.insert(
        f, ((object(),), {}), 5, custom_params_encoder=constant, custom_result_encoder=lambda value: [value]
    )
    assert await cache.get(f, ((object(),), {}), custom_params_encoder=constant) == Hit([5])
    assert await cache.get(
        f, ((object(),), {}), custom_params_encoder=constant, custom_result_decoder=lambda value: value[0]
    ) == Hit(5)


@pytest.mark.parametrize(
    ("option", "text"),
    [("ischema", "IsolationSchema"), ("custom_params_encoder", "callable"), ("custom_result_{}coder", "callable")],
)
@pytest.mark.parametrize("value", ["bad", 5, True, False, {"runtime_context": True}], ids=repr)
async def test_per_call_options_that_cannot_be(cache: FastCache, option: str, text: str, value: Any) -> None:
    """An option of get or insert that cannot be is an error that names it and the function, also what counts as false."""

    async def f(x: int) -> int:
        return x

    expected = rf"{option.format('(en|de)')}: .*\.f needs an? {text}.*not (a )?{type(value).__name__}"
    with pytest.raises(ConfigurationError, match=expected):
        await cache.get(f, ((1,), {}), **{option.format("de"): value})
    with pytest.raises(ConfigurationError, match=expected):
        await cache.insert(cache.memoize(f), ((1,), {}), 2, **{option.format("en"): value})
    assert await cache.get(f, ((1,), {})) is None


@pytest.mark.parametrize(
    "params",
    [(1,), [1], (), ((1,), {}, {}), (1, 2), ("ab", {}), ((1,), None), ((1,), {1: 2}), {"x": 1, "y": 2}, "ab", 5, None],
)
async def test_arguments_that_are_no_pair(cache: FastCache, params: Any) -> None:
    """What cannot be the arguments of a call is an error that says what can, whatever the function."""

    def f(*args: Any, **kwargs: Any) -> int:
        return 1

    with pytest.raises(ConfigurationError, match=r"params: expected a tuple and a mapping"):
        await cache.get(f, params)
    with pytest.raises(ConfigurationError, match=r"params: expected a tuple and a mapping"):
        await cache.insert(f, params, 5)
    with pytest.raises(ConfigurationError, match=r"params: expected"):
        await asyncio.to_thread(SyncCache(cache).get, f, params)


async def test_arguments_may_be_a_list(cache: FastCache) -> None:
    """As JSON has them, lists do for the arguments without names, and for the pair."""

    def f(x: int, y: int = 0) -> int:
        return x + y

    assert await cache.insert(f, ((1,), {"y": 2}), 3)
    listed: Any = [[1], {"y": 2}]
    assert await cache.get(f, listed) == Hit(3)


async def test_a_switched_off_cache_gets_and_inserts_nothing(cache: FastCache) -> None:
    """With the module or the scope switched off, get finds nothing and insert stores nothing."""

    def f() -> int:
        return 1

    await cache.insert(f, ((), {}), 1)
    with disabled():
        assert await cache.get(f, ((), {})) is None
        assert not await cache.insert(f, ((), {}), 2)
        assert await cache.get_or_set("k", lambda: 5) == 5
    with config.override(enable=False):
        assert await cache.get(f, ((), {})) is None
    assert await cache.get(f, ((), {})) == Hit(1)
    assert await cache.get_or_set("k", lambda: 6) == 6


async def test_get_or_set(cache: FastCache) -> None:
    """A value under a key of one's own is made once for all who ask, by any kind of factory."""
    made: list[str] = []

    async def make() -> str:
        made.append("async")
        await asyncio.sleep(0)
        return "async"

    assert await asyncio.gather(*[cache.get_or_set(("a", 1), make) for _ in range(5)]) == ["async"] * 5
    assert made == ["async"]
    nothing: Any = await cache.get_or_set("plain", lambda: None)
    assert nothing is None
    assert await cache.get_or_set("plain", make) is None
    assert await cache.get_or_set("lambda", lambda: asyncio.sleep(0, "slept")) == "slept"
    assert await cache.get_or_set(1, lambda: "int") == "int"
    assert await cache.get_or_set(True, lambda: "bool") == "bool"
    assert await cache.delete(1)
    assert not await cache.delete(1)
    assert await cache.get_or_set(1, lambda: "again") == "again"
    with pytest.raises(KeyEncodingError) as caught:
        await cache.get_or_set(object(), make)
    assert any("__cache_key__" in note for note in caught.value.__notes__)
    with pytest.raises(ConfigurationError, match="ttl"):
        await cache.get_or_set("k", make, ttl=-1)


async def test_get_or_set_keeps_no_error_and_expires() -> None:
    """A factory's error is its callers'; a ttl counts from the storing."""
    clock = ManualClock()
    cache = FastCache(MemoryTier(clock=clock))

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await cache.get_or_set("k", fail, ttl=10)
    assert await cache.get_or_set("k", lambda: 1, ttl=10) == 1
    clock.advance(11)
    assert await cache.get_or_set("k", lambda: 2, ttl=10) == 2


async def test_namespaces_share_a_tier_without_meeting() -> None:
    """Caches of different namespaces on one tier do not see, nor clear, each other's entries."""
    memory = MemoryTier()
    one, two = FastCache(memory, namespace="one"), FastCache(memory, namespace="two")

    def f(x: int) -> int:
        return x

    assert await one.insert(f, ((1,), {}), "one")
    assert await two.insert(f, ((1,), {}), "two")
    await one.get_or_set("k", lambda: "one")
    assert await two.get_or_set("k", lambda: "two") == "two"
    await one.clear()
    assert await one.get(f, ((1,), {})) is None
    assert await two.get(f, ((1,), {})) == Hit("two")
    assert await two.get_or_set("k", lambda: "new") == "two"


@pytest.mark.parametrize("operation", ["read", "write", "remove", "scan", "*"])
async def test_a_broken_tier_costs_nobody_a_result(operation: Any) -> None:
    """R0: a call that succeeds without the cache succeeds with it, and the fault is counted and told."""
    broken = FaultyTier(MemoryTier(name="broken"))
    broken.fail(operation, error=RuntimeError)
    cache = FastCache(MemoryTier(), broken)

    @cache.memoize
    async def f(x: int) -> int:
        return x

    with cache.events.capture() as events:
        assert await f(1) == 1
        assert await f(1) == 1
        await f.cache_invalidate(1)
        await cache.clear()
        assert await f(1) == 1
    failed = [event for event in events if isinstance(event, TierEvent) and event.outcome == "failed"]
    assert failed
    assert {event.reason for event in failed} == {"RuntimeError"}
    assert cache.statistics().tiers[1].failures == len(failed)


async def test_a_result_that_cannot_be_encoded(tmp_path: Path) -> None:
    """V1: over a tier that encodes, an unencodable result is an error after one run, and nothing is stored."""
    cache = FastCache(MemoryTier(), DiskTier(tmp_path / "cache"))
    runs: list[int] = []

    @cache.memoize
    async def f() -> object:
        runs.append(1)
        return lambda: None

    with pytest.raises(CustomResultEncoderRequiredError, match=r"test_fast.*codec=") as caught:
        await f()
    assert "<lambda>" not in str(caught.value)
    assert runs == [1]
    assert cache.statistics().total.currsize == 0
    await cache.aclose()


async def test_statistics_add_up(cache: FastCache) -> None:
    """I8: hits and misses are calls; each function and each tier has its own line."""

    @cache.memoize
    async def f(x: int) -> int:
        if x < 0:
            raise ValueError
        return x

    for x in (1, 1, 1, 2, (3)):
        await f(x)
    with pytest.raises(ValueError):
        await f(-1)
    await cache.get_or_set("k", lambda: 1)
    await cache.get_or_set("k", lambda: 1)
    statistics = cache.statistics()
    (label,) = statistics.functions
    info = statistics.functions[label]
    assert label.endswith("test_statistics_add_up.<locals>.f")
    assert (info.hits, info.misses, info.computed, info.failed) == (2, 4, 3, 1)
    assert (statistics.total.hits, statistics.total.misses) == (3, 5)
    assert statistics.total.currsize == 4
    assert statistics.in_flight == 0
    assert [tier.name for tier in statistics.tiers] == ["memory"]


async def test_durations_and_ages_come_with_events() -> None:
    """Events carry how long a call waited, what it cost to compute, and how old a hit is."""
    clock = ManualClock()
    cache = FastCache(MemoryTier(clock=clock))

    @cache.memoize
    async def f() -> int:
        clock.advance(7)
        return 1

    with cache.events.capture() as events:
        await f()
        clock.advance(5)
        await f()
    calls = [event for event in events if isinstance(event, CallEvent)]
    assert [(call.outcome, call.seconds, call.cost, call.age) for call in calls] == [
        ("computed", 7.0, 7.0, None),
        ("hit", 0.0, 7.0, 5.0),
    ]
    info = f.cache_info()
    assert (info.compute_seconds, info.saved_seconds) == (7.0, 7.0)


async def test_a_failing_sink_breaks_no_call(cache: FastCache, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that fails is logged by type and never reaches the caller."""

    @cache.memoize
    async def f(secret: str) -> str:
        return secret

    def fail(event: object) -> None:
        raise ValueError("canary-in-sink")

    unsubscribe = cache.events.subscribe(fail)
    assert await f("canary-argument") == "canary-argument"
    unsubscribe()
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text


async def test_t12_nothing_that_was_cached_shows(
    tmp_path: Path, cache: FastCache, caplog: pytest.LogCaptureFixture
) -> None:
    """T12: no log record, event, repr or error text shows an argument or a result."""
    caplog.set_level(logging.DEBUG)
    canary = "hunter2-canary"
    disk = FaultyTier(DiskTier(tmp_path / "cache"))
    cache = FastCache(MemoryTier(), disk)

    @cache.memoize
    async def f(password: str) -> str:
        return password + password

    with cache.events.capture() as events:
        await f(canary)
        disk.fail("read", times=1)
        await f.cache_get(canary)
        await cache.tier.tiers[0].clear()
        disk.corrupt(times=1)
        await f(canary)
    await cache.aclose()
    shown = [caplog.text, repr(events), repr(cache), repr(cache.statistics()), repr(f), repr(cache.tier)]
    assert all(canary not in text for text in shown)


def test_from_url() -> None:
    """URLs name tiers and their options."""
    cache = FastCache.from_url(
        "disk://~/.cache/acache-test?version=2&codec=json", "memory://?max_entries=10&max_bytes=64KiB"
    )
    assert [tier.name for tier in cache.tier.tiers] == ["memory", "disk"]
    assert cache.tier.memory is not None
    assert (cache.tier.memory.max_entries, cache.tier.memory.max_bytes) == (10, 65_536)
    assert "~" not in repr(cache.tier.tiers[1])


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mongo://user:hunter2@host", "unknown scheme; known schemes: memory, disk"),
        ("memory://?max_entires=10", "max_entires.*known options.*max_entries"),
        ("memory://?max_entries=many", "max_entries"),
        ("memory://?max_bytes=64XB", "max_bytes"),
        ("memory://?max_entries=0", "max_entries"),
        ("memory:///path", "no path"),
        ("disk://", "name a directory"),
        ("disk:///tmp/x?durable=maybe", "durable"),
        ("disk:///tmp/x?codec=morse", "codec: expected one of"),
        ("disk:///tmp/x?on_corrupt=ignore", "on_corrupt"),
        ("disk:///tmp/x?sub_dir=..", "sub_dir"),
        ("nonsense", "unknown scheme"),
    ],
)
def test_a_bad_url_is_refused(url: str, text: str) -> None:
    """An unknown scheme or option, or an unreadable value, is an error that names it, and no password."""
    with pytest.raises(ConfigurationError, match=text) as caught:
        FastCache.from_url(url)
    assert "hunter2" not in str(caught.value)


async def test_a_directory_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    """A directory that others can write is a configuration error, not a miss."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    cache = FastCache(DiskTier(open_to_all))

    @cache.memoize
    async def f() -> int:
        return 1

    with pytest.raises(UnsafeDirectoryError):
        await f()


async def test_closing_is_idempotent_and_not_the_end(tmp_path: Path) -> None:
    """A closed cache opens again when it is used; results on disk outlive it."""
    cache = FastCache(DiskTier(tmp_path / "cache"))

    def f(x: int) -> int:
        return x

    async with cache:
        assert await cache.insert(f, ((1,), {}), "kept")
    await cache.aclose()
    assert await cache.get(f, ((1,), {})) == Hit("kept")
    await cache.aclose()
    other = FastCache(MemoryTier(), DiskTier(tmp_path / "cache"))
    hit = await other.get(f, ((1,), {}))
    assert hit is not None
    assert (hit.value, hit.tier) == ("kept", "disk")
    hit = await other.get(f, ((1,), {}))
    assert hit is not None
    assert hit.tier == "memory"
    await other.aclose()


async def test_the_lock_excludes_and_times_out(cache: FastCache) -> None:
    """cache.lock is one holder's at a time, and waiting for it ends."""
    async with cache.lock():
        with pytest.raises(LockTimeoutError):
            async with cache.lock(timeout=0):
                pass
    async with cache.lock(timeout=0):
        pass


async def test_one_cache_under_several_loops(tmp_path: Path) -> None:
    """A cache made once works under each loop of its process."""
    cache = FastCache(MemoryTier(), DiskTier(tmp_path / "cache"))
    runs: list[int] = []

    @cache.memoize
    async def f(x: int) -> int:
        runs.append(x)
        return x

    def under_a_loop_of_its_own(x: int) -> int:
        return asyncio.run(f.aio(x))

    assert await f(1) == 1
    assert [await asyncio.to_thread(under_a_loop_of_its_own, x) for x in (1, 2, 2)] == [1, 2, 2]
    assert runs == [1, 2]
    await cache.aclose()
