"""The rows of the original about locks and utilities (4.6 and 4.7), under their own names."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest

from acache import ChainTier, DiskTier, FastCache, MemoryTier, Tier
from acache.codecs import try_pickle_key, try_pickle_value, try_unpickle_value
from acache.exceptions import FileLockTimeoutError, KeyPicklingError, LockTimeoutError, ValuePicklingError
from acache.exceptions import ValueUnPicklingError as UnPicklingError
from acache.locks import (
    BLOCKING,
    BLOCKING_WITH_TIMEOUT,
    DEFAULT_TIMEOUT,
    NON_BLOCKING,
    Lock,
    acquire_flock,
    acquire_lock,
    acquire_many_locks,
    file_lock,
    unsafe_acquire_flock,
    unsafe_acquire_lock,
)
from acache.testing import settle

# --- 4.6 Locks ----------------------------------------------------------------------------------------------------------


def test_BLOCKING() -> None:  # noqa: N802 - the original's name
    """SPEC 21: ``BLOCKING`` is -1."""
    assert BLOCKING == -1.0


def test_NON_BLOCKING() -> None:  # noqa: N802 - the original's name
    """SPEC 21: ``NON_BLOCKING`` is 0."""
    assert NON_BLOCKING == 0.0


def test_BLOCKING_WITH_TIMEOUT() -> None:  # noqa: N802 - the original's name
    """SPEC 21: ``BLOCKING_WITH_TIMEOUT`` is a minute, and what no timeout means."""
    assert BLOCKING_WITH_TIMEOUT == DEFAULT_TIMEOUT == 60.0


Kind = Literal["thread", "file"]
Mode = Literal["BLOCKING", "NON_BLOCKING", "WITH_TIMEOUT"]
Form = Literal["safe", "unsafe"]
Release = Literal["free", "never", "before", "after"]

#: A timeout that is over soon, and one that is not over before the test is.
SHORT, LONG = 0.02, 30.0
ERRORS = {"thread": LockTimeoutError, "file": FileLockTimeoutError}


def expected(mode: Mode, release: Release) -> str:
    """Return how the acquisition ends, as the table of the original says it."""
    if release == "free":
        return "acquired"
    if mode == "BLOCKING":
        return "waiting" if release == "never" else "acquired"
    return "acquired" if (mode, release) == ("WITH_TIMEOUT", "before") else "timed out"


@dataclass
class Subject:
    """A lock of one kind, held by another party: another thread, or another open file."""

    kind: Kind
    path: Path

    def __post_init__(self) -> None:
        self.lock = Lock()
        self.mine, self.others = file_lock(self.path), file_lock(self.path)

    async def is_free(self) -> bool:
        """Tell whether a third party could have it."""
        try:
            async with acquire_lock(self.lock, 0) if self.kind == "thread" else acquire_flock(file_lock(self.path), 0):
                return True
        except ERRORS[self.kind]:
            return False

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """Have it held; leave by calling what is given, or at the end."""
        if self.kind == "file":
            async with self.others:
                yield self.others.release
            return
        taken, leave = threading.Event(), threading.Event()

        def hold() -> None:
            self.lock.acquire_sync(LONG)
            taken.set()
            leave.wait(LONG)
            self.lock.release()

        holder = asyncio.create_task(asyncio.to_thread(hold))
        await asyncio.to_thread(taken.wait, LONG)

        async def let_go() -> None:
            leave.set()
            await holder

        try:
            yield let_go
        finally:
            await let_go()

    async def use(self, form: Form, timeout: float) -> str:
        """Acquire it in one of the forms and release it; tell how that ended."""
        try:
            if form == "safe":
                async with (
                    acquire_lock(self.lock, timeout) if self.kind == "thread" else acquire_flock(self.mine, timeout)
                ):
                    assert not await self.is_free()
            elif self.kind == "thread":
                await unsafe_acquire_lock(self.lock, timeout)
                assert not await self.is_free()
                self.lock.release()
            else:
                await unsafe_acquire_flock(self.mine, timeout)
                assert not await self.is_free()
                await self.mine.release()
        except ERRORS[self.kind] as error:
            return "timed out" if f"{timeout:g} seconds" in str(error) else str(error)
        return "acquired"


TABLE = list(
    itertools.product(
        ("thread", "file"),
        ("BLOCKING", "NON_BLOCKING", "WITH_TIMEOUT"),
        ("safe", "unsafe"),
        ("free", "never", "before", "after"),
    )
)


@pytest.mark.parametrize(("kind", "mode", "form", "release"), TABLE)
async def test_acquire_with_timeout(tmp_path: Path, kind: Kind, mode: Mode, form: Form, release: Release) -> None:
    """SPEC 21: each kind of lock, each timeout, each form and each moment of the release end as the original's table says."""
    subject, outcome = Subject(kind, tmp_path / "the.lock"), expected(mode, release)
    timeout = {"BLOCKING": BLOCKING, "NON_BLOCKING": NON_BLOCKING, "WITH_TIMEOUT": SHORT}[mode]
    if release == "free":
        assert await subject.use(form, timeout) == outcome
        assert await subject.is_free()
        return
    if (mode, release) == ("WITH_TIMEOUT", "before"):
        timeout = LONG
    async with subject.held() as let_go:
        task = asyncio.ensure_future(subject.use(form, timeout))
        if outcome == "timed out":
            assert await task == outcome
        else:
            # For a release that comes late it outlasts the time the others wait.
            await (settle() if release == "before" else asyncio.wait([task], timeout=2 * SHORT))
            assert not task.done()
        if release != "never":
            await let_go()
        if outcome == "acquired":
            assert await task == outcome
        elif outcome == "waiting":
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert not await subject.is_free()
    assert await subject.is_free()


