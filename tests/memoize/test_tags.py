"""Groups, as users meet them: what a tag is, which results have it, and what its invalidation reaches."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from acache import DeterministicCache, DiskTier, FastCache, MemoryTier, SyncCache, recompute
from acache.exceptions import ConfigurationError, ReplayMissError, UserError
from acache.keys import KeyRecipe
from acache.testing import ManualClock

Define = Callable[[Callable[..., Any]], Callable[..., Any]]
Call = Callable[..., Any]


@dataclass(frozen=True)
class User:
    """Somebody."""

    id: int
    team: str = "red"


class Counted:
    """Counts the runs of a function."""

    def __init__(self) -> None:
        self.runs: list[Any] = []

    def __cache_key__(self) -> str:
        return "counted"

    def __call__(self, value: Any) -> Any:
        self.runs.append(value)
        return value


def by_id(result: User, user: User, page: int = 0) -> list[str]:
    """Name the group of one result and page."""
    return [f"result:{result.id}:{page}"]


def by_team(result: User, *args: Any, **kwargs: Any) -> str:
    """Name one group."""
    return f"team:{result.team}"


def by_number(result: int, *args: Any, **kwargs: Any) -> tuple[str, ...]:
    """Name the group of a number."""
    return (f"r:{result}",)


@pytest.fixture
def ran() -> Counted:
    """Note what was computed."""
    return Counted()


@pytest.fixture
def define(define: Define) -> Define:
    """Make an ``async def`` of a plain body as the others do, one with the same parameters."""

    def with_signature(body: Call) -> Call:
        twin: Any = define(body)
        twin.__signature__ = inspect.signature(body)
        return twin  # type: ignore[no-any-return]

    return with_signature


# --- which results have a tag -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "hit", "spared"),
    [
        ("users", "users", "user"),
        (["users", "all"], "all", "user:1"),
        ("user:{user.id}", "user:1", "user:2"),
        ("user:{user.id}:{page}", "user:1:0", "user:1:1"),
        (("users", "team:{user.team}"), "team:red", "team:{user.team}"),
        ("{{user}}", "{user}", "{{user}}"),
        (by_id, "result:1:0", "result:1:1"),
        (by_team, "team:red", "t"),
        (("users", by_id), "result:1:0", "result:1"),
    ],
)
async def test_what_makes_a_tag(
    cache: FastCache, define: Define, call: Call, ran: Counted, tags: Any, hit: str, spared: str
) -> None:
    """A text, a template over the arguments, and what a callable says of the result and the arguments name groups."""

    @cache.memoize(tags=tags)
    @define
    def f(user: User, page: int = 0) -> Any:
        return ran(user)

    assert await call(f, User(1)) == User(1)
    await cache.invalidate_tags(spared)
    await call(f, User(1))
    assert len(ran.runs) == 1
    await cache.invalidate_tags(hit)
    await call(f, User(1))
    await call(f, User(1))
    assert len(ran.runs) == 2


async def test_an_invalidation_spares_what_has_other_tags(
    cache: FastCache, define: Define, call: Call, ran: Counted
) -> None:
    """Of the results of one function those go that have one of the tags, and no others."""

    @cache.memoize(tags=("numbers", "number:{n}"))
    @define
    def f(n: int) -> int:
        return int(ran(n))

    for n in range(4):
        await call(f, n)
    await cache.invalidate_tags("number:1", "number:2", "number:7")
    for n in range(4):
        await call(f, n)
    assert ran.runs == [0, 1, 2, 3, 1, 2]


async def test_one_tag_for_several_functions(cache: FastCache, define: Define, call: Call, ran: Counted) -> None:
    """A tag reaches across functions and get_or_set; clearing one function leaves the others and their tags alone."""

    @cache.memoize(tags="user:{n}")
    @define
    def f(n: int) -> int:
        return int(ran(n))

    @cache.memoize(tags="user:{who}")
    @define
    def g(who: int) -> int:
        return int(ran(who * 10))

    @cache.memoize
    @define
    def untagged(n: int) -> int:
        return int(ran(n * 100))

    async def everything() -> None:
        for function in (f, g, untagged):
            await call(function, 1)
        await cache.get_or_set("mine", partial(ran, 1000), tags=["user:1"])

    await everything()
    await everything()
    assert ran.runs == [1, 10, 100, 1000]
    await f.cache_clear()
    await everything()
    assert ran.runs[4:] == [1]
    await cache.invalidate_tags("user:1")
    await everything()
    assert sorted(ran.runs[5:]) == [1, 10, 1000]


async def test_methods_and_partials(cache: FastCache, ran: Counted) -> None:
    """A template sees the object of a method and what a partial has bound; a callable is given all arguments."""

    def by_repository(result: int, repository: Any, n: int) -> str:
        return f"{repository.name}:{result}"

    class Repository:
        def __init__(self, name: str) -> None:
            self.name = name

        def __cache_key__(self) -> str:
            return self.name

        @cache.memoize(tags=("repository:{self.name}", by_repository))
        async def load(self, n: int) -> int:
            return int(ran(n))

    async def scaled(scale: int, n: int) -> int:
        return int(ran(scale * n))

    bound = cache.memoize(tags="scale:{scale}", version=1)(partial(scaled, 10))
    one, two = Repository("one"), Repository("two")
    for _ in range(2):
        assert [await one.load(1), await two.load(1), await bound(2)] == [1, 1, 20]
    await cache.invalidate_tags("repository:one", "two:9", "scale:10")
    assert [await one.load(1), await two.load(1), await bound(2)] == [1, 1, 20]
    assert ran.runs == [1, 1, 20, 1, 20]
    await cache.invalidate_tags("two:1")
    assert [await one.load(1), await two.load(1)] == [1, 1]
    assert len(ran.runs) == 6


async def test_every_way_to_store_has_the_tags(cache: FastCache, ran: Counted) -> None:
    """cache_set, cache_insert, a refresh, a record and a recompute() store with tags, born when they began."""

    @cache.memoize(tags=("t", by_number))
    async def f(n: int) -> int:
        return int(ran(n))

    async def by_recompute() -> None:
        with recompute():
            await f(1)

    recorded = cache.record(tags=("t", by_number))(f)
    ways: list[Callable[[], Any]] = [
        lambda: recorded(1),
        lambda: f.cache_set(1, 1),
        lambda: cache.insert(f, ((1,), {}), 1),
        lambda: f.cache_refresh(1),
        by_recompute,
    ]
    for way in ways:
        await way()
        assert await f.cache_contains(1)
        await cache.invalidate_tags("t")
        assert not await f.cache_contains(1)
        await way()
        assert await f.cache_get(1) is not None
        await cache.invalidate_tags("r:1")
        assert await f.cache_get(1) is None


async def test_touching_does_not_revive(cache: FastCache, clock: ManualClock) -> None:
    """cache_touch gives an entry time, not a new birth: its tags still end it, and what they ended stays so."""

    @cache.memoize(tags="t", ttl=10)
    async def f(n: int) -> int:
        return n

    await f(1)
    clock.advance(5)
    assert await f.cache_touch(1)
    await cache.invalidate_tags("t")
    assert not await f.cache_touch(1)
    assert not await f.cache_contains(1)


async def test_no_stale_result_of_an_invalidated_group(cache: FastCache, clock: ManualClock) -> None:
    """What was invalidated is not served stale either, neither while it is refreshed nor when computing fails."""
    fails = False

    @cache.memoize(tags="t", ttl=1, stale_ttl=100, stale_on_error=100)
    async def f(n: int) -> int:
        if fails:
            raise ValueError
        return n

    await f(1)
    clock.advance(2)
    fails = True
    await cache.invalidate_tags("t")
    with pytest.raises(ValueError, match=r"^$"):
        await f(1)


async def test_cached_exceptions_have_the_tags_that_arguments_make(cache: FastCache) -> None:
    """An exception that is a result belongs to the groups its arguments name; callables are for results."""
    runs: list[int] = []

    @cache.memoize(tags=("n:{n}", by_number), cache_exceptions=KeyError)
    async def f(n: int) -> int:
        runs.append(n)
        raise KeyError(n)

    for _ in range(2):
        with pytest.raises(KeyError):
            await f(1)
    assert runs == [1]
    await cache.invalidate_tags("n:1")
    with pytest.raises(KeyError):
        await f(1)
    assert runs == [1, 1]


async def test_replay_and_raw_functions_hear_of_it(cache: FastCache) -> None:
    """Who reads the same results without naming tags is not served what was invalidated, on the hot path neither."""

    async def f(n: int) -> int:
        return n

    memoized, replay = cache.memoize(tags="t")(f), cache.replay(f)
    await memoized(1)
    for _ in range(3):
        assert await replay(1) == 1
    await cache.invalidate_tags("t")
    assert await cache.get(f, ((1,), {})) is None
    with pytest.raises(ReplayMissError):
        await replay(1)


# --- the hot path -------------------------------------------------------------------------------------------------


async def test_the_hot_path_knows(
    cache: FastCache, define: Define, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hits of a tagged function build no key; after an invalidation each goes the long way once, whatever its tags."""
    built: list[object] = []
    digest = KeyRecipe.digest

    def counted(self: KeyRecipe, *args: Any, **kwargs: Any) -> Any:
        built.append(args)
        return digest(self, *args, **kwargs)

    monkeypatch.setattr(KeyRecipe, "digest", counted)
    runs: list[int] = []

    @cache.memoize(tags="n:{n}")
    @define
    def f(n: int) -> int:
        runs.append(n)
        return n

    @cache.memoize
    @define
    def untagged(n: int) -> int:
        return n

    async def rounds(times: int) -> None:
        for _ in range(times):
            await call(f, 1)
            await call(f, 2)
            await call(untagged, 1)

    await rounds(5)
    assert (len(built), runs) == (3, [1, 2])
    await cache.invalidate_tags("n:1")
    await rounds(5)
    assert (len(built), runs) == (5, [1, 2, 1])  # both cells of f, and not that of the other
    assert f.cache_info().hits == 17
    assert f.cache_info().misses == 3


