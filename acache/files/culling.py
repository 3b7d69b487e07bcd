"""Keep a directory within its limits: look at a part of it, remove what is worth least there, and go on only as needed.

Digests spread files evenly over the shards, so that a few shards are a fair sample of all. A hand goes round them. A cull
takes shards until it has a thousand files or all there are, sets the ledger right for them, and removes the worst quarter
at most, until the ledger is five percent below the limit. So an eviction costs some four looks at a file, however many
files there are, and what goes is among the worst quarter of a sample, not the very worst of all.

What is worth least (:mod:`acache.files.choosing`), nobody wrote down at a read. A file's time of change tells when it was
published or, to within a minute, when a process last *renewed* it because of hits (:class:`~acache.files.keeping.Keeper`): so uses
are shared by all processes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from acache.files.choosing import Choice, DiskPolicy, choose
from acache.files.ledger import NOTHING, SHARDS, Amount, Page
from acache.files.shelf import Shelf
from acache.files.stock import DAMAGED, Seen, Worth
from acache.types import Key

__all__ = ("Culled", "Culler", "Limits")

#: Files that make a fair sample, and the part of them that may go.
_SAMPLE: Final = 1024
_PART: Final = 4
#: A cull begins above the limit and ends at this part of it; above the other part writers wait for it.
_LOW: Final = 0.95
_HIGH: Final = 1.05

#: What went, and why.
Culled: TypeAlias = tuple[Key, Literal["evicted", "expired", "corrupt"]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a directory may hold: bytes and number of files, and their age in seconds; ``None`` is no limit.

    ``policy`` says what goes first (:mod:`acache.files.choosing`). ``worth`` looks into a file and returns the seconds it took to
    make, or a negative number if it is dead; without it all files are worth the same.
    """

    max_bytes: int | None = None
    max_files: int | None = None
    max_age: float | None = None
    policy: DiskPolicy = "sieve"
    worth: Worth | None = None

    @property
    def are_of_size(self) -> bool:
        """Whether there is a limit that writes can exceed."""
        return self.max_bytes is not None or self.max_files is not None

    def fits(self, amount: Amount, part: float = 1.0) -> bool:
        """Tell whether ``amount`` is within ``part`` of the limits."""
        return self.excess(amount, part) == (0, 0)

    def excess(self, amount: Amount, part: float = 1.0) -> Amount:
        """Return what is above ``part`` of the limits."""
        return Amount(_above(amount.bytes, self.max_bytes, part), _above(amount.files, self.max_files, part))

    def fits_roughly(self, page: Page, more: Amount = NOTHING) -> bool:
        """Tell whether what is there was counted, and is with ``more`` at most five percent above the limits."""
        return page.is_counted and self.fits(page.total.plus(more), _HIGH)

    def is_crowded(self, page: Page) -> bool:
        """Tell whether writers must wait until somebody has culled, or counted."""
        return not self.fits_roughly(page)


def _above(number: int, limit: int | None, part: float) -> int:
    return 0 if limit is None else max(0, number - math.floor(limit * part))


@dataclass(slots=True)
class _Look:
    """What one shard held on paper before the look at it, what was found, and what of that is left."""

    shard: int
    paper: Amount
    found: list[Seen]
    kept: Amount
    hand: int = 0


@dataclass(slots=True)
class _Tally:
    """What one round has come to: on paper before it, as found, and as left."""

    shards: int = SHARDS
    paper: Amount = NOTHING
    found: Amount = NOTHING
    kept: Amount = NOTHING

    def count(self, looks: Iterable[_Look]) -> None:
        """Add what was looked at."""
        for look in looks:
            self.shards -= 1
            self.paper = self.paper.plus(look.paper)
            self.found = self.found.plus(_amount(look.found))

    def keep(self, looks: Iterable[_Look]) -> None:
        """Add what is left of it."""
        for look in looks:
            self.kept = self.kept.plus(look.kept)

    def believed(self, total: Amount, looks: Sequence[_Look]) -> Amount:
        """Estimate what there is. On paper is also what was replaced or deleted; the sample tells how much of it that is."""
        known = self.kept.plus(_sum(_amount(look.found) for look in looks))
        unknown = total.minus(self.kept).minus(_sum(look.paper for look in looks))
        return Amount(
            known.bytes + unknown.bytes * self.found.bytes // max(1, self.paper.bytes),
            known.files + unknown.files * self.found.files // max(1, self.paper.files),
        )


