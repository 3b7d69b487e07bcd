"""Isolation contexts, keys and factors, by selection."""

from __future__ import annotations

import os
import platform
import string
import sys
from collections.abc import Mapping
from itertools import chain, combinations

import pytest

from acache.config import override
from acache.context import (
    DEFAULT_SCHEMA,
    PLAIN,
    CompileContext,
    IsolationSchema,
    RuntimeContext,
    Scope,
    current_scope,
    disabled,
    isolate,
    isolation,
    isolation_context,
    isolation_key,
    isolation_key_now,
    isolation_now,
    recompute,
    reprobe,
)
from acache.context import key as key_module
from acache.context.registry import REGISTRY

RUNTIME = ("determinism", "environment", "numeric_precision", "scope")
COMPILE = ("accelerator_properties", "packages", "platform", "python", "runtime", "runtime_version")
HALVES = {"runtime": RUNTIME, "compile": COMPILE}

Selected = Mapping[str, bool]


def choices(names: tuple[str, ...], *sizes: int) -> list[Selected]:
    """Return the selections of so many forms."""
    return [dict.fromkeys(chosen, True) for size in sizes for chosen in combinations(names, size)]


def everything(names: tuple[str, ...]) -> list[Selected]:
    """Return every selection there is."""
    return choices(names, *range(len(names) + 1))


#: What acache's own forms hold here, looked up by other means.
PRESENT: Mapping[str, object] = {
    "determinism": {"optimize": 0, "source_date_epoch": os.environ.get("SOURCE_DATE_EPOCH")},
    "environment": {},
    "numeric_precision": {
        "digits": 53,
        "max_exponent": 1024,
        "min_exponent": -1021,
        "repr": "short",
        "rounds": 1,
    },
    "scope": {},
    "accelerator_properties": None,
    "packages": {},
    "runtime": None,
    "runtime_version": None,
}


def test_forms_are_these() -> None:
    """The built-in forms of each half, sorted."""
    assert RuntimeContext.forms_of_context() == RUNTIME
    assert CompileContext.forms_of_context() == COMPILE


async def test_a_context_holds_exactly_the_selected_forms() -> None:
    """For none and every two runtime forms, and the same of compile forms: these with their values; none is None."""
    for runtime in choices(RUNTIME, 0, 2):
        for compiled in choices(COMPILE, 0, 2):
            context = await isolation_context(IsolationSchema(runtime_context=runtime, compile_context=compiled))
            assert set(context) == {"runtime_context", "compile_context"}
            halves = (context["runtime_context"], context["compile_context"])
            for selected, found in zip((runtime, compiled), halves, strict=True):
                assert (found is None) == (not selected)
                assert set(found or ()) == set(selected)
                known = {name: value for name, value in (found or {}).items() if name in PRESENT}
                assert known == {name: PRESENT[name] for name in selected if name in PRESENT}


async def test_what_is_known_of_the_interpreter() -> None:
    """The python and platform forms say what the interpreter says of itself."""
    compiled = (await isolation_context())["compile_context"]
    assert compiled is not None
    assert compiled["python"]["implementation"] == sys.implementation.name
    assert compiled["python"]["version"] == platform.python_version()
    assert compiled["python"]["abi"].endswith(".so")
    assert compiled["platform"]["system"] == platform.system()
    assert compiled["platform"]["machine"] == platform.machine()


