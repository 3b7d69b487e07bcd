"""Deferred recordings: the caller goes on, the flight stays open, and the key is always freed in the end."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acache import CallEvent, DeferredRecording, DiskTier, FastCache, MemoryTier, exceptions
from acache.testing import settle
from acache.types import MISSING


class Tuning:
    """A function whose results are tuned later, and the recordings it handed out."""

    def __init__(self, cache: FastCache, verb: str = "memoize", interim: Any = MISSING) -> None:
        self.runs = 0
        self.recordings: list[DeferredRecording] = []
        self.interim = interim
        self.f: Any = getattr(cache, verb)(custom_result_encoder=self.encode, custom_result_decoder=self.decode)(
            self.compute
        )

    def __cache_key__(self) -> str:
        return "tuning"

    async def compute(self, n: int) -> str:
        self.runs += 1
        await asyncio.sleep(0)
        return f"raw {n}"

    def encode(self, value: str) -> DeferredRecording:
        recording = DeferredRecording(self.interim)
        self.recordings.append(recording)
        return recording

    def decode(self, stored: str) -> str:
        return f"decoded {stored}"

    def finalize(self, stored: str) -> None:
        self.recordings.pop().finalize(stored)


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> FastCache:
    """Make a cache in memory, and one that has host flights too."""
    return FastCache(MemoryTier()) if request.param == "memory" else FastCache(MemoryTier(), DiskTier(tmp_path))


async def test_the_caller_goes_on(cache: FastCache) -> None:
    """Who computed gets the raw result at once; later callers wait for the final one and compute nothing."""
    tuning = Tuning(cache)
    assert await tuning.f(1) == "raw 1"
    later = [asyncio.ensure_future(tuning.f(1)) for _ in range(3)]
    await settle()
    assert not any(task.done() for task in later)
    assert await cache.get(tuning.f, ((1,), {})) is None
    tuning.finalize("final")
    assert await asyncio.gather(*later) == ["decoded final"] * 3
    assert await tuning.f(1) == "decoded final"
    assert tuning.runs == 1
    await cache.aclose()


async def test_who_waited_already_goes_too(cache: FastCache) -> None:
    """Callers that waited for the computation itself get its raw result with the first one."""
    tuning = Tuning(cache)
    assert await asyncio.gather(*(tuning.f(1) for _ in range(3))) == ["raw 1"] * 3
    assert tuning.runs == 1
    tuning.finalize("final")
    await cache_is_idle(cache)
    await cache.aclose()


async def test_an_interim_result_is_served_meanwhile(cache: FastCache) -> None:
    """With an interim result nobody waits; when the final one is there it is served."""
    tuning = Tuning(cache, interim="interim")
    assert await tuning.f(1) == "raw 1"
    assert [await tuning.f(1), await tuning.f(1)] == ["decoded interim"] * 2
    tuning.finalize("final")
    await cache_is_idle(cache)
    assert await tuning.f(1) == "decoded final"
    assert tuning.runs == 1
    await cache.aclose()


async def test_failing(cache: FastCache) -> None:
    """A recording that fails gives its error to those who wait, stores nothing, and frees the key."""
    tuning = Tuning(cache)
    await tuning.f(1)
    later = asyncio.ensure_future(tuning.f(1))
    await settle()
    tuning.recordings.pop().fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await later
    assert await tuning.f(1) == "raw 1"
    assert tuning.runs == 2
    tuning.finalize("final")
    await cache_is_idle(cache)
    await cache.aclose()


async def test_dropping(cache: FastCache) -> None:
    """A recording that is dropped is a clear error to those who wait, and frees the key."""
    tuning = Tuning(cache)
    await tuning.f(1)
    later = asyncio.ensure_future(tuning.f(1))
    await settle()
    tuning.recordings.clear()
    gc.collect()
    with pytest.raises(exceptions.DeferredRecordingDroppedError, match="compute"):
        await later
    assert await tuning.f(1) == "raw 1"
    tuning.finalize("final")
    await cache_is_idle(cache)
    await cache.aclose()


def _finalize(recording: DeferredRecording) -> None:
    recording.finalize(1)


def _fail(recording: DeferredRecording) -> None:
    recording.fail(OSError())


@pytest.mark.parametrize("again", [_finalize, _fail])
@pytest.mark.parametrize("first", [_finalize, _fail])
def test_once_is_enough(first: Callable[[DeferredRecording], None], again: Callable[[DeferredRecording], None]) -> None:
    """A recording is finalized, or fails, once; and needs nobody who waits for it."""
    recording = DeferredRecording()
    first(recording)
    with pytest.raises(exceptions.UserError, match="once"):
        again(recording)


@pytest.mark.parametrize("wrong", ["nope", None, KeyboardInterrupt(), ValueError])
async def test_failing_with_no_exception(cache: FastCache, wrong: Any) -> None:
    """Failing with anything but an exception is refused at once, and leaves the recording as it was."""
    tuning = Tuning(cache)
    await tuning.f(1)
    [recording] = tuning.recordings
    with pytest.raises(exceptions.UserError, match="takes an exception"):
        recording.fail(wrong)
    later = asyncio.ensure_future(tuning.f(1))
    await settle()
    assert not later.done()
    recording.fail(ValueError("right"))
    with pytest.raises(ValueError, match="right"):
        await later
    await cache.aclose()


async def test_from_another_thread(cache: FastCache) -> None:
    """Threads may finalize; one of many that try at once does."""
    tuning = Tuning(cache)
    await tuning.f(1)
    recording = tuning.recordings.pop()
    refused: list[int] = []

    def finalize(number: int) -> None:
        try:
            recording.finalize(str(number))
        except exceptions.UserError:
            refused.append(number)

    threads = [threading.Thread(target=finalize, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    [final] = {await tuning.f(1) for _ in range(3)}
    for thread in threads:
        thread.join()
    [winner] = set(range(8)) - set(refused)
    assert final == f"decoded {winner}"
    await cache.aclose()


async def test_cancelled_waiters_leave_it_open(cache: FastCache) -> None:
    """Nobody has to wait: the final result is stored all the same."""
    tuning = Tuning(cache)
    await tuning.f(1)
    waiter = asyncio.ensure_future(tuning.f(1))
    await settle()
    waiter.cancel()
    await settle()
    assert waiter.cancelled()
    tuning.finalize("final")
    await cache_is_idle(cache)
    assert await tuning.f(1) == "decoded final"
    assert tuning.runs == 1
    await cache.aclose()


async def test_invalidated_meanwhile(cache: FastCache) -> None:
    """Invalidating the key takes the right to store from a recording, and later callers compute anew."""
    tuning = Tuning(cache)
    await tuning.f(1)
    await tuning.f.cache_invalidate(1)
    old = tuning.recordings.pop()
    again = asyncio.ensure_future(tuning.f(1))
    await settle()
    old.finalize("old")
    assert await again == "raw 1"
    assert tuning.runs == 2
    tuning.finalize("new")
    await cache_is_idle(cache)
    assert await tuning.f(1) == "decoded new"
    await cache.aclose()


async def test_recording_over(cache: FastCache) -> None:
    """A recorded call goes on too; what it finalizes replaces what is there."""
    tuning = Tuning(cache, "record")
    assert await tuning.f(1) == "raw 1"
    assert await cache.get(tuning.f, ((1,), {})) is None
    tuning.finalize("one")
    await stored(cache, tuning, "decoded one")
    assert await tuning.f(1) == "raw 1"
    tuning.finalize("two")
    await stored(cache, tuning, "decoded two")
    assert tuning.runs == 2
    await cache.aclose()


async def test_recording_that_is_dropped(cache: FastCache, caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody waits, a dropped recording is logged."""
    tuning = Tuning(cache, "record")
    await tuning.f(1)
    tuning.recordings.clear()
    while "was not stored" not in caplog.text:
        await asyncio.sleep(0)
    assert "DeferredRecordingDroppedError" in caplog.text
    await cache.aclose()


