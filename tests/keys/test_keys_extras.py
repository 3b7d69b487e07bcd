"""State that no declared field shows: it is never left out of a key in silence."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import pathlib
import uuid
from dataclasses import InitVar, dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import pytest

from acache import FastCache
from acache.exceptions import CustomParamsEncoderRequiredError, KeyEncodingError
from acache.keys import canonical

T = TypeVar("T")


@dataclass
class Request:
    """A dataclass that others derive from."""

    path: str
    note: str = field(default="", compare=False)
    seed: InitVar[int] = 0


class Authenticated(Request):
    """A subclass that was not decorated."""

    def __init__(self, path: str, user: str) -> None:
        super().__init__(path)
        self.user = user


class Untouched(Request):
    """A subclass that adds nothing."""

    def show(self) -> str:
        """Add no state."""
        return self.path


@dataclass(eq=False)
class Unequal:
    """A dataclass that compares by identity."""

    path: str


@dataclass(slots=True, weakref_slot=True)
class Slotted:
    """A dataclass without a dict."""

    path: str


class SlottedMore(Slotted):
    """A subclass with a slot more."""

    __slots__ = ("__secret", "user")

    def __init__(self, path: str, user: str) -> None:
        super().__init__(path)
        self.user = user


class Hidden(Slotted):
    """A subclass with a private slot, and answers for every name."""

    __slots__ = ("__user",)

    def __init__(self, path: str, user: str | None = None) -> None:
        super().__init__(path)
        if user is not None:
            self.__user = user

    def __getattr__(self, name: str) -> str:
        return name


@attrs.define(slots=False)
class Job:
    """An attrs class."""

    name: str
    note: str = attrs.field(default="", eq=False)


class Queued(Job):
    """A subclass of one that was not decorated."""

    def __init__(self, name: str, queue: str) -> None:
        super().__init__(name)
        self.queue = queue


@attrs.frozen(cache_hash=True)
class Frozen:
    """An attrs class of slots that remembers its hash and a property."""

    name: str

    @cached_property
    def upper(self) -> str:
        """Derived."""
        return self.name.upper()


@attrs.frozen(cache_hash=True, slots=False)
class FrozenDict:
    """As above, in a dict."""

    name: str


@dataclass
class Bag(dict[str, int]):
    """A dataclass that is a dict too."""

    owner: str = ""
    note: str = field(default="", compare=False)


@dataclass
class Crate(Generic[T]):
    """A generic dataclass."""

    item: T


class Stack(list[T], Generic[T]):
    """A generic list."""


class Pair(NamedTuple):
    """A named tuple."""

    left: int
    right: int


class Named(Pair):
    """A subclass with a dict."""


class Mixed(Request, Enum):
    """An enum of dataclasses: known by name."""

    HOME = ("/",)


class LocalPath(pathlib.PurePosixPath):
    """A path with a dict."""


class Day(dt.date):
    """A date with a dict."""


class Price(decimal.Decimal):
    """A number with a dict."""


class Id(uuid.UUID):
    """An id whose base forbids setting attributes."""


def cached_property_of_another_library() -> Any:
    """Make the like of Django's: a descriptor that puts its value into the instance."""

    class Base:
        def __init__(self, function: Any) -> None:
            self.function = function

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            value = instance.__dict__[self.function.__name__] = self.function(instance)
            return value

    return type("cached_property", (Base,), {})


foreign_cached_property = cached_property_of_another_library()


@dataclass
class Lazy:
    """A dataclass that remembers what it worked out."""

    path: str

    @cached_property
    def mine(self) -> str:
        """Derived."""
        return self.path * 2

    @foreign_cached_property  # type: ignore[untyped-decorator]  # made at run time
    def theirs(self) -> str:
        """Return what is derived."""
        return self.path * 3


def with_attribute(value: Any) -> Any:
    value.extra = 1
    return value


