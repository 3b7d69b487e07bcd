"""What goes wrong when workers are to agree, with other caches, goes right here: P16, P17, the deterministic half of P18, P25."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest

from acache import Cache, CallEvent, DeferredRecording, DeterministicCache, DiskTier, FastCache, Hit, MemoryTier
from acache.exceptions import (
    BundleError,
    DeferredRecordingDroppedError,
    DeterministicCachingIMCDumpConflictError,
    ValueEncodingError,
)
from tests.acceptance.support import MakeWorker, choosing, run, run_aside, run_together, temporaries

# --- P16: dumps that fail -----------------------------------------------------------------------------------------------


class Handle:
    """A result that only its own codec can store."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("no")


class HandleCodec:
    """Stores that there was a handle, once."""

    name = "handle"
    data_only = True

    def __init__(self) -> None:
        self.stored = 0

    def encode(self, value: object) -> bytes:
        self.stored += 1
        if self.stored > 1:
            raise ValueEncodingError(value, self.name)
        return b"handle"

    def decode(self, data: memoryview) -> Handle:
        return Handle()


async def fifty(cache: DeterministicCache) -> Callable[[int], Any]:
    """Compute 50 results, sets among them, as one run does."""

    @cache.memoize
    async def parts(n: int) -> set[Any]:
        return {n, str(n), (n, None)}

    for n in range(50):
        await parts(n)
    return parts


async def test_p16_a_result_that_cannot_be_dumped_costs_none_that_was(make_worker: MakeWorker, tmp_path: Path) -> None:
    """A dump that fails on one result leaves all 50 of the last one to be read, and to be added to."""
    cache = make_worker()
    await fifty(cache)
    path = await cache.dump()
    assert path is not None
    before = path.read_bytes()
    strange = cache.memoize(codec=HandleCodec())(handle)
    assert isinstance(await strange(1), Handle)
    with pytest.raises(ValueEncodingError):
        await cache.dump()
    assert path.read_bytes() == before
    assert temporaries(tmp_path) == []
    later = make_worker()
    await later.memoize(choosing("later"))(1)
    assert await later.dump() == path
    assert path.read_bytes() != before
    reader = make_worker(strict="pre_populated")
    await reader.load(path)
    parts = await fifty(reader)
    assert [await parts(n) for n in range(50)] == [{n, str(n), (n, None)} for n in range(50)]
    assert await reader.memoize(choosing("reader"))(1) == "1 by later"


async def handle(n: int) -> Handle:
    return Handle()


@pytest.mark.parametrize("damage", ["cut", "foreign", "empty"])
async def test_p16_a_damaged_dump_is_not_started_anew(make_worker: MakeWorker, damage: str) -> None:
    """What cannot be read is refused by name and left for its owner to look at; it does not pass for an empty dump."""
    cache = make_worker()
    await fifty(cache)
    path = await cache.dump()
    assert path is not None
    content = {"cut": path.read_bytes()[:-200], "foreign": b'{"key": set()}', "empty": b""}[damage]
    path.write_bytes(content)
    for use in (cache.dump, partial(cache.load, path), partial(make_worker().load, path)):
        with pytest.raises(BundleError, match="damaged"):
            await use()
    assert path.read_bytes() == content


# --- P17: losing the race -----------------------------------------------------------------------------------------------

RACE = """
runs = Path(sys.argv[2])

async def compute(n):
    (runs / f"{n}-{os.getpid()}").touch()
    while len(list(runs.glob(f"{n}-*"))) < 4:
        await asyncio.sleep(0.001)
    return [n, os.getpid()]

async def main():
    cache = DeterministicCache(MemoryTier(), DiskTier(sys.argv[1]), dump_on_close=False)
    f = cache.memoize(flight="process")(compute)
    ready()
    with cache.events.capture() as events:
        values = [await f(n) for n in range(10)]
    outcomes = [(event.outcome, event.stored) for event in events if isinstance(event, CallEvent)]
    again = [await f(n) for n in range(10)]
    await cache.tier.tiers[0].clear()
    from_disk = [await f(n) for n in range(10)]
    await cache.aclose()
    tell([values == again == from_disk, values, outcomes])
asyncio.run(main())
"""