async def test_inserting_waits(cache: FastCache) -> None:
    """An insert tells whether it stored, so it waits for the final form."""
    tuning = Tuning(cache)
    inserting = asyncio.ensure_future(cache.insert(tuning.f, ((1,), {}), "mine"))
    await settle()
    assert not inserting.done()
    tuning.finalize("given")
    assert await inserting
    assert await tuning.f(1) == "decoded given"
    assert tuning.runs == 0
    await cache.aclose()


async def test_sync_functions(tmp_path: Path) -> None:
    """A plain function called in a plain thread has its raw result at once; the recording stays open behind it."""
    cache = FastCache(MemoryTier())
    recordings: list[DeferredRecording] = []

    def encode(value: int) -> DeferredRecording:
        recordings.append(DeferredRecording())
        return recordings[-1]

    @cache.memoize(custom_result_encoder=encode, custom_result_decoder=str)
    def f(n: int) -> Any:
        return n

    assert await asyncio.to_thread(f, 1) == 1
    later = asyncio.create_task(asyncio.to_thread(f, 1))
    await settle()
    recordings.pop().finalize(2)
    assert await later == "2"


async def test_events(cache: FastCache) -> None:
    """The one who computed reports a computation, the others that they joined it."""
    tuning = Tuning(cache)
    with cache.events.capture() as events:
        await tuning.f(1)
        later = asyncio.ensure_future(tuning.f(1))
        await settle()
        tuning.finalize("final")
        await later
    calls = [event for event in events if isinstance(event, CallEvent)]
    assert [event.outcome for event in calls] == ["computed", "joined"]
    await cache.aclose()


async def cache_is_idle(cache: FastCache) -> None:
    while cache.statistics().in_flight:
        await asyncio.sleep(0)


async def stored(cache: FastCache, tuning: Tuning, value: str) -> None:
    while (hit := await cache.get(tuning.f, ((1,), {}))) is None or hit.value != value:
        await asyncio.sleep(0)
