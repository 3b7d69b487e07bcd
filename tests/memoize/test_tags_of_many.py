"""Groups of the results of functions over many keys, and of streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acache import DiskTier, FastCache, MemoryTier
from acache.exceptions import UserError
from acache.testing import Gate, ManualClock
from acache.tiers import stamps


@dataclass(frozen=True)
class User:
    """Somebody."""

    id: int
    team: str = "red"


@pytest.fixture(params=["memory", "disk", "both"])
async def tiered(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncGenerator[FastCache]:
    """Make a cache over each kind of tiers."""
    memory, disk = MemoryTier(clock=clock), DiskTier(tmp_path, clock=clock)
    tiers = {"memory": (memory,), "disk": (disk,), "both": (memory, disk)}[request.param]
    async with FastCache(*tiers) as cache:
        yield cache


def tag_of_all(chunks: list[int]) -> str:
    """Name the group of a stream when it is over."""
    return "t"


def by_row(row: User, ids: int) -> list[str]:
    """Name the groups of one result and its key."""
    return [f"row:{ids}", f"team:{row.team}"]


async def begun(calls: list[Any], number: int) -> None:
    """Wait until so many calls have begun."""
    while len(calls) < number:
        await asyncio.sleep(0)


MANY_TAGS: list[tuple[Any, list[str], list[int]]] = [
    ("users", ["users"], [1, 2, 3]),
    ("user:{ids}", ["user:1", "user:3", "user:[1, 2, 3]"], [1, 3]),
    (by_row, ["row:2"], [2]),
    (("users", by_row), ["team:red", "none"], [1, 3]),
    (["user:{ids}", "users"], ["user"], []),
]


@pytest.mark.parametrize(("tags", "invalidated", "gone"), MANY_TAGS)
async def test_each_of_many_keys_has_its_tags(
    tiered: FastCache, tags: Any, invalidated: list[str], gone: list[int]
) -> None:
    """Templates and callables see the call as if it had been made for that one key, and only what has a tag goes."""
    calls: list[list[int]] = []

    @tiered.memoize_many(tags=tags)
    async def load(ids: list[int]) -> dict[int, User]:
        calls.append(sorted(ids))
        return {number: User(number, "blue" if number == 2 else "red") for number in ids}

    for _ in range(2):
        assert list(await load([1, 2, 3])) == [1, 2, 3]
        assert (await load.one(3)).id == 3
    assert calls == [[1, 2, 3]]
    await tiered.invalidate_tags(*invalidated)
    for _ in range(2):
        assert list(await load([1, 2, 3])) == [1, 2, 3]
    assert calls[1:] == ([gone] if gone else [])


async def test_a17_a_batch_of_before_is_not_joined_and_stores_nothing(tiered: FastCache) -> None:
    """Of the keys of a call under way those with the tag are not stored, and who asks for them later has a new call."""
    calls: list[list[int]] = []
    gates = [Gate("old"), Gate("new"), Gate("open")]
    gates[2].open()

    @tiered.memoize_many(tags="n:{keys}")
    async def load(keys: list[int]) -> dict[int, int]:
        calls.append(sorted(keys))
        run = len(calls)
        await gates[min(run, 3) - 1].wait()
        return dict.fromkeys(keys, run)

    before = asyncio.create_task(load([1, 2]))
    await begun(calls, 1)
    await tiered.invalidate_tags("n:1")
    after = asyncio.create_task(load([1, 2]))
    await begun(calls, 2)
    gates[0].open()
    assert await before == {1: 1, 2: 1}
    gates[1].open()
    assert await after == {1: 2, 2: 1}
    assert await load([1, 2]) == {1: 2, 2: 1}
    assert calls == [[1, 2], [1]]


async def test_a17_a_batch_alone_stores_nothing(tiered: FastCache) -> None:
    """An invalidation of what only results say, while they are computed, is heard of too."""
    calls: list[list[int]] = []
    gate = Gate("the call")

    def even(result: int, keys: int) -> str:
        return "even" if result % 2 == 0 else "odd"

    @tiered.memoize_many(tags=even)
    async def load(keys: list[int]) -> dict[int, int]:
        calls.append(sorted(keys))
        await gate.wait()
        return {key: key for key in keys}

    loading = asyncio.create_task(load([1, 2]))
    await begun(calls, 1)
    await tiered.invalidate_tags("even")
    gate.open()
    assert await loading == await load([1, 2]) == {1: 1, 2: 2}
    assert calls == [[1, 2], [2]]


@pytest.mark.parametrize("warm", [True, False])
async def test_tags_do_not_spread_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: bool) -> None:
    """Where tags have to be read by a thread, one reads those of all keys, which are then asked for together."""
    disk, calls, hops = DiskTier(tmp_path), list[int](), list[object]()
    hop = stamps.in_thread  # type: ignore[attr-defined]  # pyright: ignore[reportPrivateImportUsage] - what it uses

    def counted(*args: Any) -> Any:
        hops.append(args)
        return hop(*args)

    monkeypatch.setattr(stamps, "in_thread", counted)
    if not warm:  # as where the kernel cannot be asked
        disk._shelf.read_warm = lambda key: None  # type: ignore[method-assign]
        disk._shelf.read_warm_file = lambda path: None  # type: ignore[method-assign]
    async with FastCache(MemoryTier(), disk) as cache:

        @cache.memoize_many(tags="n:{keys}")
        async def load(keys: list[int]) -> dict[int, int]:
            assert len(hops) < 9
            calls.append(len(keys))
            return {key: key for key in keys}

        await load([0])
        await cache.invalidate_tags("n:0")
        for keys in (range(100), range(100)):
            hops.clear()
            await load(keys)
            await cache.invalidate_tags(*[f"n:{key}" for key in keys])
        hops.clear()
        await asyncio.gather(*map(load.one, range(100, 200)))
        assert calls == [1, 100, 100, 100]


async def test_a_key_whose_tag_cannot_be_read(cache: FastCache) -> None:
    """It fails for who asks for it, and the call is made for the others."""

    @cache.memoize_many(tags="user:{keys.id}")
    async def load(keys: list[Any]) -> list[Any]:
        return keys

    results = await asyncio.gather(load(["secret"]), load([User(1)]), return_exceptions=True)
    assert isinstance(results[0], UserError)
    assert "secret" not in str(results[0])
    assert results[1] == [User(1)]


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_streams_have_tags(tiered: FastCache) -> None:
    """Texts and templates are of the arguments; a callable is given the list of all chunks, which is what is stored."""
    runs: list[int] = []

    def longest(chunks: list[int], count: int) -> str:
        return f"{max(chunks)} of {count}"

    @tiered.memoize(tags=("all", "count:{count}", longest))
    async def numbers(count: int) -> AsyncGenerator[int, None]:
        runs.append(count)
        for number in range(count):
            yield number

    recorded = tiered.record(tags="recorded")(numbers)

    async def both() -> None:
        for count in (2, 3):
            assert [number async for number in numbers(count)] == list(range(count))

    for tag, gone in (("none", []), ("all", [2, 3]), ("count:2", [2]), ("2 of 3", [3])):
        await both()
        runs.clear()
        await tiered.invalidate_tags(tag)
        await both()
        assert runs == gone
    assert [number async for number in recorded(2)] == [0, 1]
    await tiered.invalidate_tags("recorded")
    assert not await numbers.cache_contains(2)


@pytest.mark.parametrize("tags", ["t", tag_of_all], ids=["known", "of the result"])
@pytest.mark.parametrize("verb", ["memoize", "record"])
async def test_a17_a_stream_of_before_stores_nothing(tiered: FastCache, tags: Any, verb: str) -> None:
    """A stream that is recorded when its group is invalidated goes on for who follows it, and is not kept."""

    async def numbers() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    follow = getattr(tiered, verb)(tags=tags)(numbers)
    async with aclosing(follow()) as stream:
        assert await anext(stream) == 1
        await tiered.invalidate_tags("t")
        assert [number async for number in stream] == [2]
    assert not await follow.cache_contains()
    assert [number async for number in follow()] == [1, 2]
    assert await follow.cache_contains()


async def test_a17_a_stream_of_before_is_not_followed(tiered: FastCache) -> None:
    """Who comes after an invalidation has a new run; who comes after that follows it."""
    runs, gate = list[int](), Gate("the end")

    @tiered.memoize(tags="n:{n}")
    async def numbers(n: int) -> AsyncGenerator[int, None]:
        runs.append(n)
        run = len(runs)
        yield run
        await gate.wait()
        yield run

    streams = [numbers(1), numbers(1), numbers(1)]
    assert await anext(streams[0]) == 1
    await tiered.invalidate_tags("n:2")
    assert await anext(streams[1]) == 1
    await tiered.invalidate_tags("n:1")
    assert await anext(streams[2]) == 2
    gate.open()
    assert [[number async for number in stream] for stream in streams] == [[1], [1], [2]]
    assert [number async for number in numbers(1)] == [2, 2]
    assert runs == [1, 1]


async def test_a_stream_whose_tags_fail(cache: FastCache, caplog: pytest.LogCaptureFixture) -> None:
    """A field that cannot be read is an error before the first chunk; a callable that fails costs the storing."""

    @cache.memoize(tags="user:{user.id}")
    async def unread(user: Any) -> AsyncGenerator[int, None]:
        yield 1

    @cache.memoize(tags=lambda chunks: chunks)
    async def unsaid() -> AsyncGenerator[int, None]:
        yield 1

    with pytest.raises(UserError, match="could not be read"):
        await anext(unread("secret"))
    assert unread.cache_info().failed == 1
    with caplog.at_level(logging.WARNING, "acache"):
        assert [number async for number in unsaid()] == [1]
    assert "failed with" in caplog.text
    assert not await unsaid.cache_contains()
