"""Functions over many keys: hits are taken, and what is missing is computed once, together."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from acache import (
    DeterministicCache,
    DiskTier,
    FastCache,
    MemoryTier,
    SyncCache,
    config,
    disabled,
    isolate,
    read_only,
    recompute,
)
from acache.exceptions import (
    AbsentKeyError,
    BatchResultError,
    BridgeError,
    ComputeTimeoutError,
    ConfigurationError,
    CustomParamsEncoderRequiredError,
    CustomResultEncoderRequiredError,
    RecursiveCallError,
    UserError,
    ValueEncodingError,
)
from acache.testing import FaultyTier, Gate, ManualClock, cancel_sweep, settle


class Loader:
    """A source of squares that writes down what it was asked for, and answers when it may."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = Gate("the source")
        self.gate.open()
        self.cancelled = 0

    async def __call__(self, keys: Sequence[int]) -> dict[int, int]:
        self.calls.append(list(keys))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return {key: key * key for key in keys if key >= 0}

    def close(self) -> None:
        self.gate = Gate("the source")


@pytest.fixture
def source() -> Loader:
    return Loader()


# --- results ------------------------------------------------------------------------------------------------------


async def test_hits_are_taken_and_the_rest_is_one_call(cache: FastCache, source: Loader) -> None:
    """A call asks the function only for keys that are not stored, and answers in the order asked."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    assert await load([1, 2]) == {1: 1, 2: 4}
    assert list((await load([3, 1, 4, 2])).items()) == [(3, 9), (1, 1), (4, 16), (2, 4)]
    assert await load.one(4) == 16
    assert source.calls == [[1, 2], [3, 4]]
    info = load.cache_info()
    assert (info.hits, info.misses, info.computed, info.currsize) == (3, 4, 4, 4)


async def test_equal_keys_are_asked_for_once(cache: FastCache, source: Loader) -> None:
    """A key that is given twice is one key."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    assert await load([2, 2, 2]) == {2: 4}
    assert await load(iter([2, 3])) == {2: 4, 3: 9}
    assert await load([]) == {}
    assert source.calls == [[2], [3]]


async def test_a_list_is_answered_with_a_list(cache: FastCache, source: Loader) -> None:
    """What the annotation of the function says, its callers get: results in the order of the keys, with repetitions."""

    @cache.memoize_many
    async def load(keys: list[int]) -> list[int]:
        return list((await source(keys)).values())

    assert await load([2, 1, 2]) == [4, 1, 4]
    assert await load([3, 2]) == [9, 4]
    assert await load([]) == []
    assert source.calls == [[2, 1], [3]]


async def test_a_list_of_another_length_is_an_error(cache: FastCache) -> None:
    """Results that cannot be told apart by their places are not guessed at."""

    @cache.memoize_many
    async def load(keys: list[int]) -> list[int]:
        return [0]

    with pytest.raises(BatchResultError, match="2 keys and returned 1"):
        await load([1, 2])
    assert await load([1]) == [0]


async def test_a_result_of_the_wrong_kind_is_an_error(cache: FastCache) -> None:
    """A function that says it returns a dict and returns something else is told so."""

    @cache.memoize_many(as_list=False)
    async def as_dict(keys: list[int]) -> list[int]:
        return [0]

    @cache.memoize_many(as_list=True)
    async def as_list(keys: list[int]) -> dict[int, int]:
        return {}

    with pytest.raises(BatchResultError, match="dict was expected, not a list"):
        await as_dict([1])
    with pytest.raises(BatchResultError, match="list was expected, not a dict"):
        await as_list([1])


