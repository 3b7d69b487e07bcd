"""The canonical encoding of plain values: typed, injective, order-free, and silent about what it refuses."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import sys
import threading
import unicodedata
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from types import MappingProxyType
from typing import Any

import pytest

from acache.exceptions import KeyEncodingError, KeyPicklingError
from acache.keys import canonical, encode_key, limits
from acache.keys.registry import TypedWalk
from acache.keys.walk import Refusal
from acache.types import KEY_LENGTH, Key

CANARY = "s3cret-canary"


#: Groups of values that have nothing in common but their looks.
LOOKALIKES: dict[str, list[Any]] = {
    "one": [1, True, 1.0, 1 + 0j, "1", b"1", bytearray(b"1"), memoryview(b"1"), Decimal(1), Fraction(1)],
    "nothing": [0, False, 0.0, -0.0, "", b"", (), [], {}, set(), frozenset(), None],
    "complex zeros": [0j, complex(0.0, -0.0), complex(-0.0, 0.0)],
    "splits": [("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c"), "abc"],
    "nesting": [[[], []], [[[]]], [[]], ([], []), [[], ()]],
    "large integers": [2**64 - 1, 2**64, -(2**64), 2**64 + 1, 10**5000, 10**5000 + 1, -(10**5000)],
    "edges of float": [math.inf, -math.inf, math.nan, sys.float_info.max, "nan", "inf"],
    "texts": ["\u00e9", "e\u0301", "\ud800", "\ud83d\ude00", "\U0001f600", "a\0", "a", "a\0\0"],
    "pairs": [{1: 2}, {2: 1}, {1: 2, 2: 1}, {(1, 2)}, [(1, 2)], OrderedDict({1: 2})],
    "ranges": [range(3), range(0, 3, 2), range(0), slice(3), slice(0, 3), slice(0, 3, 1)],
    "long": [b"x" * 4096, b"x" * 4097, b"y" * 4097, "x" * 4097, bytearray(4097), bytes(4097)],
    "views": [memoryview(bytes(8)), memoryview(bytes(8)).cast("I"), memoryview(bytes(8)).cast("B", (2, 4))],
    "maps": [{"a": 1}, MappingProxyType({"a": 1}), Counter(a=1), defaultdict(int, a=1), defaultdict(None, a=1)],
    "sequences": [[1, 2], deque([1, 2]), deque([1, 2], maxlen=2), (1, 2), {1, 2}, frozenset({1, 2})],
    "constants": [..., NotImplemented, None, "Ellipsis", "NotImplemented", "N;"],
}


@pytest.mark.parametrize("values", LOOKALIKES.values(), ids=LOOKALIKES)
def test_different_values_differ(values: list[object]) -> None:
    """K1, T10: values of other types or contents have other encodings, alone and at any depth."""
    for a, b in combinations(values, 2):
        assert canonical(a) != canonical(b)
        assert canonical([{"k": (a,)}]) != canonical([{"k": (b,)}])


@pytest.mark.parametrize("prefix", [(), (1,), ("a", [])])
def test_no_encoding_begins_another(prefix: tuple[object, ...]) -> None:
    """T10: encodings are prefix-free, so that no sequence can be read as another one."""
    pool = [*prefix, 1, 11, "1", "11", (1,), (1, 1), [1], {1}, {1: 1}, None, 1.0, b"1", 2**64, 2**68, "x" * 5000]
    encodings = [canonical(value) for value in pool]
    for i, a in enumerate(encodings):
        assert not any(b.startswith(a) for j, b in enumerate(encodings) if pool[i] != pool[j])


def test_every_nan_is_equal() -> None:
    """K1: a nan equals itself, whatever its sign and payload, alone and inside."""
    other = -float("nan")
    assert canonical(math.nan) == canonical(other) == canonical(math.inf - math.inf)
    assert canonical([math.nan, complex(math.nan, 1)]) == canonical([other, complex(other, 1)])


def test_nan_keys_keep_no_order() -> None:
    """K2: two dict keys of one encoding do not leave their values in insertion order."""
    one, two = float("nan"), float("nan")
    assert canonical({one: 1, two: 2}) == canonical({one: 2, two: 1}) == canonical({two: 1, one: 2})


def test_order_of_dicts_and_sets_does_not_show() -> None:
    """K2, P24: insertion history is not part of a dict or a set."""
    assert canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1})
    one, two = set[int](), set[int]()
    for number in (0, 8):
        one.add(number)
    for number in (8, 0):
        two.add(number)
    assert list(one) != list(two)
    assert canonical(one) == canonical(two)
    assert canonical(frozenset(one)) == canonical(frozenset(two))
    assert canonical(Counter("ab")) == canonical(Counter("ba"))


def test_order_of_ordered_things_shows() -> None:
    """An OrderedDict, a list and a deque are their order."""
    one, two = OrderedDict({"a": 1, "b": 2}), OrderedDict({"b": 2, "a": 1})
    assert canonical(one) != canonical(two)
    assert canonical(deque([1, 2])) != canonical(deque([2, 1]))


def test_sharing_and_interning_do_not_show() -> None:
    """K4, P24: one object twice is the same as two equal objects."""
    shared = ["x"]
    assert canonical([shared, shared]) == canonical([["x"], ["x"]]) == canonical(copy.deepcopy([shared, shared]))
    literal = "abcd"
    joined = literal[:2] + literal[2:]
    assert joined is not literal
    assert canonical((joined, joined)) == canonical((literal, joined)) == canonical((literal, literal))


def test_pickling_does_not_show() -> None:
    """Section 4: an object and its own pickle round trip have one key."""
    value = {"k": [1, "a", (2.5, None)], "s": {"a", "b"}, "f": frozenset({1})}
    assert canonical(pickle.loads(pickle.dumps(value))) == canonical(value)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_unicode_forms_are_distinct(form: Any) -> None:
    """K9: texts are their code points; nothing is normalised."""
    text = "\u00e9\u0301\ufb01"
    normal = unicodedata.normalize(form, text)
    assert (canonical(normal) == canonical(text)) == (normal == text)


def test_names_of_any_shape() -> None:
    """K9, T9: paths, NUL, surrogates and long names give distinct digests of 64 hex digits."""
    names = [
        "../../etc/passwd",
        "/abs",
        "..\\..\\x",
        "CON",
        "a\0b",
        "\ud800",
        "\udfff",
        "n" * 10_000,
        "n" * 10_001,
        "",
        ".",
    ]
    keys = [encode_key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert all(Key(key) == key and len(key) == KEY_LENGTH for key in keys)


def test_a_key_is_taken_as_it_is() -> None:
    """Whoever has a key already gets it back; a text of the same digits is another object."""
    key = encode_key("a")
    assert encode_key(key) is key
    assert encode_key(str(key)) != key
    assert encode_key([key]) != encode_key([str(key)])


class TestLooseNumbers:
    """``typed=False``."""

    @pytest.mark.parametrize("one", [1, True, 1.0, 1 + 0j, Decimal(1), Decimal("1.00"), Fraction(2, 2)])
    def test_equal_numbers_are_equal(self, one: object) -> None:
        """Numbers that compare equal are encoded equally, at any depth."""
        assert canonical(one, typed=False) == canonical(1, typed=False)
        assert canonical({"k": [one]}, typed=False) == canonical({"k": [1]}, typed=False)

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            (0.5, Fraction(1, 2)),
            (0.5, Decimal("0.50")),
            (-0.0, 0),
            (Decimal("-0E+999999"), 0),
            (2**70, float(2**70)),
            (math.nan, Decimal("nan")),
            (-math.inf, Decimal("-Infinity")),
            (1e300, int(1e300)),
            (complex(0.5, 0), 0.5),
        ],
    )
    def test_equal_pairs(self, a: object, b: object) -> None:
        """Halves, zeros, infinities and large numbers meet across types."""
        assert canonical(a, typed=False) == canonical(b, typed=False)

    def test_unequal_numbers_stay_apart(self) -> None:
        """Exactly what compares equal is made equal."""
        numbers: list[object] = [
            0,
            1,
            2,
            0.5,
            -0.5,
            0.1,
            Decimal("0.1"),
            Fraction(1, 10),
            1j,
            1 + 1j,
            math.inf,
            -math.inf,
            2**53,
            2**53 + 1,
        ]
        for a, b in combinations(numbers, 2):
            assert (canonical(a, typed=False) == canonical(b, typed=False)) == (a == b)
        assert canonical("1", typed=False) != canonical(1, typed=False)

    def test_a_monstrous_decimal_is_refused(self) -> None:
        """T11: a decimal of a few characters is not spelled out in a billion digits."""
        with pytest.raises(KeyEncodingError, match="Decimal"):
            canonical(Decimal("1e999999999"), typed=False)
        assert canonical(Decimal("1e999999999")) != canonical(Decimal("1e999999998"))


class TestLimits:
    """K8, T11."""

    @pytest.mark.parametrize("typed", [True, False])
    def test_depth(self, *, typed: bool) -> None:
        """The deepest allowed object is encoded, one deeper is an error."""
        nested: list[Any] = []
        for _ in range(limits.MAX_DEPTH - 1):
            nested = [nested]
        assert canonical(nested, typed=typed)
        with pytest.raises(KeyEncodingError, match="deeper than 200"):
            canonical([nested], typed=typed)

    def test_very_deep(self) -> None:
        """A hundred thousand levels are an error, not a crash."""
        nested: tuple[Any, ...] = ()
        for _ in range(100_000):
            nested = (nested,)
        with pytest.raises(KeyEncodingError, match="deeper"):
            canonical(nested)

    def test_cycles(self) -> None:
        """Lists and dicts that contain themselves are an error."""
        cycle: list[Any] = []
        cycle.append({"k": cycle})
        with pytest.raises(KeyEncodingError, match="contains itself"):
            canonical(cycle)

    def test_short_of_stack(self) -> None:
        """A caller near the recursion limit gets the package's error, not a RecursionError."""
        nested: list[Any] = []
        for _ in range(150):
            nested = [nested]

        def dive(frames: int) -> bytes:
            return canonical(nested) if frames == 0 else dive(frames - 1)

        used = len(inspect.stack(context=0))
        with pytest.raises(KeyEncodingError, match="stack"):
            dive(sys.getrecursionlimit() - used - 100)

    def test_doubling(self) -> None:
        """A list of a few hundred bytes with 2**60 leaves is an error once its share of items is spent."""
        bomb: list[Any] = [None]
        for _ in range(60):
            bomb = [bomb, bomb]
        walk = TypedWalk()
        walk.left //= 100
        with pytest.raises(Refusal, match="larger than"):
            walk.encode(bomb)

    def test_size_counts_every_byte(self) -> None:
        """Payloads and items count against one limit: exactly the limit passes, a byte more does not."""
        value = [b"x" * 5000, "y" * 5000]
        for left, fits in ((10_000 + 2 * limits.ITEM_SIZE, True), (10_000 + 2 * limits.ITEM_SIZE - 1, False)):
            walk = TypedWalk()
            walk.left = left
            if fits:
                assert walk.encode(value) == canonical(value)
            else:
                with pytest.raises(Refusal, match="larger"):
                    walk.encode(value)

    def test_a_large_payload_stands_as_its_digest(self) -> None:
        """Ten megabytes are hashed where they lie; the encoding stays small."""
        big = bytes(10_000_000)
        assert len(canonical([big, big])) < 200
        assert canonical(big) != canonical(big[:-1] + b"\1")


