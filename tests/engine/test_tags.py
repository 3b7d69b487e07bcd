"""Invalidated groups against time: flights under way, other caches on one disk, clocks that jump, disks that fail."""

from __future__ import annotations

import asyncio
import errno
import random
import shutil
import stat
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from acache import DiskTier, FastCache, MemoryTier, TierEvent
from acache.files import LATEST, FileSystem, Shelf, StampFiles
from acache.testing import Gate, ManualClock
from acache.testing.files import FaultyFileSystem
from acache.tiers.stamps import LIFETIME, SharedStamps, Stamps, stamp_names
from tests.rest import come_to_rest

NAMESPACE = "0123abcd"

Make = Callable[..., FastCache]


@pytest.fixture
def clock() -> ManualClock:
    """Time that moves when a test says so."""
    return ManualClock()


@pytest.fixture
async def make(tmp_path: Path, clock: ManualClock) -> AsyncGenerator[Make]:
    """Make caches on one directory that know nothing else of each other, as processes do."""
    made: list[FastCache] = []

    def make(files: FileSystem | None = None, **options: Any) -> FastCache:
        tiers = MemoryTier(clock=clock), DiskTier(tmp_path / "cache", clock=clock, files=files)
        made.append(FastCache(*tiers, **options))
        return made[-1]

    yield make
    for cache in made:
        await cache.aclose()


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, make: Make, clock: ManualClock) -> FastCache:
    """Make a cache in memory, and one that has a disk too."""
    return make() if request.param == "disk" else FastCache(MemoryTier(clock=clock))


