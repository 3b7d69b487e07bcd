"""A directory with a limit, as far as the choice of what goes is concerned: no file is written, so that a trace takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from acache.files.choosing import COUNTING, DiskPolicy, choose, uses_of, with_uses
from acache.files.ledger import SHARDS, Amount
from acache.files.stock import Seen
from acache.types import Key

__all__ = ("on_disk",)

#: A request comes each second; hits are told once a minute.
_SECOND: Final = 10**9
_RENEWAL: Final = 60
#: As in acache.files.culling: what is looked at for one choice, the part of it that may go, and how far a cull goes down.
_SAMPLE: Final = 1024
_PART: Final = 4
_LOW: Final = 0.95


def on_disk(
    policy: DiskPolicy, keys: Sequence[Key], costs: Sequence[float]
) -> Callable[[int, Sequence[int]], list[bool]]:
    """Return what plays requests to a directory of so many files, and says which were hits."""
    return lambda size, requests: _Directory(policy, keys, costs, size).play(requests)


@final
class _Directory:
    def __init__(self, policy: DiskPolicy, keys: Sequence[Key], costs: Sequence[float], size: int) -> None:
        self._policy: Final[DiskPolicy] = policy
        self._keys, self._costs, self._size = keys, costs, size
        self._files: dict[int, Seen] = {}
        self._shards: list[dict[int, Seen]] = [{} for _ in range(SHARDS)]
        self._used: dict[int, int] = {}
        self._hands: dict[int, int] = {}
        self._next = 0

    def play(self, requests: Sequence[int]) -> list[bool]:
        hits: list[bool] = []
        for moment, number in enumerate(requests):
            now = moment * _SECOND
            hits.append(number in self._files)
            if hits[-1]:
                self._used[number] = self._used.get(number, 0) + 1
            else:
                # A natural time of modification has nanoseconds that are no number of uses.
                made = now + _SECOND // 2
                key = self._keys[number]
                self._keep(number, Seen(key, key[:62], (0, number), now, made, 1, self._costs[number]))
            if moment % _RENEWAL == 0 or len(self._files) > self._size:
                self._renew(now)
            if len(self._files) > self._size:
                self._cull(now)
        return hits

    def _keep(self, number: int, seen: Seen) -> None:
        self._files[number] = self._shards[seen.shard][number] = seen

    def _renew(self, now: int) -> None:
        for number, uses in self._used.items():
            seen = self._files.get(number)
            if seen is not None:
                modified = seen.modified
                if self._policy in COUNTING:
                    modified = with_uses(modified, uses_of(modified) + uses)
                self._keep(number, seen._replace(changed=now, modified=modified))
        self._used = {}

    def _cull(self, now: int) -> None:
        while len(self._files) > self._size * _LOW:
            found: list[Seen] = []
            looked = 0
            while looked < SHARDS and len(found) < _SAMPLE:
                found += self._shards[self._next].values()
                self._next, looked = (self._next + 1) % SHARDS, looked + 1
            most = max(1, len(found) - 1 if looked == SHARDS else len(found) // _PART)
            excess = Amount(0, len(self._files) - int(self._size * _LOW))
            choice = choose(found, excess, most, self._policy, self._hands)
            for seen, uses in choice.left.items():
                self._keep(seen.identity[1], seen._replace(changed=now, modified=with_uses(seen.modified, uses)))
            for seen in choice.doomed:
                del self._files[seen.identity[1]]
                del self._shards[seen.shard][seen.identity[1]]
            self._hands.update(choice.hands)
