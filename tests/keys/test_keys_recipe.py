"""From calls to keys: one key for one call, however it is written, and no argument in any error."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import pickle
import threading
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from acache.exceptions import ConfigurationError, CustomParamsEncoderRequiredError, KeyEncodingError, KeyPicklingError
from acache.keys import KeyRecipe, canonical, namespace_prefix
from acache.types import KEY_LENGTH, Key

CANARY = "s3cret-canary"


def plain(x: object, y: object = 2) -> object:
    """Take two."""
    return x, y


def other(x: object, y: object = 2) -> object:
    """Take two, too."""
    return x, y


def every(
    a: object, b: object = 1, /, c: object = 2, *rest: object, d: object, e: object = 3, **more: object
) -> object:
    """Take every kind of parameter."""
    return a, b, c, rest, d, e, more


def nothing() -> None:
    """Take nothing."""


class User:
    """An object without a key of its own."""

    def __init__(self, number: object) -> None:
        self.id = number
        self.tags = {"role": "admin"}

    def method(self, x: object, *, verbose: bool = False) -> object:
        """Be memoized."""
        return x, verbose


class Keyed(User):
    """An object with one."""

    def __cache_key__(self) -> object:
        return self.id

    @classmethod
    def of_class(cls, x: object) -> object:
        """Be memoized."""
        return x

    @staticmethod
    def static(x: object) -> object:
        """Be memoized."""
        return x

    def __call__(self, x: object) -> object:
        return x


def _pair(x: object, y: object) -> object:
    return x, y


def _first(x: object, *_: object) -> object:
    return x


def _by_id(self: User, x: object, **_: object) -> object:
    return self.id, x


class TestCalls:
    """K3: what the parameters become is the key."""

    def test_spellings_of_one_call(self) -> None:
        """Positions, keywords and defaults are spellings."""
        recipe = KeyRecipe(plain)
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((1,), {}),
            ((1, 2), {}),
            ((1,), {"y": 2}),
            ((), {"x": 1}),
            ((), {"y": 2, "x": 1}),
        ]
        assert len({recipe.digest(args, kwargs) for args, kwargs in calls}) == 1
        assert len({recipe.digest(args, {}) for args in ((1,), (2,), (1, 3))}) == 3

    def test_every_kind_of_parameter(self) -> None:
        """Positional-only, keyword-only and variable parameters are bound as the function binds them."""
        digest = KeyRecipe(every).digest
        assert digest((0,), {"d": 1}) == digest((0, 1, 2), {"d": 1, "e": 3}) == digest((0, 1), {"c": 2, "d": 1})
        assert digest((0,), {"d": 1, "p": 1, "q": 2}) == digest((0,), {"q": 2, "p": 1, "d": 1})
        different: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((0,), {"d": 1}),
            ((0, 1, 2, 3), {"d": 1}),
            ((0, 1, 2, 3, 4), {"d": 1}),
            ((0, 1, 2, (3, 4)), {"d": 1}),
            ((0,), {"d": 1, "more": 3}),
            ((0,), {"d": 1, "a": 3}),
            ((0,), {"d": 1, "rest": (3,)}),
            ((0,), {"d": 2}),
        ]
        assert len({digest(args, kwargs) for args, kwargs in different}) == len(different)

    @pytest.mark.parametrize(
        ("fn", "args", "kwargs"),
        [
            (plain, (), {}),
            (plain, (1, 2, 3), {}),
            (plain, (1,), {"x": 1}),
            (plain, (1,), {"z": 1}),
            (every, (1,), {}),
            (every, (), {"a": 1, "d": 1}),
            (nothing, (1,), {}),
            (User.method, (), {}),
        ],
    )
    def test_a_wrong_call(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A call the function would refuse is refused in its words."""
        with pytest.raises(TypeError) as expected:
            fn(*args, **kwargs)
        for recipe in (KeyRecipe(fn), KeyRecipe(fn, key=lambda *_a, **_k: 1), KeyRecipe(fn, key="constant")):
            with pytest.raises(TypeError) as caught:
                recipe.digest(args, kwargs)
            assert str(caught.value) == str(expected.value)

    def test_parameters_of_any_name(self) -> None:
        """Names that the binder might use itself belong to the function."""

        def odd(defaults: object = 1, _: object = 2, __: object = 3, k: object = 4, **v: object) -> object:
            return defaults, _, __, k, v

        recipe = KeyRecipe(odd, ignore=("z",))
        assert recipe.digest((), {"z": 1, "y": 2}) == recipe.digest((1, 2, 3, 4), {"y": 2})
        assert recipe.plain_parameters == ("defaults", "_", "__", "k", "v")

    def test_defaults_are_the_function_s_own(self) -> None:
        """A default is the object itself: encoded as it is when the call is made."""
        shared: list[int] = []

        def fn(x: list[int] = shared) -> list[int]:
            return x

        recipe = KeyRecipe(fn)
        before = recipe.digest((), {})
        shared.append(1)
        assert recipe.digest((), {}) != before
        assert recipe.digest((), {}) == recipe.digest(([1],), {})

    def test_parameters_are_not_known(self) -> None:
        """A builtin without a signature is keyed by its arguments as they come."""
        recipe = KeyRecipe(max)
        with pytest.raises(ValueError, match="signature"):
            inspect.signature(max)
        assert recipe.digest((1, 2), {"default": 1, "key": len}) == recipe.digest((1, 2), {"key": len, "default": 1})
        assert recipe.digest((1, 2), {}) != recipe.digest(((1, 2),), {})

    def test_decorators_are_not_looked_through(self) -> None:
        """What a decorator does to arguments is unknown, so the parameters are the wrapper's own."""

        def inject(fn: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(fn)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return fn("injected", *args, **kwargs)

            return wrapper

        @inject
        def load(database: str, x: int, y: int = 2, z: int = 3) -> tuple[Any, ...]:
            return database, x, y, z

        digest = KeyRecipe(load).digest
        assert load(1, 5) != load(1, 5, 2)
        assert digest((1, 5), {}) != digest((1, 5, 2), {})

    def test_typed(self) -> None:
        """K1, P05: types count at any depth, or not at all."""
        typed, loose = KeyRecipe(plain), KeyRecipe(plain, typed=False)
        ones: list[object] = [1, True, 1.0]
        for a, b in combinations(ones, 2):
            assert typed.digest((a,), {}) != typed.digest((b,), {})
            assert typed.digest(([{"k": a}],), {}) != typed.digest(([{"k": b}],), {})
            assert loose.digest((a,), {}) == loose.digest((b,), {})
            assert loose.digest(([{"k": a}],), {}) == loose.digest(([{"k": b}],), {})
        assert loose.digest(("1",), {}) != loose.digest((1,), {})
        assert loose.digest((1,), {}) != typed.digest((1,), {})

    def test_shared_and_copied_arguments(self) -> None:
        """K4, P24: f(a, a) is f(a, copy of a)."""
        digest = KeyRecipe(plain).digest
        value = {"k": ["x"]}
        assert digest((value, value), {}) == digest((value, copy.deepcopy(value)), {})

    def test_mutated_arguments(self) -> None:
        """K5, P09: a key is of the arguments as they are when it is taken."""
        digest = KeyRecipe(plain).digest
        value = [1, 2]
        before = digest((value,), {})
        value.pop()
        assert digest((value,), {}) == digest(([1],), {}) != before
        assert digest(([1, 2],), {}) == before

    def test_no_arguments(self) -> None:
        """A function of no parameters has one key."""
        assert KeyRecipe(nothing).digest((), {}) == KeyRecipe(nothing).digest((), {})


class TestFunctions:
    """K6, P07: which function it is."""

    def test_functions_differ(self) -> None:
        """Two functions never share a key, nor do a class, its objects and its methods."""
        keyed = Keyed(1)
        fns: list[Any] = [
            plain,
            other,
            Keyed.static,
            Keyed.of_class,
            keyed.method,
            keyed,
            SubKeyed.of_class,
            SubKeyed(1).method,
        ]
        assert len({KeyRecipe(fn).digest((5,), {}) for fn in fns}) == len(fns)

    def test_partials(self) -> None:
        """A partial's arguments are arguments."""
        assert KeyRecipe(functools.partial(plain, 1)).digest((2,), {}) == KeyRecipe(plain).digest((1, 2), {})
        assert KeyRecipe(functools.partial(plain, y=2)).digest((1,), {}) == KeyRecipe(plain).digest((1,), {})
        assert KeyRecipe(functools.partial(plain, y=3)).digest((1,), {"y": 2}) == KeyRecipe(plain).digest((1,), {})
        with pytest.raises(TypeError, match="missing"):
            KeyRecipe(functools.partial(plain, y=1)).digest((), {})

    def test_methods(self) -> None:
        """The object of a method is its first argument."""
        keyed = Keyed(1)
        assert KeyRecipe(keyed.method).digest((5,), {}) == KeyRecipe(Keyed.method).digest((keyed, 5), {})
        assert KeyRecipe(Keyed(1).method).digest((5,), {}) == KeyRecipe(keyed.method).digest((5,), {})
        assert KeyRecipe(Keyed(2).method).digest((5,), {}) != KeyRecipe(keyed.method).digest((5,), {})
        assert KeyRecipe(keyed).digest((5,), {}) == KeyRecipe(Keyed.__call__).digest((keyed, 5), {})
        assert KeyRecipe(vars(Keyed)["of_class"]).digest((Keyed, 5), {}) == KeyRecipe(Keyed.of_class).digest((5,), {})

    def test_objects_without_a_key(self) -> None:
        """A method of an object without a key is refused at the call, with the ways out."""
        with pytest.raises(CustomParamsEncoderRequiredError, match=r"argument 'self', of type .*User.*__cache_key__"):
            KeyRecipe(User(1).method).digest((5,), {})
        assert KeyRecipe(User(1).method, ignore=("self",)).digest((5,), {}) == KeyRecipe(
            User.method, ignore=("self",)
        ).digest((None, 5), {})

    def test_lambdas(self) -> None:
        """A lambda needs a version or a key, and says so at decoration."""
        with pytest.raises(ConfigurationError, match=r"lambda.*version= or key="):
            KeyRecipe(lambda x: x)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType] - a lambda is the case
        assert KeyRecipe(lambda: 1, version=1).digest((), {}) != KeyRecipe(lambda: 1, version=2).digest((), {})
        assert KeyRecipe(lambda: 1, key="a").digest((), {}) != KeyRecipe(lambda: 1, key="b").digest((), {})

    def test_local_functions(self) -> None:
        """A local function is known by its qualname, as often as it is made."""

        def make() -> Callable[[], None]:
            def local() -> None:
                pass

            return local

        assert KeyRecipe(make()).digest((), {}) == KeyRecipe(make()).digest((), {})

    def test_versions(self) -> None:
        """K7: a version is part of the function's identity, typed like any key."""
        versions: list[object] = [None, 0, 1, True, "1", (1, 2), b"1"]
        recipes = [KeyRecipe(plain, version=version) for version in versions]
        assert len({recipe.digest((1,), {}) for recipe in recipes}) == len(versions)
        assert len({recipe.prefix for recipe in recipes}) == len(versions)
        with pytest.raises(ConfigurationError, match="version=") as caught:
            KeyRecipe(plain, version=object())
        assert isinstance(caught.value.__cause__, KeyEncodingError)