async def test_an_absent_key_is_absent_and_not_stored(cache: FastCache, source: Loader) -> None:
    """What a dict does not hold is a miss again the next time; alone it is a KeyError."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    assert await load([1, -1]) == {1: 1}
    assert await load([1, -1]) == {1: 1}
    with pytest.raises(AbsentKeyError) as caught:
        await load.one(-1)
    assert isinstance(caught.value, KeyError)
    assert "-1" not in str(caught.value)
    assert source.calls == [[1, -1], [-1], [-1]]


async def test_absence_can_be_stored(cache: FastCache, clock: ManualClock, source: Loader) -> None:
    """With ``cache_exceptions=AbsentKeyError`` the function is not asked again for what it does not have."""

    @cache.memoize_many(cache_exceptions={AbsentKeyError: 10})
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    assert await load([1, -1]) == await load([1, -1]) == {1: 1}
    assert source.calls == [[1, -1]]
    clock.advance(10)
    assert await load([-1]) == {}
    assert source.calls == [[1, -1], [-1]]


async def test_none_is_a_result(cache: FastCache) -> None:
    """A stored ``None`` is a hit like any other."""
    calls: list[list[int]] = []

    @cache.memoize_many
    async def load(keys: list[int]) -> Mapping[int, None]:
        calls.append(keys)
        return dict.fromkeys(keys)

    assert await load([1]) == await load([1]) == {1: None}
    assert calls == [[1]]


async def test_plain_function(cache: FastCache) -> None:
    """A ``def`` runs in a worker thread; it is awaited by ``aio`` and blocks plain threads."""
    calls: list[list[int]] = []

    @cache.memoize_many
    def load(keys: list[int]) -> dict[int, int]:
        calls.append(keys)
        return {key: -key for key in keys}

    assert await load.aio([1, 2]) == {1: -1, 2: -2}
    assert await asyncio.to_thread(load, [2, 3]) == {2: -2, 3: -3}
    assert await asyncio.to_thread(load.one, 3) == -3
    assert await asyncio.to_thread(load.sync, [1]) == {1: -1}
    assert calls == [[1, 2], [3]]
    with pytest.raises(BridgeError):
        load([4])


async def test_the_function_may_change_its_list(cache: FastCache) -> None:
    """The list of keys is the function's own."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        found = {key: key for key in keys}
        keys.clear()
        return found

    assert await load([1, 2]) == {1: 1, 2: 2}


class ById:
    """A key that equals every other of its number, and is not the same."""

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name = number, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ById) and other.number == self.number

    def __hash__(self) -> int:
        return self.number

    def __cache_key__(self) -> tuple[int, str]:
        return self.number, self.name


def of_kind(key: object) -> str:
    """Say what tells a key from its equals."""
    return key.name if isinstance(key, ById) else repr(key)


def second(_first: object, key: object) -> object:
    """Say that the second argument is the key."""
    return key


EQUAL_KEYS: list[list[Any]] = [[1, True, 1.0], [0.0, -0.0], [(1,), (True,)], [ById(1, "a"), ById(1, "b")]]


@pytest.mark.parametrize("keys", EQUAL_KEYS, ids=["numbers", "zeros", "tuples", "of a class"])
async def test_equal_keys_of_different_types_are_not_asked_for_in_one_call(cache: FastCache, keys: list[Any]) -> None:
    """A dict cannot tell ``1`` from ``True``: each has a call, a result and an entry of its own."""
    calls: list[list[Any]] = []

    @cache.memoize_many
    async def load(keys: list[Any]) -> dict[Any, str]:
        calls.append(keys)
        return {key: of_kind(key) for key in keys}

    expected = [of_kind(key) for key in keys]
    assert await asyncio.gather(*map(load.one, keys), load([2])) == [*expected, {2: "2"}]
    assert [len(call) for call in calls] == [2] + [1] * (len(keys) - 1)
    assert [await load.one(key) for key in keys] == expected
    assert len(calls) == len(keys)


@pytest.mark.parametrize("keys", [*EQUAL_KEYS, [[1], [True], [1.0]]], ids=[*"abcd", "lists"])
async def test_equal_keys_are_kept_apart_for_lists_too(cache: FastCache, keys: list[Any]) -> None:
    """A function that returns a list may look its keys up in a dict, or in a list: no call has two that are equal."""
    calls: list[list[Any]] = []

    @cache.memoize_many(max_batch=10)
    async def load(keys: list[Any]) -> list[str]:
        calls.append(keys)
        return [of_kind(keys[keys.index(key)]) for key in keys]

    expected = [of_kind(key) for key in keys]
    assert await load([*keys, *keys]) == expected * 2
    assert len(calls) == len(keys)
    assert await load(keys) == expected
    assert len(calls) == len(keys)


async def test_the_first_of_equal_keys_counts_in_a_dict(cache: FastCache) -> None:
    """A dict of results has room for one of them: for the first, with its result, and it is asked for that one alone."""
    calls: list[list[Any]] = []

    @cache.memoize_many
    async def load(keys: list[Any]) -> dict[Any, str]:
        calls.append(keys)
        return {key: repr(key) for key in keys}

    loaded = await load([True, 1, 2, 2.0])
    assert [(repr(key), value) for key, value in loaded.items()] == [("True", "True"), ("2", "2")]
    assert [repr(key) for key in calls[0]] == ["True", "2"]
    assert (len(calls), await load.cache_contains(1)) == (1, False)


async def test_a_dict_has_no_keys_that_cannot_be_hashed(cache: FastCache) -> None:
    """Who asks for one is told so, and nobody else is; with custom_params_encoder= a list may be asked for anything."""

    @cache.memoize_many
    async def load(keys: list[Any]) -> dict[Any, Any]:
        return {key: key for key in keys}

    @cache.memoize_many(custom_params_encoder=itemgetter(1))
    async def as_list(keys: list[Any]) -> list[Any]:
        return [key[1] for key in keys]

    refused, other, loaded = await asyncio.gather(load.one([1]), load([[2]]), load([3]), return_exceptions=True)
    for error in (refused, other):
        assert isinstance(error, UserError)
        assert "hashable" in str(error)
    assert loaded == {3: 3}
    assert await as_list([[object(), 1], [object(), 2]]) == [1, 2]


