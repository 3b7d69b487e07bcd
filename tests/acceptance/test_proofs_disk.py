"""What goes wrong with files in other caches goes right here: P01 to P03, P06, P14, P15, P27."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from acache import DiskTier, FastCache, Hit, Signer, TierEvent
from acache.codecs import PickleCodec, encode_frame, version_digest
from acache.exceptions import UnsafeDirectoryError, ValueUnPicklingError
from acache.keys import encode_key
from acache.testing import ComputeCounter, ManualClock
from acache.types import Entry
from tests.acceptance.support import (
    ForeignDirectories,
    FullDisk,
    ReadOnlyDisk,
    entries,
    forget_temporaries,
    run,
    temporaries,
    the_entry,
)

#: How often an exploit has run.
exploits: list[str] = []


class Exploit:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exploit, ()


def exploit() -> None:
    exploits.append("ran")


# --- P01, P02, P27: writes that fail ------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 11, 103, 104, 150, 1000])
async def test_p01_a_full_disk_costs_the_entry_not_the_result(
    tmp_path: Path, manual_clock: ManualClock, room: int
) -> None:
    """Whatever part of an entry still fits: every caller has the result, nothing is left, and space heals all."""
    disk, counter = FullDisk(room), ComputeCounter()
    async with FastCache(DiskTier(tmp_path / "c", clock=manual_clock, files=disk)) as cache:

        @cache.memoize
        @counter.wrap
        async def compile_unit(number: int) -> bytes:
            return bytes([number]) * 2000

        with cache.events.capture() as events:
            assert [await compile_unit(7) for _ in range(3)] == [b"\x07" * 2000] * 3
        assert any(isinstance(event, TierEvent) and event.outcome == "failed" for event in events)
        assert entries(tmp_path / "c") == temporaries(tmp_path) == []
        assert await cache.insert(compile_unit, ((7,), {}), b"given") is False
        disk.room = None
        manual_clock.advance("1m")
        assert await cache.insert(compile_unit, ((7,), {}), b"given") is True
        counter.reset()
        assert await compile_unit(7) == b"given"
        counter.assert_computed(0)


DOOMED = """
import resource
from acache.testing.files import FaultyFileSystem
root, way = sys.argv[1:]