@pytest.mark.integration
async def test_p17_who_loses_the_race_uses_the_winners_result(tmp_path: Path) -> None:
    """SPEC 11: of four processes inside one computation one stores; the three others get its result, at once and later."""
    (tmp_path / "runs").mkdir()
    told = await run_together(RACE, tmp_path / "c", tmp_path / "runs", count=4)
    assert len(list((tmp_path / "runs").iterdir())) == 40
    assert [same for same, _, _ in told] == [True] * 4
    assert [values for _, values, _ in told] == [told[0][1]] * 4
    for outcomes in zip(*(outcomes for _, _, outcomes in told), strict=True):
        assert sorted(outcomes) == [["agreed", False]] * 3 + [["computed", True]]


# --- P18: one answer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("kind", [FastCache, DeterministicCache])
async def test_p18_a_loser_agrees_if_it_was_asked_to(tmp_path: Path, kind: Callable[..., Cache], sync: bool) -> None:
    """SPEC 11: who finds its result already there returns its own from a fast cache, and what is there from a deterministic one."""
    mine, theirs = (kind(MemoryTier(), DiskTier(tmp_path)) for _ in range(2))

    async def take(n: int) -> str:
        assert await theirs.insert(take, ((n,), {}), "theirs")
        return "mine"

    def take_plain(n: int) -> str:
        assert asyncio.run(theirs.insert(take_plain, ((n,), {}), "theirs"))
        return "mine"

    memoize = mine.memoize(flight="process")
    f = memoize(take_plain).aio if sync else memoize(take)
    with mine.events.capture() as events:
        answers = [await f(1), await f(1), await f(1)]
    calls = [(event.outcome, event.stored) for event in events if isinstance(event, CallEvent)]
    first, outcome = ("mine", "computed") if kind is FastCache else ("theirs", "agreed")
    assert answers == [first, "theirs", "theirs"]
    assert calls == [(outcome, False), ("hit", None), ("hit", None)]
    await mine.aclose()
    await theirs.aclose()


async def test_p18_deferred_results_agree_too(make_worker: MakeWorker) -> None:
    """SPEC 11: workers whose stored forms come later wait for them, and all use the first; one that is dropped is an error."""
    recordings: list[DeferredRecording] = []

    def encode(value: str) -> DeferredRecording:
        recordings.append(DeferredRecording())
        return recordings[-1]

    async def calls(n: int) -> list[asyncio.Task[str]]:
        tasks = [asyncio.create_task(worker(n)) for worker in workers]
        with anyio.fail_after(30):
            while len(recordings) < 2:
                await asyncio.sleep(0)
        return tasks

    workers = [
        make_worker().memoize(flight="process", custom_result_encoder=encode, custom_result_decoder=str.title)(
            choosing(name)
        )
        for name in ("one", "two")
    ]
    waiting = await calls(1)
    assert not any(task.done() for task in waiting)
    for recording in recordings:
        recording.finalize("final " + str(recordings.index(recording)))
    answers = [await task for task in waiting]
    assert answers in (["Final 0"] * 2, ["Final 1"] * 2)
    assert [await worker(1) for worker in workers] == answers
    recordings.clear()
    waiting = await calls(2)
    recordings.clear()
    with anyio.fail_after(30):
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [DeferredRecordingDroppedError] * 2
    assert [await worker(1) for worker in workers] == answers


OPTIMISED = """
async def compute(n):
    return [n, sys.flags.optimize]

async def main():
    cache = DeterministicCache(MemoryTier(), DiskTier(sys.argv[1]), dump_on_close=False)
    f = cache.memoize(version=1, ischema=IsolationSchema(False, False))(compute)
    answers = [await f(1), await f(1)]
    await cache.dump()
    tell([answers, f.cache_info().currsize])
    await cache.aclose()
asyncio.run(main())
"""


@pytest.mark.integration
async def test_p18_optimised_workers_agree_too(tmp_path: Path) -> None:
    """Under ``-O`` results are stored, found and dumped as ever: no work hides in an assertion."""
    for flags in ("-O", "-OO", "-B"):
        told = await run_aside(OPTIMISED, tmp_path / "c", options=[flags])
        assert told == [[[1, 1]] * 2, 1]


# --- P25: what is dumped can be loaded ----------------------------------------------------------------------------------


class Colour(Enum):
    """An enumeration."""

    RED = "red"


@dataclass(frozen=True)
class Tile:
    """Prints as something that no parser of literals reads."""

    shape: tuple[int, ...]
    where: Path

    def __repr__(self) -> str:
        return "<tile>"