class Slow:
    """A function that runs until it is told to end, and notes its runs."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.gates: list[Gate] = []
        self.source = "old"

    def __cache_key__(self) -> str:
        return "slow"

    async def __call__(self, n: int) -> str:
        answer, gate = self.source, Gate(f"run {len(self.runs)}")
        self.runs.append(n)
        self.gates.append(gate)
        await gate.wait()
        return answer

    def memoized(self, cache: FastCache, **options: Any) -> Callable[[int], Any]:
        async def f(n: int) -> str:
            return await self(n)

        return cache.memoize(**options)(f)

    async def begun(self, number: int) -> None:
        """Wait until so many runs have begun."""
        while len(self.runs) < number:
            await asyncio.sleep(0)


def stamps_in(directory: Path) -> dict[str, int]:
    """Return the numbers in the files of a cache directory."""
    folder = directory / "cache" / ".tags"
    return {path.name: int(path.read_text()) for path in folder.iterdir()} if folder.exists() else {}


def nobody(operation: str, error: OSError) -> None:
    """Hear of files that cannot be used."""


def of_result(result: str, n: int) -> str:
    """Name a group that is known when the result is."""
    return "t"


# --- flights (A17) ------------------------------------------------------------------------------------------------


async def test_a17_a_flight_of_before_is_not_joined_and_stores_nothing(cache: FastCache) -> None:
    """Who asked before gets what was begun before; who asks after waits for a run of after, and that is what is kept."""
    slow = Slow()
    f = slow.memoized(cache, tags=("t", "n:{n}"), flight="process")
    before = [asyncio.create_task(f(1)) for _ in range(3)]
    await slow.begun(1)
    slow.source = "new"
    await cache.invalidate_tags("n:1")
    after = [asyncio.create_task(f(1)) for _ in range(3)]
    await slow.begun(2)
    slow.gates[1].open()
    assert await asyncio.gather(*after) == ["new"] * 3
    slow.gates[0].open()
    assert await asyncio.gather(*before) == ["old"] * 3
    assert await f(1) == "new"
    assert slow.runs == [1, 1]


async def test_a17_a_late_flight_alone_stores_nothing(cache: FastCache) -> None:
    """Also if nobody asks meanwhile, the next caller computes."""
    slow = Slow()
    f = slow.memoized(cache, tags="t")
    task = asyncio.create_task(f(1))
    await slow.begun(1)
    await cache.invalidate_tags("t")
    slow.gates[0].open()
    assert await task == "old"
    slow.source = "new"
    again = asyncio.create_task(f(1))
    await slow.begun(2)
    slow.gates[1].open()
    assert await again == "new"


async def test_a17_tags_of_results_are_joined_and_not_stored(cache: FastCache) -> None:
    """A flight whose tags nobody knows yet is joined after an invalidation; what it comes to is not stored."""
    slow = Slow()
    f = slow.memoized(cache, tags=of_result)
    before = asyncio.create_task(f(1))
    await slow.begun(1)
    await cache.invalidate_tags("t")
    after = asyncio.create_task(f(1))
    while [flight.waiters for flight in cache._engine.flights] != [2]:
        await asyncio.sleep(0)
    slow.gates[0].open()
    assert [await before, await after] == ["old", "old"]
    slow.source = "new"
    again = asyncio.create_task(f(1))
    await slow.begun(2)
    slow.gates[1].open()
    assert await again == "new"


async def test_flights_of_other_groups_go_on(cache: FastCache) -> None:
    """An invalidation of one tag neither splits nor spoils the flights that do not have it."""
    slow = Slow()
    f = slow.memoized(cache, tags="n:{n}")
    first = asyncio.create_task(f(1))
    await slow.begun(1)
    await cache.invalidate_tags("n:2", "t")
    second = asyncio.create_task(f(1))
    await come_to_rest()
    slow.gates[0].open()
    assert [await first, await second] == ["old", "old"]
    assert await f(1) == "old"
    assert slow.runs == [1]


async def test_many_callers_after_an_invalidation_share_one_run(cache: FastCache) -> None:
    """There is no stampede: those who come at once after it join one flight."""
    slow = Slow()
    f = slow.memoized(cache, tags="t")
    for number in range(3):
        tasks = [asyncio.create_task(f(1)) for _ in range(50)]
        await slow.begun(number + 1)
        await come_to_rest()
        slow.gates[number].open()
        assert await asyncio.gather(*tasks) == ["old"] * 50
        await cache.invalidate_tags("t")
    assert slow.runs == [1, 1, 1]


async def test_a_refresh_behind_the_caller_is_late_too(cache: FastCache, clock: ManualClock) -> None:
    """What is refreshed when its group is invalidated is not stored either."""
    slow = Slow()
    f = slow.memoized(cache, tags="t", ttl=100, refresh_after=10)
    task = asyncio.create_task(f(1))
    await slow.begun(1)
    slow.gates[0].open()
    await task
    clock.advance(11)
    assert await f(1) == "old"
    await slow.begun(2)
    await cache.invalidate_tags("t")
    slow.gates[1].open()
    slow.source = "new"
    again = asyncio.create_task(f(1))
    await slow.begun(3)
    slow.gates[2].open()
    assert await again == "new"
    assert await f(1) == "new"


async def test_a_flight_that_has_yet_to_compute_is_joined(make: Make) -> None:
    """What counts is when the computing began: a flight that waited for another process meanwhile is as good as a new one."""
    here, there = make(), make()
    slow = Slow()
    mine, its = slow.memoized(here, tags="t"), slow.memoized(there, tags="t")
    other = asyncio.create_task(its(1))
    await slow.begun(1)
    before = asyncio.create_task(mine(1))
    await come_to_rest()
    await here.invalidate_tags("t")
    slow.source = "new"
    slow.gates[0].open()
    await slow.begun(2)
    after = asyncio.create_task(mine(1))
    await come_to_rest()
    slow.gates[1].open()
    assert [await other, await before, await after] == ["old", "new", "new"]
    assert slow.runs == [1, 1]


# --- clocks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [0.0, -3600.0, 3600.0])
async def test_no_moment_and_no_clock_matters(cache: FastCache, clock: ManualClock, jump: float) -> None:
    """What is stored, invalidated and stored anew within one moment, or across a jump of the clock, is told apart."""
    runs: list[int] = []

    @cache.memoize(tags="t")
    async def f(n: int) -> int:
        runs.append(n)
        return n

    for count in range(1, 5):
        await f(1)
        await f(1)
        assert len(runs) == count
        clock.jump_wall(jump)
        await cache.invalidate_tags("t")


# --- caches on one disk -------------------------------------------------------------------------------------------


async def test_others_hear_within_a_second(make: Make, clock: ManualClock) -> None:
    """What another cache has in memory, on the hot path too, is served for less than a second after an invalidation."""
    here, there = make(), make()
    runs: list[str] = []

    async def f(n: int) -> int:
        runs.append("run")
        return n

    mine, its = here.memoize(tags="t")(f), there.memoize(tags="t")(f)
    for _ in range(3):
        await mine(1)
        await its(1)
    assert runs == ["run"]
    await here.invalidate_tags("t")
    clock.advance(LIFETIME * 0.99)
    await its(1)
    assert runs == ["run"]
    clock.advance(LIFETIME * 0.01)
    await its(1)
    assert runs == ["run"] * 2
    await mine(1)
    assert runs == ["run"] * 2


async def test_the_next_read_of_the_disk_knows_at_once(make: Make) -> None:
    """What is not in memory is read from the disk, and then every invalidation before counts; so is what another one is told of it."""
    here, there = make(), make()

    async def f(n: int) -> int:
        return n

    mine, its = here.memoize(tags="t")(f), there.memoize(tags="t")(f)
    await mine(1)
    await mine(2)
    assert await its.cache_get(1) is not None
    await here.invalidate_tags("t")
    assert await its.cache_get(2) is None
    assert await its.cache_get(1) is None  # the same look tells of all


async def test_who_began_before_elsewhere_is_late_everywhere(make: Make) -> None:
    """A computation of another cache that began before stores nothing that anybody is served, whatever was heard there."""
    here, there = make(), make()
    slow = Slow()
    mine, its = slow.memoized(here, tags="t"), slow.memoized(there, tags="t", flight="process")
    task = asyncio.create_task(its(1))
    await slow.begun(1)
    await here.invalidate_tags("t")
    slow.gates[0].open()
    assert await task == "old"
    slow.source = "new"
    for number, f in enumerate((mine, its), 2):
        task = asyncio.create_task(f(1))
        await come_to_rest()
        if number == 2:
            await slow.begun(number)
            slow.gates[1].open()
        assert await task == "new"
    assert slow.runs == [1, 1]


async def test_joining_looks_again_after_a_second(make: Make, clock: ManualClock) -> None:
    """A flight of before an invalidation by another cache is joined for less than a second."""
    here, there = make(), make()
    slow = Slow()
    its = slow.memoized(there, tags="t", flight="process")
    first = asyncio.create_task(its(1))
    await slow.begun(1)
    await here.invalidate_tags("t")
    clock.advance(LIFETIME)
    slow.source = "new"
    second = asyncio.create_task(its(1))
    await slow.begun(2)
    for gate in slow.gates:
        gate.open()
    assert [await first, await second] == ["old", "new"]


async def test_a_result_that_nobody_may_have_does_not_stand_in_the_way(make: Make) -> None:
    """An insert replaces an entry of an invalidated group, in memory and on disk, and one that lives it does not."""
    here, there = make(), make()

    async def f(n: int) -> int:
        return n

    mine, its = here.memoize(tags="t")(f), there.memoize(tags="t")(f)
    await mine(1)
    await its(1)
    assert not await here.insert(mine, ((1,), {}), 5)
    await here.invalidate_tags("t")
    assert await here.insert(mine, ((1,), {}), 5)
    assert not await there.insert(its, ((1,), {}), 6)
    assert [await mine(1), (await mine.cache_get(1)).value] == [5, 5]  # type: ignore[union-attr]


async def test_two_that_invalidate_at_once_both_count(make: Make) -> None:
    """Numbers are given out one by one: no invalidation is lost to another, from however many caches and tasks."""
    caches = [make() for _ in range(4)]
    functions: list[Any] = []
    for cache in caches:

        async def f(n: int) -> int:
            return n

        functions.append(cache.memoize(tags="n:{n}")(f))
    for n in range(40):
        await functions[n % 4](n)
    await asyncio.gather(*(caches[(n + 1) % 4].invalidate_tags(f"n:{n}") for n in range(40)))
    looks = [await functions[(n + 2) % 4].cache_contains(n) for n in range(40)]
    assert looks == [False] * 40


class World:
    """Three caches on one disk, a source of results that changes, and who must know of which change by when."""

    def __init__(self, make: Make, clock: ManualClock) -> None:
        self.clock = clock
        self.caches = [make() for _ in range(3)]
        self.version = dict.fromkeys(range(4), 0)
        self.told: dict[tuple[int, int], list[tuple[float, int]]] = {}
        self.functions = [cache.memoize(tags=("all", "n:{n}"), version=1)(self.source()) for cache in self.caches]
        self.served = 0

    def source(self) -> Callable[[int], Any]:
        async def f(n: int) -> int:
            return self.version[n]

        f.__qualname__ = "source"
        return f

    async def invalidate(self, who: int, tag: str, *numbers: int) -> None:
        """Change the results of some numbers, and tell one of the caches."""
        for n in numbers:
            self.version[n] += 1
        await self.caches[who].invalidate_tags(tag)
        for n in numbers:
            for other in range(3):
                since = self.clock.monotonic() + (0.0 if other == who else LIFETIME)
                self.told.setdefault((other, n), []).append((since, self.version[n]))

    async def call(self, who: int, n: int) -> None:
        """Ask one of the caches, and compare."""
        now = self.clock.monotonic()
        least = max([version for since, version in self.told.get((who, n), []) if since <= now], default=0)
        assert least <= await self.functions[who](n) <= self.version[n]
        self.served += 1


async def test_whatever_happens_nobody_is_served_what_is_gone(make: Make, clock: ManualClock) -> None:
    """Three caches on one disk do as they like: a result is never older than an invalidation a second ago, or here."""
    rng, world = random.Random(4), World(make, clock)
    for _ in range(1500):
        who, n, chance = rng.randrange(3), rng.randrange(4), rng.random()
        if chance < 0.05:
            await world.invalidate(who, f"n:{n}", n)
        elif chance < 0.06:
            await world.invalidate(who, "all", 0, 1, 2, 3)
        elif chance < 0.07:
            await world.caches[who].clear()
        elif chance < 0.3:
            clock.advance(rng.choice((0.1, 0.4)))
        else:
            await world.call(who, n)
    assert world.served > 800


# --- what is on the disk ------------------------------------------------------------------------------------------


async def test_files_are_private_and_name_nobody(make: Make, tmp_path: Path) -> None:
    """Stamps are files that only this user can read, by names that are digests."""
    cache = make(namespace="app")
    await cache.invalidate_tags("user:alice@example.org")
    folder = tmp_path / "cache" / ".tags"
    files = sorted(folder.iterdir())
    assert [len(path.name) for path in files] == [64, 6]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not any(b"alice" in path.read_bytes() for path in files)


async def test_clearing_forgets_stamps_and_not_what_they_said(make: Make, tmp_path: Path) -> None:
    """A clear removes the files of its namespace, and who began before them is late still; other namespaces keep theirs."""
    here, there, other = make(namespace="a"), make(namespace="a"), make(namespace="b")
    slow = Slow()
    its = slow.memoized(there, tags="t", flight="process")
    await other.invalidate_tags("t")
    task = asyncio.create_task(its(1))
    await slow.begun(1)
    await here.invalidate_tags("t", "u")
    assert sorted(map(len, stamps_in(tmp_path))) == [6, 64, 64, 64]
    await here.clear()
    assert sorted(map(len, stamps_in(tmp_path))) == [6, 8, 64]
    slow.gates[0].open()
    assert await task == "old"
    assert await its.cache_get(1) is None  # type: ignore[attr-defined]
    assert await slow.memoized(here, tags="t").cache_get(1) is None  # type: ignore[attr-defined]


async def test_a_directory_that_is_made_again_goes_on(make: Make, tmp_path: Path, clock: ManualClock) -> None:
    """When the directory is deleted, caches that go on with it hear of each other as before."""
    here, there = make(), make()
    for cache in (here, there):
        disk = cache.tier.tiers[-1]
        assert isinstance(disk, DiskTier)
        await disk.sweep()  # or the first write does, while the directory is being deleted
    runs: list[int] = []

    async def f(n: int) -> int:
        runs.append(n)
        return n

    mine, its = here.memoize(tags="t")(f), there.memoize(tags="t")(f)
    await mine(1)
    await here.invalidate_tags("t")
    await its(1)
    assert len(runs) == 2
    shutil.rmtree(tmp_path / "cache")
    clock.advance(LIFETIME)
    await its(1)
    assert len(runs) == 2
    await here.invalidate_tags("t")
    clock.advance(LIFETIME)
    await its(1)
    assert len(runs) == 3
    await mine(1)
    assert len(runs) == 3


@pytest.mark.parametrize("content", [b"", b"x", b"-1", b"1" * 40, b"\xff" * 10])
@pytest.mark.parametrize("which", ["stamp", LATEST])
async def test_a_damaged_file_is_no_licence(
    make: Make, tmp_path: Path, clock: ManualClock, which: str, content: bytes
) -> None:
    """What is damaged counts as just invalidated, and is mended: nothing is served by it, and all can be stored again."""
    here = make()
    runs: list[int] = []

    async def f(n: int) -> int:
        runs.append(n)
        return n

    await here.invalidate_tags("t")
    await here.memoize(tags="t")(f)(1)
    (path,) = (path for path in (tmp_path / "cache" / ".tags").iterdir() if (path.name == LATEST) is (which == LATEST))
    path.write_bytes(content)
    clock.advance(5)
    for _ in range(3):
        await make().memoize(tags="t")(f)(1)
    assert len(runs) == (2 if which == "stamp" else 1)
    await here.invalidate_tags("t")
    runs.clear()
    for _ in range(3):
        await make().memoize(tags="t")(f)(1)
    assert runs == [1]
    numbers = stamps_in(tmp_path)
    assert max(numbers.values()) == numbers[LATEST]


async def test_a_disk_that_cannot_be_written(make: Make, tmp_path: Path, clock: ManualClock) -> None:
    """It is an event; the invalidation holds here all the same, and reaches the others with the next one."""
    files = FaultyFileSystem()
    here, there = make(files), make()
    runs: list[int] = []

    async def f(n: int) -> int:
        runs.append(n)
        return n

    mine, its = here.memoize(tags="n:{n}")(f), there.memoize(tags="n:{n}")(f)
    await mine(1)
    await its(1)
    with here.events.capture() as events:
        files.fail(effect=errno.ENOSPC, only="create")
        await here.invalidate_tags("n:1")
        files.heal()
    failed = [event for event in events if isinstance(event, TierEvent) and event.outcome == "failed"]
    assert [(event.tier, event.operation, event.reason) for event in failed] == [("disk", "write", "OSError")]
    assert await mine.cache_get(1) is None
    clock.advance(LIFETIME)
    assert await its.cache_get(1) is not None
    assert await mine.cache_get(1) is None
    await here.invalidate_tags("n:2")
    clock.advance(LIFETIME)
    assert await its.cache_get(1) is None
    await its(1)
    await mine(1)
    await mine(1)
    assert runs == [1, 1]
    assert len(stamps_in(tmp_path)) == 3


async def test_a_disk_that_cannot_be_read(make: Make, clock: ManualClock) -> None:
    """What memory has is served by what was known; the failure is an event, and no caller's."""
    files = FaultyFileSystem()
    cache = make(files)

    @cache.memoize(tags="t", flight="process")
    async def f(n: int) -> int:
        return n

    await cache.invalidate_tags("u")
    await f(1)
    clock.advance(LIFETIME)
    files.fail(effect=errno.EIO, only="open")
    with cache.events.capture() as events:
        assert await f(1) == 1
    files.heal()
    assert {event.outcome for event in events if isinstance(event, TierEvent)} == {"failed", "hit"}


