"""The template of every tier: public methods validate, stamp time, count and emit; a backend writes four primitives.

Two faces, one storage. The *value* face (``get``, ``set``, ``insert``, …) is for people: any canonically encodable
object is a key, values go in and :class:`~acache.types.Hit` comes out. The *entry* face (``read``, ``write``,
``remove``) is for chains and engines: it takes a :class:`~acache.types.Key` and an :class:`~acache.types.Entry` with
its times, cost and factors.

A tier that breaks is a miss, a count and an event, never an error for the caller; only the caller's own mistakes (a
value or key that cannot be encoded) are raised. A backend is as small as this one, which holds nothing::

    class NullTier(Tier):
        async def _read(self, key, codec): return None
        async def _write(self, key, entry, codec, *, replace): return Written.FAILED
        async def _remove(self, key): return False
        async def _scan(self):
            for key in (): yield key
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, TypeVar

from acache.clock import SYSTEM_CLOCK, Clock, Duration, as_seconds
from acache.codecs import Codec, refuse_used_once
from acache.events import Events, RemovalCause, TierEvent, TierOperation, TierOutcome
from acache.exceptions import CacheError, ConfigurationError, ValueDecodingError
from acache.keys import encode_key
from acache.locks import Lock, Lockable, LockRank, acquire_lock, rank_of
from acache.stats import TierCounters, TierStatistics
from acache.tiers.stamps import Stamps
from acache.types import MISSING, Entry, Hit, Key, Missing, Written

__all__ = ("CLOCK_SKEW", "Tier", "attempt", "check_tiers", "count_stored", "encoded_keys")

_log = logging.getLogger("acache")

T = TypeVar("T")

#: An entry from another machine's clock may be this many seconds ahead before it counts as expired.
CLOCK_SKEW: Final = 300.0
#: Causes that are the tier's own doing: these are evictions, the others removals.
_OWN_CAUSES: Final = frozenset({"evicted", "expired"})


class Tier(ABC):
    """A key-value cache of one kind of storage. Safe to use from any task, event loop and thread.

    ``name`` appears in hits, events and statistics; ``on_corrupt`` says what a stored entry that fails verification is:
    ``"miss"`` (counted, recomputed) or ``"raise"`` (:class:`~acache.exceptions.ValueUnPicklingError`).
    """

    #: Whether all users of the storage see one order of writes.
    has_strong_consistency: bool = False
    #: Whether it can be read only: a chain writes past it, and what it holds is there for good.
    is_read_only: bool = False
    #: How far an entry reaches: 0 this process, 1 this host, 2 the fleet. A chain goes from narrow to wide.
    reach: Literal[0, 1, 2] = 0

    def __init__(
        self, *, name: str, clock: Clock = SYSTEM_CLOCK, on_corrupt: Literal["miss", "raise"] = "miss"
    ) -> None:
        if on_corrupt not in {"miss", "raise"}:
            raise ConfigurationError("on_corrupt", "expected 'miss' or 'raise'")
        self.name = name
        self.clock = clock
        self.on_corrupt = on_corrupt
        self.events = Events()
        #: Which tags were invalidated, as far as the users of this tier hear of each other.
        self.stamps = Stamps(clock)
        self._counters = TierCounters()
        self._lock = Lock()

    # --- the value face -------------------------------------------------------------------------------------------

    async def get(self, key: object) -> Hit[Any] | None:
        """Return what is stored under ``key``, or ``None`` for a miss. A stored ``None`` is a hit.

        Raises :class:`~acache.exceptions.KeyEncodingError` for an object that cannot be a key.
        """
        encoded = encode_key(key)
        found = self._read_now(encoded, None)
        if found is None:
            entry = await self.read(encoded)
        else:
            entry = self._counted(encoded, None if found is MISSING else found)
        return None if entry is None else self.hit(entry)

    async def insert(self, key: object, value: object, *, ttl: Duration | None = None) -> bool:
        """Store ``value`` only if ``key`` holds no live entry; tell whether it was stored. Atomic.

        Raises :class:`~acache.exceptions.ValueEncodingError` for a value the tier's codec cannot encode, and for one that
        can be used only once: a coroutine, a generator, any other iterator.
        """
        return await self.write(encode_key(key), self._stamp(value, ttl), replace=False) is Written.NEW

    async def set(self, key: object, value: object, *, ttl: Duration | None = None) -> bool:
        """Store ``value`` whatever was there; tell whether it was stored. Readers see the old value or the new one.

        Raises as :meth:`insert`.
        """
        return await self.write(encode_key(key), self._stamp(value, ttl), replace=True) is Written.NEW

    async def delete(self, key: object) -> bool:
        """Remove the entry; tell whether there was one."""
        return await self.remove(encode_key(key))

    async def contains(self, key: object) -> bool:
        """Tell whether ``key`` holds a live entry."""
        return await self.read(encode_key(key)) is not None

    async def get_many(self, keys: Iterable[object]) -> dict[Any, Hit[Any]]:
        """Return the hits among ``keys``, by key as given, in one round trip to the storage.

        Keys must be hashable; of those that are equal, such as ``1`` and ``True``, the first counts. Raises as :meth:`get`.
        """
        encoded = encoded_keys(keys)
        found = await self.read_many(encoded.values())
        return {given: self.hit(found[key]) for given, key in encoded.items() if key in found}

    async def set_many(self, values: Mapping[Any, object], *, ttl: Duration | None = None) -> int:
        """Store each value, in one round trip to the storage; return how many were stored.

        Each is atomic by itself. Raises as :meth:`set` for the first value that cannot be encoded, when the others are stored;
        and before anything is, for one that can be used only once.
        """
        encoded = encoded_keys(values)
        entries = {key: self._stamp(values[given], ttl) for given, key in encoded.items()}
        return count_stored(await self.write_many(entries, replace=True))

    async def delete_many(self, keys: Iterable[object]) -> int:
        """Remove each entry; return how many there were."""
        return sum([await self.delete(key) for key in keys])

    async def clear(self, *, prefix: str = "") -> None:
        """Remove every entry whose key begins with ``prefix``; every entry, without one."""
        try:
            await self._clear(prefix)
        except Exception as error:  # noqa: BLE001 - as in read()
            self._degrade("scan", None, error)

    async def keys(self) -> AsyncIterator[Key]:
        """Iterate over the keys of the entries, in no order; entries that come or go meanwhile may or may not show."""
        async for key in self._scan():
            yield key

    async def aclose(self) -> None:  # noqa: B027 - most tiers hold nothing open
        """Let go of what the tier holds open. Idempotent; the tier opens again when it is used again."""

    def lock(self, timeout: float | None = None) -> AbstractAsyncContextManager[object]:
        """Hold the tier's own lock for an ``async with`` block; reads and writes do not need it.

        ``timeout`` is in seconds, as :func:`acache.locks.acquire_lock` takes it.
        """
        return acquire_lock(self._lock, timeout)

    async def ranked_locks(self) -> Mapping[LockRank, Lockable]:
        """Say what :meth:`lock` locks, for :func:`acache.locks.acquire_many_locks`."""
        return {rank_of(self): self}

    def statistics(self) -> TierStatistics:
        """Return a frozen copy of the counters."""
        return self._counters.snapshot(self.name)

    def removals(self, prefix: str) -> Mapping[RemovalCause, int]:
        """Return how many entries of one function (the first 20 digits of its keys) went, by cause, since this was asked first."""
        return self._counters.removals_of(prefix)

    # --- the entry face -------------------------------------------------------------------------------------------

    async def read(self, key: Key, codec: Codec | None = None) -> Entry | None:
        """Return the live entry under ``key``. ``codec`` is what it was written with (default: the tier's own).

        A broken tier and, unless ``on_corrupt="raise"``, an entry that fails verification are misses.
        """
        found = self._read_now(key, codec)
        if found is not None:
            return self._counted(key, None if found is MISSING else found)
        return self._accepted(key, await attempt(self._read(key, codec)))

    async def read_many(self, keys: Collection[Key], codec: Codec | None = None) -> dict[Key, Entry]:
        """Return the live entries among those under ``keys``, in one round trip; otherwise as :meth:`read`."""
        found: dict[Key, Entry] = {}
        asked = tuple(dict.fromkeys(keys))
        outcomes = await attempt(self._read_many(asked, codec)) if asked else ()
        if isinstance(outcomes, Exception):
            outcomes = [outcomes] * len(asked)
        errors: list[CacheError] = []
        for key, outcome in zip(asked, outcomes, strict=True):
            try:
                entry = self._accepted(key, outcome)
            except CacheError as error:
                errors.append(error)
                continue
            if entry is not None:
                found[key] = entry
        if errors:
            raise errors[0]
        return found

    def read_now(self, key: Key, codec: Codec | None = None) -> Entry | Missing | None:
        """Return the live entry under ``key``, or that there is none, if that can be told without waiting.

        ``None``: only :meth:`read` can tell. An absence is not counted as a miss. Never raises; safe on an event loop.
        """
        found = self._read_now(key, codec)
        if found is None or found is MISSING:
            return found
        return self._counted(key, found) or MISSING

    async def write(self, key: Key, entry: Entry, *, replace: bool, codec: Codec | None = None) -> Written:
        """Store ``entry``: over a live one only with ``replace``. Atomic, also when cancelled.

        Raises :class:`~acache.exceptions.ValueEncodingError` when ``codec`` cannot encode the value.
        """
        written = self._noted(key, await attempt(self._write(key, entry, codec, replace=replace)))
        if isinstance(written, CacheError):
            raise written
        return written

    async def write_many(
        self, entries: Mapping[Key, Entry], *, replace: bool, codec: Codec | None = None
    ) -> dict[Key, Written | CacheError]:
        """Store each entry as :meth:`write` does, in one round trip; say what became of each.

        Instead of being raised, an error stands in the place of what it is about. Each entry is atomic by itself.
        """
        outcomes = await attempt(self._write_many(entries, codec, replace=replace)) if entries else ()
        if isinstance(outcomes, Exception):
            outcomes = [outcomes] * len(entries)
        return {key: self._noted(key, outcome) for key, outcome in zip(entries, outcomes, strict=True)}

    async def remove(self, key: Key) -> bool:
        """Remove the entry under ``key``; tell whether there was one."""
        try:
            removed = await self._remove(key)
        except Exception as error:  # noqa: BLE001 - as in read()
            self._degrade("remove", key, error)
            return False
        self._counters.removals += removed
        return removed

    async def factors(self, key: Key) -> Mapping[str, str] | None:
        """Return what the key of a stored entry was made of, live or not; ``None`` where that cannot be told."""
        try:
            return await self._factors(key)
        except Exception as error:  # noqa: BLE001 - as in read()
            self._degrade("read", key, error)
            return None

    def hit(self, entry: Entry) -> Hit[Any]:
        """Show an entry of this tier as a caller sees it: its ``ttl`` is over when it is stale, if it is kept longer."""
        age = entry.age(self.clock.monotonic(), self.clock.wall())
        end = entry.expires if entry.stale_at is None else entry.stale_at  # which is not later
        ttl = None if end is None else max(0.0, end - entry.created - age)
        return Hit(entry.value, self.name, age, ttl)

    # --- what a backend writes ------------------------------------------------------------------------------------

    @abstractmethod
    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        """Return what is stored; raise EntryRejectedError or ValueDecodingError for what cannot be trusted or read."""

    def _read_now(self, key: Key, codec: Codec | None) -> Entry | Missing | None:
        """Return what is stored, or that nothing is, without waiting; ``None`` if only _read() can tell. Never raises."""
        return None

    @abstractmethod
    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        """Store atomically; a dead entry (expired, of another version, corrupt) never stands in the way."""

    async def _read_many(self, keys: Sequence[Key], codec: Codec | None) -> Sequence[Entry | Exception | None]:
        """Do as _read() for each key, an error in the place of what raised it; a backend that has a faster way takes it."""
        return [await attempt(self._read(key, codec)) for key in keys]

    async def _write_many(
        self, entries: Mapping[Key, Entry], codec: Codec | None, *, replace: bool
    ) -> Sequence[Written | Exception]:
        """Do as _write() for each entry; otherwise as _read_many()."""
        return [await attempt(self._write(key, entry, codec, replace=replace)) for key, entry in entries.items()]

    @abstractmethod
    async def _remove(self, key: Key) -> bool:
        """Remove; tell whether there was something."""

    @abstractmethod
    def _scan(self) -> AsyncGenerator[Key]:
        """Yield the keys of what is stored."""

    async def _factors(self, key: Key) -> Mapping[str, str] | None:
        """Return the factors of an entry; a backend that need not decode the value for that does not."""
        entry = await self._read(key, None)
        return None if entry is None else entry.factors

    async def _clear(self, prefix: str) -> None:
        """Remove by prefix; a backend that can do better than one by one does."""
        async for key in self._scan():
            if key.startswith(prefix):
                await self._remove(key)

    def _is_live(self, entry: Entry) -> bool:
        """Judge by the wall clock: an entry from the future, beyond the skew, is dead, so a jump makes none immortal."""
        if entry.expires is None and entry.stale_at is None:
            return True
        wall = self.clock.wall()
        return not entry.is_expired(wall) and entry.created <= wall + CLOCK_SKEW

    # --- helpers --------------------------------------------------------------------------------------------------

    def _stamp(self, value: object, ttl: Duration | None) -> Entry:
        refuse_used_once(value, self.name)
        now = self.clock.wall()
        seconds = as_seconds(ttl)
        return Entry(value, now, None if seconds is None else now + seconds)

    def _counted(self, key: Key, entry: Entry | None) -> Entry | None:
        """Count what was found, and pass it on if it is live."""
        hit = entry is not None and self._is_live(entry)
        if hit:
            self._counters.hits += 1
        else:
            self._counters.misses += 1
        if self.events.active:
            self._emit("read", "hit" if hit else "miss", key)
        return entry if hit else None

    def _accepted(self, key: Key, outcome: Entry | Exception | None) -> Entry | None:
        """Count what a read came to, and pass it on if it is a live entry; raise what is the caller's."""
        if isinstance(outcome, ValueDecodingError):
            self._counters.rejections += 1
            self._emit("read", "rejected", key, getattr(outcome, "reason", "") or type(outcome).__name__)
            if self.on_corrupt == "raise":
                raise outcome
            outcome = None
        if isinstance(outcome, CacheError):
            raise outcome
        if isinstance(outcome, Exception):  # a tier that breaks is a miss and an event
            self._degrade("read", key, outcome)
            return None
        return self._counted(key, outcome)

    def _noted(self, key: Key, outcome: Written | Exception) -> Written | CacheError:
        """Count what a write came to, and pass it on; a tier that broke is an event."""
        if isinstance(outcome, CacheError):
            return outcome
        if isinstance(outcome, Exception):
            self._degrade("write", key, outcome)
            return Written.FAILED
        if outcome is Written.NEW:
            self._counters.writes += 1
            self._emit("write", "stored", key)
        elif outcome is Written.PRESENT:
            self._emit("write", "present", key)
        return outcome

    def _note_removal(self, key: Key, cause: RemovalCause) -> None:
        """Count and tell that an entry went. A backend calls this for each, once it is gone."""
        self._counters.note_removal(key, cause)
        self._tell_removal(key, cause)

    def _tell_removal(self, key: Key, cause: RemovalCause) -> None:
        self._emit("evict" if cause in _OWN_CAUSES else "remove", "done", key, cause)

    def _degrade(self, operation: TierOperation, key: Key | None, error: Exception) -> None:
        self._counters.failures += 1
        self._emit(operation, "failed", key, type(error).__name__)
        _log.debug("tier %s: %s failed with %s", self.name, operation, type(error).__name__)

    def _emit(
        self, operation: TierOperation, outcome: TierOutcome, key: Key | None = None, reason: str | None = None
    ) -> None:
        if self.events.active:
            self.events.emit(TierEvent(self.name, operation, outcome, key, reason))


def check_tiers(tiers: tuple[Any, ...]) -> tuple[Tier, ...]:
    """Return ``tiers``. Raises :class:`~acache.exceptions.ConfigurationError`, saying what to do, unless that is what they are."""
    for tier in tiers:
        if not isinstance(tier, Tier):
            kind = f"the class {tier.__name__}" if isinstance(tier, type) else f"a {type(tier).__name__}"
            raise ConfigurationError(
                "tiers", f"expected tiers, such as MemoryTier(), not {kind}; from_url() makes them of URLs"
            )
    return tiers


def count_stored(written: Mapping[Key, Written | CacheError]) -> int:
    """Return how many entries were stored; raise the first error among what became of them."""
    for outcome in written.values():
        if isinstance(outcome, CacheError):
            raise outcome
    return sum(outcome is Written.NEW for outcome in written.values())


def encoded_keys(keys: Iterable[Any]) -> dict[Any, Key]:
    """Return the keys as given, each with what it is encoded to; of those that are equal, the first."""
    return {key: encode_key(key) for key in dict.fromkeys(keys)}


async def attempt(call: Awaitable[T]) -> T | Exception:
    """Return what ``call`` comes to, its error too."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - judged by the caller
        return error
