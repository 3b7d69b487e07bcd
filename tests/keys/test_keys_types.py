"""Known types beyond the plain ones: instances of classes, functions, numpy arrays, registered types."""

from __future__ import annotations

import array
import collections
import collections.abc
import datetime as dt
import enum
import functools
import gc
import io
import operator
import os
import pathlib
import random
import re
import struct
import sys
import typing
import uuid
import weakref
import zoneinfo
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import attrs
import numpy as np
import pytest

from acache import FastCache
from acache.exceptions import (
    ConfigurationError,
    CustomParamsEncoderRequiredError,
    KeyEncodingError,
    KeyPicklingError,
)
from acache.keys import canonical, differs, register_key_type
from acache.keys.arrays import _elements, numpy_encoder
from acache.keys.instances import subclass
from acache.keys.registry import TypedWalk
from acache.keys.walk import Refusal, Walk

T = TypeVar("T")


class Level(enum.IntEnum):
    """An enum that is a number."""

    LOW = 1


class Kind(enum.StrEnum):
    """An enum that is a text."""

    A = "a"


class Other(enum.Enum):
    """An enum with a member named like another's."""

    LOW = 1


class Access(enum.Flag):
    """A flag."""

    READ = 1
    WRITE = 2


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: int = 0
    note: str = field(default="", compare=False)
    shared: ClassVar[int] = 1
    seed: InitVar[int] = 0


@dataclass
class Point3(Point):
    """A dataclass of more fields."""

    z: int = 0


@dataclass(slots=True)
class Lazy:
    """A dataclass whose field may be unset."""

    value: int = field(init=False)


@dataclass
class Cached:
    """A dataclass with a derived value."""

    x: int

    @cached_property
    def double(self) -> int:
        """Derived."""
        return 2 * self.x


@dataclass
class Bag(dict[str, int]):
    """A dataclass that is a dict too."""

    owner: str = ""


class Outer:
    """A class around another."""

    @dataclass
    class Inner:
        """A nested one."""

        x: int


@attrs.define
class Box:
    """An attrs class."""

    width: int
    _height: int = 1
    label: str = attrs.field(default="", eq=False)


class Pair(NamedTuple):
    """A named tuple."""

    a: int
    b: int = 0


class Twin(NamedTuple):
    """Another one."""

    a: int
    b: int = 0


class Text(str):  # noqa: SLOT000 - with room for attributes
    """A text that masks itself."""

    def __str__(self) -> str:
        return "***"


class Number(int):
    """A number of its own type."""

    @cached_property
    def square(self) -> int:
        """Derived."""
        return self * self


class Slotted(list[int]):
    """A list with a slot beside its content."""

    __slots__ = ("__hidden",)


class Units(np.ndarray[Any, Any]):
    """An array of its own type."""


class Plain:
    """A class with a method."""

    def method(self) -> None:
        """Be referred to."""


class Ring(Generic[T]):
    """A generic class with a key."""

    def __init__(self, value: T) -> None:
        self.value = value
        self.lock = object()

    def __cache_key__(self) -> object:
        return self.value

    def method(self) -> None:
        """Be bound."""

    @classmethod
    def build(cls) -> None:
        """Be bound to the class."""


class SmallRing(Ring[int]):
    """A subclass that inherits the key."""


@functools.lru_cache
def cached_function() -> None:
    """Be importable."""


def _distinct(values: list[Any]) -> None:
    for a, b in combinations(values, 2):
        assert canonical(a) != canonical(b), (type(a), type(b))


class TestEnums:
    """Members by class and name."""

    def test_members_are_not_their_values(self) -> None:
        """A member is told from its value and from members of other enums."""
        _distinct(
            [Level.LOW, 1, Other.LOW, Kind.A, "a", Access.READ, Access.WRITE, Access.READ | Access.WRITE, Access(0)]
        )

    def test_typed_false_keeps_members(self) -> None:
        """``typed=False`` is about numbers: a member stays a member."""
        assert canonical(Level.LOW, typed=False) != canonical(1, typed=False)
        assert canonical(Access.READ, typed=False) != canonical(Access.WRITE, typed=False)


