"""The hot path: a memory hit that builds no key and awaits nothing.

The first call with given arguments makes a *cell*; a typed :func:`functools.lru_cache` (C code) leads later calls with
equal arguments to it. A cell points at the memory tier's live entry. Eviction, expiry and invalidation kill the entry,
and a dead entry sends the call down the full path, which points the cell at the next one. An entry with tags is one that
an invalidation does not touch: its cell stands for nothing once anything was invalidated, until the full path says it does.

Equality of arguments must not be coarser than equality of keys. ``typed=True`` looks at the arguments' own types only, so
a call whose arguments are not all of the types below (containers may hold ``1`` or ``True``, ``0.0`` equals ``-0.0``, a
class may define any equality, an object may change) gets no cell and takes the full path. So no cell keeps an object of
a caller's class alive either.

The two faces are closures, and repeat four lines, because that is what a hit consists of: an instance with a
``__call__`` takes half as long again. Hits are not counted here but derived: look-ups less the calls that went on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from functools import lru_cache, wraps
from typing import Any, Final, Protocol

from acache.context import PLAIN, Scope, current_scope
from acache.tiers.eviction import DEAD, Node

__all__ = ("CLOSED", "Cell", "Cells", "Gate", "async_face", "sync_face")

#: Cells a function keeps; a call beyond them takes the full path, which finds the same entry.
MAX_CELLS: Final = 8192
_EXACT: Final = frozenset({int, bool, str, bytes, type(None)})
#: What an unhashable argument raises too: either way the call has no cell.
_NO_CELL: Final = TypeError

#: The scope of no call at all: a gate that holds it lets nobody through.
CLOSED: Final = Scope()


class Gate:
    """Whether plain calls may take the hot path: ``plain`` is the scope they run in, or ``CLOSED``.

    A cache has one for each isolation schema: what a volatile form says must be asked for at every call.
    """

    __slots__ = ("plain",)

    def __init__(self) -> None:
        self.plain: Scope = PLAIN


class Cell:
    """Where the calls with some arguments find their entry."""

    __slots__ = ("epoch", "node", "tagged", "until", "used")

    def __init__(self) -> None:
        self.node: Node = DEAD
        #: The same for an entry that has tags, and the highest stamp when it was known to be good.
        self.tagged: Node = DEAD
        self.epoch = 0
        #: When the full path wants to see the call, in monotonic seconds; ``None``: only when the entry dies.
        self.until: float | None = None
        #: When it last led to the entry, in monotonic seconds; kept for functions with ``idle=`` only.
        self.used = -math.inf


class _Stamps(Protocol):
    """What a face needs of the stamps of tags: a number that changes with every invalidation."""

    latest: int


class _Subject(Protocol):
    """What a face needs of the memoized function behind it."""

    function: Callable[..., Any]
    cells: Cells

    @property
    def idle(self) -> float | None: ...
    @property
    def now(self) -> Callable[[], float]: ...
    @property
    def gate(self) -> Gate: ...
    @property
    def stamps(self) -> _Stamps: ...
    async def call_async(self, args: tuple[Any, ...], kwargs: dict[str, Any], cell: Cell | None) -> Any: ...
    def call_sync(self, args: tuple[Any, ...], kwargs: dict[str, Any], cell: Cell | None) -> Any: ...


class Cells:
    """The cells of one function, and what happened at them.

    With ``skip``, the first argument (an ignored ``self``) has no part in finding the cell, and is not kept alive.
    """

    __slots__ = ("_before", "_made", "_table", "find", "went_on")

    def __init__(self, *, skip: bool = False) -> None:
        table = self._table = lru_cache(maxsize=MAX_CELLS, typed=True)(self._make)
        self.find: Callable[..., Cell] = _without_first(table) if skip else table
        #: Hits before the cells were last forgotten.
        self._before = 0
        self._made = 0
        #: Calls that had a cell and went on to the full path.
        self.went_on = 0

    def forget(self) -> None:
        """Lead no call to an entry any more before the full path has found it: keys have changed."""
        self._before = self.hits
        self._table.cache_clear()
        self._made = self.went_on = 0

    @property
    def hits(self) -> int:
        """How many calls the hot path has served."""
        return self._before + max(0, self._table.cache_info().hits + self._made - self.went_on)

    def _make(self, *args: object, **kwargs: object) -> Cell:
        for value in (*args, *kwargs.values()):
            kind = type(value)
            if kind not in _EXACT and (kind is not float or value == 0.0):
                raise _NO_CELL  # and the table keeps nothing
        self._made += 1
        return Cell()


def _without_first(find: Callable[..., Cell]) -> Callable[..., Cell]:
    def find_without_first(_first: object, *args: Any, **kwargs: Any) -> Cell:
        return find(*args, **kwargs)

    return find_without_first


def _use(cell: Cell, until: float, idle: float, now: float) -> bool:
    """Tell whether an entry that must be used now and then is still good, and note that it is used."""
    good = now < until and now - cell.used < idle
    if good:
        cell.used = now
    return good


def async_face(subject: _Subject, *, hot: bool) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return the ``async def`` that callers of a memoized coroutine function call."""
    function, call = subject.function, subject.call_async
    if not hot:

        @wraps(function)
        async def cold_face(*args: Any, **kwargs: Any) -> Any:
            return await call(args, kwargs, None)

        return cold_face
    cells, find, now, gate, idle = subject.cells, subject.cells.find, subject.now, subject.gate, subject.idle
    stamps = subject.stamps

    @wraps(function)
    async def face(*args: Any, **kwargs: Any) -> Any:
        if current_scope() is not gate.plain:
            return await call(args, kwargs, None)
        try:
            cell = find(*args, **kwargs)
        except TypeError:
            return await call(args, kwargs, None)
        node = cell.node
        value, until = node.value, cell.until  # first the value, then whether it was still live
        if node.live and (until is None or (now() < until if idle is None else _use(cell, until, idle, now()))):
            node.visited = True
            return value
        node = cell.tagged
        value = node.value
        # The very number, not one that equals it: then nothing was invalidated.
        if (
            node.live
            and cell.epoch is stamps.latest
            and (until is None or (now() < until if idle is None else _use(cell, until, idle, now())))
        ):
            node.visited = True
            return value
        cells.went_on += 1
        return await call(args, kwargs, cell)

    return face


def sync_face(subject: _Subject, *, hot: bool) -> Callable[..., Any]:
    """Return the ``def`` that callers of a memoized plain function call."""
    function, call = subject.function, subject.call_sync
    if not hot:

        @wraps(function)
        def cold_face(*args: Any, **kwargs: Any) -> Any:
            return call(args, kwargs, None)

        return cold_face
    cells, find, now, gate, idle = subject.cells, subject.cells.find, subject.now, subject.gate, subject.idle
    stamps = subject.stamps

    @wraps(function)
    def face(*args: Any, **kwargs: Any) -> Any:
        if current_scope() is not gate.plain:
            return call(args, kwargs, None)
        try:
            cell = find(*args, **kwargs)
        except TypeError:
            return call(args, kwargs, None)
        node = cell.node
        value, until = node.value, cell.until  # as above
        if node.live and (until is None or (now() < until if idle is None else _use(cell, until, idle, now()))):
            node.visited = True
            return value
        node = cell.tagged
        value = node.value
        # The very number, not one that equals it: then nothing was invalidated.
        if (
            node.live
            and cell.epoch is stamps.latest
            and (until is None or (now() < until if idle is None else _use(cell, until, idle, now())))
        ):
            node.visited = True
            return value
        cells.went_on += 1
        return call(args, kwargs, cell)

    return face
