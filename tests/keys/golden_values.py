"""Values and calls whose digests are written down: a change of any of them is a change of the key format.

Loaded by path under the fixed name ``golden_values``, in the tests and in bare child interpreters, so that the classes and
functions here have one module name everywhere. Needs nothing but the standard library and ``acache.keys``.
"""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import enum
import fractions
import functools
import operator
import pathlib
import re
import types
import typing
import uuid
from dataclasses import dataclass, field

from acache.keys import KeyRecipe, encode_key, register_key_type


class Colour(enum.Enum):
    """An enum."""

    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias
    BLUE = "blue"


class Access(enum.Flag):
    """A flag."""

    READ = 1
    WRITE = 2


class Size(enum.IntEnum):
    """An enum that is a number."""

    SMALL = 1


@dataclass
class Point:
    """A dataclass with a field that is not compared."""

    x: float
    y: float
    label: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Segment:
    """A slotted dataclass of dataclasses."""

    start: Point
    end: Point


class Pair(typing.NamedTuple):
    """A named tuple."""

    first: int
    second: int


class Name(str):
    """A text of its own type."""

    __slots__ = ()


class Account:
    """An object that says what it is."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.secret = object()

    def __cache_key__(self) -> object:
        return self.number

    def balance(self, day: int, *, currency: str = "EUR") -> int:
        """Stand for a method that is memoized."""
        return self.number + day + len(currency)


class Session:
    """A class whose key is registered."""

    def __init__(self, user: str) -> None:
        self.user = user


register_key_type(Session, lambda session: session.user)


def load(path: str, mode: str = "r", *parts: int, strict: bool = False, **options: object) -> object:
    """Stand for a function with every kind of parameter but one."""
    return path, mode, parts, strict, options


def area(width: int, height: int = 2, /) -> int:
    """Stand for a function with positional parameters."""
    return width * height


def values() -> dict[str, object]:
    """Return the values, by name."""
    return {**_plain(), **_containers(), **_standard(), **_objects()}


def _plain() -> dict[str, object]:
    return {
        "None": None,
        "True": True,
        "False": False,
        "Ellipsis": ...,
        "NotImplemented": NotImplemented,
        "0": 0,
        "1": 1,
        "-1": -1,
        "2**64-1": 2**64 - 1,
        "2**64": 2**64,
        "-2**200": -(2**200),
        "10**5000": 10**5000,
        "10**9000": 10**9000,
        "0.0": 0.0,
        "-0.0": -0.0,
        "1.0": 1.0,
        "0.1": 0.1,
        "inf": float("inf"),
        "nan": float("nan"),
        "1j": 1j,
        "text empty": "",
        "text a": "a",
        "text 1": "1",
        "text NFC": "\u00e9",
        "text NFD": "e\u0301",
        "text NUL": "a\0b",
        "text surrogate": "\ud800",
        "text astral": "\U0001f40d",
        "text 10 kB": "x" * 10_000,
        "bytes 1": b"1",
        "bytes 4096": b"x" * 4096,
        "bytes 4097": b"x" * 4097,
        "bytearray": bytearray(b"1"),
        "memoryview": memoryview(b"1"),
        "range": range(1, 10, 2),
        "slice": slice(1, None, 2),
    }


def _containers() -> dict[str, object]:
    return {
        "tuple empty": (),
        "tuple a bc": ("a", "bc"),
        "tuple ab c": ("ab", "c"),
        "list": [1, True, 1.0, "1", b"1"],
        "list nested": [[], [[]], ()],
        "dict": {"b": 1, "a": [2], 3: None, None: {}},
        "set of text": {"spam", "eggs", "ham", "bacon", "\u00e9"},
        "set mixed": {1, "1", None, (2, 3), frozenset("xyz")},
        "frozenset": frozenset({"spam", "eggs", "ham"}),
        "dict of sets": {frozenset("ab"): {"c", "d"}, frozenset("cd"): {"a", "b"}},
        "mappingproxy": types.MappingProxyType({"a": 1}),
        "OrderedDict": collections.OrderedDict(b=1, a=2),
        "Counter": collections.Counter("abca"),
        "defaultdict": collections.defaultdict(list, a=[1]),
        "deque": collections.deque([1, 2], maxlen=3),
    }


def _standard() -> dict[str, object]:
    moment = dt.datetime(2024, 2, 29, 12, 30, 59, 999, tzinfo=dt.UTC)
    return {
        "date": dt.date(2024, 2, 29),
        "datetime naive": moment.replace(tzinfo=None),
        "datetime utc": moment,
        "time": dt.time(23, 59, fold=1),
        "timedelta": dt.timedelta(days=-1, microseconds=5),
        "timezone": dt.timezone(dt.timedelta(hours=2), "two"),
        "Decimal 1.0": decimal.Decimal("1.0"),
        "Decimal 1.00": decimal.Decimal("1.00"),
        "Decimal nan": decimal.Decimal("NaN"),
        "Fraction": fractions.Fraction(-3, 7),
        "UUID": uuid.UUID(int=7),
        "PurePosixPath": pathlib.PurePosixPath("a/../b"),
        "PureWindowsPath": pathlib.PureWindowsPath("C:\\a"),
        "Pattern": re.compile(r"\d+", re.IGNORECASE),
        "partial": functools.partial(load, "p", mode="w"),
        "SimpleNamespace": types.SimpleNamespace(b=1, a=2),
        "array": array.array("B", [1, 2]),
    }


def _objects() -> dict[str, object]:
    return {
        "class int": int,
        "class NoneType": type(None),
        "class Point": Point,
        "class PurePosixPath": pathlib.PurePosixPath,
        "function len": len,
        "function load": load,
        "function add": operator.add,
        "method upper": str.upper,
        "bound method": Account(3).balance,
        "alias": list[int],
        "union": int | None,
        "Optional": typing.Optional[int],  # noqa: UP045 - the other spelling is what is tested
        "enum": Colour.RED,
        "enum alias": Colour.CRIMSON,
        "enum int": Size.SMALL,
        "flag": Access.READ | Access.WRITE,
        "dataclass": Point(1.0, 2.0, "ignored"),
        "dataclass nested": Segment(Point(0.0, 0.0), Point(1.0, -0.0)),
        "named tuple": Pair(1, 2),
        "subclass of str": Name("a"),
        "__cache_key__": Account(3),
        "registered": Session("a"),
    }


def _path_only(path: str) -> object:
    return path


def calls() -> dict[str, str]:
    """Return the keys of some calls, by name."""
    account = Account(3)
    plain = KeyRecipe(load)
    spaced = KeyRecipe(load, namespace="app", version=(2, "b"))
    return {
        "load": plain.digest(("p",), {}),
        "load mode": plain.digest(("p", "w"), {}),
        "load options": plain.digest(("p", "r", 1, 2), {"strict": True, "b": 1, "a": {2}}),
        "load isolated": plain.digest(("p",), {}, "0" * 32),
        "load params": plain.digest(("p",), {}, params={"p": 1}),
        "load spaced": spaced.digest(("p",), {}),
        "load ignored": KeyRecipe(load, ignore=("mode", "debug")).digest(("p",), {"debug": 1}),
        "load template": KeyRecipe(load, key="{path}:{options[a]}").digest(("p",), {"a": 1}),
        "load key": KeyRecipe(load, key=_path_only).digest(("p",), {}),
        "area": KeyRecipe(area).digest((3,), {}),
        "area loose": KeyRecipe(area, typed=False).digest((3.0,), {}),
        "partial": KeyRecipe(functools.partial(area, 3)).digest((2,), {}),
        "method": KeyRecipe(account.balance).digest((1,), {"currency": "USD"}),
        "builtin": KeyRecipe(max).digest((1, 2), {}),
    }


def digests() -> dict[str, dict[str, str]]:
    """Return everything that is written down."""
    return {"values": {name: encode_key(value) for name, value in values().items()}, "calls": calls()}