@final
class Culler:
    """Removes what is too much or too old below one shelf. All methods block; any thread may call them."""

    def __init__(self, shelf: Shelf, limits: Limits) -> None:
        self._shelf: Final = shelf
        self._limits: Final = limits
        self._ledger: Final = shelf.ledger

    def cull(self, now: float, *, thorough: bool = False) -> list[Culled] | None:
        """Bring the directory within its limits; return what went, or ``None`` if somebody else is at it.

        ``thorough`` looks at every shard, for what is older than ``max_age`` at ``now`` seconds of the wall clock. Raises
        :class:`OSError`.
        """
        with self._shelf.lock_culling() as alone:
            if not alone:
                return None
            gone: list[Culled] = []
            while self._go_round(now, gone, thorough=thorough):
                thorough = False
            return gone

    def _go_round(self, now: float, gone: list[Culled], *, thorough: bool) -> bool:
        """Look at every shard once at most, and add to ``gone``; tell whether another round may help."""
        tally, before = _Tally(), len(gone)
        was_counted = True
        while tally.shards:
            with self._ledger.open() as page:
                total, counted = page.total, page.is_counted
                if counted and not thorough and self._limits.fits(total, _LOW if len(gone) > before else 1.0):
                    return False
                looks = [_Look(page.next_shard(step), NOTHING, [], NOTHING) for step in range(tally.shards)]
                for look in looks:
                    look.paper, look.hand = page.shard(look.shard), page.hand(look.shard)
            was_counted = was_counted and counted
            looks = self._look(looks, skips_empty=counted and not thorough)
            whole = len(looks) == SHARDS
            tally.count(looks)
            excess = self._limits.excess(tally.believed(total, looks), _LOW) if counted else NOTHING
            choice = self._choose(looks, excess, now, whole=whole)
            gone += self._remove(looks, set(choice.doomed), now)
            self._mark(choice)
            tally.keep(looks)
            with self._ledger.open() as page:
                for look in looks:
                    page.settle(look.shard, look.paper, look.kept)
                    page.set_hand(look.shard, choice.hands.get(look.shard, page.hand(look.shard)))
                    page.turn()
                if thorough and not tally.shards:
                    page.aged = now
        return self._limits.are_of_size and (len(gone) > before or not was_counted)

    def _look(self, looks: list[_Look], *, skips_empty: bool) -> list[_Look]:
        """Look at shards until there are enough files; return those looked at."""
        number = 0
        for done, look in enumerate(looks):
            if number >= _SAMPLE:
                return looks[:done]
            if look.paper.files or not skips_empty:
                look.found = self._shelf.census(look.shard, self._limits.worth)
                look.kept = _amount(look.found)
                number += len(look.found)
        return looks

    def _choose(self, looks: Sequence[_Look], excess: Amount, now: float, *, whole: bool) -> Choice:
        found = [seen for look in looks for seen in look.found]
        dead = {seen for seen in found if self._is_dead(seen, now)}
        alive = [seen for seen in found if seen not in dead]
        # Of everything, one at least stays: it fits, or it would not have been stored.
        most = max(1, len(alive) - 1 if whole else len(alive) // _PART)
        hands = {look.shard: look.hand for look in looks}
        choice = choose(alive, excess.minus(_amount(dead)), most, self._limits.policy, hands)
        return choice._replace(doomed=[*dead, *choice.doomed])

    def _mark(self, choice: Choice) -> None:
        by_shard: dict[int, dict[Seen, int]] = {}
        for seen, uses in choice.left.items():
            by_shard.setdefault(seen.shard, {})[seen] = uses
        for shard, left in by_shard.items():
            self._shelf.mark(shard, left)

    def _is_dead(self, seen: Seen, now: float) -> bool:
        max_age = self._limits.max_age
        return seen.worth < 0 or (max_age is not None and seen.modified / 1e9 + max_age <= now)

    def _cause(self, seen: Seen, now: float) -> Literal["evicted", "expired", "corrupt"]:
        if seen.worth == DAMAGED:
            return "corrupt"
        return "expired" if self._is_dead(seen, now) else "evicted"

    def _remove(self, looks: Sequence[_Look], doomed: set[Seen], now: float) -> list[Culled]:
        gone: list[Culled] = []
        for look in looks:
            chosen = [seen for seen in look.found if seen in doomed]
            if chosen:
                went = self._shelf.evict(look.shard, chosen)
                # What a peer put in the place of a file, he has entered as more: that file counts no longer, whoever took it.
                look.kept = look.kept.minus(_amount(went))
                for seen, taken in went.items():
                    if taken:
                        gone.append((seen.key, self._cause(seen, now)))
        return gone


def _amount(found: Collection[Seen]) -> Amount:
    return Amount(sum(seen.size for seen in found), len(found))


def _sum(amounts: Iterable[Amount]) -> Amount:
    total = NOTHING
    for amount in amounts:
        total = total.plus(amount)
    return total
