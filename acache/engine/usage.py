"""What a process has used of a cache whose workers agree: what a dump contains, and what goes before a bundle."""

from __future__ import annotations

from typing import Final, NamedTuple, final

from acache.codecs import Codec
from acache.types import Entry, Key

__all__ = ("Usage", "Use")


class Use(NamedTuple):
    """Which result was used: the one that was ``created`` then, and the codec of its function."""

    codec: Codec | None
    created: float


@final
class Usage:
    """The results that were used last under each key. Safe from any thread."""

    def __init__(self) -> None:
        self._uses: Final[dict[Key, Use]] = {}
        #: Grows whenever there is something to dump that was not there before.
        self.changes = 0

    def note(self, key: Key, codec: Codec | None, entry: Entry) -> None:
        """Note that ``entry`` is used."""
        use = Use(codec, entry.created)
        if self._uses.get(key) != use:
            self._uses[key] = use
            self.changes += 1

    def forget(self, key: Key) -> None:
        """Forget what was used under ``key``: the workers may agree on something else."""
        self._uses.pop(key, None)

    def forget_all(self, prefix: str) -> None:
        """Do as :meth:`forget` for every key that begins with ``prefix``."""
        for key in self.uses():
            if key.startswith(prefix):
                self.forget(key)

    def uses(self) -> dict[Key, Use]:
        """Return what has been used by now, in the order in which it was first."""
        return dict(self._uses)