class SubKeyed(Keyed):
    """A subclass."""


class TestLayout:
    """Namespaces and prefixes."""

    def test_prefixes(self) -> None:
        """All keys of a namespace, and of a function in it, begin alike."""
        recipe = KeyRecipe(plain, namespace="app")
        keys = [recipe.digest((n,), {}) for n in range(5)]
        assert all(key.startswith(recipe.prefix) for key in keys)
        assert recipe.prefix.startswith(namespace_prefix("app"))
        assert (len(namespace_prefix("app")), len(recipe.prefix)) == (8, 20)
        assert len({key[20:] for key in keys}) == 5
        assert all(Key(key) == key and len(key) == KEY_LENGTH for key in keys)
        assert {type(key) for key in keys} == {Key}

    def test_namespaces(self) -> None:
        """One call in two namespaces has two keys that differ beyond the prefix."""
        one, two = KeyRecipe(plain, namespace="a").digest((1,), {}), KeyRecipe(plain, namespace="b").digest((1,), {})
        assert one[:8] != two[:8]
        assert one[20:] != two[20:]
        assert KeyRecipe(plain, namespace="a").prefix[8:] == KeyRecipe(plain, namespace="b").prefix[8:]

    def test_the_way_a_key_is_made_counts(self) -> None:
        """Arguments, templates, key functions and encoders never meet, and share the function's prefix."""
        keys = [
            KeyRecipe(plain).digest((1, 2), {}),
            KeyRecipe(plain, ignore="y").digest((1, 2), {}),
            KeyRecipe(plain, key="{x}{y}").digest((1, 2), {}),
            KeyRecipe(plain, key="{x}:{y}").digest((1, 2), {}),
            KeyRecipe(plain, key=_pair).digest((1, 2), {}),
            KeyRecipe(plain).digest((1, 2), {}, params=(1, 2)),
        ]
        assert len(set(keys)) == len(keys)
        assert len({key[:20] for key in keys}) == 1

    def test_isolation(self) -> None:
        """K10: the isolation key is part of every key, whatever makes the rest."""
        recipe = KeyRecipe(plain)
        texts = ["", "a", "b", "a" * 32, "0:", "\ud800"]
        assert len({recipe.digest((1,), {}, text) for text in texts}) == len(texts)
        assert len({recipe.digest((), {}, text, params=1) for text in texts}) == len(texts)
        assert recipe.digest((1,), {}, "a")[:20] == recipe.prefix

    @pytest.mark.parametrize("name", ["../../OUTSIDE", "/abs", "a\0b", "n" * 10_000, "\ud800", "CON"])
    def test_names_of_functions(self, name: str) -> None:
        """P13, T9: a function of any name has keys of hex digits only."""

        def fn(x: object) -> object:
            return x

        fn.__qualname__ = name
        fn.__module__ = name
        key = KeyRecipe(fn, namespace=name).digest((1,), {})
        assert Key(key) == key
        assert key[20:] != KeyRecipe(plain, namespace=name).digest((1,), {})[20:]


