"""What of a call counts: its arguments, a template's fields, or what the user's own function says.

Each is a :class:`Selection`: a function that takes the arguments of a call and returns the values to encode. All of them
bind the arguments first, so a wrong call fails as the function itself would.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from acache.callables import is_coroutine_function
from acache.exceptions import ConfigurationError
from acache.keys.binding import Binder, Signature
from acache.keys.identity import FunctionIdentity
from acache.keys.template import Field, parse
from acache.keys.walk import Refusal
from acache.types import Params

__all__ = ("Selection", "select")


@dataclass(frozen=True, slots=True)
class Selection:
    """How to read the values that count, where each stands in errors, and what tells this way from others."""

    read: Binder
    places: tuple[str, ...]
    spec: tuple[object, ...]
    #: The parameters whose values are the key; none where something else is made of them.
    parameters: tuple[str, ...] = ()
    #: The arguments that count and come before those of a call.
    bound: Params = ((), {})
    #: The parameters, or keywords, that do not count.
    left_out: frozenset[str] = frozenset()
    #: The values that count though no call gives them: arguments that are bound, and defaults.
    implied: tuple[Any, ...] = ()


def select(identity: FunctionIdentity, key: object, ignore: Collection[str]) -> Selection:
    """Choose by the options ``key`` and ``ignore``. Raises :class:`~acache.exceptions.ConfigurationError`."""
    label = identity.label
    signature = Signature.of(identity.function, identity.qualname)
    ignored = frozenset({ignore} if isinstance(ignore, str) else ignore)
    if key is None:
        selection = _by_parameters(signature, label, ignored)
    elif ignored:
        raise ConfigurationError(label, "key= says what counts, so ignore= has nothing to leave out")
    elif isinstance(key, str):
        selection = _by_template(signature, label, key)
    elif not callable(key) or is_coroutine_function(key):
        raise ConfigurationError(label, "key= is neither a template nor a plain function of the arguments")
    else:
        selection = _by_function(signature, key)
    args, kwargs = identity.bound
    placed = [*zip(signature.takers(len(args)), args, strict=True), *kwargs.items()]
    filled = {name for name, _ in placed}
    silent = [(name, default) for name, default in signature.defaults.items() if name not in filled]
    implied = tuple([value for name, value in (*placed, *silent) if name not in selection.left_out])
    selection = replace(selection, implied=implied)
    if not placed:
        return selection
    counted = [value for name, value in placed[: len(args)] if name not in ignored]
    keywords = {name: value for name, value in kwargs.items() if name not in ignored}
    return replace(selection, read=partial(selection.read, *args, **kwargs), bound=(tuple(counted), keywords))


def _by_parameters(signature: Signature, label: str, ignore: frozenset[str]) -> Selection:
    if signature.parameters is None:
        if ignore:
            raise ConfigurationError(label, "ignore= needs a function whose parameters are known")
        return Selection(signature.binder(()), ("the positional arguments", "the keyword arguments"), ("call",))
    unknown = ignore.difference(signature.names)
    if unknown and not signature.takes_any_keyword:
        raise ConfigurationError(label, f"ignore= names {', '.join(sorted(map(repr, unknown)))}, which is no parameter")
    names = tuple(name for name in signature.names if name not in ignore)
    places = tuple(f"argument {name!r}" for name in names)
    return Selection(signature.binder(names, unknown), places, ("arguments", names), names, left_out=ignore)


def _by_template(signature: Signature, label: str, template: str) -> Selection:
    fields = parse(template, label)
    for field in fields:
        if field.parameter not in signature.names:
            raise ConfigurationError(label, f"field {field.text!r} of key= names no parameter")
    bind = signature.binder([field.parameter for field in fields])

    def read(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        values = bind(*args, **kwargs)
        return tuple([_follow(field, value) for field, value in zip(fields, values, strict=True)])

    places = tuple(f"field {field.text!r} of key=" for field in fields)
    left_out = frozenset(signature.names).difference(field.parameter for field in fields)
    return Selection(read, places, ("template", template), left_out=left_out)


def _follow(field: Field, value: Any) -> Any:
    try:
        return field.read(value)
    except Exception as error:  # noqa: BLE001 - an attribute of the user's may raise anything
        refusal = Refusal(value, f"reading it raised {type(error).__qualname__}", cause=error)
        refusal.steps.append(f"field {field.text!r} of key=")
        raise refusal from None


def _by_function(signature: Signature, key: Callable[..., object]) -> Selection:
    check = signature.binder(())

    def read(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        check(*args, **kwargs)
        return (key(*args, **kwargs),)

    return Selection(read, ("the result of key=",), ("function",))
