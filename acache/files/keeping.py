"""What a user of a limited shelf does at each write and each hit, so that the limits hold and what is used stays.

At a write: enter it into the ledger. Above the limit somebody is asked to cull behind the writers' backs; five percent
above, and in a directory that was never counted, the writer does it himself before he goes on, or waits for who is at it.
So each writer is at most one file beyond. If that comes to nothing (who culls was stopped, or the disk fails) he writes no
more beyond, and does not wait again: until the limit holds without him, or somebody can cull again, his files are refused.

At a hit: remember the key, and how often, no more. Once a minute the files of the keys that were remembered are renewed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, final

from acache.exceptions import CacheError, EntryRejectedError
from acache.files.choosing import COUNTING
from acache.files.culling import Culled, Culler, Limits
from acache.files.ledger import Amount, Page
from acache.files.shard import Judge, Published
from acache.files.shelf import Shelf
from acache.files.system import BytesLike, FileSystem
from acache.types import Key

__all__ = ("Keeper", "size_of")

#: Keys of hits remembered at most, and seconds between two renewals of their files.
_REMEMBERED: Final = 4096
_RENEWAL: Final = 60.0
#: Seconds between two searches for what is too old: a quarter of the age, but no less and no more than this.
_AGE_LEAST, _AGE_MOST = 60.0, 3600.0
#: How long a writer waits for who culls: five seconds, and then that one was stopped.
_PAUSES: Final = (0.005, 0.01, 0.02, 0.05, *(0.1,) * 49)
#: The digits of a key that name its shard.
_SHARD: Final = slice(62, 64)


@final
class Keeper:
    """Keeps ``shelf`` within ``limits``. ``wall`` reads the wall clock; ``told`` hears what was culled, in any thread."""

    def __init__(
        self,
        shelf: Shelf,
        limits: Limits,
        files: FileSystem,
        wall: Callable[[], float],
        told: Callable[[Sequence[Culled]], object],
    ) -> None:
        self.limits: Final = limits
        self._shelf: Final = shelf
        self._files: Final = files
        self._wall: Final = wall
        self._told: Final = told
        self._used: dict[Key, int] = {}
        self._renew_at = self._age_at = float("-inf")
        #: Not due again before this time, while a thread is at it.
        self._tidied_by = float("-inf")
        #: Whether the last write was above the limit.
        self._is_over = False
        #: Whether culling came to nothing when it was needed.
        self._is_stuck = False

    def refuses(self, size: int) -> bool:
        """Tell whether a file of ``size`` bytes is larger than all files may be together."""
        return self.limits.max_bytes is not None and size > self.limits.max_bytes

    def publish(self, key: Key, buffers: Sequence[BytesLike], *, replace: bool, judge: Judge) -> Published | None:
        """Store as :meth:`~acache.files.shelf.Shelf.publish` does, and see to the limits. Blocks.

        ``None``: refused, since there is no room and nobody can make any.
        """
        amount = Amount(size_of(buffers), 1)
        if self._is_stuck and not self._has_room(amount):
            return None
        published = self._shelf.publish(key, buffers, replace=replace, judge=judge)
        if published.stored and self.limits.are_of_size:
            try:
                page = self._shelf.ledger.add(int(key[_SHARD], 16), amount)
            except BlockingIOError:
                self._is_stuck = True
                return published
            if page is not None:
                self._is_over = not self.limits.fits(page.total)
                if self.limits.is_crowded(page) and not self._is_stuck:
                    self._is_stuck = not self._makes_room()
        return published

    def note(self, key: Key) -> None:
        """Remember a hit. Never waits."""
        used = self._used
        if key in used or len(used) < _REMEMBERED:
            used[key] = used.get(key, 0) + 1

    def is_due(self, now: float, *, writes: bool) -> bool:
        """Tell whether :meth:`tidy` should be called at ``now`` monotonic seconds; only ``writes`` make it cull.

        Once it was told, who asks in the next minute need not call it too.
        """
        due = now >= self._renew_at and bool(self._used)
        if writes:
            due = due or self._is_over or (self.limits.max_age is not None and now >= self._age_at)
        if not due or now < self._tidied_by:
            return False
        self._tidied_by = now + _RENEWAL
        return True

    def tidy(self, now: float, *, writes: bool) -> None:
        """Do what is due at ``now`` monotonic seconds, if the shelf is still open.

        Blocks; raises nothing: the next write tells what is wrong.
        """
        with suppress(OSError, CacheError), self._shelf.apart(force=False) as shelf:
            if shelf is not None:
                self._tidy(shelf, now, writes=writes)
        self._tidied_by = float("-inf")

    def cull(self, *, thorough: bool = False) -> int | None:
        """Remove what is too much, and what is too old of what is seen; return how many files.

        ``thorough`` looks at everything. ``None``: somebody else is at it. Raises :class:`OSError`.
        """
        with self._shelf.apart(force=True) as shelf:
            return None if shelf is None else self._cull(shelf, thorough=thorough)

    def _tidy(self, shelf: Shelf, now: float, *, writes: bool) -> None:
        if writes and self.limits.max_age is not None and now >= self._age_at:
            pause = min(max(_AGE_LEAST, self.limits.max_age / 4), _AGE_MOST)
            self._age_at = now + pause
            searched = 0 <= self._wall() - _page(shelf).aged < pause  # by anybody
            if not searched:
                self._cull(shelf, thorough=True)
        if writes and self._is_over:
            self._is_over = False
            self._cull(shelf)
        elif now >= self._renew_at:
            self._renew_at = now + _RENEWAL
            self._renew(shelf)

    def _cull(self, shelf: Shelf, *, thorough: bool = False) -> int | None:
        self._renew(shelf)
        gone = Culler(shelf, self.limits).cull(self._wall(), thorough=thorough)
        if gone:
            self._told(gone)
        return None if gone is None else len(gone)

    def _renew(self, shelf: Shelf) -> None:
        used, self._used = self._used, {}  # a hit that another thread notes in this moment may be lost
        counts = self.limits.policy in COUNTING
        for key, uses in tuple(used.items()):
            with suppress(OSError, EntryRejectedError):
                shelf.renew(key, uses if counts else 0)

    def _makes_room(self) -> bool:
        """Cull, or wait until somebody has; tell whether that was done."""
        with suppress(OSError), self._shelf.apart(force=False) as shelf:
            if shelf is None:
                return True
            for pause in _PAUSES:
                if self._cull(shelf) is not None or not self.limits.is_crowded(_page(shelf)):
                    return True
                self._files.pause(pause)
        return False

    def _has_room(self, amount: Amount) -> bool:
        """Tell whether so much may be stored though culling came to nothing before; try it again, and wait for nobody."""
        try:
            with self._shelf.ledger.open(wait=False) as page:
                fits = self.limits.fits_roughly(page, amount)
        except BlockingIOError:
            return False
        except OSError:  # without a ledger there is no limit to keep
            return True
        with suppress(OSError), self._shelf.apart(force=True) as shelf:
            if shelf is not None and self._cull(shelf) is not None:
                self._is_stuck = False
                return True
        return fits


def _page(shelf: Shelf) -> Page:
    with shelf.ledger.open() as page:
        return page


def size_of(buffers: Sequence[BytesLike]) -> int:
    """Return how many bytes ``buffers`` hold together."""
    return sum(buffer.nbytes if isinstance(buffer, memoryview) else len(buffer) for buffer in buffers)