class TestIgnore:
    """``ignore=``."""

    def test_ignored_parameters(self) -> None:
        """Ignored parameters make no difference, and need not be encodable."""
        recipe = KeyRecipe(User.method, ignore=("self", "verbose"))
        assert recipe.digest((User(1), 5), {}) == recipe.digest((object(), 5), {"verbose": threading.Lock()})
        assert recipe.digest((None, 6), {}) != recipe.digest((None, 5), {})
        assert recipe.plain_parameters == ("x",)

    def test_ignored_keywords(self) -> None:
        """Names within ``**kwargs`` can be ignored; the others stay."""
        recipe = KeyRecipe(every, ignore=("trace", "rest"))
        assert recipe.digest((0, 1, 2, 9), {"d": 1, "trace": object()}) == recipe.digest((0,), {"d": 1})
        assert recipe.digest((0,), {"d": 1, "other": 1}) != recipe.digest((0,), {"d": 1})

    def test_unknown_names(self) -> None:
        """A name that is no parameter is an error at decoration that names function and option."""
        with pytest.raises(ConfigurationError, match=r"plain: ignore= names 'verbos'"):
            KeyRecipe(plain, ignore=("verbos",))
        with pytest.raises(ConfigurationError, match="ignore="):
            KeyRecipe(max, ignore=("key",))
        with pytest.raises(ConfigurationError, match="ignore="):
            KeyRecipe(plain, ignore=("x",), key="{x}")


