"""Memoized async generators: recorded while they are passed on, shared while they come, replayed when they are over."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from acache import DeterministicCache, DiskTier, FastCache, MemoryTier, disabled, exceptions, read_only, recompute
from acache.exceptions import (
    ConfigurationError,
    CustomResultEncoderRequiredError,
    RecursiveCallError,
    ReplayMissError,
)
from acache.testing import Gate, ManualClock, settle


class Tape:
    """A source of numbers that writes down what became of it, and gives no more of them than it may."""

    def __init__(self) -> None:
        self.runs = 0
        self.given = 0
        self.closed = 0
        self.may: asyncio.Semaphore | None = None

    async def __call__(self, count: int) -> AsyncGenerator[int, None]:
        self.runs += 1
        try:
            for number in range(count):
                if self.may is not None:
                    await self.may.acquire()
                self.given += 1
                yield number
        finally:
            self.closed += 1

    def hold(self) -> None:
        self.may = asyncio.Semaphore(0)

    def give(self, count: int = 1) -> None:
        assert self.may is not None
        for _ in range(count):
            self.may.release()


@pytest.fixture
def tape() -> Tape:
    return Tape()


async def collect(chunks: AsyncIterator[int], into: list[int] | None = None) -> list[int]:
    seen = [] if into is None else into
    async for chunk in chunks:
        seen.append(chunk)
    return seen


# --- recording and replaying --------------------------------------------------------------------------------------


async def test_a_stream_is_recorded_and_replayed(cache: FastCache, tape: Tape) -> None:
    """The first call runs the generator, the next one yields what that has yielded."""

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number

    assert inspect.isasyncgenfunction(numbers)
    assert await collect(numbers(3)) == await collect(numbers(3)) == [0, 1, 2]
    assert await collect(numbers(0)) == await collect(numbers(0)) == []
    assert tape.runs == 2
    info = numbers.cache_info()
    assert (info.hits, info.computed, info.currsize) == (2, 2, 2)


async def test_a_stream_survives_on_disk(tmp_path: Path, tape: Tape) -> None:
    """A stream is one entry, in every tier."""

    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number

    for _ in range(2):
        async with FastCache(MemoryTier(), DiskTier(tmp_path)) as cache:
            assert await collect(cache.memoize(numbers)(3)) == [0, 1, 2]
            assert [key async for key in cache.tier.keys()] != []  # noqa: SIM118 - a tier is no dict
    assert tape.runs == 1


async def test_nothing_runs_before_the_first_chunk_is_wanted(cache: FastCache, tape: Tape) -> None:
    """As with any generator, a call by itself does nothing, and the generator is never ahead of who wants its chunks."""

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number

    async with aclosing(numbers(1000)) as stream:
        await settle()
        assert tape.runs == 0
        assert [await anext(stream), await anext(stream)] == [0, 1]
        await settle()
        assert tape.given == 2
    await settle()


async def test_entries_of_streams_are_lists(cache: FastCache, clock: ManualClock, tape: Tape) -> None:
    """What a memoized function has, a memoized generator has; its results are lists."""

    @cache.memoize(ttl=10)
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number

    assert await numbers.cache_get(2) is None
    await collect(numbers(2))
    hit = await numbers.cache_get(2)
    assert hit is not None
    assert hit.value == [0, 1]
    assert await numbers.cache_set([7], 2) is True
    assert await collect(numbers(2)) == [7]
    assert await numbers.cache_refresh(2) == [0, 1]
    assert await numbers.cache_invalidate(2) is True
    assert await collect(numbers(2)) == [0, 1]
    clock.advance(10)
    assert await numbers.cache_contains(2) is False
    assert tape.runs == 3


async def test_methods(cache: FastCache) -> None:
    """Generators in classes are memoized as other methods are."""
    runs: list[int] = []

    class Source:
        @cache.memoize(ignore=("self",))
        async def numbers(self, count: int) -> AsyncGenerator[int, None]:
            runs.append(count)
            for number in range(count):
                yield number

        @cache.memoize(ignore=("cls",))
        @classmethod
        async def letters(cls, count: int) -> AsyncGenerator[str, None]:
            runs.append(count)
            for number in range(count):
                yield str(number)

    assert await collect(Source().numbers(2)) == await collect(Source().numbers(2)) == [0, 1]
    letters: Any = Source.letters  # checkers take it for a function of two arguments
    assert [letter async for letter in letters(1)] == [letter async for letter in letters(1)] == ["0"]
    assert runs == [2, 1]
    assert await Source().numbers.cache_contains(2) is True
    assert await collect(Source().numbers.cache_with(ttl=5)(3)) == await collect(Source().numbers(3)) == [0, 1, 2]
    assert runs == [2, 1, 3]


async def test_record_and_replay(cache: FastCache, tape: Tape) -> None:
    """``record`` runs the generator and stores over what is there; ``replay`` never runs it."""

    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number + tape.runs

    recorded, replayed, memoized = cache.record(numbers), cache.replay(numbers), cache.memoize(numbers)
    with pytest.raises(ReplayMissError):
        await collect(replayed(2))
    assert await collect(recorded(2)) == [1, 2]
    assert await collect(recorded(2)) == [2, 3]
    assert await collect(replayed(2)) == await collect(memoized(2)) == [2, 3]
    assert tape.runs == 2
    async with aclosing(recorded(2)) as stream:
        assert await anext(stream) == 3
    assert await collect(replayed(2)) == [2, 3]


async def test_switches(cache: FastCache, tape: Tape) -> None:
    """Disabled and read-only calls store nothing; recompute stores over what is there."""

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number + tape.runs

    with disabled():
        assert await collect(numbers(2)) == [1, 2]
    with read_only():
        assert await collect(numbers(2)) == [2, 3]
    assert await numbers.cache_contains(2) is False
    assert await collect(numbers(2)) == [3, 4]
    with recompute():
        assert await collect(numbers(2)) == [4, 5]
    assert await collect(numbers(2)) == [4, 5]


async def test_other_options_for_one_stream(cache: FastCache, clock: ManualClock, tape: Tape) -> None:
    """cache_with() gives a stream that is kept otherwise, with the same key; what means nothing for one is refused."""

    @cache.memoize(ttl=100)
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number

    brief = numbers.cache_with(ttl=5)
    assert inspect.isasyncgenfunction(brief)
    assert await collect(brief(2)) == await collect(numbers(2)) == [0, 1]
    assert brief.cache_key(2) == numbers.cache_key(2)
    clock.advance(5)
    assert await numbers.cache_contains(2) is False
    assert await collect(numbers(2)) == await collect(brief(2)) == [0, 1]
    assert tape.runs == 2
    clock.advance(6)
    assert await brief.cache_contains(2) is True
    refused: tuple[dict[str, Any], ...] = ({"timeout": 1}, {"idle": 1}, {"flight": "host"}, {"tags": "t"}, {"ttl": -1})
    for options in refused:
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            numbers.cache_with(**options)


async def test_private_chunks(cache: FastCache) -> None:
    """With ``copy="deepcopy"`` what a caller does to a chunk is his own affair."""

    @cache.memoize(copy="deepcopy")
    async def lists() -> AsyncGenerator[list[int], None]:
        yield [1]

    for _ in range(3):
        async for chunk in lists():
            assert chunk == [1]
            chunk.append(2)


async def test_encoded_streams(cache: FastCache) -> None:
    """A result encoder sees the list of all chunks."""

    @cache.memoize(custom_result_encoder=b"".join, custom_result_decoder=lambda joined: [joined])
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"a"
        yield b"b"

    assert [piece async for piece in pieces()] == [b"a", b"b"]
    assert [piece async for piece in pieces()] == [b"ab"]


# --- several at once ----------------------------------------------------------------------------------------------


async def test_others_follow_what_is_under_way(cache: FastCache, tape: Tape) -> None:
    """Who asks meanwhile is given what there is, and then follows; the generator runs once."""
    tape.hold()

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number

    early: list[int] = []
    late: list[int] = []
    first = asyncio.create_task(collect(numbers(4), early))
    tape.give(2)
    await settle()
    second = asyncio.create_task(collect(numbers(4), late))
    await settle()
    assert (early, late) == ([0, 1], [0, 1])
    tape.give(2)
    assert await first == await second == [0, 1, 2, 3]
    assert tape.runs == 1
    info = numbers.cache_info()
    assert (info.computed, info.joined) == (1, 1)


async def test_other_loops_follow(cache: FastCache, tape: Tape) -> None:
    """Threads with loops of their own follow the same run."""

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            await asyncio.sleep(0)
            yield number

    def in_other_loop() -> list[int]:
        return asyncio.run(collect(numbers(200)))

    results = await asyncio.gather(collect(numbers(200)), *(asyncio.to_thread(in_other_loop) for _ in range(3)))
    assert results == [list(range(200))] * 4
    assert tape.runs == 1


async def test_a_slow_follower_is_given_everything(cache: FastCache, tape: Tape) -> None:
    """Who has followed from the beginning sees every chunk, however far the others are."""

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number

    async with aclosing(numbers(10)) as slow:
        assert await anext(slow) == 0
        assert await collect(numbers(10)) == list(range(10))
        assert [number async for number in slow] == list(range(1, 10))
    assert tape.runs == 1


# --- streams that do not come to their end -----------------------------------------------------------------------


async def test_an_abandoned_stream_stores_nothing(cache: FastCache, tape: Tape) -> None:
    """When the only one who follows leaves, the generator is closed and nothing is stored."""

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async with aclosing(tape(count)) as chunks:
            async for number in chunks:
                yield number

    async with aclosing(numbers(3)) as stream:
        assert await anext(stream) == 0
    await settle()
    assert tape.closed == 1
    assert cache.statistics().in_flight == 0
    assert await numbers.cache_contains(3) is False
    assert await collect(numbers(3)) == [0, 1, 2]


async def test_a_break_abandons_the_stream(cache: FastCache, tape: Tape) -> None:
    """A loop that is left by ``break`` abandons the stream as soon as it is collected."""

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async with aclosing(tape(count)) as chunks:
            async for number in chunks:
                yield number

    async for number in numbers(3):
        assert number == 0
        break
    gc.collect()
    await settle()
    assert tape.closed == 1
    assert cache.statistics().in_flight == 0
    assert await numbers.cache_contains(3) is False


async def test_a_cancelled_follower_abandons_the_stream(cache: FastCache, tape: Tape) -> None:
    """Cancelled while it waits for a chunk, the last one who follows takes the generator with it."""
    tape.hold()

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async with aclosing(tape(count)) as chunks:
            async for number in chunks:
                yield number

    task = asyncio.create_task(collect(numbers(3)))
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert tape.closed == 1
    assert cache.statistics().in_flight == 0


async def test_the_first_may_leave(cache: FastCache, tape: Tape) -> None:
    """While somebody still follows, the stream goes on, and is stored."""
    tape.hold()

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number

    first, second = asyncio.create_task(collect(numbers(3))), asyncio.create_task(collect(numbers(3)))
    tape.give(1)
    await settle()
    first.cancel()
    await settle()
    tape.give(2)
    assert await second == [0, 1, 2]
    assert await numbers.cache_contains(3) is True
    assert tape.runs == 1


async def test_an_error_reaches_all_who_follow(cache: FastCache, tape: Tape) -> None:
    """They are given what came before it, then the error; nothing is stored."""
    tape.hold()

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number
        raise OSError

    seen: tuple[list[int], list[int]] = ([], [])
    tasks = [asyncio.create_task(collect(numbers(2), into)) for into in seen]
    await settle()
    tape.give(2)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    assert seen == ([0, 1], [0, 1])
    assert await numbers.cache_contains(2) is False
    assert numbers.cache_info().failed == 2


async def test_an_invalidated_stream_is_not_stored(cache: FastCache, tape: Tape) -> None:
    """Who follows goes on; who comes later starts anew, and the old run does not replace the new one."""
    tape.hold()

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        run = tape.runs
        async for number in tape(count):
            yield number + 10 * run

    old = asyncio.create_task(collect(numbers(2)))
    tape.give(1)
    await settle()
    await numbers.cache_invalidate(2)
    new = asyncio.create_task(collect(numbers(2)))
    await settle()
    tape.give(3)
    assert [await old, await new] == [[0, 1], [10, 11]]
    assert await collect(numbers(2)) == [10, 11]


async def test_a_long_stream_is_not_stored(cache: FastCache, tape: Tape) -> None:
    """Beyond ``max_stream_bytes`` chunks are passed on and forgotten, and who comes late runs the generator himself."""

    @cache.memoize(max_stream_bytes=1_000)
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in tape(count):
            yield number

    async with aclosing(numbers(100)) as first, aclosing(numbers(100)) as slow:
        assert await anext(slow) == 0
        seen = [await anext(first) for _ in range(60)]
        assert await collect(numbers(100)) == list(range(100))
        assert tape.runs == 2
        assert [*seen, *(await collect(first))] == list(range(100))
        assert await collect(slow) == list(range(1, 100))
    assert tape.runs == 2
    assert await numbers.cache_contains(100) is False
    assert await collect(cache.record(max_stream_bytes=1_000)(numbers)(100)) == list(range(100))
    assert await numbers.cache_contains(100) is False


async def test_a_stream_that_follows_itself_is_refused(cache: FastCache) -> None:
    """A generator that waits for its own chunks gets an error, not a deadlock."""

    @cache.memoize
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        async for number in numbers(count):
            yield number

    with pytest.raises(RecursiveCallError):
        await collect(numbers(1))


async def test_chunks_that_cannot_be_encoded(tmp_path: Path) -> None:
    """They are passed on; that they cannot be stored is said at the end, or in a warning."""
    async with FastCache(MemoryTier(), DiskTier(tmp_path)) as cache:

        @cache.memoize
        async def strict() -> AsyncGenerator[object, None]:
            yield lambda: 0

        @cache.memoize(on_unencodable="warn")
        async def lenient() -> AsyncGenerator[object, None]:
            yield lambda: 0

        seen: list[object] = []
        with pytest.raises(CustomResultEncoderRequiredError):
            async for chunk in strict():
                seen.append(chunk)  # noqa: PERF401 - what came before the error counts
        assert len(seen) == 1
        with pytest.warns(UserWarning, match="cannot be stored"):
            assert len([chunk async for chunk in lenient()]) == 1


async def test_chunks_that_cannot_be_copied(cache: FastCache) -> None:
    """With ``copy="deepcopy"`` such a chunk is an error that names the function, or is passed on as it is, with a warning."""

    async def locks() -> AsyncGenerator[Any, None]:
        yield threading.Lock()

    with pytest.raises(CustomResultEncoderRequiredError, match=r"locks .*copy='deepcopy' of a lock raised TypeError"):
        await collect(cache.memoize(copy="deepcopy")(locks)())
    lenient = cache.memoize(copy="deepcopy", on_unencodable="warn")(locks)
    with pytest.warns(UserWarning, match="cannot be stored"):
        assert len(await collect(lenient())) == 1
    assert not await lenient.cache_contains()


async def test_max_concurrency_counts_streams(cache: FastCache) -> None:
    """A stream has its place from its first chunk to its end."""
    running, most = 0, 0

    @cache.memoize(max_concurrency=2)
    async def numbers(which: int) -> AsyncGenerator[int, None]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await settle()
        yield which
        running -= 1

    results = await asyncio.gather(*(collect(numbers(which)) for which in range(6)))
    assert results == [[which] for which in range(6)]
    assert most == 2


async def test_a_stream_whose_loop_ends(cache: FastCache) -> None:
    """Who follows from another loop is told, and not left waiting; later callers start anew."""
    begun, joined, runs = Gate("the stream"), Gate("the follower"), list[int]()

    @cache.memoize
    async def numbers() -> AsyncGenerator[int, None]:
        runs.append(1)
        yield len(runs)
        if len(runs) == 1:
            await asyncio.Event().wait()

    async def lead() -> None:
        stream = numbers()
        assert await anext(stream) == 1
        begun.open()
        await joined.wait()

    leading = asyncio.create_task(asyncio.to_thread(asyncio.run, lead()))
    await begun.wait()
    async with aclosing(numbers()) as stream:
        assert await anext(stream) == 1
        following = asyncio.ensure_future(anext(stream))
        await settle()
        joined.open()
        with pytest.raises(exceptions.SystemError, match="ended"):
            await following
    await leading
    assert await collect(numbers()) == [2]


# --- refusals -----------------------------------------------------------------------------------------------------


def test_options_that_mean_nothing_are_refused(cache: FastCache) -> None:
    """Options about results that are there at once are errors at decoration."""

    async def numbers() -> AsyncGenerator[int, None]:
        yield 1

    async def plain() -> int:
        return 1

    contradictions: tuple[dict[str, Any], ...] = (
        {"ttl": 10, "refresh_after": 5},
        {"ttl": 10, "stale_ttl": 5},
        {"timeout": 1},
        {"cache_exceptions": OSError},
        {"flight": "host"},
        {"max_stream_bytes": 0},
    )
    for options in contradictions:
        with pytest.raises(ConfigurationError):
            cache.memoize(**options)(numbers)
    with pytest.raises(ConfigurationError, match="no async generator"):
        cache.memoize(max_stream_bytes=1)(plain)


async def test_workers_cannot_agree_on_a_stream(tmp_path: Path) -> None:
    """What was passed on cannot be taken back, so a deterministic cache takes no streams."""

    async def numbers() -> AsyncGenerator[int, None]:
        yield 1

    async with DeterministicCache(MemoryTier(), DiskTier(tmp_path), dump_on_close=False) as cache:
        with pytest.raises(ConfigurationError, match="agree"):
            cache.memoize(numbers)


async def test_a_gate_is_waited_for_by_many(cache: FastCache) -> None:
    """A thousand who follow one stream run it once."""
    gate, runs = Gate(), 0

    @cache.memoize
    async def numbers() -> AsyncGenerator[int, None]:
        nonlocal runs
        runs += 1
        yield 1
        await gate.wait()
        yield 2

    tasks = [asyncio.create_task(collect(numbers())) for _ in range(1000)]
    await settle()
    gate.open()
    assert await asyncio.gather(*tasks) == [[1, 2]] * 1000
    assert runs == 1
