"""What every tier must do, as test classes to inherit from.

They know no test framework beyond "methods named ``test_…`` are run, each with a fresh ``tmp_path``", as pytest does
with a plugin that runs ``async def``. A tier joins with one method::

    class TestMyTier(TierContract):
        def make_tier(self, tmp_path, clock):
            return MyTier(clock=clock)

Time is a :class:`~acache.testing.clock.ManualClock`: nothing sleeps.
"""

# ruff: noqa: S101, PLR2004 - a contract speaks by assert and by literals, as tests do

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from acache.events import TierEvent
from acache.exceptions import CacheError, ConfigurationError, KeyEncodingError, ValueEncodingError
from acache.keys import encode_key
from acache.locks import NON_BLOCKING
from acache.testing.clock import ManualClock
from acache.testing.steps import cancel_sweep, settle
from acache.types import Entry, Hit, Key, Written

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
    from pathlib import Path

    from acache.tiers.base import Tier

__all__ = ("EncodingTierContract", "TierContract")

E = TypeVar("E", bound=BaseException)

_VALUES: Final[tuple[object, ...]] = (
    None,
    False,
    0,
    0.0,
    "",
    b"",
    (),
    [],
    {},
    "text",
    b"\x00bytes",
    1.5,
    -(2**70),
    {"nested": [1, {"a": (2,)}]},
)
_KEYS: Final[tuple[object, ...]] = (
    *(None, 1, True, 1.0, "1", b"1", 0, False, 0.0, -0.0, "", b"", -1, 2**70),
    *((), (1,), (True,), (1.0,), ("1",), ((1,),), (1, 1), [1], {1}, {1: 1}, {"1": 1}, {1: "1"}),
)


async def _refused(kind: type[E], call: Awaitable[object]) -> E:
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


async def _keys(tier: Tier) -> list[Key]:
    return [key async for key in tier.keys()]  # noqa: SIM118 - a tier is no dict


async def _in_other_loops(work: Callable[[], Coroutine[Any, Any, Any]], loops: int = 2) -> list[Any]:
    """Run ``work()`` in this loop and, at the same time, in other loops of other threads."""
    others = [asyncio.to_thread(asyncio.run, work()) for _ in range(loops)]
    return await asyncio.gather(work(), *others)