async def test_an_invalidation_just_before_the_hot_path_is_open(
    cache: FastCache, monkeypatch: pytest.MonkeyPatch, ran: Counted
) -> None:
    """What was invalidated when it had been found, and before later calls were led to it, is served to none of them."""

    @cache.memoize(tags="t")
    async def f(n: int) -> int:
        return int(ran(n))

    run = cache._engine.run

    async def run_and_invalidate(*args: Any) -> Any:
        value = await run(*args)
        monkeypatch.undo()
        await cache.invalidate_tags("t")
        return value

    monkeypatch.setattr(cache._engine, "run", run_and_invalidate)
    await f(1)
    await f(1)
    assert len(ran.runs) == 2


async def test_hot_hits_go_with_idle(cache: FastCache, clock: ManualClock) -> None:
    """A tagged function with idle= is kept alive by hits on the hot path, and by nothing else."""
    runs: list[int] = []

    @cache.memoize(tags="t", idle=10)
    async def f(n: int) -> int:
        runs.append(n)
        return n

    for step in (0, 4.9, 9.9):  # the first is written down, the second is not
        clock.advance(step)
        await f(1)
    assert runs == [1]
    clock.advance(10.1)
    await f(1)
    assert runs == [1, 1]


async def test_the_time_of_an_entry_still_ends_it(cache: FastCache, clock: ManualClock) -> None:
    """A ttl ends a tagged entry as it does any other, on the hot path too."""
    runs: list[int] = []

    @cache.memoize(tags="t", ttl=10)
    async def f(n: int) -> int:
        runs.append(n)
        return n

    for _ in range(3):
        await f(1)
    clock.advance(10)
    await f(1)
    assert runs == [1, 1]