@pytest.mark.parametrize(
    "value",
    [
        Authenticated("/", "alice"),
        with_attribute(Request("/")),
        with_attribute(Unequal("/")),
        SlottedMore("/", "alice"),
        Hidden("/", "alice"),
        Queued("job", "fast"),
        with_attribute(Job("job")),
        with_attribute(Bag("me")),
        with_attribute(Crate(1)),
        with_attribute(Named(1, 2)),
        with_attribute(LocalPath("/")),
        with_attribute(Day(2024, 1, 1)),
        with_attribute(Price(1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_undeclared_state_is_refused(value: Any) -> None:
    """An attribute that is no declared field would be no part of the key, so there is no key; no value is shown."""
    with pytest.raises(
        KeyEncodingError, match=r"attributes beside its (fields|content), and no __cache_key__"
    ) as caught:
        canonical(value)
    assert "alice" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        Untouched("/"),
        Request("/", "not compared", 5),
        Unequal("/"),
        Slotted("/"),
        Hidden("/"),
        Job("job", "not compared"),
        Bag("me", "not compared"),
        Crate(1),
        Named(1, 2),
        Mixed.HOME,
        LocalPath("/"),
        Day(2024, 1, 1),
        Price(1),
        Id(int=1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_declared_state_is_enough(value: Any) -> None:
    """A field that takes no part in comparison was left out by whoever declared it; a subclass may add behaviour."""
    assert canonical(value) == canonical(value)


def test_what_an_object_worked_out_itself_does_not_count() -> None:
    """A cached property, a cached hash and the parameters a type was made with leave the key as it was."""
    lazy, frozen, other = Lazy("a"), Frozen("a"), FrozenDict("a")
    before = [canonical(each) for each in (lazy, frozen, other)]
    assert (lazy.mine, lazy.theirs, frozen.upper) == ("aa", "aaa", "A")
    assert hash(frozen)
    assert hash(other)
    assert [canonical(each) for each in (lazy, frozen, other)] == before
    assert canonical(Crate[int](1)) == canonical(Crate(1))
    assert canonical(Stack[int]([1])) == canonical(Stack([1]))


@dataclass(eq=False)
class Buffer(io.BytesIO):
    """A dataclass that is an extension's class too."""

    name: str


@dataclass
class FailedError(Exception):
    """A dataclass that is an exception."""

    code: int


def test_what_python_cannot_see_is_refused() -> None:
    """A dataclass that is an extension's class too has content that no field shows; an exception's arguments are no such."""
    with Buffer("a") as buffer, pytest.raises(KeyEncodingError, match="no stable encoding"):
        canonical(buffer)
    assert canonical(FailedError(1)) != canonical(FailedError(2))


@dataclass
class Broken:
    """A class that does not show its attributes."""

    path: str

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # what a class should not do
        raise LookupError


def test_a_broken_dict_is_an_error_of_the_object() -> None:
    """A class that fails to show its attributes is refused as one whose fields cannot be read."""
    with pytest.raises(KeyEncodingError, match="reading its fields raised LookupError"):
        canonical(Broken("/"))


def test_two_users_never_get_one_page() -> None:
    """A memoized call with such an object is an error before the function runs, and no wrong hit."""
    cache = FastCache()

    @cache.memoize
    def render(request: Request) -> str:
        return request.path

    with pytest.raises(CustomParamsEncoderRequiredError, match="declare them as fields"):
        render(Authenticated("/", "alice"))
    assert render(Untouched("/")) == "/"


def test_fields_that_are_not_compared_make_no_difference() -> None:
    """Whoever declared a field to be left out of comparisons, or to be passed on only, left it out of the key."""
    assert canonical(Request("/", "not compared", 5)) == canonical(Request("/")) != canonical(Request("/other"))
    assert canonical(Job("job", "not compared")) == canonical(Job("job")) != canonical(Job("other"))
    assert canonical(Bag("me", "not compared")) == canonical(Bag("me")) != canonical(Bag("you"))