# --- batches ------------------------------------------------------------------------------------------------------


async def test_callers_share_one_call(cache: FastCache, source: Loader) -> None:
    """Misses of callers that come in the same turn are one call, each key once."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    results = list(await asyncio.gather(load([1, 2]), load([2, 3]), load([4])))
    assert results == [{1: 1, 2: 4}, {2: 4, 3: 9}, {4: 16}]
    assert source.calls == [[1, 2, 3, 4]]


async def test_single_keys_share_one_call(cache: FastCache, source: Loader) -> None:
    """``one`` is collected as the keys of lists are."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    one, two, rest = await asyncio.gather(load.one(1), load.one(2), load([3, 1]))
    assert (one, two, rest) == (1, 4, {3: 9, 1: 1})
    assert [sorted(call) for call in source.calls] == [[1, 2, 3]]


async def test_callers_share_one_call_over_a_disk(tmp_path: Path, source: Loader) -> None:
    """Tiers that take time do not spread a batch."""
    async with FastCache(MemoryTier(), DiskTier(tmp_path)) as cache:

        @cache.memoize_many
        async def load(keys: list[int]) -> dict[int, int]:
            return await source(keys)

        await load([0])
        results = await asyncio.gather(load(range(30)), load(range(20, 50)))
        assert [len(result) for result in results] == [30, 30]
        assert sum(len(call) for call in source.calls) == 50
        assert len(source.calls) <= 3
    async with FastCache(MemoryTier(), DiskTier(tmp_path)) as again:
        load_again = again.memoize_many(load.__wrapped__)
        assert await load_again(range(50)) == {key: key * key for key in range(50)}
        assert sum(len(call) for call in source.calls) == 50


async def test_a_key_under_way_is_waited_for(cache: FastCache, source: Loader) -> None:
    """A key that another call of the function computes is not asked for again."""
    source.close()

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    first = asyncio.create_task(load([1, 2]))
    await settle()
    second = asyncio.create_task(load([2, 3]))
    await settle()
    assert source.calls == [[1, 2], [3]]
    source.gate.open()
    assert [await first, await second] == [{1: 1, 2: 4}, {2: 4, 3: 9}]
    assert source.calls == [[1, 2], [3]]


async def test_a_window_collects_for_so_long(cache: FastCache, clock: ManualClock, source: Loader) -> None:
    """With ``window=`` a batch stays open for as many seconds."""

    @cache.memoize_many(window="5ms")
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    first = asyncio.create_task(load([1]))
    await settle()
    second = asyncio.create_task(load.one(2))
    await settle()
    assert source.calls == []
    clock.advance(0.005)
    assert (await first, await second) == ({1: 1}, 4)
    assert source.calls == [[1, 2]]


async def test_a_full_batch_does_not_wait(cache: FastCache, clock: ManualClock, source: Loader) -> None:
    """No call gets more than ``max_batch`` keys, and a full one leaves at once."""

    @cache.memoize_many(window=5, max_batch=2)
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    loading = asyncio.create_task(load([1, 2, 3, 4, 5]))
    await settle()
    assert source.calls == [[1, 2], [3, 4]]
    clock.advance(5)
    assert len(await loading) == 5
    assert source.calls == [[1, 2], [3, 4], [5]]


