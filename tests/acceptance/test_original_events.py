"""What every action tells, and how long it took (SPEC 20), by a clock that only the storage and the functions move."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import pytest

from acache import Cache, CallEvent, DeterministicCache, FastCache, disabled
from acache.codecs import Codec
from acache.events import CallOutcome, Event
from acache.exceptions import ReplayMissError
from acache.testing import ManualClock
from acache.types import Entry, Key, Written
from tests.acceptance.support import Shared

#: Seconds that a read, a write and the function take.
READ, WRITE, RUN = 0.125, 0.25, 2.0


class Timed(Shared):
    """Takes its time."""

    clock: ManualClock

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        self.clock.advance(READ)
        return await super()._read(key, codec)

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        self.clock.advance(WRITE)
        return await super()._write(key, entry, codec, replace=replace)


@dataclass
class Stage:
    """One cache on a storage that a rival uses too, and the function that is cached."""

    cache: Cache
    rival: Cache
    clock: ManualClock

    def __post_init__(self) -> None:
        self.rivals = self.rival.memoize(self.compute)
        self.memoized = self.cache.memoize(self.compute)
        self.recorded = self.cache.record(self.compute)
        self.replayed = self.cache.replay(self.compute)

    def __cache_key__(self) -> str:
        return "stage"

    async def compute(self, task: str) -> str:
        self.clock.advance(RUN)
        if task == "fails":
            raise ZeroDivisionError
        if task == "contended":
            assert await self.rival.insert(self.rivals, ((task,), {}), "theirs")
        await asyncio.sleep(0)
        return "mine"


class Told(NamedTuple):
    """What is expected of an event."""

    action: str
    outcome: str
    stored: bool | None
    seconds: float
    cost: float


async def replay(stage: Stage) -> object:
    return await stage.memoized("stored")


async def compute(stage: Stage) -> object:
    return await stage.memoized("new")


async def compute_contended(stage: Stage) -> object:
    return await stage.memoized("contended")


async def record(stage: Stage) -> object:
    return await stage.recorded("stored")


async def replay_only(stage: Stage) -> object:
    return await stage.replayed("stored")


async def replay_nothing(stage: Stage) -> object:
    with pytest.raises(ReplayMissError):
        await stage.replayed("new")
    return None


async def fail(stage: Stage) -> object:
    with pytest.raises(ZeroDivisionError):
        await stage.memoized("fails")
    return None


async def join(stage: Stage) -> object:
    return await asyncio.gather(stage.memoized("new"), stage.memoized("new"))


async def get(stage: Stage) -> object:
    hit = await stage.cache.get(stage.memoized, (("stored",), {}))
    return hit and hit.value


async def get_nothing(stage: Stage) -> object:
    return await stage.cache.get(stage.memoized, (("new",), {}))


async def insert(stage: Stage) -> object:
    return await stage.cache.insert(stage.memoized, (("new",), {}), "given")


async def insert_in_vain(stage: Stage) -> object:
    return await stage.cache.insert(stage.memoized, (("stored",), {}), "given")


class Row(NamedTuple):
    """One action of the original: how it is done, what it comes to, and what is told."""

    kinds: str
    act: Callable[[Stage], Awaitable[object]]
    result: object
    told: list[Told]


#: A computation looks, runs and writes; one in which a rival stores takes the rival's write longer.
COMPUTED = Told("call", "computed", True, READ + RUN + WRITE, RUN)
CONTENDED = READ + RUN + WRITE + WRITE
TABLE = {
    "record: replay": Row("fast deterministic", replay, "before", [Told("call", "hit", None, READ, RUN)]),
    "record: inserted": Row("fast deterministic", compute, "mine", [COMPUTED]),
    "record: not inserted": Row(
        "fast", compute_contended, "mine", [Told("call", "computed", False, CONTENDED, RUN + WRITE)]
    ),
    "record: not inserted, replay": Row(
        "deterministic", compute_contended, "theirs", [Told("call", "agreed", False, CONTENDED + READ, RUN + WRITE)]
    ),
    "record: over": Row("fast", record, "mine", [Told("call", "computed", True, RUN + WRITE, RUN)]),
    "record: joined": Row(
        "fast deterministic", join, ["mine", "mine"], [COMPUTED, COMPUTED._replace(outcome="joined")]
    ),
    "record: failed": Row("fast deterministic", fail, None, [Told("call", "failed", None, READ + RUN, 0.0)]),
    "replay: hit": Row("fast deterministic", replay_only, "before", [Told("call", "hit", None, READ, RUN)]),
    "replay: miss": Row("fast deterministic", replay_nothing, None, [Told("call", "missed", None, READ, 0.0)]),
    "get: hit": Row("fast deterministic", get, "before", [Told("get", "hit", None, READ, RUN)]),
    "get: miss": Row("fast deterministic", get_nothing, None, [Told("get", "missed", None, READ, 0.0)]),
    "insert: inserted": Row("fast deterministic", insert, True, [Told("insert", "stored", None, WRITE, 0.0)]),
    "insert: not inserted": Row(
        "fast deterministic", insert_in_vain, False, [Told("insert", "present", None, WRITE, 0.0)]
    ),
}


def make(kind: str, storage: Timed) -> Cache:
    return FastCache(storage) if kind == "fast" else DeterministicCache(storage, dump_on_close=False)


def fail_at(event: Event) -> None:
    raise LookupError


@pytest.mark.parametrize("listener", [None, fail_at], ids=["heard", "heard and failing"])
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for name in TABLE for kind in TABLE[name].kinds.split()])
async def test_every_action_is_told_with_its_durations(
    manual_clock: ManualClock, kind: str, name: str, listener: Callable[[Event], None] | None
) -> None:
    """SPEC 20: each action tells what it came to, how long the caller waited and what computing took; a failing sink breaks none."""
    storage = Timed(reach=1, clock=manual_clock)
    stage = Stage(make(kind, storage), make(kind, storage), manual_clock)
    assert await stage.rivals("stored") == "mine"
    (entry,) = storage.entries.values()
    entry.value = "before"
    if listener is not None:
        stage.cache.events.subscribe(listener)
    row = TABLE[name]
    with stage.cache.events.capture() as events:
        assert await row.act(stage) == row.result
    told = [event for event in events if isinstance(event, CallEvent)]
    assert sorted((e.action, e.outcome, e.stored, e.seconds, e.cost) for e in told) == row.told
    assert {event.function for event in told} == {f"{__name__}.Stage.compute"}
    assert all(event.key is not None for event in told)
    found = {"hit", "agreed"}
    assert all((event.tier == "shared") is (event.outcome in found) for event in told)
    assert all((event.age is not None) is (event.outcome in found) for event in told)


async def test_a_call_without_the_cache_is_told_too(manual_clock: ManualClock) -> None:
    """SPEC 20: a call while a switch is on is told, without a key; so the table and this one show every outcome there is."""
    storage = Timed(reach=1, clock=manual_clock)
    stage = Stage(FastCache(storage), FastCache(storage), manual_clock)
    with stage.cache.events.capture() as events, disabled():
        assert await stage.memoized("new") == "mine"
    assert [(event.outcome, event.key) for event in events if isinstance(event, CallEvent)] == [("bypassed", None)]
    shown = {told.outcome for row in TABLE.values() for told in row.told} | {"bypassed"}
    assert shown == set(get_args(CallOutcome))


@pytest.mark.parametrize("action", ["call", "get", "insert"])
async def test_what_a_caller_waited_is_all_of_it(manual_clock: ManualClock, action: str) -> None:
    """SPEC 20: the seconds are what the caller waited: coders of parameters and results are part of them, for every action."""
    storage = Timed(reach=1, clock=manual_clock)
    cache = FastCache(storage)

    def take_time(value: Any) -> Any:
        manual_clock.advance("1s")
        return value

    @cache.memoize(custom_params_encoder=take_time, custom_result_encoder=take_time, custom_result_decoder=take_time)
    async def f(n: int) -> int:
        return n

    await f(1)
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "call": lambda: f(1),
        "get": lambda: cache.get(f, ((1,), {})),
        "insert": lambda: cache.insert(f, ((2,), {}), 2),
    }
    started = manual_clock.monotonic()
    with cache.events.capture() as events:
        await acts[action]()
    (seconds,) = [event.seconds for event in events if isinstance(event, CallEvent)]
    assert seconds == manual_clock.monotonic() - started > 2
