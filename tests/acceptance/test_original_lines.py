"""The lines of the acceptance list that no row of the original shows: SPEC 6, 9, 10, 12 and 19; for 23 and 24 see the callers."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from acache import (
    DeterministicCache,
    DiskTier,
    FastCache,
    Hit,
    IsolationSchema,
    MemoryTier,
    TierEvent,
)
from acache.exceptions import ReplayMissError
from acache.testing import Gate
from tests.acceptance.support import run

if TYPE_CHECKING:
    from acache.testing.plugin import ChangeSettings

# --- 6: what goes where, and in which order -----------------------------------------------------------------------------


async def test_the_shared_tier_comes_first(tmp_path: Path) -> None:
    """SPEC 6: memory is read first and filled from disk, and written last, with what the encoder made, if the disk took it."""
    mine, theirs = (FastCache(MemoryTier(), DiskTier(tmp_path)) for _ in range(2))
    memory, contended = mine.tier.tiers[0], [False]

    async def compute(n: int) -> int:
        if contended[0]:
            assert await theirs.insert(f, ((n,), {}), n, custom_result_encoder=lambda value: ["theirs", value])
        return n

    f: Any = mine.memoize(flight="process", custom_result_encoder=lambda value: [value], custom_result_decoder=tuple)(
        compute
    )

    async def call(n: int, expected: object) -> list[tuple[str, str, str]]:
        with mine.events.capture() as events:
            assert await f(n) == expected
        return [(event.tier, event.operation, event.outcome) for event in events if isinstance(event, TierEvent)]

    assert (await call(1, 1))[-2:] == [("disk", "write", "stored"), ("memory", "write", "stored")]
    assert await call(1, (1,)) == [("memory", "read", "hit")]
    kept = [await memory.get(f.cache_key(1)) for _ in range(2)]
    assert kept == [Hit([1])] * 2
    assert len({id(hit.value) for hit in kept if hit is not None}) == 1  # encoded, and not pickled
    await memory.clear()
    assert ("disk", "read", "hit") in await call(1, (1,))
    assert await call(1, (1,)) == [("memory", "read", "hit")]
    contended[0] = True
    assert (await call(2, 2))[-1] == ("disk", "write", "present")
    assert await memory.get(f.cache_key(2)) is None
    assert await f(2) == ("theirs", 2)
    for cache in (mine, theirs):
        await cache.aclose()


# --- 9: switches --------------------------------------------------------------------------------------------------------

SWITCHED = """
import acache

def attempt(cache):
    runs = []

    def f(n):
        runs.append(n)
        return n

    try:
        memoized = cache().memoize(f)
        memoized(1), memoized(1)
    except CacheError as error:
        return type(error).__name__
    return len(runs)

