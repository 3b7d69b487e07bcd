"""Which tags were invalidated, and before what: the one thing that entries of a group need not be asked for.

An invalidation gives its tags a number, their *stamp*. An entry is *born* with the highest number there was when its
computation began, and is dead if a tag of its has a higher one. So an invalidation costs the same whatever there is to
invalidate; and who began before it, in whatever process, and ends after it, stores nothing that anybody is served.

The numbers are no times, or two events of one moment would have no order: each is higher than all before. But they begin from
the wall clock, so that a directory which is deleted and made again goes on where it was.

A namespace has a *floor* too, which counts as a stamp of each of its tags. It takes their place when they become too many, and
when the namespace is cleared: forgetting a stamp would bring back what was being computed when it was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal, final

from acache.clock import Clock
from acache.events import TierOperation
from acache.files import FLOOR_DIGITS, LATEST, MAX_STAMPS, StampFiles, in_thread, in_thread_to_the_end
from acache.listeners import Listeners
from acache.mutexes import make_mutex
from acache.types import Entry, Key

__all__ = ("LIFETIME", "SharedStamps", "Stamps", "stamp_names")

#: Seconds for which a copy of what other processes share is believed.
LIFETIME: Final = 1.0
_NAME_DIGITS: Final = 64
#: Copies of stamps that are kept; they can be read again.
_MAX_COPIES: Final = 100_000
_NANOSECONDS: Final = 1_000_000_000


def stamp_names(namespace: str, tags: Iterable[str]) -> tuple[str, ...]:
    """Return the names of what can kill entries with ``tags``: the floor of the namespace (its digits), and their stamps."""
    return (namespace, *(_stamp_name(namespace, tag) for tag in tags))


@lru_cache(maxsize=16384)
def _stamp_name(namespace: str, tag: str) -> str:
    return namespace + sha256(tag.encode("utf-8", "surrogatepass")).hexdigest()[: _NAME_DIGITS - FLOOR_DIGITS]


class Stamps:
    """The stamps of one process. At most ``limit`` are kept. Safe from any thread."""

    #: How far an invalidation reaches: 0 this process, 1 this host.
    reach: Literal[0, 1] = 0

    def __init__(self, clock: Clock, limit: int = MAX_STAMPS) -> None:
        self._clock: Final = clock
        self._limit: Final = limit
        # Held while a few numbers are compared and set, and listeners hear of it; those do not wait.
        self._mutex: Final = make_mutex(self._mend)
        self._values: dict[str, int] = {}
        #: No stamp that is known is higher. As long as it is what it was, nothing was invalidated.
        self.latest = 0
        #: Hear of every invalidation before it is over, or before one of another process is known here.
        self.listeners: Final = Listeners("stamps")

    @property
    def good_until(self) -> float | None:
        """Until when what is known can be believed, in monotonic seconds; ``None``: till it changes."""
        return None

    def is_dead_now(self, key: Key, entry: Entry, *, fresh: bool = False) -> bool | None:
        """Tell whether a tag of ``entry`` was invalidated, or ``None`` if that needs waiting. Never waits.

        With ``fresh`` all that was invalidated before counts; else others may have done it within the last second.
        """
        newest = self._newest_now(stamp_names(key[:FLOOR_DIGITS], entry.tags), fresh=fresh)
        return None if newest is None else newest > entry.born

    async def is_dead(self, key: Key, entry: Entry, *, fresh: bool = False) -> bool:
        """Do as :meth:`is_dead_now`, and wait if need be."""
        return await self.newest(key[:FLOOR_DIGITS], entry.tags, fresh=fresh) > entry.born

    async def newest(self, namespace: str, tags: Iterable[str], *, fresh: bool = False) -> int:
        """Return the highest stamp among ``tags``."""
        return self._newest_now(stamp_names(namespace, tags)) or 0

    def newest_now(self, namespace: str, tags: Iterable[str]) -> int | None:
        """Do as :meth:`newest`, or return ``None`` if that needs waiting. Never waits."""
        return self._newest_now(stamp_names(namespace, tags))

    async def now(self) -> int:
        """Return the number that what begins now is born with."""
        return self.latest

    def now_now(self) -> int | None:
        """Do as :meth:`now`, or return ``None`` if that needs waiting. Never waits."""
        return None if self._newest_now((), fresh=True) is None else self.latest

    async def stamp(self, namespace: str, tags: Iterable[str]) -> None:
        """Kill what has one of ``tags`` and was born before."""
        names = stamp_names(namespace, tags)[1:]
        with self._mutex:
            value = self._next()
            if len(self._values) + len(names) > self._limit:
                floors = {name[:FLOOR_DIGITS] for name in (*self._values, *names)}
                self._values = dict.fromkeys(floors, value)
            else:
                self._values.update(dict.fromkeys(names, value))
            self._raise(value)  # last: who sees the old number and then no stamp looks at the number again

    async def forget(self, namespace: str) -> None:
        """Kill what has any tag in ``namespace`` (in all of them, if it is empty) and was born before; keep no stamps."""
        with self._mutex:
            value = self._next()
            kept = {name: stamp for name, stamp in self._values.items() if not name.startswith(namespace)}
            floors = {name[:FLOOR_DIGITS] for name in self._values if name.startswith(namespace)}
            self._values = {**kept, **dict.fromkeys(floors, value)}
            self._raise(value)

    def _mend(self) -> None:
        """Know, in a forked child, of every stamp: a thread may have set some, and not come to the number itself."""
        self._raise(max(self.latest, *self._values.values(), 0))

    def _raise(self, value: int) -> None:
        self.latest = value
        self.listeners.tell()

    def _newest_now(self, names: Collection[str], *, fresh: bool = False) -> int | None:
        values = self._values
        return max([values.get(name, 0) for name in names], default=0)

    def _next(self) -> int:
        return max(self.latest + 1, int(self._clock.wall() * _NANOSECONDS))


@final
class SharedStamps(Stamps):
    """The stamps of a directory, and a copy of those that were asked for. ``failed`` hears of files that cannot be used.

    What cannot be read counts as it was; what cannot be written holds in this process, and is written with what comes next.
    """

    reach: Literal[0, 1] = 1

    def __init__(self, files: StampFiles, clock: Clock, failed: Callable[[TierOperation, OSError], object]) -> None:
        super().__init__(clock)
        self._files: Final = files
        self._failed: Final = failed
        #: When what others did was last looked at, in monotonic seconds.
        self._looked_at = -math.inf
        #: Stamps that no file has.
        self._unwritten: dict[str, int] = {}

    @property
    def good_until(self) -> float | None:
        """Until when what is known can be believed, in monotonic seconds."""
        return self._looked_at + LIFETIME

    async def newest(self, namespace: str, tags: Iterable[str], *, fresh: bool = False) -> int:
        """Return the highest stamp among ``tags``."""
        names = stamp_names(namespace, tags)
        found = self._newest_now(names, fresh=fresh)
        return await in_thread(self._newest_here, names, fresh) if found is None else found

    async def now(self) -> int:
        """Return the number that what begins now is born with."""
        if self.now_now() is None:
            await in_thread(self._newest_here, (), True)
        return self.latest

    def is_dead_here(self, key: Key, entry: Entry) -> bool:
        """Tell whether a tag of ``entry`` was invalidated before, by whomever. In a thread: it blocks."""
        return self._newest_here(stamp_names(key[:FLOOR_DIGITS], entry.tags), True) > entry.born

    async def stamp(self, namespace: str, tags: Iterable[str]) -> None:
        """Kill what has one of ``tags`` and was born before. Cancelled, it is done completely or not at all."""
        await in_thread_to_the_end(self._stamp, stamp_names(namespace, tags)[1:])

    async def forget(self, namespace: str) -> None:
        """Kill what has any tag in ``namespace`` (in all of them, if it is empty) and was born before; keep no stamps."""
        await in_thread_to_the_end(self._forget, namespace)

    # --- reading --------------------------------------------------------------------------------------------------

    def _newest_now(self, names: Collection[str], *, fresh: bool = False) -> int | None:
        return self._newest(names, self._files.read_now, fresh)

    def _newest_here(self, names: Collection[str], fresh: bool = False) -> int:
        return self._newest(names, self._read, fresh) or 0

    def _newest(self, names: Collection[str], read: Callable[[str], int | None], fresh: bool) -> int | None:
        moment = self._clock.monotonic()
        if fresh or moment - self._looked_at >= LIFETIME:
            latest = read(LATEST)
            if latest is None:
                return None
            self._learn({}, latest, moment)
        # Taken before anything is read: what was read for an older copy must not get into a later one.
        copies, newest = self._values, 0
        for name in names if self.latest else ():
            value = copies.get(name)
            if value is None:
                value = read(name)
                if value is None:
                    return None
                copies[name] = value
            newest = max(newest, value, self._unwritten.get(name, 0))
        return newest

    def _read(self, name: str) -> int:
        try:
            return self._files.read(name, self._next())
        except OSError as error:
            self._failed("read", error)
            return self.latest if name == LATEST else 0

    def _learn(self, copies: dict[str, int], latest: int, moment: float) -> None:
        """Begin a new copy if anything was invalidated since the last one; a number that is lower is an older one."""
        with self._mutex:
            if latest > self.latest:
                self._values = copies
                self._raise(latest)
            elif len(self._values) > _MAX_COPIES:
                self._values = copies
            self._looked_at = max(moment, self._looked_at)

    # --- writing --------------------------------------------------------------------------------------------------

    def _stamp(self, names: Collection[str]) -> None:
        moment, least = self._clock.monotonic(), self._next()
        late = tuple(self._unwritten)
        try:
            value = self._files.stamp({*names, *late}, least)
        except OSError as error:
            self._failed("write", error)
            value = least
            self._keep(names, value)
        else:
            self._drop(late)
        self._learn(dict.fromkeys(names, value), value + 1, moment)

    def _forget(self, namespace: str) -> None:
        moment, least = self._clock.monotonic(), self._next()
        try:
            value = self._files.forget(namespace, least)
        except OSError as error:
            self._failed("write", error)
            return
        self._learn({}, value + 1, moment)

    def _keep(self, names: Collection[str], value: int) -> None:
        with self._mutex:
            self._unwritten = {**self._unwritten, **dict.fromkeys(names, value)}
            if len(self._unwritten) > self._limit:
                self._unwritten = dict.fromkeys({name[:FLOOR_DIGITS] for name in self._unwritten}, value)

    def _drop(self, names: Collection[str]) -> None:
        with self._mutex:
            self._unwritten = {name: value for name, value in self._unwritten.items() if name not in names}
