"""Why a call is a miss: the stored entry that is nearest to it, and in what they differ. Digests and names only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, final

from acache.engine.call import Call
from acache.tiers.chain import ChainTier
from acache.types import Key

__all__ = ("EXPLAIN_LIMIT", "Explanation", "explain", "nearest")

#: Entries that are looked at to explain one call.
EXPLAIN_LIMIT: Final = 10_000
_FUNCTION: Final = "function"


@final
@dataclass(frozen=True, slots=True)
class Explanation:
    """What is stored for a call, or what comes nearest to it. Its text shows no value.

    ``hit``: the entry is there. Otherwise ``nearest`` is the key of the entry of the same function that differs in the fewest
    factors, ``differs`` their names (``version``, an argument, a form of the isolation context), and ``examined`` the number of entries that
    were looked at. With ``nearest`` and nothing in ``differs``, the entry has expired, is no longer served, or cannot be read.
    """

    function: str
    key: Key
    hit: bool
    nearest: Key | None = None
    differs: tuple[str, ...] = ()
    examined: int = 0

    def __str__(self) -> str:
        start = f"{self.function} under key {self.key}: "
        if self.hit:
            return start + "stored"
        if self.nearest is None:
            return f"{start}not stored, nor is any other call of the function ({self.examined} entries examined)"
        if not self.differs:
            return start + "stored, but it has expired or cannot be read"
        return f"{start}not stored; the nearest entry, {self.nearest}, differs in {', '.join(self.differs)}"


def nearest(
    factors: Mapping[str, str], stored: Iterable[tuple[Key, Mapping[str, str]]]
) -> tuple[Key | None, tuple[str, ...], int]:
    """Choose the entry of the same function that differs in the fewest factors.

    Return its key, the names in which it differs, and how many entries there were. A factor that only one side has
    differs; of equally near entries the first counts.
    """
    best: Key | None = None
    fewest: tuple[str, ...] = ()
    count = 0
    for key, theirs in stored:
        count += 1
        if theirs.get(_FUNCTION) != factors.get(_FUNCTION):
            continue
        names = dict.fromkeys((*factors, *theirs))
        differing = tuple(name for name in names if factors.get(name) != theirs.get(name))
        if best is None or len(differing) < len(fewest):
            best, fewest = key, differing
    return best, fewest, count


async def explain(chain: ChainTier, call: Call, prefixes: tuple[str, ...], *, hit: bool) -> Explanation:
    """Explain one call that was found to be a ``hit`` or not: look among all entries by the first of ``prefixes`` that has any of its function.

    Costs a look at up to :data:`EXPLAIN_LIMIT` entries; for debugging, not for every call.
    """
    label, key = call.label, call.key
    if hit:
        return Explanation(label, key, hit=True)
    factors = call.factors()
    examined = 0
    for prefix in prefixes:
        found, differing, count = nearest(factors, await _factors(chain, prefix))
        examined += count
        if found is not None:
            return Explanation(label, key, False, found, differing, examined)
    return Explanation(label, key, False, examined=examined)


async def _factors(chain: ChainTier, prefix: str) -> list[tuple[Key, Mapping[str, str]]]:
    found: list[tuple[Key, Mapping[str, str]]] = []
    async for key in chain.keys():
        if key.startswith(prefix):
            factors = await chain.factors(key)
            if factors is not None:
                found.append((key, factors))
            if len(found) >= EXPLAIN_LIMIT:
                break
    return found
