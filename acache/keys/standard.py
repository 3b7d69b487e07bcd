"""Encodings of the standard library's value types, found by name so that none of their modules is imported for them.

A class is looked up by the name it gives itself and has to be the object its module holds under that name. Each type is
encoded by the constructor arguments that give it again, never by a pickle or a text: those change between versions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from acache.keys.references import encode_union
from acache.keys.walk import Encoder, Refusal, Walk

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import PurePath

__all__ = ("STANDARD", "by_name")


def _fields(kind: str, *names: str) -> Encoder:
    read: Callable[[Any], tuple[object, ...]] = attrgetter(*names)
    return lambda value, walk: walk.record(kind, read(value))


def _encode_decimal(value: Decimal, walk: Walk) -> bytes:
    # The text of a decimal depends on the decimal context; sign, digits and exponent do not. 1.0 is not 1.00.
    sign, digits, exponent = value.as_tuple()
    return walk.record("Decimal", (sign, bytes(digits), exponent))


def _encode_uuid(value: Any, walk: Walk) -> bytes:
    return walk.record("UUID", (value.int,))


def _encode_timezone(value: Any, walk: Walk) -> bytes:
    return walk.record("timezone", value.__getinitargs__())


def _encode_zone(value: Any, walk: Walk) -> bytes:
    if value.key is None:
        raise Refusal(value, "a time zone read from a file has no name")
    return walk.record("ZoneInfo", (value.key,))


def _encode_partial(value: Any, walk: Walk) -> bytes:
    return walk.record("partial", (value.func, value.args, value.keywords))


def _encode_namespace(value: Any, walk: Walk) -> bytes:
    return walk.record("SimpleNamespace", (value.__dict__,))


def _encode_array(value: Any, walk: Walk) -> bytes:
    items = memoryview(value)
    data = items.cast("B") if items.nbytes else memoryview(b"")
    return walk.record("array", (value.typecode, value.itemsize, sys.byteorder)) + walk.payload(b"v", data, value)


def _path(kind: str) -> Encoder:
    def encode(value: PurePath, walk: Walk) -> bytes:
        return walk.record(kind, (str(value),))

    return encode


_PATHS: Final = ("PurePath", "PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")

#: Encoders by the name of the class.
STANDARD: Final[Mapping[str, Encoder]] = {
    "array.array": _encode_array,
    "datetime.date": _fields("date", "year", "month", "day"),
    "datetime.datetime": _fields(
        "datetime", "year", "month", "day", "hour", "minute", "second", "microsecond", "fold", "tzinfo"
    ),
    "datetime.time": _fields("time", "hour", "minute", "second", "microsecond", "fold", "tzinfo"),
    "datetime.timedelta": _fields("timedelta", "days", "seconds", "microseconds"),
    "datetime.timezone": _encode_timezone,
    "decimal.Decimal": _encode_decimal,
    "fractions.Fraction": _fields("Fraction", "numerator", "denominator"),
    "functools.partial": _encode_partial,
    "re.Pattern": _fields("Pattern", "pattern", "flags"),
    "types.SimpleNamespace": _encode_namespace,
    "typing._UnionGenericAlias": encode_union,
    "uuid.UUID": _encode_uuid,
    "zoneinfo.ZoneInfo": _encode_zone,
    **{f"pathlib.{name}": _path(name) for name in _PATHS},
    # CPython 3.13 keeps the same classes in a private module.
    **{f"pathlib._local.{name}": _path(name) for name in _PATHS},
}


def by_name(cls: type, encoders: Mapping[str, Encoder]) -> Encoder | None:
    """Return the encoder of exactly ``cls``, or ``None`` when it has none or only bears the name of one that has."""
    encoder = encoders.get(f"{cls.__module__}.{cls.__qualname__}")
    if encoder is None or getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is not cls:
        return None
    return encoder