# --- namespaces, caches -------------------------------------------------------------------------------------------


async def test_namespaces_keep_to_themselves(ran: Counted) -> None:
    """Caches of two namespaces share a tier: neither an invalidation nor a clear of the one reaches the other."""
    tier = MemoryTier()
    caches = [FastCache(tier, namespace=name) for name in ("a", "b")]

    async def f(n: int) -> int:
        return int(ran(n))

    first, second = (cache.memoize(tags="t")(f) for cache in caches)
    await first(1)
    await second(1)
    await caches[0].invalidate_tags("t")
    await second(1)
    assert ran.runs == [1, 1]
    await first(1)
    assert ran.runs == [1, 1, 1]
    await caches[0].clear()
    await second(1)
    assert ran.runs == [1, 1, 1]
    assert (await first.cache_get(1), await second.cache_contains(1)) == (None, True)


async def test_caches_that_share_a_tier_share_its_groups(ran: Counted) -> None:
    """Two caches of one namespace over one memory tier hear of each other."""
    tier = MemoryTier()
    one, other = FastCache(tier), FastCache(tier)

    async def f(n: int) -> int:
        return int(ran(n))

    memoized = one.memoize(tags="t")(f)
    await memoized(1)
    await memoized(1)
    await other.invalidate_tags("t")
    await memoized(1)
    assert ran.runs == [1, 1]


