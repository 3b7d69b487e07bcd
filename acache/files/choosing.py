"""Which files of a sample go, by policy: pure functions of what a census saw.

===========  =====================================================================================================
``lru``      what was not used for longest
``cost``     what took the fewest seconds, for each byte and each second since its last use
``lfu``      what was used least; of that, what was not used for longest. It forgets: when as many files of a shard have gone as
             there are, those that stay count half as many uses.
``sieve``    what is oldest, but a file that was used is passed over once, and has to be used again for the next time. As
             in memory a hand goes on from where it stopped, in each shard: what was passed over stays behind it for a round.
===========  =====================================================================================================

A census knows no more than a file's times. Its change tells when it was used last, and of its modification, which is when it was
made, the seconds are enough: the last two need to know of uses, and keep their number in the place of the nanoseconds. A new
file has a number there that is nearly always too large for that, or nothing at all where the file system knows no
nanoseconds; there every file counts as not used, so that ``lfu`` is ``lru`` and ``sieve`` the order in which files came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from acache.files.ledger import Amount
from acache.files.stock import Seen

__all__ = ("COUNTING", "DISK_POLICIES", "Choice", "DiskPolicy", "choose", "rank", "uses_of", "with_uses")

DiskPolicy: TypeAlias = Literal["lru", "cost", "lfu", "sieve"]
DISK_POLICIES: Final[tuple[DiskPolicy, ...]] = get_args(DiskPolicy)
#: Those that need the number of uses.
COUNTING: Final = frozenset({"lfu", "sieve"})
#: Uses that are counted at most: of a thousand million new files, so many count as used.
_MOST: Final = 255
_SECOND: Final = 1_000_000_000


def uses_of(modified: int) -> int:
    """Read the number of uses from a time of modification, in nanoseconds."""
    uses = modified % _SECOND
    return uses if uses <= _MOST else 0


def with_uses(modified: int, uses: int) -> int:
    """Return the time of modification that says so; its seconds stay."""
    return modified - modified % _SECOND + min(uses, _MOST)


class Choice(NamedTuple):
    """What goes, worst first; how many uses are left to those that stay, where that changes; and the hands of shards.

    The hand of a shard is a number that the policy keeps between choices: ``sieve`` how far it came, as the time at which the
    last file was made that it looked at; ``lfu`` how many files have gone since it last forgot.
    """

    doomed: Sequence[Seen] = ()
    left: Mapping[Seen, int] = {}
    hands: Mapping[int, int] = {}


def choose(
    found: Sequence[Seen], excess: Amount, most: int, policy: DiskPolicy, hands: Mapping[int, int] | None = None
) -> Choice:
    """Choose of ``found`` to make up for ``excess``, but no more than ``most``; ``hands`` are those of the last choice."""
    if policy == "sieve":
        return _sift(found, excess, most, hands or {})
    newest = max((seen.changed for seen in found), default=0)
    match policy:
        case "lru":
            order = sorted(found, key=lambda seen: seen.changed)
        case "cost":
            order = sorted(found, key=lambda seen: rank(seen, newest))
        case "lfu":
            order = sorted(found, key=lambda seen: (uses_of(seen.modified), seen.changed))
    doomed = _enough(order[:most], excess)
    return _forget(found, doomed, hands or {}) if policy == "lfu" else Choice(doomed)


def rank(seen: Seen, newest: int) -> float:
    """Say what a file is worth: its seconds for each byte and each second since its last use.

    That is the priority of hyperbolic caching (Blankstein, Sen and Freedman, USENIX ATC 2017), for one use. Time is the
    file system's, and now is the ``newest`` change there was, in nanoseconds: no clock of ours has to agree with it.
    """
    idle = 1.0 + max(0, newest - seen.changed) / 1e9
    return seen.worth / (idle * max(seen.size, 1))


def _enough(order: Iterable[Seen], excess: Amount) -> list[Seen]:
    chosen: list[Seen] = []
    left = excess
    for seen in order:
        if left == (0, 0):
            break
        chosen.append(seen)
        left = left.minus(Amount(seen.size, 1))
    return chosen


def _forget(found: Sequence[Seen], doomed: Sequence[Seen], hands: Mapping[int, int]) -> Choice:
    """Halve the uses that are left in shards from which enough has gone."""
    there, going = Counter(seen.shard for seen in found), Counter(seen.shard for seen in doomed)
    gone = {shard: hands.get(shard, 0) + number for shard, number in going.items()}
    full = {shard for shard, number in gone.items() if number >= there[shard]}
    chosen = set(doomed)
    left = {seen: uses_of(seen.modified) // 2 for seen in found if seen.shard in full and seen not in chosen}
    changed = {seen: uses for seen, uses in left.items() if uses_of(seen.modified)}
    return Choice(doomed, changed, {**gone, **dict.fromkeys(full, 0)})


def _sift(found: Sequence[Seen], excess: Amount, most: int, hands: Mapping[int, int]) -> Choice:
    """Walk from the hands on; when all were passed over, once more."""
    order = sorted(found, key=lambda seen: (seen.modified <= hands.get(seen.shard, -1), seen.modified))
    doomed, left, stops = dict[Seen, None](), dict[Seen, int](), dict[int, int]()
    missing = excess
    for seen in chain(order, order):
        if missing == (0, 0) or len(doomed) >= most:
            break
        if seen in doomed:
            continue
        stops[seen.shard] = seen.modified
        if uses_of(seen.modified) and seen not in left:
            left[seen] = 0
            continue
        left.pop(seen, None)
        doomed[seen] = None
        missing = missing.minus(Amount(seen.size, 1))
    return Choice(list(doomed), left, stops)