@pytest.fixture(params=[*itertools.chain(*(itertools.combinations(("memory", "disk", "chain"), n) for n in (1, 2)))])
async def tiers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[list[Tier]]:
    """Every tier alone, and every pair."""
    makers: dict[str, Callable[[], Tier]] = {
        "memory": MemoryTier,
        "disk": lambda: DiskTier(tmp_path / "disk"),
        "chain": lambda: ChainTier(MemoryTier(name="m"), DiskTier(tmp_path / "chain", name="d")),
    }
    made = [makers[name]() for name in request.param]
    yield made
    for tier in made:
        await tier.aclose()


async def are_held(tiers: list[Tier]) -> list[bool]:
    """Tell of each tier whether its lock is held."""
    held: list[bool] = []
    for tier in tiers:
        try:
            async with tier.lock(NON_BLOCKING):
                held.append(False)
        except (LockTimeoutError, FileLockTimeoutError):
            held.append(True)
    return held


async def test_acquire_many_impl_locks_with_timeout(tiers: list[Tier]) -> None:
    """SPEC 21: all are held inside and free outside, in whatever order they are given, also when one cannot be had or the wait ends."""
    for order in (tiers, tiers[::-1], [*tiers, *tiers]):
        async with acquire_many_locks(*order, timeout=5):
            assert await are_held(tiers) == [True] * len(tiers)
        assert await are_held(tiers) == [False] * len(tiers)
    for contended in tiers:
        async with contended.lock():
            with pytest.raises((LockTimeoutError, FileLockTimeoutError)):
                async with acquire_many_locks(*tiers, timeout=NON_BLOCKING):
                    pytest.fail("one of them is held")
            assert await are_held(tiers) == [tier is contended for tier in tiers]

            async def wait() -> None:
                async with acquire_many_locks(*tiers, timeout=BLOCKING):
                    pytest.fail("one of them is held")

            waiting = asyncio.ensure_future(wait())
            await settle()
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            assert await are_held(tiers) == [tier is contended for tier in tiers]
    assert await are_held(tiers) == [False] * len(tiers)


# --- 4.7 Utilities ------------------------------------------------------------------------------------------------------


@pytest.fixture
def lru() -> Callable[[Any], Any]:
    """Return what comes closest to the original's decorator: a typed, bounded memory of 64 results."""
    return FastCache(MemoryTier(max_entries=64)).memoize