def test_from_a_plain_thread() -> None:
    """SyncCache has it too, and get_or_set takes tags there."""
    cache = SyncCache(FastCache())
    runs: list[int] = []

    @cache.memoize(tags="t")
    def f(n: int) -> int:
        runs.append(n)
        return n

    assert cache.get_or_set("key", lambda: f(1), tags="t") == 1
    f(1)
    cache.invalidate_tags("t")
    assert cache.get_or_set("key", lambda: f(1), tags="t") == 1
    assert runs == [1, 1]


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags",
    [
        "user:{nobody}",
        "user:{}",
        "user:{user!r}",
        "user:{user:>3}",
        "user:{",
        "{user._id}",
        "",
        ("a", ""),
        [1],
        7,
        b"x",
    ],
    ids=repr,
)
def test_what_is_no_tag_is_an_error_at_decoration(cache: FastCache, tags: Any) -> None:
    """A field that names no parameter, a format, an empty text, and whatever is no text are refused by name."""
    with pytest.raises(ConfigurationError, match="tags") as caught:

        @cache.memoize(tags=tags)
        async def f(user: User) -> None: ...

    assert "tag" in str(caught.value)


def test_an_async_callable_is_refused(cache: FastCache) -> None:
    """A callable is a plain function: nobody would await it."""

    async def tags(result: object, n: int) -> str:
        return "t"

    with pytest.raises(ConfigurationError, match="plain function"):

        @cache.memoize(tags=tags)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        async def f(n: int) -> None: ...


async def test_a_field_that_cannot_be_read(cache: FastCache, define: Define, call: Call, ran: Counted) -> None:
    """The caller is told, by the names of function, field and error, before anything runs."""

    @cache.memoize(tags="user:{user.id}")
    @define
    def f(user: Any) -> Any:
        return ran(user)

    with pytest.raises(UserError, match=r"field 'user.id' of tags= of .*f could not be read: AttributeError"):
        await call(f, "secret")
    assert ran.runs == []


@pytest.mark.parametrize("answer", [None, 3, b"t", ["t", 3], [""], {"t": 1}, ValueError("secret")], ids=repr)
async def test_a_callable_that_fails_stores_nothing(
    cache: FastCache, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    """A result whose tags cannot be told is returned and not stored, and a warning names the function and no value."""
    runs: list[int] = []

    def tags(result: object, n: int) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    @cache.memoize(tags=tags)
    async def f(n: int) -> str:
        runs.append(n)
        return "secret"

    with caplog.at_level(logging.WARNING, "acache"):
        assert [await f(1), await f(1)] == ["secret", "secret"]
    assert runs == [1, 1]
    assert len(caplog.records) == 2
    assert "f failed with" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("tag", ["", 1, None, b"t"], ids=repr)
async def test_only_texts_can_be_invalidated(cache: FastCache, tag: Any) -> None:
    """What is no tag is refused, also where it is given to get_or_set; no tag at all invalidates nothing."""
    with pytest.raises(ConfigurationError, match="tags"):
        await cache.invalidate_tags(tag)
    with pytest.raises(ConfigurationError, match="tags"):
        await cache.get_or_set("key", lambda: 1, tags=[tag])
    await cache.invalidate_tags()


async def test_a_deterministic_cache_has_no_groups(tmp_path: Path) -> None:
    """Workers that agree on a result could not all drop it at once: the option and the call are refused."""
    cache = DeterministicCache(MemoryTier(), DiskTier(tmp_path), dump_on_close=False)
    with pytest.raises(ConfigurationError, match="tags"):
        cache.memoize(tags="t")(User)
    with pytest.raises(ConfigurationError, match="tags"):
        await cache.invalidate_tags("t")
    with pytest.raises(ConfigurationError, match="tags"):
        await cache.get_or_set("key", lambda: 1, tags="t")
    await cache.aclose()


def test_tags_cannot_be_changed_for_one_call(cache: FastCache) -> None:
    """cache_with() is about keeping results; whose they are is said once. cache_parameters() shows it."""

    @cache.memoize(tags=["a", "n:{n}"])
    async def f(n: int) -> None: ...

    with pytest.raises(ConfigurationError, match="tags"):
        f.cache_with(tags="b")
    assert f.cache_parameters()["tags"] == ("a", "n:{n}")


@pytest.mark.parametrize("tiers", ["memory", "disk", "both"])
async def test_many_values_hear_of_it(tmp_path: Path, tiers: str) -> None:
    """get_many serves nothing of an invalidated group, from any tier."""
    memory, disk = MemoryTier(), DiskTier(tmp_path)
    async with FastCache(*{"memory": (memory,), "disk": (disk,), "both": (memory, disk)}[tiers]) as cache:
        for n in range(6):
            await cache.get_or_set(n, lambda: "old", tags=("even",) if n % 2 == 0 else ("odd",))
        await cache.invalidate_tags("even")
        assert set(await cache.get_many(range(6))) == {1, 3, 5}
        assert await cache.set_many({0: "new"}) == 1
        assert set(await cache.get_many(range(6))) == {0, 1, 3, 5}
