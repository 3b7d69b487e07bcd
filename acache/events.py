"""What happened, told to whoever subscribed.

Events are frozen dataclasses; a sink is anything callable with one of them. A sink that fails is logged and never
reaches the caller. Events carry digests, names and durations, never a value or an argument. Sinks are called
synchronously in the caller's own task or thread, so a sink may read context variables, and must not wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias
from weakref import ref

from acache.exceptions import ConfigurationError
from acache.types import Key

__all__ = (
    "CallAction",
    "CallEvent",
    "CallOutcome",
    "Event",
    "Events",
    "RemovalCause",
    "Sink",
    "TierEvent",
    "TierOperation",
    "TierOutcome",
)

_log = logging.getLogger("acache")

CallAction: TypeAlias = Literal["call", "get", "insert", "refresh", "store"]
CallOutcome: TypeAlias = Literal[
    "hit", "joined", "computed", "agreed", "failed", "bypassed", "missed", "stored", "present"
]
TierOperation: TypeAlias = Literal["read", "write", "remove", "scan", "lock", "evict"]
#: Why an entry went: its time was up, room was needed, somebody asked for it, another took its place, it was damaged.
RemovalCause: TypeAlias = Literal["expired", "evicted", "invalidated", "replaced", "corrupt"]
TierOutcome: TypeAlias = Literal["hit", "miss", "stored", "present", "failed", "rejected", "done", "timeout"]


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One call of a memoized function, or one ``get`` or ``insert`` of its results, came to its end.

    The ``outcome`` of a call: ``hit`` (``tier`` had it, ``age`` seconds old), ``joined`` (another caller's computation),
    ``computed`` (``stored`` tells whether the result was), ``agreed`` (computed, but another worker's result was first and
    was served: deterministic caches), ``failed`` (the function raised), ``bypassed`` (a switch was on), ``missed`` (a replay
    found nothing); of a get: ``hit`` or ``missed``; of an insert: ``stored``, ``present``, or ``failed``, when no tier could
    store it; of a refresh behind a caller: ``computed`` or ``failed``; of the storing of a result: ``failed``, because of what the user gave as an option, which
    ``reason`` names, with the type of its error. ``stale``: what was served was past its time.
    ``seconds`` is what the caller waited, ``cost`` what the computation took.
    """

    function: str
    key: Key | None
    outcome: CallOutcome
    tier: str | None = None
    age: float | None = None
    seconds: float = 0.0
    cost: float = 0.0
    action: CallAction = "call"
    stored: bool | None = None
    stale: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TierEvent:
    """One tier did, or failed to do, one thing. ``reason`` is an error's type or the cause of a rejection.

    An entry that goes is an ``evict`` (the tier chose it, or its time was up) or a ``remove``, ``done``; ``reason`` is then
    its :data:`RemovalCause`: once for each tier that held it, when it goes, which may be later than its end. A disk tier tells
    this from the thread that removed it. A write that a full directory refused is ``failed`` with the reason ``"full"``.
    """

    tier: str
    operation: TierOperation
    outcome: TierOutcome
    key: Key | None = None
    reason: str | None = None


Event: TypeAlias = CallEvent | TierEvent
Sink: TypeAlias = Callable[[Event], object]


class Events:
    """A place to subscribe sinks. Emitting with no sink anywhere above costs one attribute check.

    Parents hear what their children emit: a tier's events reach the caches that use it, and keep none of them alive. Threads
    may come and go: each change is one atomic operation of a dictionary, and an emission goes to those who were there when
    it began.
    """

    __slots__ = ("__weakref__", "_children", "_on_change", "_parents", "_sinks", "active")

    def __init__(self, on_change: Callable[[], object] | None = None) -> None:
        #: Whether anybody listens, here or above: build no event otherwise.
        self.active = False
        self._sinks: dict[object, Sink] = {}
        self._parents: dict[ref[Events], None] = {}
        self._children: dict[ref[Events], None] = {}
        self._on_change = on_change

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Call ``sink`` with each event from now on; the function returned ends that.

        Raises :class:`~acache.exceptions.ConfigurationError` for what cannot be called.
        """
        if not callable(sink):
            raise ConfigurationError("sink", f"expected a function of one event, not a {type(sink).__name__}")
        ticket = object()  # one sink may be subscribed twice
        self._sinks[ticket] = sink
        self._changed()

        def unsubscribe() -> None:
            self._sinks.pop(ticket, None)
            self._changed()

        return unsubscribe

    @contextmanager
    def capture(self) -> Generator[list[Event]]:
        """Collect events into a list for the length of a ``with`` block."""
        seen: list[Event] = []
        unsubscribe = self.subscribe(seen.append)
        try:
            yield seen
        finally:
            unsubscribe()

    def add_parent(self, parent: Events) -> None:
        """Let ``parent`` hear everything emitted here."""
        if parent is not self:
            self._parents[ref(parent, partial(_lose_parent, ref(self)))] = None
            children = parent._children
            child: ref[Events] = ref(self, lambda gone: children.pop(gone, None))
            children[child] = None
            self._changed()

    def emit(self, event: Event) -> None:
        """Give ``event`` to every sink here and above; a failing sink is logged with its type only."""
        for sink in tuple(self._sinks.values()):
            try:
                sink(event)
            except Exception as error:  # noqa: BLE001 - a sink must never break a cached call
                _log.warning("an event sink failed with %s", type(error).__name__)
        for parent in _alive(self._parents):
            parent.emit(event)

    def _changed(self) -> None:
        self.active = bool(self._sinks) or any(parent.active for parent in _alive(self._parents))
        for child in _alive(self._children):
            child._changed()  # noqa: SLF001 - another of this class
        if self._on_change is not None:
            self._on_change()


def _alive(events: dict[ref[Events], None]) -> list[Events]:
    return [each for reference in tuple(events) if (each := reference()) is not None]


def _lose_parent(child: ref[Events], parent: ref[Events]) -> None:
    events = child()
    if events is not None:
        events._parents.pop(parent, None)  # noqa: SLF001 - the other half of the class
        events._changed()  # noqa: SLF001 - as above
