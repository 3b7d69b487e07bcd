"""Which functions can be memoized, what they are to their callers afterwards, and which pairs are refused."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import pytest

from acache import FastCache, Hit, MemoryTier
from acache.exceptions import (
    ConfigurationError,
    CustomParamsEncoderRequiredError,
    CustomResultDecoderRequiredError,
    CustomResultEncoderRequiredError,
    DuplicateIdentityError,
)

shared = FastCache(MemoryTier())

#: What is asked of a function with other options, as of the function itself.
METHODS = ("cache_get", "cache_set", "cache_with", "cache_info", "aio", "sync")


@dataclass(frozen=True)
class Point:
    """A value class with every kind of memoized method."""

    x: int

    @shared.memoize
    async def plus(self, n: int) -> int:
        """Add."""
        return self.x + n

    @shared.memoize
    def times(self, n: int) -> int:
        """Multiply."""
        return self.x * n

    @shared.memoize
    @classmethod
    def named(cls, name: str) -> str:
        """Name."""
        return f"{cls.__name__}.{name}"

    @classmethod
    @shared.memoize
    def named_inside(cls, name: str) -> str:
        """Name."""
        return f"{cls.__name__}.{name}"

    @shared.memoize
    @staticmethod
    def twice(n: int) -> int:
        """Double."""
        return n * 2

    @staticmethod
    @shared.memoize
    async def thrice(n: int) -> int:
        """Triple."""
        return n * 3


class Sub(Point):
    """A subclass, whose class methods are other calls."""


class Session:
    """A class whose instances cannot be part of a key."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.runs = 0

    @shared.memoize(ignore=("self",))
    async def fetch(self, url: str) -> str:
        """Fetch."""
        self.runs += 1
        return f"{self.name}:{url}"

    @shared.memoize
    async def strict(self, url: str) -> str:
        """Fetch, with self in the key."""
        return url


async def test_methods_are_keyed_by_their_instance() -> None:
    """Self is an argument like any other: by value, if its class can be part of a key."""
    assert (await Point(1).plus(2), await Point(5).plus(2), await Point(1).plus(n=2)) == (3, 7, 3)
    assert (Point(2).times(3), Point(3).times(3)) == (6, 9)
    assert Point(1).plus.cache_info().hits == 1


async def test_a_bound_method_knows_its_instance() -> None:
    """cache_* of a bound method take the call without self."""
    point = Point(40)
    assert await point.plus(2) == 42
    hit = await point.plus.cache_get(2)
    assert hit is not None
    assert hit.value == 42
    assert point.plus.cache_key(2) == Point.plus.cache_key(Point(40), 2)
    assert await point.plus.cache_set(0, 2)
    assert await point.plus(2) == 0
    assert await point.plus.cache_invalidate(2)
    assert await point.plus.aio(2) == 42
    assert await asyncio.to_thread(point.plus.sync, 2) == 42
    assert await Point.plus(point, 2) == 42
    assert "Point.plus" in repr(point.plus)
    assert point.plus.__name__ == "plus"
    assert getattr(point.plus, "__self__", None) is point
    assert await FastCache(MemoryTier()).memoize(point.plus)(5) == 45


async def test_class_and_static_methods() -> None:
    """Both orders of the decorators work, and a subclass is another class."""
    # No type checker binds a classmethod under another decorator.
    one: Any = Point
    two: Any = Sub
    assert (one.named("a"), two.named("a"), one.named("a")) == ("Point.a", "Sub.a", "Point.a")
    assert (one.named_inside("b"), two.named_inside("b")) == ("Point.b", "Sub.b")
    assert (one.twice(2), one(1).twice(2), await one.thrice(2)) == (4, 4, 6)
    assert await one.named.cache_contains("a")
    assert not await one.named.cache_contains("z")


async def test_an_ignored_self_is_no_part_of_the_key() -> None:
    """With ignore=("self",) instances share results; without, an instance that cannot be in a key is refused."""
    one, two = Session("one"), Session("two")
    assert (await one.fetch("u"), await two.fetch("u"), await two.fetch("u")) == ("one:u", "one:u", "one:u")
    assert (one.runs, two.runs) == (1, 0)
    with pytest.raises(CustomParamsEncoderRequiredError, match="ignore="):
        await one.strict("u")