async def test_callers_of_other_loops_are_served(cache: FastCache, source: Loader) -> None:
    """Keys under way are shared with every loop; each loop has batches of its own."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    def in_other_loop() -> dict[int, int]:
        return asyncio.run(load.aio(range(20)))

    expected = {key: key * key for key in range(20)}
    results = await asyncio.gather(load(range(20)), *(asyncio.to_thread(in_other_loop) for _ in range(3)))
    assert results == [expected] * 4
    asked = sorted(key for call in source.calls for key in call)
    assert asked == list(range(20))


async def test_scopes_do_not_share_a_call(cache: FastCache) -> None:
    """A function that looks at its scope is called for keys of one scope only; entries are kept apart too."""
    calls: list[list[int]] = []

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        calls.append(keys)
        return {key: len(calls) for key in keys}

    async def under(target: str) -> dict[int, int]:
        with isolate(target=target):
            return await load([1])

    one, other, third = await asyncio.gather(under("a"), under("b"), under("a"))
    assert calls == [[1], [1]]
    assert one == third != other


# --- failures and cancellation ------------------------------------------------------------------------------------


async def test_a_failing_call_fails_for_those_who_wait_for_it(cache: FastCache, source: Loader) -> None:
    """An error reaches the callers of its batch and no others, and is not stored."""
    source.close()

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        found = await source(keys)
        if 13 in keys:
            raise OSError
        return found

    unlucky = [asyncio.create_task(load([1, 13])), asyncio.create_task(load([2]))]
    await settle()
    lucky = asyncio.create_task(load([3]))
    await settle()
    source.gate.open()
    results = await asyncio.gather(*unlucky, lucky, return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError, dict]
    assert await load([1, 2]) == {1: 1, 2: 4}


async def test_a_cancelled_caller_leaves_the_batch_alone(cache: FastCache, source: Loader) -> None:
    """Who gives up does not take the others with him."""
    source.close()

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    leaver, stayer = asyncio.create_task(load([1, 2])), asyncio.create_task(load([2, 3]))
    await settle()
    leaver.cancel()
    await settle()
    source.gate.open()
    assert await stayer == {2: 4, 3: 9}
    assert leaver.cancelled()
    assert (source.calls, source.cancelled) == ([[1, 2, 3]], 0)


async def test_the_last_caller_cancels_the_call(cache: FastCache, source: Loader) -> None:
    """A call nobody waits for any more is cancelled, and nothing of it stays."""
    source.close()

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(load([1, 2])), asyncio.create_task(load.one(3))]
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await settle()
    assert source.cancelled == 1
    assert cache.statistics().in_flight == 0
    source.gate.open()
    assert await load([1, 3]) == {1: 1, 3: 9}


async def test_cancelled_anywhere(cache: FastCache) -> None:
    """Wherever a load is cancelled, nothing is left and the next one is right."""
    start = 0

    @cache.memoize_many(max_concurrency=1)
    async def load(keys: list[int]) -> dict[int, int]:
        await asyncio.sleep(0)
        return {key: key for key in keys}

    async def one_run() -> dict[int, int]:
        return await load([start, start + 1])

    async for _ in cancel_sweep(one_run):
        await settle()
        assert cache.statistics().in_flight == 0
        assert await load([start, start + 1]) == {start: start, start + 1: start + 1}
        start += 2


async def test_a_call_that_waits_for_itself_is_refused(cache: FastCache) -> None:
    """A function that loads a key of the very batch it computes gets an error, not a deadlock."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        if 1 in keys:
            return {key: await load.one(2) for key in keys}
        return {key: key for key in keys}

    with pytest.raises(RecursiveCallError):
        await load([1, 2])
    assert await load([2]) == {2: 2}
    assert await load([1]) == {1: 2}


async def test_a_circle_through_another_function_is_refused(cache: FastCache) -> None:
    """What a batch waits for, each of its keys waits for."""
    begun = Gate("the batch")

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        begun.open()
        value = await other()
        return dict.fromkeys(keys, value)

    @cache.memoize
    async def other() -> int:
        await begun.wait()
        await settle()
        return await load.one(1)

    with pytest.raises(RecursiveCallError):
        await asyncio.gather(load([1, 2]), other())


async def test_who_leaves_an_open_batch_leaves_it_to_the_others(
    cache: FastCache, clock: ManualClock, source: Loader
) -> None:
    """Cancelled in the window, a caller takes his own keys with him; the call is made for the rest."""

    @cache.memoize_many(window=5)
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    leaver, stayer = asyncio.create_task(load([1, 2])), asyncio.create_task(load([2, 3]))
    await settle()
    leaver.cancel()
    await settle()
    clock.advance(5)
    assert await stayer == {2: 4, 3: 9}
    assert source.calls == [[2, 3]]


async def test_cancelled_while_hits_are_decoded(cache: FastCache) -> None:
    """A load that is cancelled before it waits for what it computes has begun none of that."""
    start = 10

    async def decode(stored: int) -> int:
        await asyncio.sleep(0)
        return stored

    @cache.memoize_many(custom_result_encoder=abs, custom_result_decoder=decode)
    async def load(keys: list[int]) -> dict[int, int]:
        return {key: key for key in keys}

    async def one_run() -> dict[int, int]:
        return await load([start, 1, 2])

    await load([1, 2])
    async for _ in cancel_sweep(one_run):
        start += 1
        gc.collect()  # a coroutine that nobody awaits warns, and a warning is an error
    assert await load([1, 2]) == {1: 1, 2: 2}


# --- options and switches -----------------------------------------------------------------------------------------


async def test_options_are_about_each_key(cache: FastCache, clock: ManualClock, source: Loader) -> None:
    """Each key has a time of its own."""

    @cache.memoize_many(ttl=10, store_if=lambda value: value != 9)
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    await load([1])
    clock.advance(6)
    await load([1, 2, 3])
    clock.advance(6)
    await load([1, 2, 3])
    assert source.calls == [[1], [2, 3], [1, 3]]


