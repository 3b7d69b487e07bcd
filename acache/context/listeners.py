"""Whoever keeps something that was made of isolation keys, and must hear when keys change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import MethodType
from typing import TypeAlias, final
from weakref import WeakMethod

from acache.mutexes import make_mutex

__all__ = ("Callback", "Listeners")

_log = logging.getLogger("acache")

Callback: TypeAlias = Callable[[], object]


@final
class Listeners:
    """Callbacks, called one at a time, in the order they came; a bound method does not keep its object alive."""

    __slots__ = ("_lock", "_references")

    def __init__(self) -> None:
        self._references: list[Callable[[], Callback | None]] = []
        # Re-entrant, because callbacks, which are called under it, may listen, end that, and change what they listen to.
        self._lock = make_mutex()

    def add(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback()`` at each change from now on; the function returned ends that."""
        reference: Callable[[], Callback | None]
        reference = WeakMethod(callback) if isinstance(callback, MethodType) else lambda: callback
        with self._lock:
            self._references.append(reference)

        def remove() -> None:
            with self._lock:
                self._references = [each for each in self._references if each is not reference]

        return remove

    def tell(self) -> None:
        """Call every callback; one that fails is logged with its type only."""
        with self._lock:
            for reference in self._references:
                callback = reference()
                try:
                    if callback is not None:
                        callback()
                except Exception as error:  # noqa: BLE001 - a listener must never break a registration or a call
                    _log.warning("an isolation listener failed with %s", type(error).__name__)
            self._references = [each for each in self._references if each() is not None]