class TierContract(ABC):
    """The behaviour of :class:`acache.tiers.base.Tier`, whatever is behind it."""

    @abstractmethod
    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return a new tier that reads ``clock`` and keeps what it stores, if anywhere, under ``tmp_path``."""

    @asynccontextmanager
    async def open_tier(self, tmp_path: Path) -> AsyncGenerator[tuple[Tier, ManualClock]]:
        """Make a tier for the length of an ``async with`` block."""
        clock = ManualClock()
        tier = self.make_tier(tmp_path, clock)
        try:
            yield tier, clock
        finally:
            await tier.aclose()

    # --- what goes in comes out -----------------------------------------------------------------------------------

    async def test_unknown_key_is_a_miss(self, tmp_path: Path) -> None:
        """A key that was never stored is a miss everywhere."""
        async with self.open_tier(tmp_path) as (tier, _):
            assert await tier.get("k") is None
            assert await tier.contains("k") is False
            assert await tier.delete("k") is False
            assert await tier.get_many(["k"]) == {}
            assert await _keys(tier) == []

    async def test_every_value_is_a_hit(self, tmp_path: Path) -> None:
        """A stored value comes back equal and of its type; ``None`` and other false values are hits."""
        async with self.open_tier(tmp_path) as (tier, _):
            for number, value in enumerate(_VALUES):
                assert await tier.set(number, value) is True
                hit = await tier.get(number)
                assert hit == Hit(value)
                assert hit is not None
                assert type(hit.value) is type(value)
                assert await tier.contains(number) is True

    async def test_large_value(self, tmp_path: Path) -> None:
        """A value of 2 MiB is a value like any other."""
        value = bytes(range(256)) * 8192
        async with self.open_tier(tmp_path) as (tier, _):
            assert await tier.set("big", value)
            assert await tier.get("big") == Hit(value)

    async def test_insert_only_if_absent(self, tmp_path: Path) -> None:
        """An insert stores once; a second one says so and changes nothing."""
        async with self.open_tier(tmp_path) as (tier, _):
            assert await tier.insert("k", None) is True
            assert await tier.insert("k", "second") is False
            assert await tier.get("k") == Hit(None)

    async def test_set_replaces(self, tmp_path: Path) -> None:
        """A set stores whatever was there."""
        async with self.open_tier(tmp_path) as (tier, _):
            assert await tier.insert("k", 1) is True
            assert await tier.set("k", 2) is True
            assert await tier.get("k") == Hit(2)

    async def test_delete(self, tmp_path: Path) -> None:
        """A delete says whether there was something, and makes room for an insert."""
        async with self.open_tier(tmp_path) as (tier, _):
            await tier.set("k", None)
            assert await tier.delete("k") is True
            assert await tier.get("k") is None
            assert await tier.delete("k") is False
            assert await tier.insert("k", 2) is True

    async def test_many(self, tmp_path: Path) -> None:
        """The many-forms do what the single forms do, and count."""
        async with self.open_tier(tmp_path) as (tier, clock):
            assert await tier.set_many({"a": 1, "b": None, 3: "c"}, ttl=10) == 3
            assert await tier.get_many(["a", "b", 3, "absent"]) == {"a": Hit(1), "b": Hit(None), 3: Hit("c")}
            assert await tier.delete_many(["a", "absent"]) == 1
            clock.advance(10)
            assert await tier.get_many(["a", "b", 3]) == {}

    # --- time -----------------------------------------------------------------------------------------------------

    async def test_ttl(self, tmp_path: Path) -> None:
        """An entry lives until its time is up, not a moment longer; then its key is absent in every way."""
        async with self.open_tier(tmp_path) as (tier, clock):
            await tier.set("set", 1, ttl=10)
            await tier.insert("inserted", 1, ttl="10s")
            clock.advance(9.5)
            assert await tier.get("set") == await tier.get("inserted") == Hit(1)
            clock.advance(0.5)
            for key in ("set", "inserted"):
                assert await tier.get(key) is None
                assert await tier.contains(key) is False

    async def test_expired_entry_is_no_obstacle(self, tmp_path: Path) -> None:
        """An insert over an expired entry stores, and the old entry's time is not the new one's."""
        async with self.open_tier(tmp_path) as (tier, clock):
            await tier.insert("k", "old", ttl=10)
            clock.advance(10)
            assert await tier.insert("k", "new") is True
            clock.advance("400d")
            assert await tier.get("k") == Hit("new")

    async def test_set_renews_the_ttl(self, tmp_path: Path) -> None:
        """A set starts the time anew; without a ttl it ends the limit."""
        async with self.open_tier(tmp_path) as (tier, clock):
            await tier.set("k", 1, ttl=10)
            clock.advance(5)
            await tier.set("k", 2, ttl=10)
            clock.advance(5)
            assert await tier.get("k") == Hit(2)
            await tier.set("k", 3)
            clock.advance("400d")
            assert await tier.get("k") == Hit(3)

    async def test_hit_tells_age_and_ttl(self, tmp_path: Path) -> None:
        """A hit says where it was found, how old it is and how long it lives on."""
        async with self.open_tier(tmp_path) as (tier, clock):
            await tier.set("k", 1, ttl=10)
            await tier.set("for ever", 1)
            clock.advance(4)
            hit, endless = await tier.get("k"), await tier.get("for ever")
            assert hit is not None
            assert endless is not None
            assert hit.tier
            assert (hit.age, hit.ttl) == (4.0, 6.0)
            assert (endless.age, endless.ttl) == (4.0, None)

    async def test_ttl_of_nothing(self, tmp_path: Path) -> None:
        """An entry with no time to live is never seen."""
        async with self.open_tier(tmp_path) as (tier, _):
            await tier.set("k", 1, ttl=0)
            assert await tier.get("k") is None
            assert await tier.insert("k", 2) is True

    async def test_negative_ttl(self, tmp_path: Path) -> None:
        """A negative ttl is an error that names the option, and stores nothing."""
        async with self.open_tier(tmp_path) as (tier, _):
            for call in (tier.set("k", 1, ttl=-1), tier.insert("k", 1, ttl=-1), tier.set_many({"k": 1}, ttl=-1)):
                assert "ttl" in str(await _refused(ConfigurationError, call))
            assert await tier.get("k") is None

    async def test_clock_that_jumps_back(self, tmp_path: Path) -> None:
        """A wall clock that is set back a day makes no entry live longer than its ttl."""
        async with self.open_tier(tmp_path) as (tier, clock):
            await tier.set("k", 1, ttl=10)
            clock.jump_wall(-86_400)
            clock.advance(10)
            assert await tier.get("k") is None
            assert await tier.insert("k", 2) is True
            assert await tier.get("k") == Hit(2)

    # --- keys -----------------------------------------------------------------------------------------------------

    async def test_keys_are_typed(self, tmp_path: Path) -> None:
        """Keys that Python calls equal but that differ in type, at any depth, are different keys."""
        async with self.open_tier(tmp_path) as (tier, _):
            for number, key in enumerate(_KEYS):
                assert await tier.insert(key, number) is True
            for number, key in enumerate(_KEYS):
                assert await tier.get(key) == Hit(number)

    async def test_keys_ignore_order_and_identity(self, tmp_path: Path) -> None:
        """A key is its content: an equal dict or set, built in another order, finds the entry; so does the digest."""
        async with self.open_tier(tmp_path) as (tier, _):
            await tier.set(({"a": 1, "b": [2]}, {3, 4}), "found")
            same = ({"b": [2], "a": 1}, {4, 3})
            assert await tier.get(same) == Hit("found")
            assert await tier.get(encode_key(same)) == Hit("found")

    async def test_unencodable_key(self, tmp_path: Path) -> None:
        """An object that has no stable encoding is refused by every operation."""
        async with self.open_tier(tmp_path) as (tier, _):
            key = object()
            for call in (tier.get(key), tier.set(key, 1), tier.insert(key, 1), tier.delete(key), tier.contains(key)):
                await _refused(KeyEncodingError, call)
            assert await _keys(tier) == []

    async def test_keys_and_clear(self, tmp_path: Path) -> None:
        """``keys`` lists the digests of what is there; ``clear`` removes all of it."""
        async with self.open_tier(tmp_path) as (tier, _):
            await tier.set_many({"a": 1, "b": 2, "c": 3})
            await tier.delete("b")
            assert sorted(await _keys(tier)) == sorted(map(encode_key, "ac"))
            await tier.clear()
            assert await _keys(tier) == []
            assert await tier.get("a") is None
            assert await tier.insert("a", 4) is True

    async def test_clear_by_prefix(self, tmp_path: Path) -> None:
        """``clear(prefix=…)`` removes the keys that begin so, and no other."""
        inside, outside = Key("ab" + "0" * 62), Key("ac" + "0" * 62)
        async with self.open_tier(tmp_path) as (tier, _):
            await tier.set_many({inside: 1, outside: 2})
            await tier.clear(prefix="ab")
            assert await tier.get(inside) is None
            assert await tier.get(outside) == Hit(2)

    # --- the entry face -------------------------------------------------------------------------------------------

    async def test_entries_keep_what_is_known(self, tmp_path: Path) -> None:
        """An entry comes back with its times, cost, tags and factors."""
        key = encode_key("k")
        async with self.open_tier(tmp_path) as (tier, clock):
            now = clock.wall()
            entry = Entry([1], now - 5, now + 60, 1.25, ("red", "blue"), {"python": "ab12"})
            assert await tier.write(key, entry, replace=False) is Written.NEW
            assert await tier.write(key, Entry([2], now), replace=False) is Written.PRESENT
            assert await tier.read(key) == entry
            assert await tier.remove(key) is True
            assert await tier.read(key) is None

    # --- the lock -------------------------------------------------------------------------------------------------

    async def test_lock_excludes(self, tmp_path: Path) -> None:
        """One holder at a time, over tasks, loops and threads."""
        inside: list[None] = []
        crowds: list[int] = []
        async with self.open_tier(tmp_path) as (tier, _):

            async def visit() -> None:
                async with tier.lock():
                    inside.append(None)
                    await settle(3)
                    crowds.append(len(inside))
                    inside.pop()

            async def visits() -> None:
                await asyncio.gather(*(visit() for _ in range(5)))

            await _in_other_loops(visits)
        assert crowds == [1] * 15

    async def test_lock_times_out(self, tmp_path: Path) -> None:
        """A lock that is held is a timeout for everybody else, its own task too, and free afterwards."""
        async with self.open_tier(tmp_path) as (tier, _):

            async def enter() -> None:
                async with tier.lock(NON_BLOCKING):
                    pass

            async with tier.lock():
                error = await _refused(TimeoutError, enter())
                assert isinstance(error, CacheError)
                await tier.set("k", 1)  # reads and writes need no lock
                assert await tier.get("k") == Hit(1)
            await enter()

    async def test_lock_is_released_by_an_error(self, tmp_path: Path) -> None:
        """A block that raises lets go of the lock."""
        async with self.open_tier(tmp_path) as (tier, _):

            async def fail() -> None:
                async with tier.lock(NON_BLOCKING):
                    raise LookupError

            await _refused(LookupError, fail())
            await _refused(LookupError, fail())

    # --- many at once ---------------------------------------------------------------------------------------------

    async def test_one_insert_wins(self, tmp_path: Path) -> None:
        """Of many inserts of one key at once exactly one stores, and everybody then reads its value."""
        async with self.open_tier(tmp_path) as (tier, _):
            stored = await asyncio.gather(*(tier.insert("k", number) for number in range(50)))
            assert stored.count(True) == 1
            assert await tier.get("k") == Hit(stored.index(True))

    async def test_loops_and_threads_share(self, tmp_path: Path) -> None:
        """Several loops in several threads use one tier: each insert wins once, and all see the same values."""
        async with self.open_tier(tmp_path) as (tier, _):

            async def work() -> tuple[int, list[Hit[Any] | None]]:
                stored = [await tier.insert(key, [key]) for key in range(20)]
                return stored.count(True), [await tier.get(key) for key in range(20)]

            results = await _in_other_loops(work)
        assert sum(wins for wins, _ in results) == 20
        assert all(seen == [Hit([key]) for key in range(20)] for _, seen in results)

    # --- cancellation ---------------------------------------------------------------------------------------------

    async def test_cancelled_write(self, tmp_path: Path) -> None:
        """A set that is cancelled, at any moment, leaves the old value or the new one, and never undoes a later set."""
        async with self.open_tier(tmp_path) as (tier, _):
            await tier.set("k", "old")
            async for _run in cancel_sweep(lambda: tier.set("k", "new")):
                assert await tier.get("k") in {Hit("old"), Hit("new")}
                assert await tier.set("k", "old") is True
                assert await tier.get("k") == Hit("old")

    async def test_cancelled_insert(self, tmp_path: Path) -> None:
        """An insert that is cancelled, at any moment, is all there or not at all."""
        async with self.open_tier(tmp_path) as (tier, _):
            async for _run in cancel_sweep(lambda: tier.insert("k", "new")):
                found = await tier.get("k")
                assert found in {None, Hit("new")}
                await tier.delete("k")
                assert await tier.insert("k", "later") is True
                assert await tier.get("k") == Hit("later")
                await tier.delete("k")

    async def test_cancelled_reads_and_removals(self, tmp_path: Path) -> None:
        """Reads, removals, scans and clears that are cancelled, at any moment, leave a tier that works."""
        async with self.open_tier(tmp_path) as (tier, _):

            async def use() -> None:
                await tier.get("k")
                await tier.delete("k")
                await tier.clear()

            async for _run in cancel_sweep(use):
                assert await tier.set("k", 1) is True
                assert await tier.get("k") == Hit(1)

    async def test_cancelled_lock(self, tmp_path: Path) -> None:
        """A lock whose acquire or block is cancelled, at any moment and twice, is free again."""
        async with self.open_tier(tmp_path) as (tier, _):

            async def hold() -> None:
                async with tier.lock():
                    await asyncio.sleep(0)

            for times in (1, 2):
                async for _run in cancel_sweep(hold, times=times):
                    async with tier.lock(10.0):
                        pass

    # --- what can be seen -----------------------------------------------------------------------------------------

    async def test_statistics(self, tmp_path: Path) -> None:
        """Hits, misses, writes and removals are counted; the snapshot does not move."""
        async with self.open_tier(tmp_path) as (tier, _):
            before = tier.statistics()
            await tier.get("k")
            await tier.set("k", 1)
            await tier.insert("k", 2)
            await tier.get("k")
            await tier.delete("k")
            await tier.delete("k")
            after = tier.statistics()
        assert (before.hits, before.misses, before.writes, before.removals) == (0, 0, 0, 0)
        assert (after.hits, after.misses, after.writes, after.removals) == (1, 1, 1, 1)
        assert (after.failures, after.rejections, after.name) == (0, 0, tier.name)

    async def test_events(self, tmp_path: Path) -> None:
        """A miss, a store and a hit are told, with the digest and never a value."""
        async with self.open_tier(tmp_path) as (tier, _):
            with tier.events.capture() as seen:
                await tier.get("a key")
                await tier.set("a key", "a value")
                await tier.get("a key")
        told = [event for event in seen if isinstance(event, TierEvent)]
        assert {event.key for event in told} == {encode_key("a key")}
        assert {"miss", "stored", "hit"} <= {event.outcome for event in told}
        assert "a value" not in repr(seen)

    # --- the end --------------------------------------------------------------------------------------------------

    async def test_close_is_idempotent(self, tmp_path: Path) -> None:
        """Closing twice is fine, and a closed tier opens again when it is used."""
        async with self.open_tier(tmp_path) as (tier, _):
            await tier.set("k", 1)
            await tier.aclose()
            await tier.aclose()
            assert await tier.set("k", 2) is True
            assert await tier.get("k") == Hit(2)


class EncodingTierContract(TierContract, ABC):
    """What a tier must do, in addition, that turns values into bytes."""

    async def test_hits_are_copies(self, tmp_path: Path) -> None:
        """A value is taken as it is at the call; what callers do to theirs changes nothing stored."""
        async with self.open_tier(tmp_path) as (tier, _):
            value = [1]
            await tier.set("k", value)
            value.append(2)
            hit = await tier.get("k")
            assert hit == Hit([1])
            assert hit is not None
            hit.value.append(3)
            assert await tier.get("k") == Hit([1])

    async def test_unencodable_value(self, tmp_path: Path) -> None:
        """A value the codec cannot encode is an error that names its type, and what was stored stays."""
        async with self.open_tier(tmp_path) as (tier, _):
            await tier.set("k", "old")
            for call in (tier.set("k", lambda: None), tier.insert("other", lambda: None)):
                assert "function" in str(await _refused(ValueEncodingError, call))
            assert await tier.get("k") == Hit("old")
            assert await tier.get("other") is None