async def test_stale_results_are_refreshed_together(cache: FastCache, clock: ManualClock, source: Loader) -> None:
    """Keys that are refreshed behind a caller are one call too."""

    @cache.memoize_many(refresh_after=5)
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    await load([1, 2])
    clock.advance(6)
    assert await load([1, 2]) == {1: 1, 2: 4}
    await settle()
    assert source.calls == [[1, 2], [1, 2]]


async def test_cache_methods_are_about_one_key(cache: FastCache, source: Loader) -> None:
    """What a memoized function has, a function over many keys has for each of them."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    assert await load.cache_get(1) is None
    assert await load.cache_set(100, 1) is True
    assert await load([1, 2]) == {1: 100, 2: 4}
    assert await load.cache_contains(2) is True
    assert await load.cache_invalidate(1) is True
    assert await load.cache_refresh(2) == 4
    assert await load([1]) == {1: 1}
    await load.cache_clear()
    assert await load.cache_contains(2) is False
    assert load.cache_key(1) != load.cache_key(2)
    assert source.calls == [[2], [2], [1]]


async def test_switches(cache: FastCache, source: Loader) -> None:
    """Disabled, a call reads and stores nothing; recompute computes every key anew."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    with disabled():
        assert await load([1, 2]) == {1: 1, 2: 4}
        assert await load.one(1) == 1
    assert await load([1]) == {1: 1}
    with recompute():
        assert await load([1, 2]) == {1: 1, 2: 4}
    assert source.calls == [[1, 2], [1], [1], [1, 2]]


@pytest.mark.parametrize("off", [disabled, partial(config.override, disable=True)], ids=["here", "everywhere"])
async def test_switched_off_the_batches_are_the_same(
    cache: FastCache, source: Loader, off: Callable[[], AbstractContextManager[object]]
) -> None:
    """Without the cache too, no call gets more than max_batch keys, and an error reaches who waits for its batch."""

    @cache.memoize_many(max_batch=2)
    async def load(keys: list[int]) -> dict[int, int]:
        loaded = await source(keys)
        if 13 in keys:
            raise ValueError(keys)
        return loaded

    with off():
        assert await load([1, 2, -1, 2, 3]) == {1: 1, 2: 4, 3: 9}
        assert source.calls == [[1, 2], [-1, 3]]
        assert await load([]) == {}
        with pytest.raises(ValueError, match="13"):
            await load([4, 5, 13])
    assert load.cache_info().bypassed == 2
    assert await load([1]) == {1: 1}


async def test_switched_off_equal_keys_are_kept_apart(cache: FastCache) -> None:
    """Without the cache too, keys that are equal and not the same never get into one call, and the same key is one."""
    calls: list[list[Any]] = []
    unknown = object()

    @cache.memoize_many
    async def load(keys: list[Any]) -> list[str]:
        calls.append(keys)
        return [repr(keys[keys.index(key)]) for key in keys]

    with disabled():
        assert await load([1, True, 1, 1.0, [1], [True], unknown]) == [
            *("1", "True", "1", "1.0", "[1]", "[True]", repr(unknown))
        ]
    assert sorted(map(repr, calls)) == sorted(map(repr, ([1, [1], unknown], [True, [True]], [1.0])))


async def test_read_only_stores_nothing(cache: FastCache, source: Loader) -> None:
    """Inside read_only() what is stored is served, and what is computed is stored by neither form of a call."""

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    await load([1])
    with read_only():
        assert await load([1, 2]) == {1: 1, 2: 4}
        assert await load.one(2) == 4
    assert source.calls == [[1], [2], [2]]
    assert (await load.cache_contains(1), await load.cache_contains(2)) == (True, False)


async def test_other_options_for_one_call(cache: FastCache, clock: ManualClock, source: Loader) -> None:
    """cache_with() changes how keys are kept in one call; keys, entries and calls under way are the same."""

    @cache.memoize_many(ttl=100, window=1)
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    brief = load.cache_with(ttl=5)
    both = asyncio.gather(brief([1, 2]), load([3]), brief.one(4))
    await settle()
    clock.advance(1)
    assert await both == [{1: 1, 2: 4}, {3: 9}, 16]
    assert [sorted(call) for call in source.calls] == [[1, 2, 3, 4]]
    assert brief.cache_key(1) == load.cache_key(1)
    clock.advance(5)
    assert [await load.cache_contains(key) for key in (1, 2, 3, 4)] == [False, False, True, False]
    assert await brief.cache_set(0, 7)
    assert await brief.cache_with(idle=1).cache_set(0, 8)
    clock.advance(1)
    assert (await load.cache_contains(7), await brief.cache_with(idle=1).cache_contains(8)) == (True, False)
    for refused in ({"window": 1}, {"ttl": -1}, {"tags": "t"}):
        with pytest.raises(ConfigurationError, match=next(iter(refused))):
            load.cache_with(**refused)


