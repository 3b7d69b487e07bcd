"""Encodings of results: what an object consists of, by what pickle would be told of it, and never by what it says it is.

For keys an object without a known type has to say what it is. Whether two results are the same must not be left to
``__cache_key__()``, which may say less than all; nor to the bytes of a pickle, in which equal objects differ by interned
texts, by the order of sets and attributes, and by what is shared. So the parts that ``__reduce_ex__()`` gives are encoded
canonically: the callable by reference, its arguments, the state and the items.

What an object refers to more than once is encoded once; that it is shared does not show. A part that refers back to what
it is a part of is encoded as how many objects that is up.
"""

from __future__ import annotations

import copyreg
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, cast

from acache.keys.extras import derived_names
from acache.keys.references import class_name
from acache.keys.walk import Encoder, Refusal, Walk, payload, text

__all__ = ("GraphWalk", "placed", "reduced")

#: What classes give for protocol 5 are views of buffers, which say less than the bytes.
_PROTOCOL: Final = 4
#: Objects that may be encoded once more because their first encoding held for their first place only.
_MOST_REPEATED: Final = 10_000
#: How much the reduction of an object tells at most.
_TOLD: Final = 6


class GraphWalk(Walk):
    """A walk that may come to an object more than once."""

    def __init__(self) -> None:
        #: The objects around this place, by id, and how many are around each.
        self.around: dict[int, int] = {}
        #: Encodings that hold wherever the object is, which is kept, or its id would be another's.
        self.known: dict[int, tuple[object, bytes]] = {}
        #: The outermost object that what is being encoded refers back to.
        self.outermost: float = math.inf
        self.repeated = 0


def placed(encoder: Encoder) -> Encoder:
    """Encode with ``encoder`` what may refer back to itself, and what others refer to, once."""

    def encode(value: Any, walk: Walk) -> bytes:
        graph, me = cast("GraphWalk", walk), id(value)
        if me in graph.known:
            return graph.known[me][1]
        depth = len(graph.around)
        if me in graph.around:
            graph.outermost = min(graph.outermost, graph.around[me])
            return b"^%x;" % (depth - graph.around[me])
        outermost, graph.outermost = graph.outermost, math.inf
        graph.around[me] = depth
        data = encoder(value, graph)
        del graph.around[me]
        if graph.outermost >= depth:
            graph.known[me] = (value, data)
            graph.outermost = outermost
        else:
            _count(value, graph)
            graph.outermost = min(graph.outermost, outermost)
        return data

    return encode


def reduced(cls: type) -> Encoder:
    """Encode instances of ``cls`` by what ``__reduce_ex__()`` gives of them."""
    head = b"".join(map(text, class_name(cls)))
    derived = derived_names(cls)

    def encode(value: Any, walk: Walk) -> bytes:
        return payload(b"o", head + b"".join(walk.parts(_parts(value, cls, derived), "part {} of what makes it")))

    return placed(encode)


def _count(value: object, graph: GraphWalk) -> None:
    graph.repeated += 1
    if graph.repeated > _MOST_REPEATED:
        raise Refusal(value, "its parts refer to each other in too many ways")


def _parts(value: Any, cls: type, derived: frozenset[str]) -> tuple[object, ...]:
    """Return what makes ``value`` again, for all the same, however it came to be."""
    try:
        given = _reduce(value)
        if isinstance(given, str):  # the name under which its module has it
            return getattr(value, "__module__", None), given
        told: list[Any] = [*given, *[None] * (_TOLD - len(given))]
        function, arguments, state, items, pairs, setter = told
        if issubclass(cls, (set, frozenset)) and len(arguments) == 1:
            arguments = (frozenset(arguments[0]),)  # given as a list, in the order of this process
        state = _without(state, derived)
        listed = None if items is None else list(items)
        mapped = None if pairs is None else (OrderedDict if issubclass(cls, OrderedDict) else dict)(pairs)
    except Exception as error:  # noqa: BLE001 - whatever a class raises, or gives, when it is pickled
        raise Refusal(value, f"reducing it raised {type(error).__qualname__}", cause=error, pickling=True) from None
    return function, arguments, state, listed, mapped, setter


def _without(state: Any, derived: frozenset[str]) -> Any:
    """Return the state of an object without what it can make again; it may be a pair of attributes and slots."""
    if isinstance(state, dict):
        attributes = cast("dict[object, object]", state)
        return {name: attribute for name, attribute in attributes.items() if name not in derived} or None
    if _is_pair(state):
        return _without(state[0], derived), _without(state[1], derived)
    return state


def _is_pair(state: Any) -> bool:
    if type(state) is not tuple:
        return False
    parts = cast("tuple[object, ...]", state)
    return len(parts) == 2 and isinstance(parts[1], dict)  # noqa: PLR2004 - a pair


def _reduce(value: Any) -> Any:
    """Return what pickle would be told: a name, or up to six things."""
    reducers: dict[Any, Callable[[Any], Any]] = copyreg.dispatch_table
    reducer = reducers.get(type(value))
    return value.__reduce_ex__(_PROTOCOL) if reducer is None else reducer(value)
