"""For debugging, with ``ACACHE_DEBUG_MUTATION=1``: notice that a caller has changed a result he shares with others.

Callers share what the memory tier holds, unless a function asks for copies. Each shared result is digested when it is
stored and looked at again whenever it is served, so the one who is told of a change is not the one who made it.
"""

from __future__ import annotations

import logging
import pickle
from hashlib import sha256
from typing import Final, final

from acache.exceptions import KeyEncodingError
from acache.keys import canonical
from acache.types import Entry, Key

__all__ = ("Witness",)

_log = logging.getLogger("acache")


@final
class Witness:
    """Remembers what shared results were like. Costs an encoding of each at every hit, and keeps its notes for ever."""

    def __init__(self) -> None:
        #: The entry a note is about, so that one that has replaced it is not taken for a change of it.
        self._notes: Final[dict[Key, tuple[Entry, str]]] = {}

    def look(self, label: str, key: Key, entry: Entry) -> None:
        """Note an entry that is shared from now on, or report, once, that its value has been changed."""
        digest = _digest(entry.value)
        noted, before = self._notes.get(key, (None, ""))
        self._notes[key] = (entry, digest)
        if noted is entry and digest != before:
            _log.warning(
                "a shared result of %s under key %s was changed by a caller; use copy='deepcopy', or return what cannot change",
                label,
                key,
            )


def _digest(value: object) -> str:
    try:
        data = canonical(value)
    except KeyEncodingError:
        try:
            data = pickle.dumps(value)
        except Exception:  # noqa: BLE001 - what cannot be digested cannot be watched
            return ""
    return sha256(data).hexdigest()
