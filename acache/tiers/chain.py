"""Several tiers as one: read the narrow one first, write the wide one first.

A hit below fills the tiers above. A write goes to the widest tier first, and an insert that loses there goes nowhere, so
that a narrow tier never holds what the shared one refused. Writes and removals of one key are serialized; a fill that
began before a write or removal of its key gives way to it (:class:`Watch`), so no tier ever gets an old value back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from typing import Any, final

from acache.codecs import Codec
from acache.events import RemovalCause
from acache.exceptions import BridgeError, CacheError, ConfigurationError
from acache.keys import encode_key
from acache.locks import BLOCKING, KeyedLock, Lockable, LockRank, acquire_many_locks
from acache.mutexes import make_mutex
from acache.stats import NO_REMOVALS
from acache.tiers.base import Tier, check_tiers, count_stored, encoded_keys
from acache.tiers.memory import MemoryTier
from acache.types import MISSING, Entry, Hit, Key, Written

__all__ = ("ChainTier", "Watch", "in_order")


class Watch:
    """Whether what a reader found below may still be copied above."""

    __slots__ = ("fresh",)

    def __init__(self) -> None:
        self.fresh = True

    def is_fresh(self) -> bool:
        """Tell."""
        return self.fresh


@final
class ChainTier(Tier):
    """Use ``tiers`` as one, from the narrowest reach (this process) to the widest. Chains inside are flattened.

    With ``agrees``, what the widest tier could not take is stored nowhere. ``limit`` says how many tiers, from the narrowest, may
    be read at the moment; ``None``: all.

    Raises :class:`~acache.exceptions.ConfigurationError` for what is no tier, for none at all, and for tiers with different clocks.
    """

    def __init__(
        self,
        *tiers: Tier,
        name: str = "chain",
        agrees: bool = False,
        limit: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.tiers: tuple[Tier, ...] = in_order(tiers)
        super().__init__(name=name, clock=self.tiers[0].clock)
        self._limit = limit
        self._writable = tuple(tier for tier in self.tiers if not tier.is_read_only)
        self.agrees = agrees
        self.reach = self.tiers[-1].reach
        self.has_strong_consistency = self.tiers[-1].has_strong_consistency
        #: Those that reach furthest say for all tiers which tags were invalidated.
        self.stamps = max((tier.stamps for tier in self.tiers), key=lambda stamps: stamps.reach)
        #: The tier that hot paths look into without waiting, if the chain has one.
        self.memory: MemoryTier | None = next((tier for tier in self.tiers if isinstance(tier, MemoryTier)), None)
        for tier in self.tiers:
            tier.events.add_parent(self.events)
        self._writing: KeyedLock[Key] = KeyedLock()
        self._mutex = make_mutex(self._refuse_fills)
        self._watches: dict[Key, set[Watch]] = {}

    async def get(self, key: object) -> Hit[Any] | None:
        """Return what the narrowest tier that has it holds; the hit names that tier."""
        found = await self.find(encode_key(key))
        return None if found is None else found[1].hit(found[0])

    async def get_many(self, keys: Iterable[object]) -> dict[Any, Hit[Any]]:
        """Return the hits among ``keys``, each from the narrowest tier that has it, in one round trip for each tier."""
        encoded = encoded_keys(keys)
        found = await self.find_many(encoded.values())
        hits = ((given, found.get(key)) for given, key in encoded.items())
        return {given: hit[1].hit(hit[0]) for given, hit in hits if hit is not None}

    async def read(self, key: Key, codec: Codec | None = None) -> Entry | None:
        """Return the entry of the narrowest tier that has it; fill the tiers above."""
        found = await self.find(key, codec)
        return None if found is None else found[0]

    async def read_many(self, keys: Collection[Key], codec: Codec | None = None) -> dict[Key, Entry]:
        """Do as :meth:`read` for each of ``keys``, in one round trip for each tier."""
        return {key: entry for key, (entry, _) in (await self.find_many(keys, codec)).items()}

    async def find(
        self,
        key: Key,
        codec: Codec | None = None,
        wanted: Callable[[Entry], bool] | None = None,
        *,
        fills: bool = True,
    ) -> tuple[Entry, Tier] | None:
        """Return the live entry and the tier that had it; fill the tiers above, unless only the answer is wanted.

        An entry that is not ``wanted`` is passed over, and replaced by one of a wider tier that is.
        """
        with self.watching(key) as watch:
            for depth, tier in enumerate(self._readable):
                entry = await self._unless_dead(key, await tier.read(key, codec))
                if entry is not None and (wanted is None or wanted(entry)):
                    self._counters.hits += 1
                    for above in reversed(self.tiers[:depth]):
                        if fills and not above.is_read_only:
                            await self._fill(above, key, entry, codec, watch, replace=wanted is not None)
                    return entry, tier
        self._counters.misses += 1
        return None

    async def find_many(
        self,
        keys: Iterable[Key],
        codec: Codec | None = None,
        wanted: Callable[[Key, Entry], bool] | None = None,
    ) -> dict[Key, tuple[Entry, Tier]]:
        """Do as :meth:`find` for each of ``keys``: each tier is asked once, for what no narrower one has."""
        found: dict[Key, tuple[Entry, Tier]] = {}
        left = tuple(dict.fromkeys(keys))
        asked = len(left)
        with ExitStack() as stack:
            watches = {key: stack.enter_context(self.watching(key)) for key in left}
            for depth, tier in enumerate(self._readable):
                entries = await tier.read_many(left, codec)
                here = {
                    key: entry
                    for key, entry in entries.items()
                    if (wanted is None or wanted(key, entry)) and await self._unless_dead(key, entry) is not None
                }
                for above in reversed(self.tiers[:depth]):
                    if here and not above.is_read_only:
                        await self._fill_many(above, here, codec, watches, replace=wanted is not None)
                found.update((key, (entry, tier)) for key, entry in here.items())
                left = tuple(key for key in left if key not in here)
                if not left:
                    break
        self._counters.hits += len(found)
        self._counters.misses += asked - len(found)
        return found

    def find_now(self, key: Key, codec: Codec | None = None) -> tuple[Entry, Tier] | None:
        """Do what :meth:`find` does as far as that needs no waiting; ``None`` is not a miss."""
        with self.watching(key) as watch:
            for depth, tier in enumerate(self._readable):
                entry = tier.read_now(key, codec)
                if entry is not None and entry is not MISSING and entry.tags:
                    dead = self.stamps.is_dead_now(key, entry)
                    if dead:
                        self._discard(key, entry)
                    entry = None if dead is None else MISSING if dead else entry
                if entry is None:
                    return None  # a wider tier has no say before this one
                if entry is not MISSING:
                    self._counters.hits += 1
                    if depth and self.memory is not None:
                        self._fill_memory(self.memory, key, entry, watch)
                    return entry, tier
        return None

    async def agreed(self, key: Key, codec: Codec | None = None) -> Entry | None:
        """Return what all who share the tiers agree on, as far as it may be read: from read-only tiers, then from the widest.

        What a narrower tier holds may have been changed by who shares it. Fills nothing.
        """
        tiers = self._readable
        fixed = [tier for tier in tiers if tier.is_read_only]
        for tier in (*fixed, *(tier for tier in reversed(tiers) if not tier.is_read_only)):
            entry = await self._unless_dead(key, await tier.read(key, codec))
            if entry is not None:
                return entry
        return None

    async def publish(
        self, key: Key, entry: Entry, *, replace: bool, codec: Codec | None, still: Callable[[], bool]
    ) -> Written:
        """Write as :meth:`write` does, if ``still()`` holds once every earlier change of ``key`` is through.

        What was born before one of its tags was invalidated is not written, nor what would have to wait for ever.
        """
        try:
            holding = await self._writing.acquire(key, BLOCKING)
        except BridgeError as error:
            self._degrade("write", key, error)
            return Written.FAILED
        try:
            if not still() or (entry.tags and await self.stamps.is_dead(key, entry, fresh=True)):
                return Written.FAILED
            if self.memory is not None:
                node = self.memory.node(key)  # what is dead there must not stand in the way, nor pass for replaced
                await self._unless_dead(key, None if node is None else node.entry)
            return await self._write_through(key, entry, codec, replace=replace)
        finally:
            self._writing.release(key, holding)

    async def aclose(self) -> None:
        """Close every tier."""
        for tier in self.tiers:
            await tier.aclose()

    def lock(self, timeout: float | None = None) -> AbstractAsyncContextManager[object]:
        """Hold the locks of all tiers, or none; ``timeout`` seconds bound the whole."""
        return acquire_many_locks(*self.tiers, timeout=timeout)

    async def ranked_locks(self) -> Mapping[LockRank, Lockable]:
        """Say what :meth:`lock` locks: what its tiers do."""
        return {rank: part for tier in self.tiers for rank, part in (await tier.ranked_locks()).items()}

    def removals(self, prefix: str) -> Mapping[RemovalCause, int]:
        """Return how many entries of one function went from all tiers together, by cause, since this was asked first."""
        parts = [tier.removals(prefix) for tier in self.tiers]
        return {cause: sum(part[cause] for part in parts) for cause in NO_REMOVALS}

    # --- the primitives -------------------------------------------------------------------------------------------

    @property
    def _readable(self) -> tuple[Tier, ...]:
        return self.tiers[: self._limit()]

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        return await self.read(key, codec)

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        async with self._writing.hold(key, BLOCKING):
            return await self._write_through(key, entry, codec, replace=replace)

    async def _write_through(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        result = Written.FAILED
        if not replace and await self._is_fixed(key, codec):
            return Written.PRESENT
        try:
            for tier in reversed(self._writable):
                self._end_watches(key)
                # Once the wider tier has taken it, a narrower one must hold the same.
                over = replace or result is Written.NEW
                try:
                    written = await tier.write(key, entry, replace=over, codec=codec)
                except ConfigurationError:  # of a tier, which has told; it must not cost the caller his result
                    written = Written.FAILED
                if written is Written.PRESENT:
                    return written
                if written is Written.NEW:
                    result = written
                elif self.agrees and result is not Written.NEW:
                    return Written.FAILED  # a narrower tier must not hold what the others never see
        except BaseException:
            # Cancelled half-way: a wider tier may have the new entry, so memory must not go on serving the old one.
            self._forget((key,))
            raise
        return result

    async def _write_many(
        self, entries: Mapping[Key, Entry], codec: Codec | None, *, replace: bool
    ) -> Sequence[Written | Exception]:
        if not replace:  # which tiers have to agree on is another matter for each entry
            return await super()._write_many(entries, codec, replace=replace)
        async with self._holding(entries.keys()):
            return await self._replace_all(entries, codec)

    async def _replace_all(self, entries: Mapping[Key, Entry], codec: Codec | None) -> Sequence[Written | Exception]:
        results: dict[Key, Written | CacheError] = dict.fromkeys(entries, Written.FAILED)
        left = dict(entries)
        try:
            for tier in reversed(self._writable):
                for key in left:
                    self._end_watches(key)
                for key, outcome in (await tier.write_many(left, replace=True, codec=codec)).items():
                    written = Written.FAILED if isinstance(outcome, ConfigurationError) else outcome
                    if written is Written.NEW or isinstance(written, CacheError):
                        results[key] = written
                    if isinstance(written, CacheError) or (self.agrees and written is Written.FAILED):
                        del left[key]  # a narrower tier must not hold what a wider one refused
        except BaseException:
            self._forget(left)  # as in _write_through()
            raise
        self._forget(key for key, result in results.items() if isinstance(result, CacheError))
        return tuple(results.values())

    def _forget(self, keys: Iterable[Key]) -> None:
        if self.memory is not None:
            for key in keys:
                self.memory.forget(key)

    @asynccontextmanager
    async def _holding(self, keys: Collection[Key]) -> AsyncGenerator[None]:
        """Let no other change of ``keys`` happen. All take them in one order, so none waits for another in a circle."""
        async with AsyncExitStack() as stack:
            for key in sorted(keys):
                await stack.enter_async_context(self._writing.hold(key, BLOCKING))
            yield

    async def _is_fixed(self, key: Key, codec: Codec | None) -> bool:
        """Tell whether a tier that cannot be written holds ``key``."""
        for tier in self.tiers:
            if tier.is_read_only and await tier.read(key, codec) is not None:
                return True
        return False

    async def _remove(self, key: Key) -> bool:
        removed = False
        async with self._writing.hold(key, BLOCKING):
            for tier in reversed(self._writable):
                self._end_watches(key)
                removed = await tier.remove(key) or removed
        return removed

    async def _factors(self, key: Key) -> Mapping[str, str] | None:
        for tier in self._readable:
            factors = await tier.factors(key)
            if factors is not None:
                return factors
        return None

    async def _clear(self, prefix: str) -> None:
        # What is being written now is through before the clearing begins; what starts later is newer than it.
        under_way = self._writing.keys()
        for key in under_way:
            if key.startswith(prefix):
                async with self._writing.hold(key, BLOCKING):
                    pass
        for tier in reversed(self._writable):
            self._end_watches(None)
            await tier.clear(prefix=prefix)

    async def _scan(self) -> AsyncGenerator[Key]:
        seen: set[Key] = set()
        for tier in self._readable:
            async for key in tier.keys():
                if key not in seen:
                    seen.add(key)
                    yield key

    # --- tags -----------------------------------------------------------------------------------------------------

    async def _unless_dead(self, key: Key, entry: Entry | None) -> Entry | None:
        """Return what was found, unless a tag of its has been invalidated since; then memory lets go of it."""
        if entry is None or not entry.tags or not await self.stamps.is_dead(key, entry):
            return entry
        self._discard(key, entry)
        return None

    def _discard(self, key: Key, entry: Entry) -> None:
        if self.memory is not None:
            self.memory.discard(key, entry)

    # --- fills ----------------------------------------------------------------------------------------------------

    async def _fill(
        self, tier: Tier, key: Key, entry: Entry, codec: Codec | None, watch: Watch, *, replace: bool
    ) -> None:
        if isinstance(tier, MemoryTier):
            self._fill_memory(tier, key, entry, watch, replace=replace)
            return
        with suppress(BridgeError):  # the fill would wait for ever
            async with self._writing.hold(key, BLOCKING):
                if watch.fresh:
                    await tier.write(key, entry, replace=replace, codec=codec)

    async def _fill_many(
        self,
        tier: Tier,
        entries: Mapping[Key, Entry],
        codec: Codec | None,
        watches: Mapping[Key, Watch],
        *,
        replace: bool,
    ) -> None:
        if isinstance(tier, MemoryTier):
            for key, entry in entries.items():
                self._fill_memory(tier, key, entry, watches[key], replace=replace)
            return
        with suppress(BridgeError):  # as in _fill()
            async with self._holding(entries.keys()):
                fresh = {key: entry for key, entry in entries.items() if watches[key].fresh}
                count_stored(await tier.write_many(fresh, replace=replace, codec=codec))

    def _fill_memory(self, memory: MemoryTier, key: Key, entry: Entry, watch: Watch, *, replace: bool = False) -> None:
        with suppress(ConfigurationError):  # as in _write_through()
            # No change of the key can come between the look at the watch and the write, from any thread.
            memory.put(key, entry, replace=replace, still=watch.is_fresh)

    @contextmanager
    def watching(self, key: Key) -> Generator[Watch]:
        """Tell, as long as the block lasts, whether ``key`` is what it was: no write or removal of it has begun."""
        watch = Watch()
        # A finalizer may end other watches of this key in the middle of this, and take their set out of the table: look again.
        with self._mutex:
            while True:
                watches = self._watches.setdefault(key, set())
                watches.add(watch)
                if self._watches.get(key) is watches:
                    break
        try:
            yield watch
        finally:
            with self._mutex:
                watches.discard(watch)
                if not watches and self._watches.get(key) is watches:
                    self._watches.pop(key, None)  # it may have gone by now

    def _end_watches(self, key: Key | None) -> None:
        """Refuse the fills under way for ``key``, or for every key."""
        with self._mutex:
            groups: Iterable[Collection[Watch]]
            groups = list(self._watches.values()) if key is None else (self._watches.get(key, ()),)
            for watches in groups:
                for watch in list(watches):
                    watch.fresh = False

    def _refuse_fills(self) -> None:
        """Let a forked child copy nothing that another thread was reading, and forget who was."""
        self._end_watches(None)
        self._watches.clear()


def in_order(tiers: Iterable[Tier]) -> tuple[Tier, ...]:
    """Return ``tiers``, those of chains one by one, each once, from the narrowest reach to the widest.

    Raises :class:`~acache.exceptions.ConfigurationError` for what is no tier, for none at all, and for tiers with different clocks.
    """
    flat: list[Tier] = []
    for tier in check_tiers(tuple(tiers)):
        flat += tier.tiers if isinstance(tier, ChainTier) else (tier,)
    if not flat:
        raise ConfigurationError("tiers", "give at least one")
    for tier in flat[1:]:
        if tier.clock is not flat[0].clock:  # what one tier writes down, another compares with its own time
            names = f"{flat[0].name!r} and {tier.name!r}"
            raise ConfigurationError("clock", f"the tiers {names} have different ones; give all tiers one clock")
    return tuple(sorted(dict.fromkeys(flat), key=lambda tier: tier.reach))