async def test_flights_are_of_a_process(tmp_path: Path, source: Loader) -> None:
    """Where a disk tier would offer one flight for each host, many keys and streams do not take it, for no call."""
    async with FastCache(DiskTier(tmp_path)) as cache:

        @cache.memoize_many
        async def load(keys: list[int]) -> dict[int, int]:
            return await source(keys)

        @cache.memoize
        async def stream() -> AsyncGenerator[int, None]:
            yield 1

        for change in (load.cache_with, stream.cache_with):
            with pytest.raises(ConfigurationError, match="flight"):
                change(flight="host")
        assert await load.cache_with(flight="process")([1]) == {1: 1}


async def test_each_is_looked_for_by_his_own_options(tmp_path: Path, source: Loader) -> None:
    """Callers with different codecs that look into a tier in the same moment each find what they have stored."""
    disk = DiskTier(tmp_path)
    disk._shelf.read_warm = lambda key: None  # type: ignore[method-assign]  # as where the kernel cannot be asked
    async with FastCache(disk) as cache:

        @cache.memoize_many
        async def load(keys: list[int]) -> dict[int, int]:
            return await source(keys)

        as_json = load.cache_with(codec="json")
        for _ in range(2):
            loaded = list(await asyncio.gather(load.one(1), as_json.one(2), load.one(3)))
            assert loaded == [1, 4, 9]
        # In how many calls is for the threads to say, which come back when they come back.
        assert sorted(key for call in source.calls for key in call) == [1, 2, 3]


async def test_limits_of_time_are_about_each_caller(cache: FastCache, clock: ManualClock, source: Loader) -> None:
    """A caller who times out leaves the call to others, or to the background, where it is stored."""

    @cache.memoize_many(ttl=100, timeout=5, finish_in_background=True)
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    source.close()
    patient, hasty = asyncio.create_task(load.cache_with(timeout=50)([1, 2])), asyncio.create_task(load([2, 3]))
    await settle()
    clock.advance(6)
    with pytest.raises(ComputeTimeoutError):
        await hasty
    source.gate.open()
    assert await patient == {1: 1, 2: 4}
    await settle()
    assert await load([1, 2, 3]) == {1: 1, 2: 4, 3: 9}
    assert source.calls == [[1, 2, 3]]


async def test_stale_results_stand_in_for_a_failing_call(cache: FastCache, clock: ManualClock, source: Loader) -> None:
    """With ``stale_on_error=`` a key that had a result keeps it; one that had none fails."""
    fails = False

    @cache.memoize_many(ttl=10, stale_on_error=100)
    async def load(keys: list[int]) -> dict[int, int]:
        if fails:
            raise OSError
        return await source(keys)

    await load([1, 2])
    clock.advance(11)
    fails = True
    assert await load([1, 2]) == {1: 1, 2: 4}
    with pytest.raises(OSError, match=r"^$"):
        await load([2, 3])


async def test_plain_threads_and_loops_at_once(tmp_path: Path) -> None:
    """Each key is computed once for all threads, with a loop or without, and the limit holds over all of them."""
    running, most, asked = 0, 0, list[int]()
    mutex = threading.Lock()

    async with FastCache(MemoryTier(), DiskTier(tmp_path)) as cache:

        @cache.memoize_many(max_batch=7, max_concurrency=2)
        def load(keys: list[int]) -> dict[int, int]:
            nonlocal running, most
            with mutex:
                running += 1
                most = max(most, running)
                asked.extend(keys)
            found = {key: -key for key in keys}
            with mutex:
                running -= 1
            return found

        def in_other_loop() -> dict[int, int]:
            return asyncio.run(load.aio(range(40)))

        def in_no_loop() -> dict[int, int]:
            return load(range(40))

        threads = [asyncio.to_thread(run) for run in (in_other_loop, in_no_loop) * 2]
        assert await asyncio.gather(load.aio(range(40)), *threads) == [{key: -key for key in range(40)}] * 5
        assert sorted(asked) == list(range(40))
        assert most <= 2


async def test_as_a_whole_and_by_key_are_two_key_spaces(cache: FastCache) -> None:
    """A function memoized as a whole does not meet its own results by key."""

    async def load(keys: tuple[int, ...] | list[object]) -> dict[object, int]:
        return dict.fromkeys(keys, 1)

    whole, by_key = cache.memoize(load), cache.memoize_many(load)
    assert await whole((1, 2)) == {1: 1, 2: 1}
    assert await by_key.one((1, 2)) == 1