class TestKeyOption:
    """``key=``."""

    def test_function(self) -> None:
        """The result of a function stands for the arguments, typed."""
        recipe = KeyRecipe(User.method, key=_by_id)
        assert recipe.digest((User(1), 5), {}) == recipe.digest((User(1), 5), {"verbose": True})
        assert recipe.digest((User(1), 5), {}) != recipe.digest((User("1"), 5), {})
        assert recipe.plain_parameters == ()

    def test_function_of_bound_arguments(self) -> None:
        """A function sees a partial's and a method's own arguments as the function itself does."""
        recipe = KeyRecipe(User(7).method, key=_by_id)
        assert recipe.digest((5,), {}) == KeyRecipe(User.method, key=_by_id).digest((User(7), 5), {})

    def test_template(self) -> None:
        """Fields name parameters, attributes and items."""
        recipe = KeyRecipe(plain, key="u:{x.id}:{x.tags[role]}:{y}")
        assert recipe.digest((User(1),), {}) == recipe.digest((User(1), 2), {})
        assert recipe.digest((User(1),), {}) != recipe.digest((User("1"),), {})
        assert recipe.digest((User(1),), {}) != recipe.digest((User(1), "2"), {})
        items = KeyRecipe(every, key="{rest[0]}:{more[q]}")
        assert items.digest((0, 1, 2, 9), {"d": 1, "q": 4}) == items.digest((5, 6, 7, 9), {"d": 3, "q": 4, "z": 1})

    def test_template_is_typed_and_not_a_text(self) -> None:
        """Values that contain the separator do not meet."""
        digest = KeyRecipe(plain, key="{x}:{y}").digest
        assert digest(("a:b", "c"), {}) != digest(("a", "b:c"), {})
        assert digest((1, 1), {}) != digest((1, True), {})

    def test_template_with_braces(self) -> None:
        """Doubled braces are text, and a template without fields is a constant."""
        assert KeyRecipe(plain, key="{{x}}").digest((1,), {}) == KeyRecipe(plain, key="{{x}}").digest((2,), {})

    @pytest.mark.parametrize(
        "template",
        [
            "{z}",
            "{}",
            "{0}",
            "{x:>3}",
            "{x!r}",
            "{x._id}",
            "{x.__class__}",
            "{x",
            "x}",
            "{x.}",
            "{x[]}",
            "{x y}",
            "{x.id.}",
        ],
    )
    def test_bad_templates(self, template: str) -> None:
        """A template that cannot work is an error at decoration that names the function."""
        with pytest.raises(ConfigurationError, match=r"plain: .*key="):
            KeyRecipe(plain, key=template)

    @pytest.mark.parametrize("template", ["{x.missing}", "{x.tags[missing]}", "{y.id}"])
    def test_a_field_that_fails(self, template: str) -> None:
        """An argument without the attribute or item is an error that names the field."""
        with pytest.raises(CustomParamsEncoderRequiredError, match=r"field '.*' of key=") as caught:
            KeyRecipe(plain, key=template).digest((User(CANARY),), {})
        assert CANARY not in str(caught.value)

    def test_neither_template_nor_function(self) -> None:
        """Other objects, and async functions, are refused."""

        async def later(x: object) -> object:
            return x

        for key in (1, later):
            with pytest.raises(ConfigurationError, match="key="):
                KeyRecipe(plain, key=key)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - that is the case

    def test_a_key_function_s_own_error(self) -> None:
        """What the user's function raises comes out as it is."""

        def broken(x: object) -> object:
            raise LookupError(x)

        with pytest.raises(LookupError):
            KeyRecipe(plain, key=broken).digest((1,), {})