told = [attempt(lambda: FastCache(MemoryTier())), attempt(lambda: DeterministicCache(dump_on_close=False))]
told.append("deterministic" if acache.icache is acache.dcache else "fast")
tell(told)
"""
ON: dict[str, list[object]] = {
    "": [1, 1, "fast"],
    "ACACHE_ENABLE=0": [2, 2, "fast"],
    "ACACHE_DISABLE=1": [2, 2, "fast"],
    "ACACHE_RECACHE=1": [2, 1, "fast"],  # workers that recomputed would not agree
    "ACACHE_ENABLE_DETERMINISTIC_CACHING=1": [1, 1, "deterministic"],
    "ACACHE_ENABLE_DETERMINISTIC_CACHING=0": [1, "DeterministicCachingDisabledError", "fast"],
    "ACACHE_STRICTLY_PRE_POPULATED_DETERMINISM=1": [1, "StrictDeterministicCachingKeyNotFoundError", "fast"],
    "ACACHE_STRICTLY_CACHED_DETERMINISM=1": [1, "StrictDeterministicCachingKeyNotFoundError", "fast"],
}


@pytest.mark.integration
@pytest.mark.parametrize("variable", ON)
def test_switches_of_the_environment(tmp_path: Path, variable: str) -> None:
    """SPEC 9: each switch is a variable of the environment, with the defaults of the original: all enabled, locally, not strict."""
    name, _, value = variable.partition("=")
    environment = {"ACACHE_DIR": str(tmp_path), **({name: value} if name else {})}
    assert run(SWITCHED, **environment) == ON[variable]


async def test_switches_can_be_patched_at_run_time(tmp_path: Path, acache_settings: ChangeSettings) -> None:
    """SPEC 9: a switch that is patched holds from the next call on, also for a call that was served hot before."""
    runs, cache = list[int](), DeterministicCache(MemoryTier(), DiskTier(tmp_path), dump_on_close=False)

    @cache.memoize
    async def f(n: int) -> int:
        runs.append(n)
        return n

    async def outcome() -> str:
        before = len(runs)
        try:
            await f(1)
        except TypeError as error:
            return type(error).__name__
        return "computed" if len(runs) > before else "hit"

    assert [await outcome(), await outcome()] == ["computed", "hit"]
    switches: list[tuple[dict[str, bool], str]] = [
        ({"enable": False}, "computed"),
        ({"enable": True}, "hit"),
        ({"disable": True}, "computed"),
        ({"disable": False, "enable_deterministic_caching": False}, "DeterministicCachingDisabledError"),
        ({"enable_deterministic_caching": True}, "hit"),
        ({"strictly_cached_determinism": True}, "hit"),
        ({"strictly_pre_populated_determinism": True}, "hit"),  # from memory: this process has used it
    ]
    for changes, expected in switches:
        acache_settings(**changes)
        assert [await outcome(), await outcome()] == [expected] * 2, changes
    await cache.aclose()


# --- 10: decorating -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["memoize", "record", "replay"])
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "with options"])
async def test_decorating_keeps_the_function(verb: str, bare: bool) -> None:
    """SPEC 10: ``async def`` stays awaitable and ``def`` callable, with name, text and signature; the raw one is at hand."""
    cache = FastCache()

    async def compile_async(source: str, *, arch: str = "sm90") -> str:
        """Compile."""
        return source + arch

    def compile_plain(source: str, *, arch: str = "sm90") -> str:
        """Compile too."""
        return source + arch

    decorator: Any = getattr(cache, verb) if bare else getattr(cache, verb)(ischema=IsolationSchema(False, False))
    functions: list[Any] = [compile_async, compile_plain]
    for function in functions:
        decorated = decorator(function)
        assert (decorated.__name__, decorated.__doc__) == (function.__name__, function.__doc__)
        assert inspect.signature(decorated) == inspect.signature(function)
        assert inspect.iscoroutinefunction(decorated) is inspect.iscoroutinefunction(function)
        assert decorated.__wrapped__ is function
        if verb == "replay":
            with pytest.raises(ReplayMissError):
                await decorated.aio("x")
            assert await cache.insert(decorated, (("x",), {}), "xsm90")
        assert await decorated.aio("x") == "xsm90"
        result = decorated("x", arch="sm90")
        assert (await result if function is compile_async else result) == "xsm90"


# --- 12: errors and cancellation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_errors_are_not_cached(isolated_cache: FastCache, sync: bool) -> None:
    """SPEC 12: what a function raises reaches all who wait, with its own class, and is not stored: the next call runs."""
    runs = list[int]()

    def fail_twice(n: int) -> int:
        runs.append(n)
        if len(runs) <= 2:
            raise ZeroDivisionError(n)
        return n

    async def fail_twice_later(n: int) -> int:
        await asyncio.sleep(0)
        return fail_twice(n)

    f = isolated_cache.memoize(fail_twice).aio if sync else isolated_cache.memoize(fail_twice_later)
    ends = await asyncio.gather(*[f(1) for _ in range(3)], return_exceptions=True)
    assert [type(end) for end in ends] == [ZeroDivisionError] * 3
    with pytest.raises(ZeroDivisionError):
        await f(1)
    assert [await f(1), await f(1)] == [1, 1]
    assert len(runs) == 3


async def test_a_cancelled_caller_leaves_the_others_alone(isolated_cache: FastCache) -> None:
    """SPEC 12: whoever is cancelled, the first caller too, the others get their result of the one run; with the last it ends."""
    release, entered, ended = Gate("the computation"), list[int](), list[str]()

    @isolated_cache.memoize
    async def f(n: int) -> int:
        entered.append(n)
        try:
            await release.wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        ended.append("done")
        return n

    def waiting() -> int:
        return sum(flight.waiters for flight in isolated_cache._engine.flights)

    async def calls(n: int) -> list[asyncio.Task[int]]:
        tasks = [asyncio.create_task(f(n)) for _ in range(3)]
        with anyio.fail_after(30):
            while waiting() < 3 or n not in entered:
                await asyncio.sleep(0)
        return tasks

    alone = await calls(1)
    for task in alone:
        task.cancel()
    await asyncio.wait(alone)
    assert all(task.cancelled() for task in alone)
    with anyio.fail_after(30):
        while not ended:
            await asyncio.sleep(0)
    leader, middle, last = await calls(2)
    leader.cancel()
    middle.cancel()
    await asyncio.wait([leader, middle])
    release.open()
    assert await last == 2
    assert [leader.cancelled(), middle.cancelled()] == [True, True]
    assert ended == ["cancelled", "done"]
    assert [await f(2), await f(1)] == [2, 1]
    assert entered == [1, 2, 1]


# --- 19: instances ------------------------------------------------------------------------------------------------------

INSTANCES = """
import acache
from acache import config

home = Path(os.environ["ACACHE_DIR"])
assert not home.exists()
assert (acache.fcache, acache.dcache) == (acache.fcache, acache.dcache)
chosen = [acache.icache is acache.dcache]
for wanted in (True, None, False):
    with config.override(enable_deterministic_caching=wanted):
        chosen.append(acache.icache is acache.dcache)
assert not home.exists()

def f(n):
    return n

acache.icache.memoize(f)(1)
run_sync(acache.dcache.aclose)
tell([type(acache.fcache).__name__, type(acache.dcache).__name__, chosen, [path.name for path in home.iterdir()]])
"""


@pytest.mark.integration
@pytest.mark.parametrize("switch", ["", "1", "0"])
def test_the_best_instance_is_chosen_when_it_is_asked_for(tmp_path: Path, switch: str) -> None:
    """SPEC 19: ``fcache`` and ``dcache`` are one each; ``icache`` is deterministic while that is on; nothing is made before."""
    told = run(INSTANCES, ACACHE_DIR=str(tmp_path / "home"), ACACHE_ENABLE_DETERMINISTIC_CACHING=switch)
    directory = "deterministic" if switch == "1" else "fast"
    assert told == ["FastCache", "DeterministicCache", [switch == "1", True, False, False], [directory]]