class TestRefusal:
    """What cannot be a key, and what the error says."""

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(lambda: None, id="lambda"),
            pytest.param(threading.Lock(), id="lock"),
            pytest.param((number for number in range(3)), id="generator"),
            pytest.param(sys.stdout, id="file"),
            pytest.param(sys, id="module"),
        ],
    )
    def test_unpicklable(self, value: object) -> None:
        """What cannot even be pickled is a KeyPicklingError."""
        with pytest.raises(KeyPicklingError):
            canonical(value)
        with pytest.raises(KeyPicklingError):
            encode_key({"k": [value]})

    def test_unknown_objects(self) -> None:
        """An object with nothing to tell it apart is refused, though a pickle of it exists."""

        class Unknown:
            pass

        for value in (object(), Unknown()):
            with pytest.raises(KeyEncodingError, match="__cache_key__") as caught:
                canonical(value)
            assert not isinstance(caught.value, KeyPicklingError)

    def test_the_path_is_named(self) -> None:
        """The error says where the object was: positions and types, no key and no value."""
        with pytest.raises(KeyEncodingError) as caught:
            canonical([1, {CANARY: (CANARY, [object()])}])
        assert caught.value.where == "item 1 of list, value 0 of dict, item 1 of tuple, item 0 of list"
        with pytest.raises(KeyEncodingError) as caught:
            canonical({1: 2, object(): CANARY})
        assert caught.value.where == "key 1 of dict"
        with pytest.raises(KeyEncodingError) as caught:
            canonical({object()})
        assert caught.value.where == "an item of set"

    def test_no_value_is_shown(self) -> None:
        """T12, P19: neither texts of errors nor their pickles hold an argument."""

        class Secret:
            def __repr__(self) -> str:
                return CANARY

            def __reduce__(self) -> Any:
                raise TypeError(CANARY)

        deep: list[Any] = [CANARY]
        deep.append(deep)
        for value in ({CANARY: Secret()}, [CANARY, Secret], deep, {CANARY: lambda: CANARY}):
            with pytest.raises(KeyEncodingError) as caught:
                canonical(value)
            assert CANARY not in str(caught.value) + repr(caught.value)
            assert CANARY.encode() not in pickle.dumps(caught.value)

    def test_released_view(self) -> None:
        """A memoryview that was released has nothing to encode."""
        view = memoryview(b"x")
        view.release()
        with pytest.raises(KeyEncodingError, match="released"):
            canonical(view)


def test_views_of_every_shape() -> None:
    """A view is its format, its shape and its bytes, contiguous or not, empty or not."""
    assert canonical(memoryview(b"abcdef")[::2]) == canonical(memoryview(b"ace"))
    assert canonical(memoryview(b"")) == canonical(memoryview(b"abc")[:0])
    assert canonical(memoryview(bytearray(b"abcd"))) == canonical(memoryview(b"abcd"))
    assert canonical(memoryview(b"a").cast("B", ())) != canonical(memoryview(b"a"))