class TestParams:
    """What a custom encoder made."""

    def test_params_stand_for_the_arguments(self) -> None:
        """The arguments do not count, and need not be encodable or even fit."""
        recipe = KeyRecipe(plain)
        assert recipe.digest((object(),), {}, params="a") == recipe.digest((), {}, params="a")
        assert recipe.digest((), {}, params="a") != recipe.digest((), {}, params="b")
        assert recipe.digest((), {}, params=None) != recipe.digest((None,), {})

    def test_bound_arguments_still_count(self) -> None:
        """The object of a method tells it from that of another object, unless it is ignored."""
        one, two = (KeyRecipe(Keyed(n).method) for n in (1, 2))
        assert one.digest((), {}, params="a") != two.digest((), {}, params="a")
        one, two = (KeyRecipe(User(n).method, ignore=("self",)) for n in (1, 2))
        assert one.digest((), {}, params="a") == two.digest((), {}, params="a")
        three, four = (KeyRecipe(functools.partial(plain, y=n)) for n in (1, 2))
        assert three.digest((), {}, params="a") != four.digest((), {}, params="a")

    def test_params_that_cannot_be_a_key(self) -> None:
        """The encoder is named."""
        with pytest.raises(CustomParamsEncoderRequiredError, match="custom_params_encoder"):
            KeyRecipe(plain).digest((), {}, params=object())


