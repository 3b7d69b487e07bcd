"""Which function a call belongs to, and whether two of one name are the same."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import pytest

from acache.exceptions import ConfigurationError
from acache.keys import FunctionIdentity, differs, fingerprint, identify

MODULE = __name__


def plain(x: int, y: int = 1) -> int:
    """Add."""
    return x + y


def loose(*args: object, **kwargs: object) -> object:
    """Return."""
    return args, kwargs


async def coroutine(x: int) -> int:
    """Return."""
    return x


class Service:
    """A class with every kind of method."""

    def method(self, x: int) -> int:
        """Return."""
        return x

    @classmethod
    def of_class(cls, x: int) -> int:
        """Return."""
        return x

    @staticmethod
    def static(x: int) -> int:
        """Return."""
        return x

    def __call__(self, x: int) -> int:
        return x


class SubService(Service):
    """A subclass that inherits everything."""


class Memoized:
    """A wrapper like that of the package: it names the function in it."""

    def __init__(self, fn: Callable[..., object]) -> None:
        self.__acache_wrapped__ = fn

    def __call__(self, *args: object) -> None:
        """Be callable."""


class TestIdentify:
    """K6."""

    @pytest.mark.parametrize(
        ("fn", "module", "qualname"),
        [
            pytest.param(plain, MODULE, "plain", id="function"),
            pytest.param(coroutine, MODULE, "coroutine", id="async function"),
            pytest.param(Service.method, MODULE, "Service.method", id="function of a class"),
            pytest.param(Service.static, MODULE, "Service.static", id="static method"),
            pytest.param(vars(Service)["static"], MODULE, "Service.static", id="staticmethod object"),
            pytest.param(vars(Service)["of_class"], MODULE, "Service.of_class", id="classmethod object"),
            pytest.param(Service, MODULE, "Service", id="class"),
            pytest.param(math.sqrt, "math", "sqrt", id="builtin"),
            pytest.param(str.upper, "builtins", "str.upper", id="method descriptor"),
            pytest.param(dict.fromkeys, "builtins", "dict.fromkeys", id="builtin class method"),
            pytest.param(Memoized(plain), MODULE, "plain", id="memoized"),
            pytest.param(Memoized(Memoized(plain)), MODULE, "plain", id="memoized twice"),
            pytest.param(functools.lru_cache(plain), MODULE, "plain", id="wrapped in C"),
        ],
    )
    def test_names(self, fn: Callable[..., Any], module: str, qualname: str) -> None:
        """Functions and what wraps them without arguments are known by module and qualname."""
        identity = identify(fn)
        assert (identity.module, identity.qualname) == (module, qualname)
        assert identity.label == f"{module}.{qualname}"
        assert identity.bound == ((), {})
        assert not identity.is_lambda

    def test_bound_arguments(self) -> None:
        """Methods, partials and callable objects come down to a function and what they carry."""
        service, sub = Service(), SubService()
        carried: list[tuple[Any, Any, tuple[Any, ...], dict[str, Any]]] = [
            (service.method, Service.method, (service,), {}),
            (sub.method, Service.method, (sub,), {}),
            (SubService.of_class, vars(Service)["of_class"].__func__, (SubService,), {}),
            (functools.partial(plain, 1), plain, (1,), {}),
            (functools.partial(functools.partial(loose, 1), 2, y=3), loose, (1, 2), {"y": 3}),
            (functools.partial(service.method, 1), Service.method, (service, 1), {}),
            (functools.partial(Memoized(plain), 1), plain, (1,), {}),
            (service, Service.__call__, (service,), {}),
            (sub, Service.__call__, (sub,), {}),
        ]
        for fn, function, args, kwargs in carried:
            identity = identify(fn)
            assert identity.function is function
            assert identity.bound == (args, kwargs)
            assert identity == identify(function)

    def test_bound_builtins(self) -> None:
        """Bound methods of C types carry their object too."""
        items = [1]
        assert identify(items.append).bound == ((items,), {})
        assert identify(items.append).qualname == "list.append"
        assert identify((1).__add__).bound == ((1,), {})
        assert identify((1).__add__) == identify(int.__add__)

    def test_lambdas(self) -> None:
        """A lambda is one through a partial, too."""
        assert identify(lambda: None).is_lambda
        assert identify(functools.partial(lambda: None)).is_lambda

    def test_same_name_elsewhere(self) -> None:
        """P07: one name in two modules, or in two classes, is two functions."""
        namespace: dict[str, Any] = {"__name__": "elsewhere"}
        exec("def plain(x, y=1): return x", namespace)  # noqa: S102 - a function of another module
        assert identify(namespace["plain"]) != identify(plain)
        assert identify(Service.method) != identify(plain)

    def test_no_module(self) -> None:
        """A function of no module is known by its qualname."""
        made: dict[str, Any] = {}
        exec("def made(): pass", {"__name__": None}, made)  # noqa: S102 - a function of no module
        assert identify(made["made"]).label == "made"

    @pytest.mark.parametrize("thing", [1, None, property(operator.attrgetter("x")), "text"])
    def test_not_callable(self, thing: Any) -> None:
        """What cannot be called cannot be identified."""
        with pytest.raises(ConfigurationError):
            identify(thing)

    def test_identities_can_be_dict_keys(self) -> None:
        """Identities are equal, and hash alike, when the names are; what is bound does not count."""
        assert {identify(functools.partial(loose, [])): 1}[identify(loose)] == 1
        assert isinstance(identify(plain), FunctionIdentity)


def _factory(captured: object, default: object = None) -> Callable[..., object]:
    def made(x: object = default, *, y: object = default) -> object:
        return captured, x, y

    return made


def _compiled(source: str, **names: Any) -> Callable[..., Any]:
    namespace: dict[str, Any] = {"__name__": MODULE, **names}
    exec(source, namespace)  # noqa: S102 - functions that differ in one point
    fn: Callable[..., Any] = namespace["f"]
    return fn


class TestFingerprint:
    """K6, K7: what makes two functions of one name differ."""

    def test_same(self) -> None:
        """Code, defaults and captured values that are equal make one fingerprint, wherever the lines stand."""
        assert differs(_factory([1]), _factory([1])) == ""
        one, two = _compiled("def f(x): return x + 1"), _compiled("# a line\n\n\ndef f(x):\n    return x + 1")
        assert fingerprint(one) == fingerprint(two)
        assert differs(fingerprint(one), two) == ""

    @pytest.mark.parametrize(
        "source",
        [
            "def f(x): return x + 2",
            "def f(x): return x - 1",
            "def f(x): return x + 1.0",
            "def f(y): return y + 1",
            "def f(x, z=None): return x + 1",
            "def f(*x): return x + 1",
            "async def f(x): return x + 1",
            "def f(x): return (lambda: x + 1)()",
            "def f(x):\n try: return x + 1\n except ValueError: pass",
        ],
    )
    def test_code(self, source: str) -> None:
        """Any other code is another fingerprint."""
        assert differs(_compiled("def f(x): return x + 1"), _compiled(source)) == "code"

    def test_nested_code(self) -> None:
        """Code inside code counts; two inner functions may differ in one constant."""
        one, two = _compiled("def f(): return lambda: 1"), _compiled("def f(): return lambda: 2")
        assert differs(one, two) == "code"

    def test_names_are_code(self) -> None:
        """A call of another global is other code."""
        assert differs(_compiled("def f(): return a()"), _compiled("def f(): return b()")) == "code"

    def test_defaults(self) -> None:
        """Defaults count, positional and keyword-only."""
        assert differs(_factory(1, 2), _factory(1, 3)) == "defaults"
        assert differs(_compiled("def f(*, x=1): pass"), _compiled("def f(*, x=2): pass")) == "defaults"

    def test_captured_values(self) -> None:
        """Captured values count, typed and deep."""
        for a, b in ((1, 2), (1, True), ({"k": [1]}, {"k": [2]}), ("a", None), (_factory(1), _factory(2))):
            assert differs(_factory(a), _factory(b)) == "captured values"
            assert differs(_factory(a), _factory(a)) == ""

    def test_captured_functions(self) -> None:
        """Captured functions count by what they are: by name, or by code and captured values of their own."""
        assert differs(_factory(plain), _factory(coroutine)) == "captured values"
        assert differs(_factory(_factory(_factory(1))), _factory(_factory(_factory(1)))) == ""
        assert differs(_factory(_factory(_factory(1))), _factory(_factory(_factory(2)))) == "captured values"

    def test_captured_function_of_no_module(self) -> None:
        """A captured function that no module claims counts by its code."""
        one, two, three = (_compiled(f"def f(): return {n}", __name__=None) for n in (1, 1, 2))
        assert differs(_factory(one), _factory(two)) == ""
        assert differs(_factory(one), _factory(three)) == "captured values"

    def test_captured_objects_without_a_key(self) -> None:
        """An object that cannot be encoded is told from another of its type."""
        one, two = object(), object()
        assert differs(_factory(one), _factory(one)) == ""
        assert differs(_factory(one), _factory(two)) == "captured values"

    def test_empty_cell(self) -> None:
        """A variable that is captured before it is set is told from one that is."""

        def make(*, fill: bool) -> Callable[[], object]:
            def made() -> object:
                return later

            if fill:
                later = 1
            return made

        assert differs(make(fill=False), make(fill=False)) == ""
        assert differs(make(fill=False), make(fill=True)) == "captured values"

    def test_recursion(self) -> None:
        """A function that captured itself, or captured functions that share many, is printed once each."""

        def make() -> Callable[..., object]:
            def made(n: int) -> object:
                return made(n - 1) if n else other

            def other() -> object:
                return made

            return made

        assert differs(make(), make()) == ""
        shared: object = 1
        for _ in range(60):
            shared = _factory([shared]) if shared == 1 else _factory(shared, shared)
        assert fingerprint(_factory(shared, shared))

    def test_captured_value_that_misbehaves(self) -> None:
        """User code that raises while its key is asked for does not stop a fingerprint."""

        class Broken:
            def __cache_key__(self) -> object:
                raise SystemError

        broken = Broken()
        assert differs(_factory(broken), _factory(broken)) == ""
        assert differs(_factory(broken), _factory(Broken())) == "captured values"

    def test_odd_functions(self) -> None:
        """Builtins, classes, partials, methods, objects and things that cannot be called have fingerprints."""
        service = Service()
        odd: list[Any] = [
            len,
            int,
            Service,
            service.method,
            service,
            functools.partial(plain, 1),
            "".upper,
            Memoized(plain),
            1,
        ]
        assert all(fingerprint(fn) for fn in odd)
        assert fingerprint(functools.partial(plain, 1)) == fingerprint(plain) == fingerprint(Memoized(plain))
        assert differs(len, int) == "code"

    def test_too_deep(self) -> None:
        """A chain of captured functions beyond the stack still has a fingerprint."""
        fn = _factory(1)
        for _ in range(5000):
            fn = _factory(fn)
        assert fingerprint(fn) == fingerprint(fn)
        assert differs(fn, _factory(1)) != ""