@pytest.mark.parametrize("runtime", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
async def test_true_is_every_form_and_false_is_none(runtime: bool, compiled: bool) -> None:
    """The four combinations of all and nothing."""
    context = await isolation_context(IsolationSchema(runtime, compiled))
    assert tuple(context["runtime_context"] or ()) == (RUNTIME if runtime else ())
    assert tuple(context["compile_context"] or ()) == (COMPILE if compiled else ())
    assert (context["runtime_context"] is None, context["compile_context"] is None) == (not runtime, not compiled)


async def test_every_selection_has_a_key_of_its_own() -> None:
    """Keys are 32 hex digits and differ for different selections, even where values are equal."""
    keys = [
        await isolation_key(IsolationSchema(runtime, compiled))
        for runtime in everything(RUNTIME)
        for compiled in everything(COMPILE)
    ]
    assert len(set(keys)) == len(keys) == 2 ** (len(RUNTIME) + len(COMPILE))
    assert all(len(key) == 32 and set(key) <= set(string.hexdigits.lower()) for key in keys)


async def test_keys_are_repeatable() -> None:
    """The same schema has the same key, through each way to ask."""
    key = await isolation_key()
    assert key == await isolation_key() == await isolation_key(IsolationSchema(True, True))
    assert key == isolation_key_now(DEFAULT_SCHEMA, PLAIN) == (await isolation()).key
    assert key == await isolation_key(IsolationSchema(dict.fromkeys(RUNTIME, True), dict.fromkeys(COMPILE, True)))
    reprobe()
    assert key == await isolation_key()


async def test_a_plain_isolation_is_looked_up() -> None:
    """A second question gives the very same object, for an equal schema too, and whatever factors are not selected."""
    first = isolation_now(DEFAULT_SCHEMA, PLAIN)
    assert first is not None
    assert isolation_now(IsolationSchema(), PLAIN) is first
    assert isolation_now(DEFAULT_SCHEMA, Scope(disabled=True)) is first
    unscoped = IsolationSchema(runtime_context=False)
    assert isolation_now(unscoped, PLAIN) is isolation_now(unscoped, Scope({"target": "sm90"})) is not first


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that make schemas without end do not fill the memory, and their keys are right."""
    monkeypatch.setattr(key_module, "_MAX_SCHEMAS", 3)
    schemas = [IsolationSchema(False, selected) for selected in everything(COMPILE)]
    keys = [isolation_key_now(schema, PLAIN) for schema in schemas]
    assert len(REGISTRY.era.isolations) <= 3
    assert keys == [isolation_key_now(schema, PLAIN) for schema in schemas]
    assert len(set(keys)) == len(keys)


async def test_switches_of_acache_are_no_part_of_keys() -> None:
    """What was recorded in one mode is found in another."""
    key = await isolation_key()
    with override(recache=True, enable_deterministic_caching=True, disable=True), disabled(), recompute():
        reprobe()
        assert await isolation_key() == key


async def test_factors_of_scopes_are_part_of_the_scope_form_only() -> None:
    """A changed factor changes the keys that contain the scope, and no other."""
    without = IsolationSchema(runtime_context=False)
    plain, bare = await isolation_key(), await isolation_key(without)
    with isolate(target="sm90"):
        assert await isolation_key() != plain
        assert await isolation_key(without) == bare
        with isolate(target="sm80"):
            inner = await isolation_key()
        assert await isolation_key() not in {inner, plain}
        context = await isolation_context(IsolationSchema({"scope": True}, False))
        assert context == {"runtime_context": {"scope": {"target": "sm90"}}, "compile_context": None}
    assert await isolation_key() == plain
    with isolate(a=1, b=2):
        one = await isolation_key()
    with isolate(b=2), isolate(a=1):
        assert await isolation_key() == one


async def test_contexts_are_the_callers_to_change() -> None:
    """What is done to a context that was returned changes no key."""
    factor = {"flags": ["-O2"]}
    with isolate(target=factor):
        key = await isolation_key()
        context = await isolation_context()
        for half in context.values():
            assert half is not None
            half.clear()
        assert await isolation_key() == key
        factor["flags"].append("-g")
        assert await isolation_key() != key  # what is in force at this moment counts


class TestFactors:
    """Why a key is what it is."""

    async def test_each_form_and_each_name_of_the_scope_is_one(self) -> None:
        """A factor is 16 hex digits for a form or a name given to ``isolate``."""
        with isolate(target="sm90", tenant="a"):
            found = await isolation()
        forms = {f"runtime.{name}" for name in RUNTIME} - {"runtime.scope"} | {f"compile.{name}" for name in COMPILE}
        assert set(found.factors) == forms | {"scope.target", "scope.tenant"}
        assert all(len(each) == 16 and set(each) <= set(string.hexdigits.lower()) for each in found.factors.values())

    async def test_only_what_is_selected(self) -> None:
        """Forms that are no part of the key are no factors either."""
        with isolate(target="sm90"):
            assert (await isolation(IsolationSchema(False, False))).factors == {}
            assert set((await isolation(IsolationSchema({"scope": True}, False))).factors) == {"scope.target"}
            assert set((await isolation(IsolationSchema(False, {"python": True}))).factors) == {"compile.python"}

    async def test_a_change_shows_in_its_factor_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two isolations differ in the factors whose values differ."""
        schema = IsolationSchema({"environment": ("CFLAGS",), "scope": True}, {"python": True})
        monkeypatch.setenv("CFLAGS", "-O2")
        with isolate(target="sm90", tenant="a"):
            one = await isolation(schema)
        monkeypatch.setenv("CFLAGS", "-O3")
        with isolate(target="sm80", tenant="a"):
            other = await isolation(schema)
        assert {name for name, each in one.factors.items() if each != other.factors[name]} == {
            "runtime.environment",
            "scope.target",
        }

    async def test_no_value_shows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Names and digests, and nothing else."""
        monkeypatch.setenv("API_TOKEN", "a secret")
        schema = IsolationSchema({"environment": ("API_TOKEN",), "scope": True})
        with isolate(password="hunter2"):  # noqa: S106 - it stands for one
            shown = repr(await isolation(schema)) + repr(schema)
        assert "secret" not in shown
        assert "hunter2" not in shown

    async def test_they_cannot_be_changed(self) -> None:
        """One isolation serves many callers."""
        found = await isolation()
        with pytest.raises(TypeError):
            found.factors["more"] = "x"  # type: ignore[index]  # the point of the test


class TestNamed:
    """Forms that hold what the user names."""

    async def test_packages(self) -> None:
        """The versions of the distributions that are named, null for one that is not installed."""
        schema = IsolationSchema(False, {"packages": ("pytest", "no-such-distribution")})
        context = await isolation_context(schema)
        assert context["compile_context"] == {"packages": {"pytest": pytest.__version__, "no-such-distribution": None}}
        assert not schema.is_volatile
        assert isolation_now(schema, PLAIN) is isolation_now(schema, PLAIN) is not None

    async def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The variables that are named, as they are at each key, null for one that is not set."""
        schema = IsolationSchema({"environment": ["CC", "CFLAGS"]}, False)
        assert schema.is_volatile
        monkeypatch.delenv("CC", raising=False)
        keys = [isolation_key_now(schema, PLAIN)]
        for value in ("", "gcc", "clang"):
            monkeypatch.setenv("CC", value)
            monkeypatch.setenv("CFLAGS", "-O2")
            keys.append(isolation_key_now(schema, PLAIN))
            context = await isolation_context(schema)
            assert context["runtime_context"] == {"environment": {"CC": value, "CFLAGS": "-O2"}}
        assert len(set(keys)) == 4
        monkeypatch.setenv("CC", "gcc")
        assert isolation_key_now(schema, PLAIN) == keys[2]

    async def test_other_variables_do_not_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is not named changes no key, and by default nothing is named."""
        named = IsolationSchema({"environment": ("CC",)})
        keys = isolation_key_now(named, PLAIN), isolation_key_now(DEFAULT_SCHEMA, PLAIN)
        monkeypatch.setenv("SOMETHING_ELSE", "1")
        assert (isolation_key_now(named, PLAIN), isolation_key_now(DEFAULT_SCHEMA, PLAIN)) == keys
        assert not DEFAULT_SCHEMA.is_volatile

    async def test_nothing_named_is_selected_all_the_same(self) -> None:
        """No names are the same as True: the form counts, and holds nothing."""
        schema = IsolationSchema({"environment": ()}, {"packages": []})
        assert schema == IsolationSchema({"environment": True}, {"packages": True})
        context = await isolation_context(schema)
        assert context == {"runtime_context": {"environment": {}}, "compile_context": {"packages": {}}}
        assert not schema.is_volatile


async def test_determinism_is_of_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form is fixed for the process; a new probe sees what has changed, and the volatile form sees it at once."""
    schema, named = (
        IsolationSchema({"determinism": True}, False),
        IsolationSchema({"environment": ("SOURCE_DATE_EPOCH",)}),
    )
    before, unset = await isolation_key(schema), await isolation_key(named)
    try:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "315532800")
        assert await isolation_key(schema) == before
        assert await isolation_key(named) != unset
        reprobe("determinism")
        assert await isolation_key(schema) != before
    finally:
        monkeypatch.undo()
        reprobe("determinism")
    assert await isolation_key(schema) == before


async def test_the_scope_is_the_one_that_is_asked_about() -> None:
    """A scope may be asked about from outside of it."""
    with isolate(target="sm90"):
        scope, key = current_scope(), await isolation_key()
    assert isolation_key_now(DEFAULT_SCHEMA, scope) == key != await isolation_key()


def test_names_of_forms_are_disjoint() -> None:
    """A name says which form is meant, whatever the half."""
    names = list(chain.from_iterable(HALVES.values()))
    assert len(set(names)) == len(names)
