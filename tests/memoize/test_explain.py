"""Why a miss: the nearest stored entry, and what differs, by name only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acache import DiskTier, FastCache, IsolationSchema, MemoryTier, isolate
from acache.engine.explain import nearest
from acache.keys.factors import DIGITS, Factors
from acache.testing import ManualClock
from acache.types import Key

CANARY = "canary"


@pytest.fixture(params=["memory", "disk", "both"])
def cache(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> FastCache:
    """Make a cache whose entries are in memory, on disk, or both."""
    memory, disk = MemoryTier(clock=clock), DiskTier(tmp_path, clock=clock)
    return FastCache(*{"memory": (memory,), "disk": (disk,), "both": (memory, disk)}[request.param])


async def test_what_differs(cache: FastCache) -> None:
    """An argument, an isolation factor or a version that differs is named, and no value is."""

    @cache.memoize
    def build(source: str, *, flags: tuple[str, ...] = (), arch: str = "x86") -> str:
        return source

    await build.aio(CANARY, flags=("-O1",))
    assert (await build.cache_explain(CANARY, flags=("-O1",))).hit
    missed = await build.cache_explain(CANARY, flags=("-O2",))
    assert (missed.hit, missed.differs, missed.examined) == (False, ("argument 'flags'",), 1)
    assert missed.nearest == build.cache_key(CANARY, flags=("-O1",))
    with isolate(target=CANARY):
        isolated = await build.cache_explain(CANARY, flags=("-O1",))
    assert isolated.differs == ("scope.target",)
    newer: Any = cache.memoize(version=2)(build.__wrapped__)
    versioned = await newer.cache_explain(CANARY, flags=("-O1",))
    assert versioned.differs == ("version",)
    for explanation in (missed, isolated, versioned):
        assert CANARY not in str(explanation) + repr(explanation)
        assert all(name in str(explanation) for name in explanation.differs)
    await cache.aclose()


async def test_the_nearest_of_many(cache: FastCache) -> None:
    """Of many entries, the one with the fewest differing factors is named; other functions' entries do not count."""

    @cache.memoize
    async def f(a: int, b: int, c: int) -> int:
        return a

    @cache.memoize
    async def g(a: int, b: int, c: int) -> int:
        return a

    assert (await f.cache_explain(1, 1, 1)).nearest is None
    for a in range(5):
        await f(a, 9, 9)
    await f(3, 1, 9)
    await g(3, 1, 1)
    explanation = await f.cache_explain(3, 1, 1)
    assert explanation.nearest == f.cache_key(3, 1, 9)
    assert explanation.differs == ("argument 'c'",)
    assert explanation.examined == 6
    assert "nor is any other call" in str(await cache.memoize(_alone).cache_explain())
    await cache.aclose()


def _same(n: int) -> int:
    return n


async def _alone() -> int:
    return 1


async def test_an_expired_entry(tmp_path: Path, clock: ManualClock) -> None:
    """An entry that is there and dead is said to be so."""
    cache = FastCache(DiskTier(tmp_path, clock=clock))
    f = cache.memoize(ttl=10)(_alone)
    await f()
    clock.advance(11)
    explanation = await f.cache_explain()
    assert (explanation.hit, explanation.differs, explanation.nearest) == (False, (), f.cache_key())
    assert "expired" in str(explanation)
    await cache.aclose()


async def test_an_entry_of_another_codec(tmp_path: Path) -> None:
    """An entry that a call would be served is explained as stored, by its function's codec, and is not brought into memory."""
    await FastCache(DiskTier(tmp_path)).memoize(codec="json")(_alone)()
    cache = FastCache(MemoryTier(), DiskTier(tmp_path))
    f = cache.memoize(codec="json")(_alone)
    with cache.events.capture() as events:
        assert (await f.cache_explain()).hit
    assert not {"failed", "rejected", "stored"} & {event.outcome for event in events}
    assert cache.tier.memory is not None
    assert len(cache.tier.memory) == 0
    await cache.aclose()


async def test_an_entry_that_is_kept_for_errors(cache: FastCache, clock: ManualClock) -> None:
    """What is served only if computing fails is not explained as stored; what is served while it is refreshed is."""
    failing = cache.memoize(ttl=10, stale_on_error=10, version=1)(_alone)
    stale = cache.memoize(ttl=10, stale_ttl=10, version=2)(_alone)
    await failing()
    await stale()
    clock.advance(15)
    explanation = await failing.cache_explain()
    assert (explanation.hit, explanation.differs, explanation.nearest) == (False, (), failing.cache_key())
    assert not await failing.cache_contains()
    assert (await stale.cache_explain()).hit
    await cache.aclose()


async def test_what_the_function_does_to_its_arguments(cache: FastCache) -> None:
    """Factors are taken before the function runs, as keys are."""

    @cache.memoize
    async def take(rows: list[int]) -> int:
        return rows.pop()

    rows = [1, 2]
    await take(rows)
    assert (await take.cache_explain([1, 2])).hit
    assert (await take.cache_explain([1])).differs == ("argument 'rows'",)
    await cache.aclose()


async def test_factors_of_encoders_keys_and_forms(cache: FastCache) -> None:
    """What stands for the arguments is a factor, and so is each form of the isolation context that is selected."""

    async def f(n: int) -> int:
        return n

    schema = IsolationSchema(runtime_context=False, compile_context={"python": True})
    encoded = cache.memoize(version=1, custom_params_encoder=_same, ischema=schema)(f)
    await encoded(1)
    assert (await encoded.cache_explain(2)).differs == ("the result of custom_params_encoder=",)
    keyed = cache.memoize(version=2, key="{n}", ischema=schema)(f)
    await keyed(1)
    assert (await keyed.cache_explain(2)).differs == ("field 'n' of key=",)
    other = cache.memoize(version=2, key="{n}", ischema=IsolationSchema(False, True))(f)
    assert set((await other.cache_explain(1)).differs) >= {"compile.platform"}
    await cache.aclose()


async def test_methods(cache: FastCache) -> None:
    """A bound method explains its own calls."""

    class Compiler:
        def __cache_key__(self) -> str:
            return "c"

        @cache.memoize
        async def build(self, n: int) -> int:
            return n

    compiler = Compiler()
    await compiler.build(1)
    assert (await compiler.build.cache_explain(1)).hit
    assert (await compiler.build.cache_explain(2)).differs == ("argument 'n'",)
    await cache.aclose()


def test_nearest_is_pure() -> None:
    """The choice: same function, fewest differences, first of equals; a factor that one side lacks differs."""
    keys = [Key(f"{n:064x}") for n in range(4)]
    stored = [
        (keys[0], {"function": "g", "x": "1"}),
        (keys[1], {"function": "f", "x": "2", "y": "1"}),
        (keys[2], {"function": "f", "x": "1", "y": "2"}),
        (keys[3], {"function": "f", "x": "1", "z": "2"}),
    ]
    assert nearest({"function": "f", "x": "1", "y": "1"}, stored) == (keys[1], ("x",), 4)
    assert nearest({"function": "f", "x": "1"}, stored[3:]) == (keys[3], ("z",), 1)
    assert nearest({"function": "h"}, stored) == (None, (), 4)


def test_factors_are_a_mapping() -> None:
    """Packed factors compare, show and answer as the dictionary they stand for."""
    factors = Factors(("a", "b"), "0123456789abcdef")
    assert factors == {"a": "01234567", "b": "89abcdef"}
    assert (len(factors), list(factors), "c" in factors) == (2, ["a", "b"], False)
    assert all(len(digest) == DIGITS for digest in factors.values())
    assert "01234567" in repr(factors)