async def test_callers_see_the_function_they_wrote(cache: FastCache) -> None:
    """Name, doc, signature, kind and the original survive."""

    @cache.memoize
    async def f(x: int, *, y: str = "") -> int:
        """Do it."""
        return x

    @cache.memoize
    def g() -> None:
        pass

    assert (f.__name__, f.__doc__) == ("f", "Do it.")
    assert list(inspect.signature(f).parameters) == ["x", "y"]
    assert inspect.iscoroutinefunction(f)
    assert not inspect.iscoroutinefunction(g)
    assert inspect.iscoroutinefunction(g.aio)
    assert not inspect.iscoroutinefunction(f.sync)
    assert await f.__wrapped__(3) == 3
    if sys.version_info < (3, 14):  # where it is not deprecated
        assert asyncio.iscoroutinefunction(Point(1).plus)  # pyright: ignore[reportDeprecated] - not yet
    assert f.cache_parameters()["typed"] is True


async def test_partials_and_callable_objects(cache: FastCache) -> None:
    """A partial is a call of its function with some arguments given; an object is called by what it equals."""

    def add(x: int, y: int) -> int:
        return x + y

    class Opaque:
        def __call__(self, x: int) -> int:
            return x

    whole, part = cache.memoize(add), cache.memoize(functools.partial(add, 1))
    assert (whole(1, 2), part(2)) == (3, 3)
    assert whole.cache_key(1, 2) == part.cache_key(2)
    with pytest.raises(CustomParamsEncoderRequiredError):
        cache.memoize(Opaque())(2)
    scaled = cache.memoize(Scale(3))
    assert (scaled(2), scaled(2)) == (6, 6)


@dataclass(frozen=True)
class Scale:
    """A callable with a value."""

    factor: int

    def __call__(self, x: int) -> int:
        """Scale."""
        return self.factor * x


class Form:
    """A class whose method takes any keyword."""

    def __cache_key__(self) -> str:
        return "form"

    @shared.memoize
    def fill(self, /, **fields: object) -> dict[str, object]:
        """Return the fields."""
        return fields


async def test_a_keyword_may_have_any_name(cache: FastCache, define: Callable[..., Any]) -> None:
    """No name is taken by what a memoized function has: keywords such as ``self`` go to the function, wherever it is asked of."""

    @cache.memoize
    @define
    def f(**fields: object) -> dict[str, object]:
        return fields

    fields: dict[str, Any] = dict.fromkeys(
        ("self", "function", "method", "bound", "value", "args", "kwargs", "key", "cell", "name", "instance"), 1
    )
    for g in (f, Form().fill, f.cache_with(ttl=60)):
        assert await g.aio(**fields) == g.sync(**fields) == fields
        assert await g.cache_get(**fields) == Hit(fields)
        assert await g.cache_contains(**fields)
        assert (await g.cache_explain(**fields)).hit
        assert await g.cache_touch(**fields)
        assert await g.cache_refresh(**fields) == fields
        assert await g.cache_set({}, **fields)
        assert await g.aio(**fields) == {}
        assert await g.cache_invalidate(**fields)
        assert len(g.cache_key(**fields)) == 64
    assert await cache.insert(f, ((), fields), None)
    assert await cache.get(f, ((), fields)) == Hit(None)


def test_an_option_may_not(cache: FastCache) -> None:
    """There is no option ``self``: it is refused by name, as any other that is none."""
    for change in (cache.memoize(same_too).cache_with, Form().fill.cache_with):
        with pytest.raises(ConfigurationError, match=r"^self: "):
            change(self=1)


def same_too(x: int) -> int:
    return x


def make_adder(cache: FastCache, n: int, **options: Any) -> Callable[[int], int]:
    """Memoize a closure."""

    def adder(x: int) -> int:
        return x + n

    return cache.memoize(**options)(adder)


async def test_k6_a_closure_with_other_captured_values_is_refused(cache: FastCache) -> None:
    """K6: the same local function may be made again; one that captured something else would get its results."""
    assert make_adder(cache, 1)(1) == 2
    assert make_adder(cache, 1)(1) == 2
    with pytest.raises(DuplicateIdentityError, match=r"captured values.*version= or key="):
        make_adder(cache, 2)
    assert make_adder(cache, 2, version=2)(1) == 3
    assert make_adder(cache, 3, key=three_and)(1) == 4


def three_and(x: int) -> tuple[int, int]:
    return 3, x