async def test_a_broken_tier_costs_time_only(source: Loader) -> None:
    """A tier that fails is a miss for each key."""
    faulty = FaultyTier(MemoryTier())
    cache = FastCache(faulty)

    @cache.memoize_many
    async def load(keys: list[int]) -> dict[int, int]:
        return await source(keys)

    faulty.fail()
    assert await load([1, 2]) == {1: 1, 2: 4}
    faulty.heal()
    assert await load([1, 2]) == {1: 1, 2: 4}
    assert source.calls == [[1, 2], [1, 2]]


def test_what_cannot_be_is_refused_at_decoration(cache: FastCache) -> None:
    """Options that make no sense, and functions that take something else, are named errors."""

    async def load(keys: list[int]) -> dict[int, int]:
        return {}

    async def two(keys: list[int], more: int) -> dict[int, int]:
        return {}

    refused: tuple[dict[str, Any], ...] = (
        *({"max_batch": 0}, {"max_batch": True}, {"window": -1}),
        *({"flight": "host"}, {"no_option": 1}, {"max_concurrency": 0}),
        *({"as_list": "no"}, {"as_list": 1}, {"window": float("inf")}),
    )
    for options in refused:
        with pytest.raises(ConfigurationError):
            cache.memoize_many(**options)(load)
    function: Any = two
    with pytest.raises(ConfigurationError, match="one argument"):
        cache.memoize_many(function)


@pytest.mark.parametrize(
    "options",
    [{"ignore": "ids"}, {"ignore": ("limit", "ids")}, {"key": "all"}, {"key": "{limit}"}, {"key": "{db}"}],
    ids=str,
)
def test_one_result_for_all_keys_is_refused(cache: FastCache, options: dict[str, Any]) -> None:
    """Options that leave the list out of the key, whatever else the function takes or has bound, are named errors."""

    async def load(db: str, ids: list[int], limit: int = 1) -> dict[int, int]:
        return {}

    (option,) = options
    with pytest.raises(ConfigurationError, match=f"^{option}: .*load: without its list"):
        cache.memoize_many(**options)(partial(load, "db"))


@pytest.mark.parametrize(
    "options",
    [{"ignore": "limit"}, {"key": "{ids}:{limit}"}, {"key": "{ids.real}"}, {"key": second}],
    ids=["ignore", "template", "attribute", "callable"],
)
async def test_options_that_leave_the_list_in_the_key_are_taken(cache: FastCache, options: dict[str, Any]) -> None:
    """Each key has a result of its own where an option is about other parameters, or about a part of the list's items."""

    async def load(db: str, ids: list[int], limit: int = 1) -> dict[int, int]:
        return {key: key * limit for key in ids}

    assert await cache.memoize_many(**options)(partial(load, "db"))([1, 2]) == {1: 1, 2: 2}


async def test_keys_that_key_takes_for_one_have_the_result_of_the_first(cache: FastCache) -> None:
    """A callable key= says what is the same, within one call as between calls: the first that is asked for is computed."""
    calls: list[list[str]] = []

    @cache.memoize_many(key=str.lower)
    async def load(names: list[str]) -> dict[str, str]:
        calls.append(names)
        return {name: f"<{name}>" for name in names}

    assert await load(["A", "b", "a"]) == {"A": "<A>", "b": "<b>", "a": "<A>"}
    assert await load(["a", "B"]) == {"a": "<A>", "B": "<b>"}
    assert calls == [["A", "b"]]


def test_generators_are_refused(cache: FastCache) -> None:
    """A function that yields does not say for which key: a dict or a list does."""

    async def several(keys: list[int]) -> AsyncGenerator[int, None]:
        yield 1

    def plain(keys: list[int]) -> Generator[int]:
        yield 1

    for function in (several, plain):
        wrong: Any = function
        with pytest.raises(UserError, match="generator function"):
            cache.memoize_many(wrong)


async def test_objects_that_are_called(cache: FastCache, source: Loader) -> None:
    """An object with an async ``__call__`` is a coroutine function; a plain one that returns a coroutine is told so."""

    class Source:
        def __cache_key__(self) -> str:
            return "source"

        async def __call__(self, keys: list[int]) -> dict[int, int]:
            return await source(keys)

    load = cache.memoize_many(Source())
    assert await load([1, 2]) == {1: 1, 2: 4}

    def lazy(keys: list[int]) -> Any:
        return source(keys)

    wrong: Any = cache.memoize_many(lazy)
    with pytest.raises(CustomResultEncoderRequiredError, match="coroutine"):
        await wrong.aio([1])
    gc.collect()  # it was closed, or it would warn now