class TestRecords:
    """Dataclasses, attrs classes, named tuples."""

    def test_fields_decide(self) -> None:
        """The fields that are compared make the key, with the class."""
        assert canonical(Point(1, 2, "a")) == canonical(Point(1, 2, "b"))
        _distinct(
            [Point(1, 2), Point(2, 1), Point3(1, 2), Point3(1, 2, z=1), (1, 2), {"x": 1, "y": 2}, Box(1, 2), Pair(1, 2)]
        )

    def test_attrs(self) -> None:
        """Attrs classes likewise; private names included."""
        assert canonical(Box(1, 2, "a")) == canonical(Box(1, 2, "b"))
        _distinct([Box(1, 2), Box(1, 3), Box(2, 2)])

    def test_named_tuples(self) -> None:
        """A named tuple is not another one, nor a tuple."""
        _distinct([Pair(1, 2), Twin(1, 2), (1, 2), Pair(1, True)])

    def test_using_an_object_does_not_show(self) -> None:
        """Section 4: a cached property that was read leaves the key alone."""
        cached, number = Cached(2), Number(3)
        before = canonical((cached, number))
        assert cached.double == 4
        assert number.square == 9
        assert canonical((cached, number)) == before

    def test_order_of_attributes_does_not_show(self) -> None:
        """Section 4: the order in which attributes were set is not part of an object."""
        one, two = Point(1, 2), Point(1, 2)
        del one.x
        one.x = 1
        assert list(vars(one)) != list(vars(two))
        assert canonical(one) == canonical(two)

    def test_unset_field(self) -> None:
        """A field that is not set is an error that names the class and no value."""
        with pytest.raises(KeyEncodingError, match=r"Lazy.*raised AttributeError"):
            canonical(Lazy())

    def test_the_field_is_named(self) -> None:
        """The path of an error has the declared name of a field."""
        with pytest.raises(KeyEncodingError, match=r"field 'x' of .*Point, item 0 of list"):
            canonical(Point(typing.cast("Any", [object()])))

    def test_a_dataclass_that_is_a_dict(self) -> None:
        """Fields and content both count."""
        one, two = Bag("a"), Bag("a")
        assert canonical(one) == canonical(two)
        two["k"] = 1
        _distinct([one, two, Bag("b")])