class Counter:
    """Makes local functions of one name whose captured values change as they run."""

    def __init__(self) -> None:
        self.calls = [0]

    def __cache_key__(self) -> str:
        return "counter"

    def make(self) -> Callable[..., Any]:
        """Make a function that captured a list which it changes."""
        calls = self.calls

        async def count(x: int, y: int = 0) -> int:
            calls[0] += 1
            return calls[0]

        return count

    def make_method(self) -> Callable[..., Any]:
        """Make a method of this object, as above."""
        calls = self.calls

        async def method(self: Counter, x: int) -> int:
            calls[0] += 1
            return calls[0]

        return MethodType(method, self)


@pytest.mark.parametrize("form", ["function", "method", "partial"])
async def test_k6_a_function_is_the_same_when_its_captured_values_change(cache: FastCache, form: str) -> None:
    """K6: one function object is one key space, under every verb, raw or memoized, whatever it does to what it captured."""
    made = Counter().make_method() if form == "method" else Counter().make()
    function: Callable[..., Any] = functools.partial(made, y=1) if form == "partial" else made
    one: Any = cache.memoize(function)
    assert [await one(1), await one(1)] == [1, 1]
    again: Any = cache.record(functools.partial(made, y=1) if form == "partial" else function)
    assert [await again(1), await one(1), await cache.replay(function)(1)] == [2, 2, 2]
    assert await cache.get(function, ((1,), {})) == Hit(2)
    del one, again
    gc.collect()
    assert await cache.get(function, ((1,), {})) == Hit(2)


async def test_k6_a_raw_function_needs_no_decorator_to_stay_the_same(cache: FastCache) -> None:
    """K6: what was inserted for a function is found after it ran, though nobody holds its memoized form."""
    function = Counter().make()
    assert await cache.insert(function, ((1,), {}), 5)
    assert await function(1) == 1
    gc.collect()
    assert await cache.get(function, ((1,), {})) == Hit(5)
    assert not await cache.insert(function, ((1,), {}), 6)


async def test_k6_a_second_function_is_compared_wherever_it_lies(cache: FastCache) -> None:
    """K6: a function at the address of one that is gone, and one that shares what another has changed, are other functions."""
    counter = Counter()
    for _ in range(3):
        cache.memoize(counter.make())
        gc.collect()
    first = counter.make()
    await first(1)
    with pytest.raises(DuplicateIdentityError, match="captured values"):
        cache.memoize(first)


def test_k6_a_callable_that_cannot_be_referred_to_weakly(cache: FastCache) -> None:
    """K6: some callables of C cannot be told by a weak reference; they are compared, and are what they were."""
    with pytest.raises(TypeError):
        weakref.ref(str.upper)
    one, two = cache.memoize(str.upper), cache.record(str.upper)
    assert [one("a"), two("a")] == ["A", "A"]


async def test_k6_other_code_under_one_name_is_refused(cache: FastCache) -> None:
    """K6: a second function of the same identity with other code needs another version or key."""

    def make(code: int) -> Callable[[], int]:
        if code == 1:

            def f() -> int:
                return 1

        else:

            def f() -> int:
                return 2

        return f

    assert cache.memoize(make(1))() == 1
    with pytest.raises(DuplicateIdentityError, match="code"):
        cache.memoize(make(2))
    assert cache.memoize(version=2)(make(2))() == 2
    other = FastCache(MemoryTier())
    assert other.memoize(make(2))() == 2


async def test_k6_a_lambda_needs_a_name(cache: FastCache) -> None:
    """K6: every lambda of a module has one name, so it has to bring a version or a key."""
    with pytest.raises(TypeError, match="version= or key="):
        cache.memoize(same)
    assert cache.memoize(version="same")(same)(2) == 2


async def test_k6_two_functions_under_one_template(cache: FastCache) -> None:
    """K6: a template cannot tell other code apart, and means other captured values to be one; a callable is the user's word."""
    add: Callable[[int], int] = lambda x: x + 1  # noqa: E731 - a lambda is the subject
    scale: Callable[[int], int] = lambda x: x * 10  # noqa: E731 - as above
    assert cache.memoize(key="{x}")(add)(5) == 6
    with pytest.raises(DuplicateIdentityError, match=r"other code.*version= or key=.*one key space.*must differ"):
        cache.memoize(key="{x}")(scale)
    assert cache.memoize(key="scale:{x}")(scale)(5) == 50
    assert cache.memoize(key="{x}", version=2)(scale)(5) == 50
    assert cache.record(key="{x}")(add)(5) == 6
    assert [make_adder(cache, n, key="{x}")(1) for n in (1, 2)] == [2, 2]
    assert [make_adder(cache, n, key=three_and)(1) for n in (1, 2)] == [2, 2]


