"""An exception without the run it comes from.

A stored exception is raised for many callers. Its traceback holds the frames it went through, and all their locals; and
raising one object again and again makes that ever longer. So what is stored is a copy without one, and each caller gets his own.

``copy.copy`` calls the class with ``args``, which is wrong for a class with an ``__init__`` of its own: it fails, or does its work
twice. Here no code of the class runs: the copy is made as the interpreter makes one, and given what the other has.
"""

from __future__ import annotations

from contextlib import suppress
from types import MemberDescriptorType
from typing import Any, Final, TypeVar, cast

__all__ = ("bare",)

E = TypeVar("E", bound=BaseException)

#: Set in classes that a program defines, and not in those of the interpreter.
_HEAP_TYPE: Final = 1 << 9


def bare(error: E) -> E:
    """Return a copy of ``error`` that has no traceback, no cause and no context. Raises nothing.

    One that cannot be copied, which takes a ``__new__`` in C, is returned itself, without its traceback.
    """
    kind = type(error)
    native = next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
    try:
        copy = cast("E", cast("Any", native).__new__(kind, *_arguments(error)))
    except Exception:  # noqa: BLE001 - of a class that we know nothing of
        return error.with_traceback(None)
    copy.args = error.args
    for base in kind.__mro__:
        for member in vars(base).values():
            if isinstance(member, MemberDescriptorType):  # a slot, or a field such as errno
                _carry_over(member, error, copy)
    copy.__dict__.update(error.__dict__)
    return copy


def _carry_over(member: MemberDescriptorType, error: BaseException, copy: BaseException) -> None:
    with suppress(AttributeError, TypeError):  # unset, or read-only and so made with the object
        value = member.__get__(error)
        # A field of the interpreter's that is unset reads as None, and is another thing when it is None.
        if value is None and getattr(copy, member.__name__, None) is None and hasattr(copy, member.__name__):
            return
        member.__set__(copy, value)


def _arguments(error: BaseException) -> tuple[Any, ...]:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.message, [bare(each) for each in group.exceptions]
    return error.args
