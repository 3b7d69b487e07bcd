"""Whoever keeps something that was made of what may change, and must hear when it does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import MethodType
from typing import Final, TypeAlias, final
from weakref import WeakMethod

from acache.mutexes import make_mutex

__all__ = ("Callback", "Listeners")

_log = logging.getLogger("acache")

Callback: TypeAlias = Callable[[], object]


@final
class Listeners:
    """Callbacks, called one at a time, in the order they came; a bound method does not keep its object alive."""

    __slots__ = ("_lock", "_references", "_subject")

    def __init__(self, subject: str) -> None:
        #: What changes, in a word or two, for the log.
        self._subject: Final = subject
        #: By a token each: finalizers may add and remove too, at any moment, and each of that is one operation.
        self._references: Final[dict[object, Callable[[], Callback | None]]] = {}
        # Re-entrant, because callbacks, which are called under it, may listen, end that, and change what they listen to.
        self._lock: Final = make_mutex()

    def __len__(self) -> int:
        return len(self._references)

    def add(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback()`` at each change from now on; the function returned ends that."""
        token = object()
        with self._lock:
            self._alive()
            self._references[token] = WeakMethod(callback) if isinstance(callback, MethodType) else lambda: callback

        def remove() -> None:
            with self._lock:
                self._references.pop(token, None)

        return remove

    def tell(self) -> None:
        """Call every callback; one that fails is logged with its type only."""
        with self._lock:
            for callback in self._alive():
                try:
                    callback()
                except Exception as error:  # noqa: BLE001 - a listener must never break what it listens to
                    _log.warning("a listener for %s failed with %s", self._subject, type(error).__name__)

    def _alive(self) -> list[Callback]:
        """Return the callbacks, and let go of those whose objects are gone."""
        alive: list[Callback] = []
        for token, reference in list(self._references.items()):
            callback = reference()
            if callback is None:
                self._references.pop(token, None)
            else:
                alive.append(callback)
        return alive
