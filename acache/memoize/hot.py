"""The hot path: a memory hit that builds no key and awaits nothing.

The first call with given arguments makes a *cell*; a typed :func:`functools.lru_cache` (C code) leads later calls with
equal arguments to it. A cell points at the memory tier's live entry. Eviction, expiry and invalidation kill the entry,
and a dead entry sends the call down the full path, which points the cell at the next one. An entry with tags is one that
the invalidation of a tag does not touch: there, all cells of the functions that have any are forgotten, and the full path finds
out which entries are still good. What is not said of an entry costs its hits nothing: only those with a time ask for it.

Equality of arguments must not be coarser than equality of keys. ``typed=True`` looks at the arguments' own types only, so
that is enough only for arguments of the exact types below. Tuples of them are taken apart, types and all, and found in a
second table: ten times as slow as the first, five times as fast as making a key. A call with anything else (``0.0``
equals ``-0.0``, a class may define any equality, an object may change) gets no cell and takes the full path. So no cell keeps
an object of a caller's class alive either.

Types are looked at before anything is hashed: the hash of a tuple takes as long as what it nests is large, has no limit of
depth but the C stack, and a class may do anything in its ``__hash__``. The limits of keys (:mod:`acache.keys.limits`) would
come too late. So a call goes by the types of its arguments to a table of its own, which need not be typed. For one argument
or two both together cost what a typed table alone did; more arguments, and keywords, cost more than they did.

What is part of the key and no argument of a call (a default, what a partial or a method has bound) no cell can see. A function
with such a value that may change has no hot path.

The two faces are closures, and repeat their lines, because that is what a hit consists of: an instance with a
``__call__`` takes half as long again. Hits are not counted here but derived: look-ups less the calls that went on.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache, wraps
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, Protocol, TypeAlias, cast
from uuid import UUID

from acache.context import PLAIN, Scope, current_scope
from acache.mutexes import make_mutex
from acache.tiers.eviction import DEAD, Node

__all__ = ("CLOSED", "Cell", "Cells", "Gate", "async_face", "is_constant", "sync_face")

#: Cells in each table of a function; a call beyond them takes the full path, which finds the same entry.
MAX_CELLS: Final = 8192
#: Tuples in tuples that are taken apart; deeper ones take the full path.
MAX_DEPTH: Final = 4
#: Parts that tuples are taken apart into, two or fewer for each item and each tuple; larger ones take the full path.
MAX_PARTS: Final = 512
#: Types whose values nest nothing and are equal to others of the type only if their keys are; of floats, all but zero.
#: A dictionary, because a look-up that raises costs half of a condition.
_FLAT: Final[dict[type, None]] = dict.fromkeys((int, bool, str, bytes, type(None), float))
#: Other types whose values never change. As defaults they are common.
_CONSTANT: Final = frozenset(
    {FunctionType, BuiltinFunctionType, date, datetime, timedelta, UUID, Decimal, Fraction, complex, range}
)
_PATHS: Final = frozenset({PurePosixPath, PureWindowsPath, type(Path())})
#: Shapes of calls that have tables of their own, and how many arguments these have at most.
MAX_SHAPES: Final = 16
MAX_LENGTH: Final = 8
#: The call has no cell.
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

    __slots__ = ("node", "until")

    def __init__(self) -> None:
        self.node: Node = DEAD
        #: When the full path wants to see the call, in monotonic seconds; ``None``: only when the entry dies.
        self.until: float | None = None


#: The cell of calls that have none: it never leads anywhere.
NOWHERE: Final = Cell()


class _Subject(Protocol):
    """What a face needs of the memoized function behind it."""

    function: Callable[..., Any]
    cells: Cells

    @property
    def now(self) -> Callable[[], float]: ...
    @property
    def gate(self) -> Gate: ...
    async def call_async(self, args: tuple[Any, ...], kwargs: dict[str, Any], cell: Cell | None) -> Any: ...
    def call_sync(self, args: tuple[Any, ...], kwargs: dict[str, Any], cell: Cell | None) -> Any: ...


_Table: TypeAlias = Callable[..., Cell]


class Cells:
    """The cells of one function, and what happened at them.

    With ``skip``, the first argument (an ignored ``self``) has no part in finding the cell, and is not kept alive.
    """

    __slots__ = (
        "_before",
        "_deep",
        "_made",
        "_mutex",
        "_stale",
        "_table",
        "_tables",
        "pairs",
        "shapes",
        "singles",
        "skips",
        "tagged",
        "went_on",
    )

    def __init__(self, *, skip: bool = False) -> None:
        #: The tables of calls with positional arguments of flat types, by the type of each: of one, of two, and of any number;
        #: there, a table is under ``None``.
        self.singles: dict[type, _Table] = {}
        self.pairs: dict[type, dict[type, _Table]] = {}
        self.shapes: dict[Any, Any] = {}
        self.skips = skip
        #: Whether one of them may have led to an entry with tags.
        self.tagged = False
        #: Held while tables come and go.
        self._mutex = make_mutex()
        #: Hits before the cells were last forgotten.
        self._before = 0
        #: Calls that had a cell and went on to the full path.
        self.went_on = 0
        self._renew()

    def _renew(self) -> None:
        """Begin without a cell."""
        self._close()
        self._table = lru_cache(maxsize=MAX_CELLS, typed=True)(self._make)
        self._deep = lru_cache(maxsize=MAX_CELLS)(self._make_deep)
        self._tables = [self._table, self._deep]
        self._made = self.went_on = 0
        #: Whether the tables are of before the cells were forgotten.
        self._stale = False  # last: who sees it takes them

    def forget(self) -> None:
        """Lead no call to an entry any more before the full path has found it. The same for many cells as for few.

        Nothing leads to the tables from now on but :meth:`find`, which renews them first.
        """
        with self._mutex:
            self._stale = True
            self._close()

    def _close(self) -> None:
        for tables in (self.singles, self.pairs, self.shapes):
            tables.clear()

    def _let_go(self) -> None:
        with self._mutex:
            old = self._tables
            if self._stale:
                self._before = self.hits
                self._renew()
        del old  # not before: what only they held may have finalizers

    @property
    def hits(self) -> int:
        """How many calls the hot path has served."""
        with self._mutex:
            found = sum(table.cache_info().hits for table in self._tables)
            return self._before + max(0, found + self._made - self.went_on)

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Cell:
        """Return the cell of any call; ``NOWHERE`` for one that has none. Nothing is hashed that is not flat."""
        if self._stale:
            self._let_go()
        if self.skips:
            args = args[1:]
        try:
            for value in args:
                _FLAT[type(value)]
            for name in kwargs:
                _FLAT[type(kwargs[name])]
            table = self._table if kwargs or self.skips else self._table_of(args)
            return table(*args, **kwargs)
        except KeyError:
            return self._find_deep(args, kwargs)
        except _NO_CELL:
            return NOWHERE

    def _table_of(self, args: tuple[Any, ...]) -> _Table:
        """Return the table for calls with such arguments; the one for all others, when there are too many.

        Two tables are for calls of any shape.
        """
        if len(args) > MAX_LENGTH or len(self._tables) - 2 >= MAX_SHAPES:
            return self._table
        kinds: list[type] = [type(value) for value in args]
        new = lru_cache(maxsize=MAX_CELLS)(self._make)
        with self._mutex:
            node = self.shapes
            for kind in kinds:
                node = node.setdefault(kind, {})
            table: _Table = node.setdefault(None, new)
            if table is new:
                self._tables.append(new)
                if len(kinds) == 1:
                    self.singles[kinds[0]] = table
                elif len(kinds) == 2:  # noqa: PLR2004 - a pair
                    self.pairs.setdefault(kinds[0], {})[kinds[1]] = table
        return table

    def _find_deep(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Cell:
        """Return the cell of a call with tuples among its arguments, if they are not too large or too deep."""
        parts: list[object] = []
        for value in args:
            if not _take_apart(value, parts, MAX_DEPTH):
                return NOWHERE
        for name, value in kwargs.items():
            parts.append(name)
            if not _take_apart(value, parts, MAX_DEPTH):
                return NOWHERE
        return self._deep(tuple(parts))

    def _make(self, /, *args: object, **kwargs: object) -> Cell:
        if any(type(value) is float and value == 0.0 for value in (*args, *kwargs.values())):
            raise _NO_CELL  # and the table keeps nothing
        self._made += 1
        return Cell()

    def _make_deep(self, _parts: tuple[object, ...]) -> Cell:
        self._made += 1
        return Cell()


def _take_apart(value: object, parts: list[object], depth: int) -> bool:
    """Add what tells ``value`` from every other to ``parts``; tell whether that can be done."""
    kind = type(value)
    if len(parts) > MAX_PARTS:
        return False
    if kind is tuple:
        items = cast("tuple[object, ...]", value)
        # A length before the items: where one tuple ends and the next begins is told apart too.
        parts.append((len(items),))
        return depth > 0 and all(_take_apart(item, parts, depth - 1) for item in items)
    parts.append(kind)
    parts.append(value)
    return kind in _FLAT and not (kind is float and value == 0.0)


def is_constant(value: object, depth: int = MAX_DEPTH) -> bool:
    """Tell whether nothing can change ``value``, nor what a key says of it, as far as that is known."""
    kind = type(value)
    if kind in {tuple, frozenset}:
        items = cast("tuple[object, ...]", value)
        return depth > 0 and all(is_constant(item, depth - 1) for item in items)
    is_named = isinstance(value, (type, Enum)) and not hasattr(cast("object", value), "__cache_key__")
    return is_named or kind in _FLAT or kind in _CONSTANT or kind in _PATHS


def async_face(subject: _Subject, *, hot: bool) -> Callable[..., Coroutine[Any, Any, Any]]:  # noqa: C901 - see above
    """Return the ``async def`` that callers of a memoized coroutine function call."""
    function, call = subject.function, subject.call_async
    if not hot:

        @wraps(function)
        async def cold_face(*args: Any, **kwargs: Any) -> Any:
            return await call(args, kwargs, None)

        return cold_face
    cells, find, skips = subject.cells, subject.cells.find, subject.cells.skips
    singles, pairs, shapes = subject.cells.singles, subject.cells.pairs, subject.cells.shapes
    one, two = (-1, -1) if skips else (1, 2)
    now, gate = subject.now, subject.gate

    @wraps(function)
    async def face(*args: Any, **kwargs: Any) -> Any:  # noqa: C901 - as above
        if current_scope() is not gate.plain:
            return await call(args, kwargs, None)
        try:
            if len(args) == two and not kwargs:
                cell = pairs[type(args[0])][type(args[1])](*args)
            elif len(args) == one and not kwargs:
                cell = singles[type(args[0])](*args)
            elif kwargs or skips:
                cell = find(args, kwargs)
            else:
                table = shapes
                for value in args:
                    table = table[type(value)]
                cell = table[None](*args)
        except (KeyError, TypeError):
            cell = find(args, kwargs)
        node = cell.node
        value, until = node.value, cell.until  # first the value, then whether it was still live
        if node.live:
            if until is None:
                node.visited = True
                return value
            moment = now()
            if moment < until:
                node.used = moment
                node.visited = True
                return value
        if cell is NOWHERE:
            return await call(args, kwargs, None)
        cells.went_on += 1
        return await call(args, kwargs, cell)

    return face


def sync_face(subject: _Subject, *, hot: bool) -> Callable[..., Any]:  # noqa: C901 - see above
    """Return the ``def`` that callers of a memoized plain function call."""
    function, call = subject.function, subject.call_sync
    if not hot:

        @wraps(function)
        def cold_face(*args: Any, **kwargs: Any) -> Any:
            return call(args, kwargs, None)

        return cold_face
    cells, find, skips = subject.cells, subject.cells.find, subject.cells.skips
    singles, pairs, shapes = subject.cells.singles, subject.cells.pairs, subject.cells.shapes
    one, two = (-1, -1) if skips else (1, 2)
    now, gate = subject.now, subject.gate

    @wraps(function)
    def face(*args: Any, **kwargs: Any) -> Any:  # noqa: C901 - as above
        if current_scope() is not gate.plain:
            return call(args, kwargs, None)
        try:
            if len(args) == two and not kwargs:
                cell = pairs[type(args[0])][type(args[1])](*args)
            elif len(args) == one and not kwargs:
                cell = singles[type(args[0])](*args)
            elif kwargs or skips:
                cell = find(args, kwargs)
            else:
                table = shapes
                for value in args:
                    table = table[type(value)]
                cell = table[None](*args)
        except (KeyError, TypeError):
            cell = find(args, kwargs)
        node = cell.node
        value, until = node.value, cell.until  # as above
        if node.live:
            if until is None:
                node.visited = True
                return value
            moment = now()
            if moment < until:
                node.used = moment
                node.visited = True
                return value
        if cell is NOWHERE:
            return call(args, kwargs, None)
        cells.went_on += 1
        return call(args, kwargs, cell)

    return face
