"""Why a key is what it is: one short digest for each thing that it was made of.

They are kept with an entry to say, of a miss, in what the call differs from one that was stored. 32 bits are enough to see
a difference, and too few to find a value out by anything but guessing it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Final, final

__all__ = ("DIGITS", "Factors", "short_digest")

#: Hex digits of a factor.
DIGITS: Final = 8


def short_digest(data: bytes) -> str:
    """Return the digest of one factor."""
    return sha256(data).hexdigest()[:DIGITS]


@final
class Factors(Mapping[str, str]):
    """Digests by name, packed: all entries of a function share the names, and there may be a million entries."""

    __slots__ = ("_digests", "_names")

    def __init__(self, names: tuple[str, ...], digests: str) -> None:
        self._names = names
        self._digests = bytes.fromhex(digests)

    def __getitem__(self, name: str) -> str:
        try:
            place = self._names.index(name)
        except ValueError:
            raise KeyError(name) from None
        return self._digests.hex()[place * DIGITS : (place + 1) * DIGITS]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Factors({dict(self)!r})"