class TestErrors:
    """T12, P19: errors name functions, parameters, types and reasons."""

    def test_the_argument_is_named(self) -> None:
        """Function, parameter, place, type and reason are in the message, the encoding error is the cause."""
        with pytest.raises(CustomParamsEncoderRequiredError) as caught:
            KeyRecipe(plain).digest((1, [lambda: None]), {})
        text = str(caught.value)
        assert f"{__name__}.plain" in text
        assert "argument 'y', item 0 of list, of type builtins.function" in text
        assert caught.value.function == f"{__name__}.plain"
        assert isinstance(caught.value.__cause__, KeyPicklingError)
        assert caught.value.__cause__.where == "argument 'y', item 0 of list"

    def test_no_argument_is_shown(self, caplog: pytest.LogCaptureFixture) -> None:
        """No canary is in a message, in its pickle, in its causes or in a log."""

        class Secret:
            def __repr__(self) -> str:
                return CANARY

            __str__ = __repr__

        calls: list[tuple[KeyRecipe, tuple[Any, ...], dict[str, Any]]] = [
            (KeyRecipe(plain), (Secret(), CANARY), {}),
            (KeyRecipe(plain), ({CANARY: [CANARY, Secret()]},), {}),
            (KeyRecipe(every), (CANARY,), {"d": CANARY, CANARY: Secret()}),
            (KeyRecipe(plain, key="{x}"), (Secret(),), {}),
            (KeyRecipe(plain, key=_first), (Secret(),), {}),
            (KeyRecipe(max), (CANARY, Secret()), {}),
        ]
        with caplog.at_level(logging.DEBUG):
            for recipe, args, kwargs in calls:
                with pytest.raises(CustomParamsEncoderRequiredError) as caught:
                    recipe.digest(args, kwargs)
                error: BaseException | None = caught.value
                while error is not None:
                    assert CANARY not in str(error) + repr(error)
                    assert CANARY.encode() not in pickle.dumps(error)
                    error = error.__cause__
        assert CANARY not in caplog.text

    def test_deep_arguments(self) -> None:
        """K8: a cycle, or an argument too deep for the stack, is an error of the call."""
        cycle: list[Any] = []
        cycle.append(cycle)
        with pytest.raises(CustomParamsEncoderRequiredError, match=r"argument 'x', item 0 of list.*contains itself"):
            KeyRecipe(plain).digest((cycle,), {})
        nested: list[Any] = []
        for _ in range(150):
            nested = [nested]
        used = len(inspect.stack(context=0))

        def dive(frames: int) -> Key:
            return KeyRecipe(plain).digest((nested,), {}) if frames == 0 else dive(frames - 1)

        with pytest.raises(CustomParamsEncoderRequiredError, match="stack"):
            dive(1000 - used - 150)

    def test_large_arguments(self) -> None:
        """K8: ten megabytes make a key; one byte more makes another."""
        digest = KeyRecipe(plain).digest
        assert digest((bytes(10_000_000),), {}) != digest((bytes(10_000_001),), {})

    def test_threads(self) -> None:
        """One recipe makes the same keys from many threads at once."""
        recipe = KeyRecipe(plain)
        expected = [recipe.digest(({"k": {1, n}},), {}) for n in range(50)]
        seen: list[list[Key]] = []

        def work() -> None:
            seen.append([recipe.digest(({"k": {n, 1}},), {}) for n in range(50)])

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [expected] * 8


def test_keys_of_calls_and_objects_are_apart() -> None:
    """A call's key is not that of a tuple of its arguments, nor of its encoding."""
    key = KeyRecipe(plain).digest((1, 2), {})
    assert canonical((1, 2)).hex() not in key
    assert key != KeyRecipe(plain).digest(((1, 2),), {})
