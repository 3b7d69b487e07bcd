"""T10 as a property: two encodings are equal exactly when types and values are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from acache.keys import KeyRecipe, canonical, encode_key
from acache.types import KEY_LENGTH, Key

#: A small pool on purpose: independent draws must often be equal, or nearly.
SCALARS = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        2**64,
        0.0,
        -0.0,
        1.0,
        math.nan,
        math.inf,
        1j,
        "",
        "a",
        "ab",
        "1",
        b"",
        b"a",
        "\ud800",
    ]
)
HASHABLE = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
    ),
    max_leaves=12,
)


def _same(a: Any, b: Any) -> bool:
    """Compare types and values at every depth: an oracle that shares nothing with the encoder."""
    kind: Any = a.__class__
    if kind is not b.__class__:
        return False
    if kind is float:
        return (a != a and b != b) or (a == b and math.copysign(1, a) == math.copysign(1, b))  # noqa: PLR0124 - nan
    if kind in {tuple, list}:
        return len(a) == len(b) and all(map(_same, a, b))
    if kind is dict:
        return _same_unordered(list(a.items()), list(b.items()))
    if kind in {set, frozenset}:
        return _same_unordered(list(a), list(b))
    return bool(a == b)


def _same_unordered(a: list[Any], b: list[Any]) -> bool:
    rest = list(b)
    for x in a:
        match = next((i for i, y in enumerate(rest) if _same(x, y)), None)
        if match is None:
            return False
        del rest[match]
    return not rest


def _reordered(value: Any) -> Any:
    """Copy ``value`` without sharing, with dicts and sets filled the other way round."""
    kind: Any = value.__class__
    if kind is dict:
        return {_reordered(k): _reordered(v) for k, v in reversed(value.items())}
    if kind in {set, frozenset, tuple, list}:
        items: list[Any] = [_reordered(item) for item in value]
        made: Callable[[list[Any]], Any] = value.__class__
        return made(items if kind in {tuple, list} else items[::-1])
    return copy.deepcopy(value)


@given(VALUES, VALUES)
@settings(max_examples=400, deadline=None)
def test_equal_exactly_when_the_same(a: object, b: object) -> None:
    """K1, K2, T10: the encoding is injective, and a function of types and values alone."""
    assert (canonical(a) == canonical(b)) == _same(a, b)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_history_does_not_show(value: object) -> None:
    """K2, K4: neither order of insertion nor sharing changes an encoding."""
    assert canonical(_reordered(value)) == canonical(value)
    assert canonical([value, value]) == canonical([value, copy.deepcopy(value)])


@given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3))
@settings(max_examples=200, deadline=None)
def test_prefix_free(a: list[object], b: list[object]) -> None:
    """T10: encodings can be joined and still be told apart."""
    joined_a, joined_b = (b"".join(canonical(item) for item in items) for items in (a, b))
    assert (joined_a == joined_b) == _same(a, b)


NUMBERS: st.SearchStrategy[Any] = st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | st.fractions()


@given(NUMBERS, NUMBERS)
@settings(max_examples=300, deadline=None)
def test_loose_numbers_agree_with_python(a: Any, b: Any) -> None:
    """``typed=False`` makes equal exactly what Python calls equal (and every nan)."""
    equal = a == b or (a != a and b != b)  # noqa: PLR0124 - nan
    assert (canonical(a, typed=False) == canonical(b, typed=False)) == equal


@given(st.text(st.characters(exclude_categories=[])), st.text(st.characters(exclude_categories=[])))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_key(a: str, b: str) -> None:
    """K9, T9: any two texts, surrogates and NUL included, have two digests, as values and as namespaces."""
    keys = encode_key(a), encode_key(b)
    assert (keys[0] == keys[1]) == (a == b)
    assert all(Key(key) and len(key) == KEY_LENGTH for key in keys)
    named = [KeyRecipe(_same, namespace=name).digest((1, 2), {}) for name in (a, b)]
    assert (named[0] == named[1]) == (a == b)


def _call(
    a: object, b: object = 1, /, c: object = 2, *rest: object, d: object = 3, **more: object
) -> tuple[object, ...]:
    return a, b, c, rest, d, more


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=5),
    st.dictionaries(st.sampled_from(["c", "d", "e", "f"]), st.integers(0, 3)),
    st.lists(st.integers(0, 3), min_size=1, max_size=5),
    st.dictionaries(st.sampled_from(["c", "d", "e", "f"]), st.integers(0, 3)),
)
@settings(max_examples=300, deadline=None)
def test_calls_are_one_key_exactly_when_the_function_sees_no_difference(
    args: list[int], kwargs: dict[str, int], other_args: list[int], other_kwargs: dict[str, int]
) -> None:
    """K3: the key depends on what the parameters become, and on nothing else."""
    recipe = KeyRecipe(_call)
    outcomes: list[tuple[object, object]] = []
    for positional, keywords in ((args, kwargs), (other_args, other_kwargs)):
        try:
            seen: object = _call(*positional, **keywords)
        except TypeError as error:
            seen = str(error)
        try:
            key: object = recipe.digest(tuple(positional), keywords)
        except TypeError as error:
            key = str(error)
            assert key == seen
        outcomes.append((seen, key))
    (seen_a, key_a), (seen_b, key_b) = outcomes
    assert (key_a == key_b) == (seen_a == seen_b)
