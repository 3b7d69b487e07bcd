"""Schemas: what selects, what is refused, and the types that say so."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, get_type_hints

import pytest

from acache.context import (
    CompileContext,
    IsolationSchema,
    RuntimeContext,
    SelectedCompileContext,
    SelectedRuntimeContext,
    isolation,
    isolation_context,
    isolation_key,
)
from acache.exceptions import ConfigurationError

HALVES = ("runtime_context", "compile_context")


class TestSelection:
    """What may stand for a half."""

    @pytest.mark.parametrize("half", HALVES)
    def test_an_unknown_form(self, half: str) -> None:
        """It is an error that names the half, the form, and the forms there are."""
        known = {"runtime_context": "determinism, environment", "compile_context": "platform, python"}[half]
        with pytest.raises(ConfigurationError, match=rf"{half}.*'gpu'.*known forms: .*{known}"):
            IsolationSchema(**{half: {"gpu": True}})

    @pytest.mark.parametrize("half", HALVES)
    @pytest.mark.parametrize("selection", ["all", 1, None, ["python"], ("scope",), {"python"}, object()])
    def test_what_is_no_selection(self, half: str, selection: Any) -> None:
        """Anything but a boolean and a mapping is an error that says what is expected."""
        with pytest.raises(ConfigurationError, match=rf"{half}.*True, False or a mapping.*{type(selection).__name__}"):
            IsolationSchema(**{half: selection})

    @pytest.mark.parametrize("value", [1, 0, None, "yes", ("x",), []])
    @pytest.mark.parametrize(("half", "form"), [("runtime_context", "scope"), ("compile_context", "python")])
    def test_a_form_is_selected_by_a_boolean(self, half: str, form: str, value: Any) -> None:
        """What would only count as true or false is an error that names the form."""
        with pytest.raises(ConfigurationError, match=rf"form '{form}'.*True or False.*{type(value).__name__}"):
            IsolationSchema(**{half: {form: value}})

    @pytest.mark.parametrize("value", [1, None, "CC", b"CC", {"CC": True}, iter(("CC",))])
    @pytest.mark.parametrize(("half", "form"), [("runtime_context", "environment"), ("compile_context", "packages")])
    def test_names_are_a_sequence(self, half: str, form: str, value: Any) -> None:
        """One text is not a sequence of names; the error shows what one looks like."""
        with pytest.raises(ConfigurationError, match=rf"form '{form}'.*such as \('NAME',\).*{type(value).__name__}"):
            IsolationSchema(**{half: {form: value}})

    @pytest.mark.parametrize("names", [("CC", ""), ("CC", None), (b"CC",), ["CC", ["CFLAGS"]]])
    def test_names_are_texts(self, names: Any) -> None:
        """A name that is none is refused when the schema is made, not at the first call."""
        with pytest.raises(ConfigurationError, match=r"'environment'.*text"):
            IsolationSchema({"environment": names})

    @pytest.mark.parametrize("key", [None, 1, ("python",), b"python"])
    def test_form_names_are_texts(self, key: Any) -> None:
        """What is no text names no form."""
        with pytest.raises(ConfigurationError, match="unknown form"):
            IsolationSchema(True, {key: True})

    async def test_a_part_is_enough(self) -> None:
        """Forms that a mapping does not name are not selected."""
        assert (await isolation_context(IsolationSchema({}, {})))["compile_context"] is None
        context = await isolation_context(IsolationSchema({}, {"python": True, "platform": False}))
        assert set(context["compile_context"] or ()) == {"python"}


@pytest.mark.parametrize("schema", [None, "x", 5, True, {"runtime_context": True}, IsolationSchema], ids=repr)
@pytest.mark.parametrize("ask", [isolation, isolation_key, isolation_context])
async def test_what_is_no_schema(ask: Callable[[Any], Awaitable[object]], schema: Any) -> None:
    """A key or a context of anything but a schema is the error that a decorator raises for it."""
    with pytest.raises(
        ConfigurationError, match=rf"ischema: .* needs an IsolationSchema, not a {type(schema).__name__}$"
    ):
        await ask(schema)


class TestValues:
    """A schema is a value."""

    def test_equality(self) -> None:
        """Equal selections are equal schemas, however they are written."""
        assert IsolationSchema(compile_context={"python": True, "platform": False}) == IsolationSchema(
            compile_context={"python": True}
        )
        assert IsolationSchema({}, {"python": False}) == IsolationSchema(False, False)
        assert IsolationSchema({"environment": ["B", "A", "B"]}) == IsolationSchema({"environment": {"A", "B"}})  # type: ignore[dict-item]  # sets pass
        assert IsolationSchema({"environment": ("A",)}) != IsolationSchema({"environment": True})
        assert len({IsolationSchema(), IsolationSchema(True, True), IsolationSchema(False), IsolationSchema(True)}) == 2
        assert IsolationSchema() != "schema"

    def test_all_is_not_a_list(self) -> None:
        """True counts the forms that will be registered, so it equals no list of the present ones."""
        forms = dict.fromkeys(CompileContext.forms_of_context(), True)
        assert IsolationSchema(True, forms) != IsolationSchema(True, True)

    @pytest.mark.parametrize(
        "schema",
        [
            IsolationSchema(),
            IsolationSchema(False, False),
            IsolationSchema({"scope": True}, True),
            IsolationSchema({"environment": ("CC", "CFLAGS")}, {"python": True, "packages": ("pytest",)}),
        ],
        ids=repr,
    )
    async def test_copies_and_texts(self, schema: IsolationSchema) -> None:
        """Copies, pickles and the repr are equal schemas, with equal hashes and keys."""
        written: IsolationSchema = eval(repr(schema))  # noqa: S307 - that it can be is the rule
        for other in (copy.deepcopy(schema), pickle.loads(pickle.dumps(schema)), written):
            assert (other, hash(other), repr(other)) == (schema, hash(schema), repr(schema))
            assert await isolation_key(other) == await isolation_key(schema)

    def test_what_was_selected(self) -> None:
        """A schema tells what it was made of."""
        schema = IsolationSchema({"environment": ["CC"], "scope": False}, False)
        assert (schema.runtime_context, schema.compile_context) == ({"environment": ("CC",)}, False)
        assert repr(schema) == "IsolationSchema(runtime_context={'environment': ('CC',)}, compile_context=False)"

    def test_it_does_not_change(self) -> None:
        """What a schema selects cannot be set, and is not what its mapping becomes."""
        selection = {"python": True}
        schema = IsolationSchema(False, selection)
        selection["platform"] = True
        assert schema.compile_context == {"python": True}
        with pytest.raises(AttributeError):
            schema.compile_context = True  # type: ignore[misc]  # the point of the test


class TestSelectedTypes:
    """The TypedDicts of selections."""

    @pytest.mark.parametrize(
        ("selected", "context"),
        [(SelectedRuntimeContext, RuntimeContext), (SelectedCompileContext, CompileContext)],
    )
    def test_required_keys_are_the_forms(self, selected: Any, context: Any) -> None:
        """Each type has exactly the forms of its half as required keys."""
        assert selected.__required_keys__ == set(context.forms_of_context())
        assert selected.__optional_keys__ == set()
        assert set(get_type_hints(selected)) == set(context.forms_of_context())

    @pytest.mark.parametrize(
        ("kind", "selected"), [("runtime", SelectedRuntimeContext), ("compile", SelectedCompileContext)]
    )
    def test_they_follow_what_is_registered(self, kind: str, selected: Any, register: Any) -> None:
        """A form that is registered is a required key, until it is unregistered."""
        before, hints = selected.__required_keys__, get_type_hints(selected)
        unregister = register(kind, "gpu", lambda: None)
        assert selected.__required_keys__ == before | {"gpu"}
        assert get_type_hints(selected) == {**hints, "gpu": bool}
        unregister()
        assert selected.__required_keys__ == before
        assert get_type_hints(selected) == hints

    def test_hints(self) -> None:
        """Two forms take names; the others are switches."""
        hints = {**get_type_hints(SelectedRuntimeContext), **get_type_hints(SelectedCompileContext)}
        assert {name for name, hint in hints.items() if hint == bool | Sequence[str]} == {"environment", "packages"}
        assert {hint for name, hint in hints.items() if name not in {"environment", "packages"}} == {bool}

    async def test_a_whole_one_is_a_selection(self) -> None:
        """A value of the type can be given as it is."""
        runtime: SelectedRuntimeContext = {
            "determinism": True,
            "environment": ("CC",),
            "numeric_precision": False,
            "scope": True,
        }
        context = await isolation_context(IsolationSchema(runtime_context=runtime, compile_context=False))
        assert set(context["runtime_context"] or ()) == {"determinism", "environment", "scope"}