def test_lru_cache(lru: Callable[[Any], Any]) -> None:
    """SPEC 22: typed and bounded: each argument has its own result; an error of the function's is not tried again."""
    runs = list[Any]()

    @lru
    def show(value: Any) -> str:
        runs.append(value)
        if value == "wrong":
            raise TypeError(value)
        return f"{type(value).__name__} {value!r}"

    for _ in range(2):
        assert [show(0), show(0.0), show("foo"), show(value="foo")] == ["int 0", "float 0.0", "str 'foo'", "str 'foo'"]
        assert [show([1]), show([1.0])] == ["list [1]", "list [1.0]"]
    assert len(runs) == 5
    with pytest.raises(TypeError, match="wrong"):
        show("wrong")
    assert runs.count("wrong") == 1
    for number in range(1000):
        assert show(number) == f"int {number}"
    assert show.cache_info()[2:4] == (64, 64)


async def test_lru_cache_of_coroutines(lru: Callable[[Any], Any]) -> None:
    """SPEC 22: the async form keeps values, not coroutines, and runs once for all that ask together."""
    runs = list[Any]()

    @lru
    async def show(value: Any) -> str:
        runs.append(value)
        await asyncio.sleep(0)
        return f"{type(value).__name__} {value!r}"

    shown = await asyncio.gather(*[show(value) for value in (0, 0.0, "foo", 0, 0.0, "foo")], show(value="foo"))
    assert shown == ["int 0", "float 0.0", "str 'foo'", "int 0", "float 0.0", "str 'foo'", "str 'foo'"]
    assert len(runs) == 3


class Refuses:
    """Refuses to be pickled, or to be made from its pickle, with an error of its class's choice."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __reduce__(self) -> NoReturn:
        raise self.error("no")


class Unmade:
    """Is pickled, and fails when it is unpickled."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return fail, (self.error,)


def fail(error: type[Exception]) -> NoReturn:
    raise error("no")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


GOOD: list[Any] = [None, 1, "text", b"bytes", (1, [2, {"three": 4.0}]), frozenset({1})]
FAILURES: list[type[Exception]] = [
    *(TypeError, ValueError, KeyError, IndexError, AttributeError, ImportError, EOFError, RecursionError, RuntimeError),
    *(pickle.PicklingError, pickle.UnpicklingError, OSError, AssertionError),
]
UNPICKLABLE: list[Any] = [lambda: 0, threading.Lock(), nested(100_000), *map(Refuses, FAILURES)]


def test_try_pickle_key() -> None:
    """SPEC 22: what can be pickled comes back; whatever cannot, for whatever reason, is a KeyPicklingError."""
    assert [pickle.loads(try_pickle_key(value)) for value in GOOD] == GOOD
    for value in UNPICKLABLE:
        with pytest.raises(KeyPicklingError):
            try_pickle_key(value)


def test_try_pickle_value() -> None:
    """SPEC 22: the same for values, with ValuePicklingError."""
    assert [try_unpickle_value(try_pickle_value(value)) for value in GOOD] == GOOD
    for value in UNPICKLABLE:
        with pytest.raises(ValuePicklingError):
            try_pickle_value(value)


def test_try_unpickle_value() -> None:
    """SPEC 22: bytes that cannot be unpickled, for whatever reason, are a ValueUnPicklingError."""
    good = pickle.dumps(GOOD, 5)
    garbage = [b"", b"foo", b"\x80\x05", *(good[:size] for size in range(len(good))), b"cno_such_module\nname\n."]
    garbage += [pickle.dumps(Unmade(error)) for error in FAILURES]
    garbage += [b"\x80\x05X\x02\x00\x00\x00\xff\xff.", b"cbuiltins\nno_such_name\n.", b"0.", b"j\x00\x00\x00\x7f."]
    for data in garbage:
        with pytest.raises(UnPicklingError):
            try_unpickle_value(data)
    assert try_unpickle_value(good) == GOOD