async def test_a_key_that_cannot_be_one_is_refused(cache: FastCache) -> None:
    """A key without a stable encoding is the caller's error, before anything is called."""

    @cache.memoize_many
    async def load(keys: list[object]) -> dict[object, int]:
        return {}

    with pytest.raises(CustomParamsEncoderRequiredError):
        await load([object()])


async def test_workers_agree_on_each_key(tmp_path: Path) -> None:
    """In a deterministic cache the first stored result of each key is everybody's."""
    gate, other = Gate(), {1: "other", 2: "other"}

    def define(cache: DeterministicCache, results: dict[int, str], gate: Gate | None) -> Any:
        @cache.memoize_many(version=1, key="{keys}")
        async def load(keys: list[int]) -> dict[int, str]:
            if gate is not None:
                await gate.wait()
            return {key: results[key] for key in keys}

        return load

    async with (
        DeterministicCache(MemoryTier(), DiskTier(tmp_path), dump_on_close=False) as mine,
        DeterministicCache(MemoryTier(), DiskTier(tmp_path), dump_on_close=False) as theirs,
    ):
        slow = asyncio.create_task(define(mine, {1: "mine", 2: "mine"}, gate)([1, 2]))
        await settle()
        assert await define(theirs, other, None)([1]) == {1: "other"}
        gate.open()
        assert await slow == {1: "other", 2: "mine"}


# --- max_concurrency ----------------------------------------------------------------------------------------------


async def test_max_concurrency_limits_calls_of_the_function(cache: FastCache) -> None:
    """Keys wait for a call together; calls wait for each other."""
    running, most = 0, 0

    @cache.memoize_many(max_batch=2, max_concurrency=2)
    async def load(keys: list[int]) -> dict[int, int]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await settle()
        running -= 1
        return {key: key for key in keys}

    assert len(await load(range(12))) == 12
    assert most == 2


# --- values under keys of one's own -------------------------------------------------------------------------------


async def test_get_many_and_set_many(cache: FastCache, clock: ManualClock) -> None:
    """Values under keys of one's own come and go together, and are those of ``get_or_set``."""
    assert await cache.set_many({"a": 1, "b": None}, ttl=10) == 2
    assert {key: hit.value for key, hit in (await cache.get_many(["b", "a", "c"])).items()} == {"b": None, "a": 1}
    assert await cache.get_or_set("a", lambda: 2) == 1
    clock.advance(10)
    assert await cache.get_many(["a"]) == {}
    assert await cache.get_many([]) == {}
    assert await cache.set_many({}) == 0


async def test_set_many_goes_before_what_is_computed_now(cache: FastCache) -> None:
    """A value that is computed while others are set is not stored over them."""
    gate = Gate()

    async def factory() -> str:
        await gate.wait()
        return "old"

    computing = asyncio.create_task(cache.get_or_set("a", factory))
    await settle()
    await cache.set_many({"a": "new"})
    gate.open()
    assert await computing == "old"
    assert (await cache.get_many(["a"]))["a"].value == "new"


async def test_set_many_stores_what_can_be_stored(tmp_path: Path) -> None:
    """A value that cannot be encoded is an error, once the others are stored; no tier holds it."""
    async with FastCache(MemoryTier(), DiskTier(tmp_path)) as cache:
        with pytest.raises(ValueEncodingError):
            await cache.set_many({"a": 1, "bad": lambda: 0, "b": 2})
        assert sorted(await cache.get_many(["a", "bad", "b"])) == ["a", "b"]


async def test_set_many_of_workers_who_agree_stores_what_can_be_stored(tmp_path: Path) -> None:
    """In a deterministic cache too, the first value that cannot be encoded is an error when the others are stored."""
    async with DeterministicCache(MemoryTier(), DiskTier(tmp_path), dump_on_close=False) as cache:
        with pytest.raises(CustomResultEncoderRequiredError):
            await cache.set_many({"a": 1, "bad": lambda: 0, "b": 2})
        assert await cache.set_many({"a": 3, "c": 4}) == 1
        assert {key: hit.value for key, hit in (await cache.get_many("abc")).items()} == {"a": 1, "b": 2, "c": 4}


async def test_get_many_under_switches(cache: FastCache) -> None:
    """Disabled, nothing is read or stored."""
    await cache.set_many({"a": 1})
    with disabled():
        assert await cache.get_many(["a"]) == {}
        assert await cache.set_many({"b": 1}) == 0
    assert list(await cache.get_many(["a", "b"])) == ["a"]


def test_sync_cache_has_them_too() -> None:
    """Plain threads get and set many as tasks do."""
    cache = SyncCache(FastCache())
    assert cache.set_many({"a": 1, "b": 2}) == 2
    assert sorted(cache.get_many(["a", "b", "c"])) == ["a", "b"]