class TestSubclasses:
    """Instances of subclasses of known types."""

    def test_the_class_counts(self) -> None:
        """A subclass's instance is not its base's."""
        _distinct([Text("a"), "a", Number(1), 1, collections.Counter(a=1), {"a": 1}])

    def test_the_content_is_what_the_base_holds(self) -> None:
        """A text that masks itself when printed is known by its content."""
        assert canonical(Text("a")) == canonical(Text("a"))
        assert canonical(Text("a")) != canonical(Text("b"))

    def test_attributes_beside_the_content(self) -> None:
        """State that the base does not hold is refused, not left out."""
        text, slotted = Text("a"), Slotted([1])
        assert canonical(slotted) != canonical([1])
        text.lang = "en"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] - that is the case
        slotted._Slotted__hidden = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] - as above
        for value in (text, slotted):
            with pytest.raises(KeyEncodingError, match="beside its content"):
                canonical(value)

    def test_every_builtin_base(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each builtin that can be subclassed keeps its content in a subclass."""
        contents: list[tuple[type, Any, Any]] = [
            (int, 1, 2),
            (float, 1.0, 2.0),
            (complex, 1j, 2j),
            (str, "a", "b"),
            (bytes, b"a", b"b"),
            (bytearray, b"a", b"b"),
            (tuple, (1,), (2,)),
            (list, [1], [2]),
            (set, {1}, {2}),
            (frozenset, {1}, {2}),
            (dict, {1: 1}, {1: 2}),
            (collections.OrderedDict, {1: 1}, {1: 2}),
            (collections.deque, [1], [2]),
            (Decimal, "1", "2"),
            (Fraction, 1, 2),
        ]
        for base, first, second in contents:
            cls: Any = type("Sub", (base,), {"__module__": __name__})
            monkeypatch.setattr(sys.modules[__name__], "Sub", cls, raising=False)
            assert canonical(cls(first)) == canonical(cls(first))
            _distinct([cls(first), cls(second), base(first)])

    @pytest.mark.parametrize("cls", [collections.OrderedDict, collections.defaultdict])
    def test_state_of_an_extension(self, cls: type) -> None:
        """A class of an extension with room for more than its base holds is refused."""

        def never(value: object, walk: Walk) -> bytes:
            raise AssertionError

        with pytest.raises(Refusal, match="no stable encoding"):
            subclass(cls, dict, never, ())(cls(), TypedWalk())


def _zone(key: str | None) -> zoneinfo.ZoneInfo:
    """Make a time zone of one hour, from the smallest file that describes one."""
    data = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + struct.pack(">lbb", 3600, 0, 0) + b"CET\0"
    return zoneinfo.ZoneInfo.from_file(io.BytesIO(data), key=key)


class TestStandardTypes:
    """The standard library's values."""

    def test_times(self) -> None:
        """Moments are told apart by every field, by fold and by time zone."""
        moment = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - a naive one too
        zone = _zone("Europe/Berlin")
        _distinct(
            [
                moment,
                moment.date(),
                moment.time(),
                moment.replace(fold=1),
                moment.replace(microsecond=1),
                moment.replace(tzinfo=dt.UTC),
                moment.replace(tzinfo=zone),
                moment.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
                moment.replace(tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
                dt.UTC,
                zone,
                dt.timedelta(1),
                dt.timedelta(0, 1),
            ]
        )
        assert canonical(zone) == canonical(_zone("Europe/Berlin"))
        assert canonical(dt.UTC) == canonical(dt.timezone(dt.timedelta(0)))

    def test_a_zone_without_a_name(self) -> None:
        """A time zone read from a file is refused."""
        with pytest.raises(KeyEncodingError, match="no name"):
            canonical(_zone(None))

    def test_numbers(self) -> None:
        """Decimals by sign, digits and exponent; fractions by numerator and denominator."""
        _distinct(
            [
                Decimal("1.0"),
                Decimal("1.00"),
                Decimal("-1.0"),
                Decimal(0),
                Decimal("-0"),
                Decimal("inf"),
                Fraction(1, 2),
                Fraction(2, 1),
            ]
        )
        assert canonical(Decimal("NaN")) == canonical(Decimal("NaN"))

    def test_paths(self) -> None:
        """Pure and concrete paths of both families differ; nothing is normalised or looked up."""
        _distinct(
            [
                pathlib.PurePosixPath("a"),
                pathlib.PureWindowsPath("a"),
                pathlib.Path("a"),
                pathlib.Path("a/../a"),
                pathlib.Path("\udcff"),
                "a",
            ]
        )
        assert canonical(pathlib.Path("a")) == canonical(pathlib.Path("./a/"))

    def test_the_rest(self) -> None:
        """Identifiers, patterns, namespaces and arrays."""
        _distinct(
            [
                uuid.UUID(int=1),
                uuid.UUID(int=2),
                re.compile("a"),
                re.compile("a", re.IGNORECASE),
                re.compile(b"a"),
                SimpleNamespace(a=1),
                SimpleNamespace(a=2),
                array.array("B", [1]),
                array.array("b", [1]),
                array.array("B"),
            ]
        )
        assert canonical(SimpleNamespace(a=1, b=2)) == canonical(SimpleNamespace(b=2, a=1))

    def test_a_class_that_only_bears_the_name(self) -> None:
        """A class that calls itself uuid.UUID is not the real one."""
        fake = type("UUID", (), {"__module__": "uuid", "int": 1})
        with pytest.raises(KeyEncodingError):
            canonical(fake())


class TestReferences:
    """Functions, classes and types."""

    def test_importable(self) -> None:
        """What a module holds under its name is known by that name."""
        _distinct(
            [
                len,
                operator.add,
                os.path.join,
                int,
                Point,
                Ring,
                SmallRing,
                type(None),
                type(...),
                type(NotImplemented),
                str.upper,
                dict.fromkeys,
                cached_function,
                Plain.method,
                collections.abc.Mapping,
                Level,
                list[int],
                list[str],
                int | str,
                functools.partial(len, "a"),
                functools.partial(len, "b"),
            ]
        )

    def test_a_class_is_not_its_instance(self) -> None:
        """K6: a class and an object of it differ, also where the object says what it is."""
        _distinct([Ring, Ring(Ring), Ring("Ring"), SmallRing(1), Ring(1)])

    def test_unions(self) -> None:
        """The order and the spelling of a union do not show."""
        assert canonical(int | str) == canonical(str | int) == canonical(typing.Union[int, str])  # noqa: UP007 - a spelling
        assert canonical(int | None) == canonical(typing.Optional[int])  # noqa: UP045 - as above

    def test_bound_methods(self) -> None:
        """A bound method is its object and its name."""
        _distinct(
            [Ring(1).method, Ring(2).method, SmallRing(1).method, Ring.build, SmallRing.build, [1].append, "a".upper]
        )
        assert canonical(Ring(1).method) == canonical(Ring(1).method)

    def test_local_functions_and_classes(self) -> None:
        """K6: a lambda, a local function or a local class is refused; its name says nothing."""

        def local() -> None:
            pass

        class Local:
            pass

        for value in (local, Local, lambda: None, functools.partial(local), [Local], functools.lru_cache(local)):
            with pytest.raises(KeyPicklingError, match="imported"):
                canonical(value)

    def test_names_that_are_none(self) -> None:
        """A function or a class that claims no module is refused."""

        def local() -> None:
            pass

        local.__module__ = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue] - that is the case
        nowhere = type("Nowhere", (), {"__module__": 5, "__cache_key__": len})
        for value in (local, nowhere, nowhere()):
            with pytest.raises(KeyEncodingError):
                canonical(value)

    def test_a_replaced_function(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A function that is no longer what its module holds is refused."""
        old = cached_function
        assert canonical(old)
        monkeypatch.setattr(sys.modules[__name__], "cached_function", None)
        with pytest.raises(KeyPicklingError):
            canonical(old)

    def test_a_method_its_object_does_not_have(self) -> None:
        """A function bound to an object by hand is refused."""
        with pytest.raises(KeyPicklingError, match="does not have"):
            canonical(_by_hand.__get__(Ring(1)))

    def test_memoized_functions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A memoized function and the function in it are one, under the name they share."""

        class Memoized:
            def __init__(self, fn: Any) -> None:
                self.__acache_wrapped__ = fn
                self.__module__ = fn.__module__
                self.__qualname__ = fn.__qualname__

        wrapper = Memoized(_by_hand)
        with pytest.raises(KeyPicklingError):
            canonical(wrapper)
        monkeypatch.setattr(sys.modules[__name__], "_by_hand", wrapper)
        assert canonical(wrapper) == canonical(wrapper.__acache_wrapped__)


def _by_hand(self: object) -> None:
    del self


def _made(factor: int) -> list[Any]:
    """Return instances of classes that are named as those of other factors, and do something else."""

    @dataclass
    class Record:
        x: int

        def scaled(self) -> int:
            return self.x * factor

    class Mode(enum.Enum):
        FAST = factor

    class Right(enum.Flag):
        READ = 1

    class Content(dict[str, int]):
        pass

    class Couple(NamedTuple):
        x: int

    @attrs.define
    class Form:
        x: int

    return [Record(3), Mode.FAST, Right.READ, Content(), Couple(3), Form(3)]


class TestClassesWithoutAName:
    """Instances of classes that are not what their names lead to."""

    @pytest.mark.parametrize("typed", [True, False])
    @pytest.mark.parametrize("number", range(6))
    def test_local_classes(self, number: int, typed: bool) -> None:
        """Another class of the name may do something else with the same fields, so an instance is refused as the class is."""
        for value in (_made(1)[number], [_made(2)[number]]):
            with pytest.raises(KeyPicklingError, match=r"_made.*local one.*at module level.*register_key_type"):
                canonical(value, typed=typed)

    def test_two_enums_never_get_one_result(self) -> None:
        """A memoized call with such an argument is an error before the function runs, which says what to do."""

        def value_of(mode: Any) -> object:
            return mode.value

        with pytest.raises(CustomParamsEncoderRequiredError, match=r"local one.*__cache_key__\(\).*key="):
            FastCache().memoize(value_of)(_made(1)[1])
        memoized = FastCache().memoize(key="{mode.value}")(value_of)
        assert [memoized(_made(factor)[1]) for factor in (1, 2, 1)] == [1, 2, 1]

    def test_a_class_that_was_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """When a module is loaded anew its classes are others: instances of the old ones are refused from then on."""
        old = [Point(1), Other.LOW, Outer.Inner(1)]
        encoded = canonical(old)
        for name, cls in (("Point", Point3), ("Other", Level), ("Outer", Plain)):
            with monkeypatch.context() as patch, pytest.raises(KeyPicklingError, match="replaced"):
                patch.setattr(sys.modules[__name__], name, cls)
                canonical(old)
        assert canonical(old) == encoded
        with monkeypatch.context() as patch, pytest.raises(KeyPicklingError, match="replaced"):
            patch.delitem(sys.modules, __name__)
            canonical(old)

    def test_a_class_that_comes_to_its_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A refusal is not kept: a class that its module has later is welcome then."""
        value = _made(1)[0]
        cls: Any = value.__class__
        cls.__qualname__ = "Later"
        with pytest.raises(KeyPicklingError):
            canonical(value)
        monkeypatch.setattr(sys.modules[__name__], "Later", cls, raising=False)
        assert canonical(value) == canonical(cls(3))

    def test_the_main_module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A class of the program itself is found in ``__main__``, as any other in its module."""
        main = ModuleType("__main__")
        exec("from dataclasses import dataclass\n@dataclass\nclass Job:\n    n: int", main.__dict__)  # noqa: S102 - as a program
        monkeypatch.setitem(sys.modules, "__main__", main)
        _distinct([main.Job(1), main.Job(2)])

    def test_the_only_instance(self) -> None:
        """A class that gave its name to its only instance is found by that."""
        _distinct([sys.version_info, sys.float_info, tuple(sys.version_info)])

    def test_members_as_defaults(self) -> None:
        """An enum in a class that is not finished is no reason why a function made again would be another."""

        def make(factor: int) -> Any:
            mode = _made(factor)[1]

            def f(x: int, mode: enum.Enum = mode) -> object:
                return x * mode.value

            return f

        assert differs(make(1), make(1)) == ""
        assert differs(make(1), make(2)) == "defaults"


class TestOwnKeys:
    """``__cache_key__`` and ``register_key_type``."""

    def test_cache_key(self) -> None:
        """The result and the class make the key; the rest of the object does not."""
        assert canonical(Ring(1)) == canonical(Ring(1))
        _distinct([Ring(1), Ring(True), Ring("1"), SmallRing(1), 1])

    def test_cache_key_of_an_error(self) -> None:
        """A method that raises is an error with its cause."""

        class Broken:
            def __cache_key__(self) -> object:
                raise LookupError("canary")

        with pytest.raises(KeyEncodingError, match=r"__cache_key__\(\) raised LookupError") as caught:
            canonical([Broken()])
        assert isinstance(caught.value.__cause__, LookupError)
        assert "canary" not in str(caught.value)

    def test_cache_key_that_returns_itself(self) -> None:
        """A key made of itself is as deep as a cycle."""

        class Mirror:
            def __cache_key__(self) -> object:
                return self

        with pytest.raises(KeyEncodingError, match="contains itself"):
            canonical(Mirror())

    def test_cache_key_comes_before_fields(self) -> None:
        """A dataclass's own key stands for its fields, also when it is inherited."""

        class Keyed:
            def __cache_key__(self) -> object:
                return "constant"

        @dataclass
        class Entity(Keyed):
            x: int

        assert canonical(Entity(1)) == canonical(Entity(2))

    def test_register(self) -> None:
        """A registered type is encoded by what its function returns, its subclasses too."""

        class Tensor:
            def __init__(self, data: bytes) -> None:
                self.data = data

        class Parameter(Tensor):
            pass

        with pytest.raises(KeyEncodingError):
            canonical(Tensor(b"1"))
        register_key_type(Tensor, lambda tensor: tensor.data)
        assert canonical(Tensor(b"1")) == canonical(Tensor(b"1"))
        _distinct([Tensor(b"1"), Tensor(b"2"), Parameter(b"1"), b"1"])

    def test_the_nearer_way_wins(self) -> None:
        """An exact registration beats the method, the method of a subclass beats a registered base."""

        class Base:
            def __cache_key__(self) -> object:
                return "method"

        class Sub(Base):
            def __cache_key__(self) -> object:
                return "method of sub"

        register_key_type(Base, lambda _: "registered")
        assert b"registered" in canonical(Base())
        assert b"method of sub" in canonical(Sub())
        register_key_type(Base, lambda _: "again")
        assert b"again" in canonical(Base())

    def test_registered_function_that_raises(self) -> None:
        """Its error is the cause, and the text names the class."""

        class Odd:
            pass

        register_key_type(Odd, operator.attrgetter("missing"))
        with pytest.raises(KeyEncodingError, match=r"registered for .*Odd raised AttributeError"):
            canonical(Odd())

    @pytest.mark.parametrize("cls", [int, dict, type, str])
    def test_own_types_are_not_for_registration(self, cls: type) -> None:
        """What acache encodes by exact type cannot be changed under everybody's feet."""
        with pytest.raises(ConfigurationError, match="itself"):
            register_key_type(cls, str)

    def test_a_metaclass_may_give_classes_a_key(self) -> None:
        """A class that is an instance of a class with a key has that key, local or not."""

        class Meta(type):
            def __cache_key__(cls) -> object:
                return cls.__name__

        class Plugin(metaclass=Meta):
            pass

        assert canonical(Plugin) == canonical(Plugin)

    def test_local_classes_are_not_kept_alive(self) -> None:
        """Encoding an instance of a local class does not make the class immortal."""

        class Local:
            def __cache_key__(self) -> object:
                return 1

        @dataclass(slots=True)
        class LocalPoint:
            x: int

        dead: list[weakref.ref[type]] = [weakref.ref(Local), weakref.ref(LocalPoint)]
        assert canonical(Local())
        with pytest.raises(KeyPicklingError):
            canonical(LocalPoint(1))
        del Local, LocalPoint
        gc.collect()
        assert [ref() for ref in dead] == [None, None]


class TestNumpy:
    """Arrays, scalars and dtypes."""

    def test_dtype_shape_and_content(self) -> None:
        """Each of the three tells arrays apart."""
        base = np.arange(6)
        _distinct(
            [
                base,
                base.astype("i4"),
                base.astype(">i8"),
                base.astype("f8"),
                base.reshape(2, 3),
                base.reshape(3, 2),
                base[:5],
                base.astype("U1"),
                base.astype("S1"),
                base.astype("M8[s]"),
                base.astype("m8[s]"),
                base.astype(bool),
                base.astype(object),
                base.tolist(),
                np.empty((0, 3)),
                np.empty((3, 0)),
                np.empty(0),
                np.array(1),
                np.int64(1),
                1,
                np.dtype("i8"),
                np.dtype("i4"),
                np.int64,
            ]
        )

    def test_layout_does_not_show(self) -> None:
        """Strides, order, writability and views are not part of an array."""
        array = np.arange(24.0).reshape(2, 3, 4)
        frozen = array.copy()
        frozen.flags.writeable = False
        wide = np.zeros((2, 3, 8))
        wide[..., ::2] = array
        for same in (np.asfortranarray(array), frozen, wide[..., ::2], array[::-1][::-1]):
            assert canonical(same) == canonical(array)
        assert canonical(array[0, :, 1]) == canonical(array[0, :, 1].copy())

    def test_structures(self) -> None:
        """Structures are encoded by field, so their padding does not show."""
        dtype = np.dtype([("a", "i1"), ("b", "f8", (2,)), ("c", "O")], align=True)
        one, two = np.zeros(2, dtype), np.zeros(2, dtype)
        one["c"], two["c"] = "x", "x"
        assert canonical(one) == canonical(two)
        padded = np.dtype({"names": ["a"], "formats": ["i1"], "itemsize": 8})
        first, second = np.zeros(1, padded), np.frombuffer(b"\0" + b"\xff" * 7, padded)
        assert canonical(first) == canonical(second)
        two["b"][1, 1] = 1
        _distinct([one, two, one["b"], one[0], first])

    def test_objects(self) -> None:
        """Arrays of objects and of texts are encoded element by element."""
        _distinct(
            [
                np.array([1, "1", None], object),
                np.array([1, "1", True], object),
                np.array(["1", "2"], np.dtypes.StringDType()),
            ]
        )
        assert canonical(np.array([{1, 2}], object)) == canonical(np.array([{2, 1}], object))
        with pytest.raises(KeyEncodingError, match="item 1 of list"):
            canonical(np.array([1, object()], object))

    def test_scalars(self) -> None:
        """A scalar is its dtype and value; with typed=False it is a number."""
        _distinct(
            [
                np.float64(1),
                np.float32(1),
                np.int64(1),
                np.bool_(True),
                1.0,
                1,
                np.str_("a"),
                "a",
                np.datetime64(1, "s"),
            ]
        )
        assert canonical(np.float32(0.5), typed=False) == canonical(0.5, typed=False)
        assert canonical([np.int8(1)], typed=False) == canonical([True], typed=False)
        assert canonical(np.str_("a"), typed=False) != canonical("a", typed=False)

    def test_long_doubles(self) -> None:
        """Types whose bytes hold garbage are refused, in arrays, scalars and dtypes."""
        if np.dtype("g").itemsize == np.dtype("d").itemsize:
            assert canonical(np.longdouble(1)) != canonical(1.0)
            return
        for value in (np.longdouble(1), np.zeros(1, "g"), np.zeros(1, "G"), np.dtype("g")):
            for typed in (True, False):
                with pytest.raises(KeyEncodingError, match="padding"):
                    canonical(value, typed=typed)

    def test_subclasses(self) -> None:
        """A subclass counts as a class; one with attributes of its own is refused."""
        _distinct([np.arange(2).view(Units), np.arange(2)])
        with pytest.raises(KeyEncodingError, match="beside its content"):
            canonical(np.ma.masked_array([1, 2], [True, False]))

    def test_dtypes(self) -> None:
        """Dtypes differ by fields, offsets, shapes and byte order; a dtype of unknown bytes is refused."""
        _distinct(
            [
                np.dtype("i4"),
                np.dtype(">i4"),
                np.dtype("V4"),
                np.dtype(("i4", (2,))),
                np.dtype(("i4", (2, 1))),
                np.dtype([("a", "i4")]),
                np.dtype([("b", "i4")]),
                np.dtype([("a", "i4"), ("b", "i4")]),
                np.dtype({"names": ["a"], "formats": ["i4"], "offsets": [4]}),
                np.dtype([("a", [("a", "i4")])]),
                np.dtypes.StringDType(),
            ]
        )
        unknown = SimpleNamespace(dtype=SimpleNamespace(kind="?", names=None, hasobject=False))
        with pytest.raises(Refusal, match="stable bytes"):
            _elements(unknown, TypedWalk())

    def test_without_numpy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where numpy is not imported, or not yet, no class is one of its own."""
        assert numpy_encoder(np.ndarray) is not None
        for module in (None, SimpleNamespace()):
            monkeypatch.setitem(sys.modules, "numpy", module)  # pyright: ignore[reportArgumentType] - a stub
            assert numpy_encoder(np.ndarray) is None

    def test_large(self) -> None:
        """K8: ten megabytes are hashed, not copied into the encoding."""
        assert len(canonical(np.zeros(10_000_000, "u1"))) < 200


def test_random_state_is_refused() -> None:
    """An object whose pickle changes with use is never a key."""
    with pytest.raises(KeyEncodingError):
        canonical(random.Random(1))
