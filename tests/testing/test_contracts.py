"""The contract of tiers finds what is wrong with a tier: each kind of sloppiness fails a test of it."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import pytest

from acache.exceptions import CacheError
from acache.testing import ManualClock
from acache.testing.contracts import EncodingTierContract, TierContract
from acache.tiers import Tier
from acache.types import Entry, Hit, Key, Written

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from acache.clock import Duration
    from acache.codecs import Codec


class DictTier(Tier):
    """The smallest tier that keeps the contract: a dictionary, by the wall clock of the template."""

    def __init__(self, *, clock: ManualClock) -> None:
        super().__init__(name="dict", clock=clock)
        self.entries: dict[Key, Entry] = {}

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        return self.entries.get(key)

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        present = self.entries.get(key)
        if present is not None and self._is_live(present) and not replace:
            return Written.PRESENT
        self.entries[key] = entry
        return Written.NEW

    async def _remove(self, key: Key) -> bool:
        return self.entries.pop(key, None) is not None

    async def _scan(self) -> AsyncGenerator[Key]:
        for key in tuple(self.entries):
            yield key


class Overwriting(DictTier):
    """An insert replaces."""

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        return await super()._write(key, entry, codec, replace=True)


class Unreplacing(DictTier):
    """A set does not replace."""

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        return await super()._write(key, entry, codec, replace=False)


class Racing(DictTier):
    """The check and the write are two steps."""

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        absent = key not in self.entries
        await asyncio.sleep(0)
        if replace or absent:
            self.entries[key] = entry
            return Written.NEW
        return Written.PRESENT


class TornByCancellation(DictTier):
    """A write that is cancelled half-way leaves half of it."""

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        whole, entry.value = entry.value, "half"
        written = await super()._write(key, entry, codec, replace=replace)
        await asyncio.sleep(0)
        entry.value = whole
        return written


class NoneIsMiss(DictTier):
    """A false value is taken for a miss."""

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        entry = await super()._read(key, codec)
        return entry if entry is not None and entry.value else None


class Immortal(DictTier):
    """Nothing expires."""

    def _is_live(self, entry: Entry) -> bool:
        return True


class ImmortalByJump(DictTier):
    """Only the wall clock decides, and what comes from the future is believed."""

    def _is_live(self, entry: Entry) -> bool:
        return not entry.is_expired(self.clock.wall())


class InTheWay(DictTier):
    """An expired entry keeps its place."""

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        if key in self.entries and not replace:
            return Written.PRESENT
        return await super()._write(key, entry, codec, replace=replace)


class Forgetful(DictTier):
    """Entries lose what is known about them."""

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        return await super()._write(key, Entry(entry.value, entry.created, entry.expires), codec, replace=replace)


class Undeletable(DictTier):
    """A removal is only claimed."""

    async def _remove(self, key: Key) -> bool:
        return key in self.entries


class ClearsAll(DictTier):
    """``clear`` does not look at the prefix."""

    async def _clear(self, prefix: str) -> None:
        self.entries.clear()


class BoundToOneLoop(DictTier):
    """The tier belongs to the loop that used it first, as an ``asyncio.Lock`` does."""

    loop: asyncio.AbstractEventLoop | None = None

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("bound to a different event loop")
        return await super()._read(key, codec)


class Unlocked(DictTier):
    """The lock lets everybody in."""

    def lock(self, timeout: float | None = None) -> AbstractAsyncContextManager[object]:
        return _Open()


class _Open:
    async def __aenter__(self) -> None:
        await asyncio.sleep(0)

    async def __aexit__(self, *_: object) -> None: ...


class Uncounted(DictTier):
    """Reads are not counted, nor told."""

    async def read(self, key: Key, codec: Codec | None = None) -> Entry | None:
        entry = await self._read(key, codec)
        return entry if entry is not None and self._is_live(entry) else None


class Untyped(DictTier):
    """Keys are what Python calls equal."""

    async def insert(self, key: object, value: object, *, ttl: Duration | None = None) -> bool:
        return await super().insert(_plainer(key), value, ttl=ttl)

    async def get(self, key: object) -> Hit[Any] | None:
        return await super().get(_plainer(key))


def _plainer(key: object) -> object:
    return int(key) if isinstance(key, bool) else key


class Closing(DictTier):
    """A tier that is closed stays closed."""

    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise CacheError("closed already")
        self.closed = True


class Encoding(DictTier):
    """What the smallest encoding tier does: copies in, copies out."""

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        return copy.deepcopy(await super()._read(key, codec))

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        return await super()._write(key, copy.deepcopy(entry), codec, replace=replace)


SLOPPY: tuple[tuple[type[DictTier], str], ...] = (
    (Overwriting, "test_insert_only_if_absent"),
    (Overwriting, "test_one_insert_wins"),
    (Unreplacing, "test_set_replaces"),
    (Unreplacing, "test_set_renews_the_ttl"),
    (Racing, "test_one_insert_wins"),
    (TornByCancellation, "test_cancelled_write"),
    (TornByCancellation, "test_cancelled_insert"),
    (NoneIsMiss, "test_every_value_is_a_hit"),
    (Immortal, "test_ttl"),
    (Immortal, "test_ttl_of_nothing"),
    (Immortal, "test_many"),
    (ImmortalByJump, "test_clock_that_jumps_back"),
    (InTheWay, "test_expired_entry_is_no_obstacle"),
    (Forgetful, "test_entries_keep_what_is_known"),
    (Undeletable, "test_delete"),
    (Undeletable, "test_keys_and_clear"),
    (ClearsAll, "test_clear_by_prefix"),
    (BoundToOneLoop, "test_loops_and_threads_share"),
    (Unlocked, "test_lock_excludes"),
    (Unlocked, "test_lock_times_out"),
    (Uncounted, "test_statistics"),
    (Uncounted, "test_events"),
    (Untyped, "test_keys_are_typed"),
    (Closing, "test_close_is_idempotent"),
    (DictTier, "test_hits_are_copies"),
)


def contract(kind: type[DictTier], base: type[TierContract] = EncodingTierContract) -> TierContract:
    """Return the contract, applied to one kind of tier."""

    class Applied(base):  # type: ignore[valid-type, misc]  # the base is a parameter
        def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
            return kind(clock=clock)

    applied: TierContract = Applied()
    return applied


class TestDictTier(TierContract):
    """The smallest tier keeps the contract, so what fails below is the sloppiness."""

    def make_tier(self, tmp_path: Path, clock: ManualClock) -> Tier:
        """Return a dictionary."""
        return DictTier(clock=clock)


async def test_smallest_encoding_tier(tmp_path: Path) -> None:
    """Copies in and copies out is what the contract of encoding tiers asks for."""
    await contract(Encoding).test_hits_are_copies(tmp_path)  # type: ignore[attr-defined]  # of the encoding contract


@pytest.mark.parametrize(("kind", "test"), SLOPPY)
async def test_sloppiness_is_found(kind: type[DictTier], test: str, tmp_path: Path) -> None:
    """A tier that is wrong in one way fails the test that is there for it."""
    with pytest.raises((AssertionError, RuntimeError, CacheError)):
        await getattr(contract(kind), test)(tmp_path)