VALUES: list[Any] = [
    *(None, True, -0.0, 1e300, float("inf"), float("-inf"), 1 + 2j, "text\n'\"\\", "\ud800", b"\0\xff", ...),
    *(datetime(2024, 2, 29, 12, tzinfo=UTC), Path("/a b"), Colour.RED, Tile((1, 2), Path("x")), ValueError),
    *({1, "1"}, frozenset(), {Colour.RED: [set()]}, range(3), [[], {}, ()], 10**400),
]


async def test_p25_values_come_back_as_they_were(make_worker: MakeWorker) -> None:
    """SPEC 18: what a dump holds is what was recorded, of any type that can be pickled, whatever its ``repr`` looks like."""
    cache = make_worker()

    async def value(n: int) -> Any:
        return [*VALUES, math.nan][n]

    f, count = cache.memoize(value), len(VALUES)
    for n in range(count + 1):
        await f(n)
    path = await cache.dump()
    assert path is not None
    reader = make_worker(strict="pre_populated")
    await reader.load(path)
    loaded = reader.memoize(value)
    found = [await loaded(n) for n in range(count)]
    assert found == VALUES
    assert [type(each) for each in found] == [type(each) for each in VALUES]
    assert math.copysign(1, found[2]) == -1
    assert math.isnan(await loaded(count))
    assert await reader.get(value, ((0,), {})) == Hit(None)
    assert await cache.dump() == await reader.dump(path) == path  # the same results contradict nobody


async def test_p25_a_dump_that_was_changed_contradicts(make_worker: MakeWorker, tmp_path: Path) -> None:
    """Values are compared by what they are: 1 and True, as results of one key, are a conflict."""

    async def given(value: object) -> object:
        return value

    path = tmp_path / "one.save"
    for name, value in (("first", 1), ("same", 1), ("other", True)):
        cache = make_worker(MemoryTier(), DiskTier(tmp_path / name))
        assert await cache.get_or_set("key", partial(given, value)) is value
        if name == "other":
            with pytest.raises(DeterministicCachingIMCDumpConflictError):
                await cache.dump(path)
        else:
            assert await cache.dump(path) == path


IMPORTER = """
import acache
tell("imported")
"""
USER = """
import acache

class Odd:
    def __reduce__(self):
        return Odd, ()

def odd(n):
    return [Odd, float("inf"), {1}, n]

def attempt():
    try:
        return odd_memoized(1)[1:] == [float("inf"), {1}, 1]
    except CacheError as error:
        return type(error).__name__

odd_memoized = acache.dcache.memoize(odd)
told = [attempt(), attempt()]
if len(sys.argv) > 1:
    run_sync(acache.dcache.dump, sys.argv[1])
run_sync(acache.dcache.aclose)
tell(told)
"""


@pytest.mark.integration
@pytest.mark.parametrize("content", ["own dump", "damaged", "missing", "foreign"])
def test_p25_a_dump_cannot_break_the_import(tmp_path: Path, content: str) -> None:
    """A process that is given its own dump goes on with it; one that is given a bad one imports, and is told at each use."""
    bundle = tmp_path / "one.save"
    assert run(USER, bundle, ACACHE_DIR=str(tmp_path / "a")) == [True, True]
    if content == "damaged":
        bundle.write_bytes(bundle.read_bytes()[:-1])
    elif content == "foreign":
        bundle.write_text("{'key': <object at 0x7f>}")
    elif content == "missing":
        bundle.unlink()
    environment = {
        "ACACHE_DIR": str(tmp_path / "b"),
        "ACACHE_PRE_POPULATE_DETERMINISTIC_CACHE": str(bundle),
        "ACACHE_STRICTLY_PRE_POPULATED_DETERMINISM": "1",
    }
    assert run(IMPORTER, **environment) == "imported"
    expected = {"own dump": True, "missing": "ConfigurationError"}.get(content, "BundleError")
    assert run(USER, **environment) == [expected] * 2


@pytest.mark.integration
@pytest.mark.parametrize("variable", ["ACACHE_LOCAL_DETERMINISM=0", "ACACHE_GLOBAL_DETERMINISM=1"])
def test_p25_settings_cannot_break_the_import(tmp_path: Path, variable: str) -> None:
    """A setting that no cache can be made with is an error of who makes one, not of ``from acache import *``."""
    name, _, value = variable.partition("=")
    assert run(IMPORTER, ACACHE_DIR=str(tmp_path), **{name: value}) == "imported"