def die(number):
    files = FaultyFileSystem()
    if way == "byte":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * number, resource.RLIM_INFINITY))
    else:
        files.fail(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    asyncio.run(DiskTier(f"{root}/{number}", files=files).insert("key", list(range(20))))
    os._exit(0)

endings = []
while 0 not in endings:
    pid = os.fork()
    if pid == 0:
        die(len(endings))
    endings.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
tell(endings)
"""


@pytest.mark.integration
@pytest.mark.parametrize(("way", "signal_", "at_least"), [("byte", signal.SIGXFSZ, 90), ("call", signal.SIGKILL, 8)])
async def test_p02_a_death_in_mid_write_is_a_miss_that_heals(
    tmp_path: Path, way: str, signal_: signal.Signals, at_least: int
) -> None:
    """A writer that dies after any byte, or at any system call, leaves all of its entry or nothing."""
    endings = await asyncio.to_thread(run, DOOMED, tmp_path, way)
    assert endings[:-1] == [-signal_] * (len(endings) - 1)
    assert len(endings) > at_least
    stored = Hit(list(range(20)))
    for number in range(len(endings)):
        tier = DiskTier(tmp_path / str(number))
        await tier.sweep()  # so that none begins by itself; what died a moment ago it leaves alone
        found = await tier.get("key")
        # Death by size comes before the entry has its name; death at a late call may come after.
        assert found is None or (found == stored and (way == "call" or number == len(endings) - 1))
        assert await tier.insert("key", stored.value) is (found is None)
        assert await tier.get("key") == stored
        forget_temporaries(tmp_path / str(number))
        await tier.sweep()
        assert (tier.statistics().rejections, tier.statistics().failures) == (0, 0)
        await tier.aclose()
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("made", [True, False], ids=["filled", "never made"])
async def test_p27_a_read_only_directory_serves_hits_and_lets_misses_compute(
    tmp_path: Path, error: int, made: bool
) -> None:
    """Where nothing can be written a hit is a hit, and a miss is computed; neither is an error."""
    counter = ComputeCounter()

    @counter.wrap
    async def compile_unit(number: int) -> int:
        return number * 2

    if made:
        async with FastCache(DiskTier(tmp_path / "c")) as before:
            await before.memoize(compile_unit)(1)
    counter.reset()
    async with FastCache(DiskTier(tmp_path / "c", files=ReadOnlyDisk(error))) as cache:
        memoized = cache.memoize(compile_unit)
        assert [await memoized(1), await memoized(2), await memoized(2)] == [2, 4, 4]
        assert (counter.runs(1), counter.runs(2)) == (0 if made else 1, 2)
    assert len(entries(tmp_path / "c")) == made


# --- P03, P06, P14, P15: what is read -----------------------------------------------------------------------------------


def flip(content: bytes, bit: int) -> bytes:
    """Return ``content`` with one bit wrong."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


async def test_p03_a_flip_in_every_byte_is_recomputed_and_healed(tmp_path: Path) -> None:
    """An entry with one bit wrong, in any byte, is never served and never an error; the next call is a hit again.

    Every bit is flipped in the next test, and in those of the frame; here each flip costs a computation.
    """
    counter = ComputeCounter()
    async with FastCache(DiskTier(tmp_path)) as cache:

        @cache.memoize
        @counter.wrap
        async def balance(name: str) -> dict[str, int]:
            return {name: 42}

        await balance("alice")
        path = the_entry(tmp_path)
        size = path.stat().st_size
        for place in range(size):
            path.write_bytes(flip(path.read_bytes(), 8 * place + place % 8))
            assert await balance("alice") == {"alice": 42}
        assert size > 150
        counter.assert_computed(size + 1)
        assert await balance("alice") == {"alice": 42}
        counter.assert_computed(size + 1)
        assert cache.statistics().tiers[0].rejections >= size


async def test_p03_only_one_error_class_comes_of_damage(tmp_path: Path) -> None:
    """A tier that is to raise for damaged entries raises one class of error, for every bit and every length."""
    tier = DiskTier(tmp_path, on_corrupt="raise")
    await tier.set("key", {"alice": 42})
    path = the_entry(tmp_path)
    content = path.read_bytes()
    flipped = (flip(content, bit) for bit in range(8 * len(content)))
    cut = (content[:size] for size in range(len(content)))
    for damaged in (*flipped, *cut, content + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(ValueUnPicklingError):
            await tier.get("key")
    path.write_bytes(content)
    assert await tier.get("key") == Hit({"alice": 42})
    await tier.aclose()


async def test_p06_what_is_written_and_read_is_the_value_of_that_moment(tmp_path: Path) -> None:
    """A value that was changed between two writes is written changed, and no two reads share an object."""
    tier = DiskTier(tmp_path)
    box = ["first"]
    await tier.set("before", box)
    box.append("second")
    await tier.set("after", box)
    assert (await tier.get("before"), await tier.get("after")) == (Hit(["first"]), Hit(["first", "second"]))
    one, other = await tier.get("after"), await tier.get("after")
    assert one is not None
    assert other is not None
    assert one.value is not other.value
    await tier.aclose()


@pytest.mark.parametrize("bits", [0o777, 0o770, 0o1777])
async def test_p14_a_directory_others_can_write_is_refused(tmp_path: Path, bits: int) -> None:
    """Nothing is read from, nor written to, a directory in which others could plant entries."""
    tier = DiskTier(tmp_path / "c")
    await tier.set("key", "value")
    await tier.aclose()
    (tmp_path / "c").chmod(bits)
    await assert_is_refused(tmp_path / "c", DiskTier(tmp_path / "c"))


async def test_p14_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Nothing is read from a directory that somebody else made for us."""
    await assert_is_refused(tmp_path / "c", DiskTier(tmp_path / "c", files=ForeignDirectories()))


async def test_p14_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    """A symbolic link in the place of the directory is not followed."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "c").symlink_to(tmp_path / "elsewhere")
    await assert_is_refused(tmp_path / "c", DiskTier(tmp_path / "c"))


async def assert_is_refused(path: Path, tier: DiskTier) -> None:
    there = entries(path)
    for use in (partial(tier.get, "key"), partial(tier.set, "key", "mine")):
        with pytest.raises(UnsafeDirectoryError):
            await use()
    assert entries(path) == there
    await tier.aclose()


@pytest.mark.parametrize("form", ["pickle", "original", "foreign codec", "unsigned", "another key"])
async def test_p14_planted_pickles_run_no_code(tmp_path: Path, form: str) -> None:
    """Bytes planted in an entry's place, up to a perfect entry without our signature, are rejected before they are read."""
    hole = Exploit()
    key, stranger = encode_key("key"), encode_key("stranger")
    frame = partial(encode_frame, Entry(hole, 0.0), codec=PickleCodec(), version_digest=version_digest(0))
    planted = {
        "pickle": lambda: pickle.dumps(hole),
        "original": lambda: b"\x12\x34\x56\x78" + pickle.dumps(hole),
        "foreign codec": lambda: b"".join(frame(key)),
        "unsigned": lambda: b"".join(frame(key)),
        "another key": lambda: b"".join(frame(stranger)),
    }[form]()
    tier = DiskTier(
        tmp_path / "c",
        codec="json" if form == "foreign codec" else "pickle",
        signer=Signer(b"k" * 32) if form == "unsigned" else None,
    )
    await tier.set(key, "value")
    the_entry(tmp_path / "c").write_bytes(planted)
    assert await tier.get(key) is None
    assert exploits == []
    assert await tier.set(key, "value")
    assert await tier.get(key) == Hit("value")
    assert tier.statistics().rejections == 1
    await tier.aclose()


async def test_p14_nobody_else_can_read_what_is_stored(tmp_path: Path) -> None:
    """Whatever the umask: directories have mode 0700 and files 0600."""
    before = os.umask(0)
    try:
        async with FastCache(DiskTier(tmp_path / "made/by us", sub_dir="x/y")) as cache:
            await cache.get_or_set("key", lambda: "value")
            async with cache.lock():
                pass
    finally:
        os.umask(before)
    made = list((tmp_path / "made").rglob("*"))
    assert {(path.is_dir(), path.stat().st_mode & 0o777) for path in made} == {(True, 0o700), (False, 0o600)}


async def test_p15_an_entry_is_bound_to_its_key(tmp_path: Path) -> None:
    """Bob's entry in the place of Alice's is not Alice's."""
    async with FastCache(DiskTier(tmp_path)) as cache:

        @cache.memoize
        async def balance(name: str) -> int:
            return {"alice": 1, "bob": 999}[name]

        await balance("alice")
        alice = the_entry(tmp_path)
        await balance("bob")
        (bob,) = set(entries(tmp_path)) - {alice}
        shutil.copy(bob, alice)
        assert (await balance("alice"), await balance("bob")) == (1, 999)
        assert await balance.cache_get("alice") == Hit(1)
