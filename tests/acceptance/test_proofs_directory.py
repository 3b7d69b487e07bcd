"""What goes wrong with shared directories, their names and their locks in other caches goes right here: P12, P13, P22, P23."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from acache import DiskTier, FastCache, Hit
from acache.exceptions import ConfigurationError
from tests.acceptance.support import child_environment, entries, files_below, run, run_together, running

# --- P13: names ---------------------------------------------------------------------------------------------------------

WILD = (
    "../../OUTSIDE/a",
    "/OUTSIDE",
    "..",
    ".",
    "",
    "a\0b",
    "x" * 5000,
    "ä\ud800",
    "a/b",
    "C:\\x",
    "~root",
    "-rf",
    "\n",
)


@pytest.mark.parametrize("place", ["module", "qualname", "namespace", "argument", "version", "own key"])
async def test_p13_no_name_becomes_a_path(tmp_path: Path, place: str) -> None:
    """Names of functions, modules and namespaces, and keys, may be anything: what is stored stays inside, under digests."""
    directory = tmp_path / "a/b/c"
    for number, name in enumerate(WILD):

        async def function(_name: str, value: int = number) -> int:
            return value

        if place in {"module", "qualname"}:
            setattr(function, f"__{place}__", name)
        async with FastCache(DiskTier(directory), namespace=name if place == "namespace" else "") as cache:
            if place == "own key":
                assert await cache.get_or_set(name, partial(int, number)) == number
            else:
                memoized = cache.memoize(version=name if place == "version" else number)(function)
                assert await memoized(name if place == "argument" else "") == number
                assert await memoized.cache_get(name if place == "argument" else "") == Hit(number)
    assert len(entries(directory)) == len(WILD)
    files = files_below(tmp_path)
    assert all(path.is_relative_to(directory) for path in files)
    digits = set("0123456789abcdef")
    assert all(set(path.name) <= digits for path in files if not path.name.startswith("."))


async def test_p13_a_partial_is_memoized_like_any_function(tmp_path: Path) -> None:
    """A function without a name of its own is no error; what it has bound is part of its keys."""
    async with FastCache(DiskTier(tmp_path)) as cache:
        two, three = cache.memoize(partial(pow, 2)), cache.memoize(partial(pow, 3))
        assert [await two.aio(4), await three.aio(4), await two.aio(4)] == [16, 81, 16]


@pytest.mark.parametrize("sub_dir", ["..", "../x", "a/../../x", "/x", "a\0b"])
def test_p13_a_sub_directory_that_leaves_is_refused(tmp_path: Path, sub_dir: str) -> None:
    """The one name that is a path may not lead out."""
    with pytest.raises(ConfigurationError, match="sub_dir"):
        DiskTier(tmp_path, sub_dir=sub_dir)


# --- P12, P22, P23: several processes on one directory ------------------------------------------------------------------

BIG = 1_000_000
WRITER = f"""
async def main():
    tier = DiskTier(sys.argv[1])
    ready()
    tell([await tier.insert(number, bytes([number]) * {BIG}) for number in range(60)])
    await tier.aclose()
asyncio.run(main())
"""


@pytest.mark.integration
async def test_p12_a_reader_takes_nothing_from_a_writer(tmp_path: Path) -> None:
    """While another process writes large entries a reader sees each whole or not at all, and none that was stored goes."""
    tier, missed = DiskTier(tmp_path / "c"), set[int]()
    async with running(WRITER, tmp_path / "c") as (writer,):
        writer.go()
        with anyio.fail_after(60):
            for number in range(60):
                while (hit := await tier.get(number)) is None:
                    missed.add(number)
                assert hit.value == bytes([number]) * BIG
        assert await asyncio.to_thread(writer.result) == [True] * 60
    assert missed  # the reader was there before the writer
    assert len(await tier.get_many(range(60))) == 60
    assert (tier.statistics().rejections, tier.statistics().failures) == (0, 0)
    await tier.aclose()


DEFAULT = """
@memoize
def f(n):
    return n

async def main():
    f_aio = [await f.aio(1), await f.aio(1)]
    await fcache.aclose()
    tell(f_aio)

from acache import fcache
asyncio.run(main())
"""


@pytest.mark.integration
def test_p22_the_directory_setting_is_obeyed(tmp_path: Path) -> None:
    """The default cache keeps its files where ``ACACHE_DIR`` says and nowhere else."""
    home = tmp_path / "home"
    home.mkdir()
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "xdg")}
    assert run(DEFAULT, ACACHE_DIR=str(tmp_path / "chosen"), **places) == [1, 1]
    assert len(list((tmp_path / "chosen").rglob("[0-9a-f][0-9a-f]/*"))) == 1
    assert list(home.iterdir()) == []
    assert run(DEFAULT, **places) == [1, 1]
    assert len(list(home.rglob("[0-9a-f][0-9a-f]/*"))) == 1
    assert len(child_environment().keys() & {"ACACHE_DIR"}) == 0


async def test_p22_an_isolated_cache_leaves_the_real_one_alone(tmp_path: Path, isolated_cache: FastCache) -> None:
    """What tests do to the cache made for them, clearing it too, reaches no other cache's files."""
    async with FastCache(DiskTier(tmp_path / "real")) as real:
        await real.get_or_set("key", lambda: "kept")
        await isolated_cache.get_or_set("key", lambda: "cleared")
        await isolated_cache.clear()
        assert len(entries(tmp_path / "real")) == 1
        assert await real.get_or_set("key", lambda: "computed again") == "kept"


RIVAL = """
async def main():
    try:
        async with DiskTier(sys.argv[1]).lock(0):
            tell("has it")
    except TimeoutError:
        tell("refused")
asyncio.run(main())
"""


@pytest.mark.integration
async def test_p22_a_lock_that_is_held_stays_held(tmp_path: Path) -> None:
    """Whatever is done to the cache meanwhile, another process does not get the lock of its directory."""
    tier = DiskTier(tmp_path)
    await tier.set("key", "value")
    steps: list[Callable[[], Awaitable[object]]] = [tier.clear, tier.sweep, partial(tier.delete, "key"), tier.aclose]
    async with tier.lock():
        for step in steps:
            await step()
            assert await asyncio.to_thread(run, RIVAL, tmp_path) == "refused"
    assert await asyncio.to_thread(run, RIVAL, tmp_path) == "has it"
    await tier.aclose()


READER = """
async def main():
    tier = DiskTier(sys.argv[1], version=2)
    ready()
    hits = await tier.get_many(range(4000))
    tell([len(hits), tier.statistics().failures, tier.statistics().rejections])
    await tier.aclose()
asyncio.run(main())
"""


@pytest.mark.integration
async def test_p23_old_versions_are_removed_by_many_at_once(tmp_path: Path) -> None:
    """Four processes that meet 4,000 entries of an old version see misses, and clear them away without an error."""
    async with FastCache(DiskTier(tmp_path, version=1)) as cache:
        assert await cache.tier.set_many({number: number for number in range(4000)}) == 4000
    assert await run_together(READER, tmp_path, count=4) == [[0, 0, 0]] * 4
    assert entries(tmp_path) == []