async def test_no_failure_leaves_a_stamp_that_is_later_than_all(tmp_path: Path, clock: ManualClock) -> None:
    """Whichever system call of an invalidation fails, results of after it can be stored, and those of before are dead here."""
    number = 0
    for number in range(200):
        files = FaultyFileSystem()
        stamps, other = (
            SharedStamps(StampFiles(Shelf(tmp_path / "cache", files=each)), clock, nobody) for each in (files, None)
        )
        born = await stamps.now()
        files.fail(number, once=True)
        await stamps.stamp(NAMESPACE, ["t", "u"])
        struck = files.struck
        files.heal()
        assert await stamps.newest(NAMESPACE, ["t"]) > born
        assert await other.newest(NAMESPACE, ["t", "u"]) <= await other.now()
        assert list((tmp_path / "cache").rglob(".tmp-*")) == []
        if not struck:
            break
    assert 10 < number < 100


# --- how many -----------------------------------------------------------------------------------------------------


async def test_too_many_become_a_floor(clock: ManualClock) -> None:
    """In memory so many stamps are kept; one more, and all that was born before is dead, whatever its tags."""
    stamps = Stamps(clock, limit=10)
    born = await stamps.now()
    for number in range(10):
        await stamps.stamp(NAMESPACE, [f"t{number}"])
    assert await stamps.newest(NAMESPACE, ["other"]) <= born
    young = await stamps.now()
    await stamps.stamp(NAMESPACE, ["one more"])
    assert await stamps.newest(NAMESPACE, ["other"]) > young
    assert await stamps.newest("89abcdef", ["t1"]) == 0
    assert await stamps.newest(NAMESPACE, ["t1"]) <= await stamps.now()


async def test_too_many_files_become_floors(tmp_path: Path, clock: ManualClock) -> None:
    """On disk too; to invalidate one tag again and again takes one file, and what others wrote is counted."""
    made = [SharedStamps(StampFiles(Shelf(tmp_path / "cache"), limit=10), clock, nobody) for _ in range(2)]
    for _ in range(30):
        await made[0].stamp(NAMESPACE, ["t"])
    assert sorted(stamps_in(tmp_path)) == sorted([LATEST, *stamp_names(NAMESPACE, ["t"])[1:]])
    for number in range(9):
        await made[number % 2].stamp("89abcdef", [f"t{number}"])
    young = await made[1].now()
    assert len(stamps_in(tmp_path)) == 11
    await made[1].stamp(NAMESPACE, ["one more"])
    assert sorted(stamps_in(tmp_path)) == sorted([LATEST, NAMESPACE, "89abcdef"])
    clock.advance(LIFETIME)
    for stamps in made:
        assert await stamps.newest("89abcdef", ["other"]) > young
        assert await stamps.newest(NAMESPACE, ["other"]) <= await stamps.now()
