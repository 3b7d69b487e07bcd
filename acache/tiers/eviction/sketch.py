"""How often keys were seen lately, in a few bytes for each: a count-min sketch that forgets.

Two rows of counters up to 15; a key adds to one in each row, and the smaller of its two is the estimate, which is never
too low (Cormode and Muthukrishnan, "An Improved Data Stream Summary", 2005). After ten additions for each entry all
counters are halved, so that what was popular yesterday does not count for ever (the reset of Einziger, Friedman and
Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", 2017). Two long rows instead of four short ones take as much
room, half the time, and are no less exact while most keys are seen once.
"""

from __future__ import annotations

from typing import Final, final

from acache.types import Key

__all__ = ("Sketch",)

_MOST: Final = 15
#: Counters of a row for each entry, and additions for each entry until all are halved.
_COUNTERS: Final = 8
_PERIOD: Final = 10
_SMALLEST: Final = 256
_HALVES: Final = bytes(number // 2 for number in range(256))
#: The digits of a key that tell arguments apart, and the bits of them between its places in the two rows. Not hash(): a
#: cache should evict the same entries in every process.
_DIGITS: Final = slice(-15, None)
_APART: Final = 30


@final
class Sketch:
    """Estimates for about as many keys as :meth:`fit` was told; it grows, and never shrinks."""

    __slots__ = ("_additions", "_entries", "_first", "_mask", "_second")

    def __init__(self) -> None:
        self._mask = _SMALLEST - 1
        self._first, self._second = bytearray(_SMALLEST), bytearray(_SMALLEST)
        self._additions = 0
        self._entries = _SMALLEST // _COUNTERS

    def fit(self, entries: int) -> None:
        """Make room for ``entries`` keys. A row is doubled by repeating it: every estimate stays what it was."""
        while self._entries < entries:
            self._first = self._first * 2
            self._second = self._second * 2
            self._mask = 2 * self._mask + 1
            self._entries *= 2

    def add(self, key: Key) -> None:
        """Count ``key`` once more."""
        digits, mask = int(key[_DIGITS], 16), self._mask
        for row, place in ((self._first, digits & mask), (self._second, digits >> _APART & mask)):
            if row[place] < _MOST:
                row[place] += 1
        self._additions += 1
        if self._additions >= _PERIOD * self._entries:
            self._halve()

    def estimate(self, key: Key) -> int:
        """Return how often ``key`` was counted lately; never too few times, seldom too many, at most 15."""
        digits, mask = int(key[_DIGITS], 16), self._mask
        return min(self._first[digits & mask], self._second[digits >> _APART & mask])

    def _halve(self) -> None:
        self._first, self._second = self._first.translate(_HALVES), self._second.translate(_HALVES)
        self._additions //= 2