same: Callable[[int], int] = lambda x: x  # noqa: E731 - a lambda is the subject


async def test_a_local_function_that_calls_itself(cache: FastCache) -> None:
    """A closure may capture the memoized function it is about to become."""

    @cache.memoize
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    @cache.memoize
    async def fib_async(n: int) -> int:
        return n if n < 2 else await fib_async(n - 1) + await fib_async(n - 2)

    assert await asyncio.to_thread(fib, 15) == 610
    assert await fib_async(30) == 832_040
    assert fib_async.cache_info().computed == 31


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"ttl": -1}, ConfigurationError, "ttl"),
        ({"ttl": "soon"}, ConfigurationError, "ttl"),
        ({"flight": "fleet"}, ConfigurationError, "flight"),
        ({"flight": "host"}, ConfigurationError, "disk tier"),
        ({"codec": "morse"}, ConfigurationError, "codec|morse"),
        ({"copy": "maybe"}, ConfigurationError, "copy"),
        ({"ignore": ("nobody",)}, ConfigurationError, "nobody"),
        ({"key": "{nobody}"}, ConfigurationError, "nobody"),
        ({"store_if": 3}, ConfigurationError, "store_if"),
        ({"ischema": "all"}, ConfigurationError, "ischema"),
        ({"ischema": {"runtime_context": True}}, ConfigurationError, "ischema.*needs an IsolationSchema, not a dict"),
        ({"custom_params_encoder": 5}, ConfigurationError, "custom_params_encoder.*callable"),
        ({"custom_params_encoder": ()}, ConfigurationError, "custom_params_encoder.*callable"),
        (
            {"custom_result_encoder": 5, "custom_result_decoder": str},
            ConfigurationError,
            "custom_result_encoder.*callable",
        ),
        (
            {"custom_result_encoder": str, "custom_result_decoder": 5},
            ConfigurationError,
            "custom_result_decoder.*callable",
        ),
        ({"tll": 3}, ConfigurationError, "tll.*ttl"),
        ({"custom_result_encoder": str}, CustomResultDecoderRequiredError, "custom_result_decoder"),
        ({"custom_result_decoder": str}, CustomResultEncoderRequiredError, "custom_result_encoder"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_options_are_refused_at_decoration(
    cache: FastCache, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """An option that cannot be is an error, where the function is decorated, that names it."""

    def f(x: int) -> int:
        return x

    with pytest.raises(error, match=text):
        cache.memoize(**options)(f)


def test_only_functions_are_decorated(cache: FastCache) -> None:
    """What cannot be called cannot be memoized."""
    with pytest.raises(ConfigurationError, match="decorate a function"):
        cache.memoize(3)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


async def test_a_wrong_call_is_the_functions_own_error(cache: FastCache) -> None:
    """Missing and unknown arguments raise the TypeError the function itself would raise."""

    @cache.memoize
    async def f(x: int) -> int:
        return x

    with pytest.raises(TypeError, match=r"f\(\).*missing"):
        await f()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="nope"):
        await f(1, nope=2)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


async def test_a_function_with_other_options_has_all_that_the_function_has() -> None:
    """cache_with() returns a memoized function, or method, whose methods go by its options; options add up."""
    cache = FastCache(MemoryTier())

    @cache.memoize(ttl=100)
    async def f(x: int) -> int:
        return x

    brief = f.cache_with(ttl=5).cache_with(jitter=1)
    plus = Point(1).plus.cache_with(ttl=5)
    for other in (brief, plus):
        assert all(callable(getattr(other, name)) for name in METHODS)
        assert inspect.iscoroutinefunction(other)
    assert brief.cache_parameters()["ttl"] == 5
    assert f.cache_parameters()["ttl"] == 100
    assert await brief.cache_set(7, 1)
    assert await f(1) == 7
    assert (await cache.get(brief, ((1,), {}))) == (await f.cache_get(1))
    assert await plus.cache_set(7, 1)
    assert await Point(1).plus(1) == 7
    assert await plus.cache_invalidate(1)
    assert await plus(1) == 2
