"""Whether two functions of one name are the same function.

A name is a key space, so a second function under a name (a factory called twice, a module loaded anew) must not answer for
the first unless it computes the same. What it computes shows in its code, its defaults and the values it captured.
Source lines and file names do not count; what the function finds in global variables cannot be known.

The prints are for one process: an object that no key can be made of is told from others by its type and its address.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from hashlib import sha256
from types import CellType, CodeType, FunctionType
from typing import Any, Final

from acache.keys.encoding import canonical
from acache.keys.identity import identify
from acache.keys.references import is_importable

__all__ = ("differs", "fingerprint")

_PARTS: Final = ("code", "defaults", "captured values")
_DIGITS: Final = 20


def fingerprint(fn: Callable[..., Any]) -> str:
    """Return a digest of what makes two functions of one name differ; never raises.

    Costs what encoding the defaults and the captured values costs.
    """
    try:
        parts = _parts(identify(fn).function, {})
    except Exception:  # noqa: BLE001 - an odd object, or one too deep, still differs from another
        parts = _by_address(fn), b"", b""
    return "-".join(sha256(part).hexdigest()[:_DIGITS] for part in parts)


def differs(a: str | Callable[..., Any], b: str | Callable[..., Any]) -> str:
    """Say in what two functions, or two fingerprints, differ: code, defaults or captured values; empty if in nothing."""
    prints = [(fn if isinstance(fn, str) else fingerprint(fn)).split("-") for fn in (a, b)]
    return next((name for name, x, y in zip(_PARTS, *prints, strict=True) if x != y), "")


def _parts(function: object, known: dict[int, bytes]) -> tuple[bytes, bytes, bytes]:
    """Return the bytes of the three parts; ``known`` holds what has been seen of captured functions, by address."""
    if not isinstance(function, FunctionType):
        return _by_value(function), b"", b""
    known[id(function)] = b"recursive"
    positional = [_value(value, known) for value in function.__defaults__ or ()]
    keywords = {name: _value(value, known) for name, value in (function.__kwdefaults__ or {}).items()}
    captured = [_cell(cell, known) for cell in function.__closure__ or ()]
    return canonical(_code(function.__code__)), canonical((positional, keywords)), canonical(captured)


def _code(code: CodeType) -> tuple[object, ...]:
    return (
        code.co_code,
        code.co_exceptiontable,
        tuple(_code(const) if isinstance(const, CodeType) else const for const in code.co_consts),
        (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
    )


def _cell(cell: CellType, known: dict[int, bytes]) -> bytes:
    try:
        value = cell.cell_contents
    except ValueError:
        return b"empty"
    return _value(value, known)


def _value(value: object, known: dict[int, bytes]) -> bytes:
    """Encode a captured value: functions without an importable name by their own parts, each once."""
    if not isinstance(value, FunctionType) or is_importable(value):
        return _by_value(value)
    if id(value) not in known:
        known[id(value)] = sha256(canonical(_parts(value, known))).digest()
    return known[id(value)]


def _by_value(value: object) -> bytes:
    try:
        return canonical(value)
    except Exception:  # noqa: BLE001 - user code may be asked for a key, and fail in any way
        return _member(value) if isinstance(value, Enum) else _by_address(value)


def _member(value: Enum) -> bytes:
    """Encode a member of an enum that is not found under its name: the class around it may not be finished."""
    return canonical((type(value).__qualname__, value._name_, _by_value(value._value_)))


def _by_address(value: object) -> bytes:
    return canonical((type(value).__qualname__, id(value)))
