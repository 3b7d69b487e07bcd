"""Forms of the user: registered, replaced, unregistered, and who hears of it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from acache.context import (
    DEFAULT_SCHEMA,
    PLAIN,
    CompileContext,
    IsolationSchema,
    RuntimeContext,
    isolate,
    isolation,
    isolation_context,
    isolation_key,
    isolation_now,
    on_reprobe,
    reprobe,
)
from acache.context.registry import REGISTRY
from acache.exceptions import ConfigurationError
from tests.context.helpers import Register

#: Selects a form called ``gpu`` of the compile half only.
GPU: Any = {"gpu": True}


def sm90() -> str:
    return "sm90"


def sm80() -> str:
    return "sm80"


class TestRegister:
    """Adding forms."""

    async def test_a_form_is_part_of_keys(self, register: Register) -> None:
        """Its value is in the contexts and keys that select it; a schema that was made before counts it with True."""
        schema, other = IsolationSchema(True, True), IsolationSchema(True, {"python": True})
        before, unmoved = await isolation_key(schema), await isolation_key(other)
        register("compile", "gpu", sm90)
        assert "gpu" in CompileContext.forms_of_context()
        assert "gpu" not in RuntimeContext.forms_of_context()
        assert (await isolation_context(schema))["compile_context"] == {
            **((await isolation_context(IsolationSchema(False, True)))["compile_context"] or {}),
            "gpu": "sm90",
        }
        assert await isolation_key(schema) != before
        assert await isolation_key(other) == unmoved
        assert "compile.gpu" in (await isolation(schema)).factors

    async def test_unregistering_ends_it(self, register: Register) -> None:
        """Afterwards keys are what they were; a schema that names the form is an error from then on."""
        before = await isolation_key()
        unregister = register("runtime", "gpu", sm90, True)
        schema = IsolationSchema(GPU, False)
        assert schema.is_volatile
        assert await isolation_key() != before
        unregister()
        unregister()
        assert await isolation_key() == before
        with pytest.raises(ConfigurationError, match=r"runtime_context.*'gpu'.*known forms"):
            await isolation_key(schema)
        with pytest.raises(ConfigurationError, match="'gpu'"):
            _ = schema.is_volatile

    async def test_the_same_again(self, register: Register) -> None:
        """One probe may be registered many times, and lasts until all have ended it."""
        first, second = register("compile", "gpu", sm90), register("compile", "gpu", sm90)
        first()
        first()
        assert "gpu" in CompileContext.forms_of_context()
        second()
        assert "gpu" not in CompileContext.forms_of_context()

    async def test_bound_methods_of_one_object_are_the_same(self, register: Register) -> None:
        """A bound method is made anew at each look, and is the same probe all the same."""

        class Compiler:
            def version(self) -> str:
                return "1"

        compiler = Compiler()
        register("compile", "gpu", compiler.version)
        register("compile", "gpu", compiler.version)
        with pytest.raises(ConfigurationError, match="another probe"):
            register("compile", "gpu", Compiler().version)

    async def test_another_under_the_same_name(self, register: Register) -> None:
        """It is an error that says how to do it; with ``replace=True`` keys have the new one's answer."""
        first = register("compile", "gpu", sm90)
        old = await isolation_key()
        with pytest.raises(ConfigurationError, match=r"compile form 'gpu'.*replace=True"):
            register("compile", "gpu", sm80)
        with pytest.raises(ConfigurationError, match=r"compile form 'gpu'.*replace=True"):
            register("compile", "gpu", sm90, True)
        assert await isolation_key() == old
        second = register("compile", "gpu", sm80, replace=True)
        context = await isolation_context(IsolationSchema(False, GPU))
        assert context["compile_context"] == {"gpu": "sm80"}
        first()
        assert "gpu" in CompileContext.forms_of_context()
        second()
        assert "gpu" not in CompileContext.forms_of_context()

    @pytest.mark.parametrize("replace", [True, False])
    def test_acaches_own_forms_stay(self, register: Register, replace: bool) -> None:
        """The name of a built-in form is taken."""
        for kind, name in (("compile", "python"), ("runtime", "scope")):
            with pytest.raises(ConfigurationError, match=rf"{kind} form '{name}'.*choose another"):
                register(kind, name, sm90, replace=replace)  # type: ignore[arg-type]  # both are kinds

    async def test_a_name_in_both_halves(self, register: Register) -> None:
        """The halves have their own names."""
        register("compile", "gpu", sm90)
        register("runtime", "gpu", sm80)
        context = await isolation_context(IsolationSchema(GPU, GPU))
        assert context == {"runtime_context": {"gpu": "sm80"}, "compile_context": {"gpu": "sm90"}}

    @pytest.mark.parametrize(
        ("kind", "name", "probe", "message"),
        [
            ("build", "gpu", sm90, "'compile' or 'runtime'"),
            ([], "gpu", sm90, "'compile' or 'runtime'"),
            ("compile", "", sm90, "not empty"),
            ("compile", None, sm90, "not empty"),
            ("compile", "gpu", "sm90", "form 'gpu' cannot be called"),
        ],
    )
    def test_what_is_no_form(self, register: Register, kind: Any, name: Any, probe: Any, message: str) -> None:
        """It is refused at once, saying what is wrong."""
        with pytest.raises(ConfigurationError, match=message):
            register(kind, name, probe)


class TestVolatile:
    """Forms that are asked for each key."""

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_a_change_changes_the_key(self, register: Register, is_async: bool) -> None:
        """Each key has the answer of its own moment, in scopes and outside."""
        setting = "fast"

        async def read_async() -> str:
            return setting

        register("runtime", "mode", read_async if is_async else lambda: setting, volatile=True)
        fast = await isolation_key()
        with isolate(target="sm90"):
            scoped = await isolation_key()
        setting = "exact"
        assert await isolation_key() not in {fast, scoped}
        with isolate(target="sm90"):
            assert await isolation_key() not in {fast, scoped}
        setting = "fast"
        assert await isolation_key() == fast

    async def test_only_schemas_that_select_it_are_volatile(self, register: Register) -> None:
        """A schema is volatile while a form that it selects is registered as such."""
        schemas = [DEFAULT_SCHEMA, IsolationSchema(False, True)]
        assert [schema.is_volatile for schema in schemas] == [False, False]
        unregister = register("runtime", "mode", lambda: 1, volatile=True)
        register("compile", "gpu", sm90)
        assert [schema.is_volatile for schema in schemas] == [True, False]
        assert IsolationSchema({"mode": True}, False).is_volatile
        unregister()
        assert [schema.is_volatile for schema in schemas] == [False, False]

    async def test_a_sync_one_needs_no_waiting(self, register: Register) -> None:
        """A key with it can be made at once, and is made anew each time."""
        asked: list[int] = []
        register("runtime", "mode", lambda: asked.append(1), volatile=True)
        first = isolation_now(DEFAULT_SCHEMA, PLAIN)
        assert first is not None
        assert isolation_now(DEFAULT_SCHEMA, PLAIN) == first == await isolation()
        assert len(asked) == 3

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_a_failure_names_the_form(self, register: Register, is_async: bool) -> None:
        """What it raises is the cause of a configuration error, and no key is made."""

        async def fail_async() -> object:
            raise LookupError("a secret")

        def fail() -> object:
            raise LookupError("a secret")

        register("runtime", "mode", fail_async if is_async else fail, volatile=True)
        with pytest.raises(ConfigurationError, match=r"runtime form 'mode'.*LookupError") as caught:
            await isolation_key()
        assert isinstance(caught.value.__cause__, LookupError)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_it_returns_json(self, register: Register, is_async: bool) -> None:
        """What JSON cannot hold is an error that names the form and the type."""

        async def return_async() -> object:
            return {"set": {1}}

        register("runtime", "mode", return_async if is_async else lambda: {"set": {1}}, volatile=True)
        with pytest.raises(ConfigurationError, match=r"runtime form 'mode'.*type set"):
            await isolation_key()


class TestReprobe:
    """Asking anew."""

    async def test_a_form_is_asked_once_until_then(self, register: Register) -> None:
        """A form that is not volatile keeps its answer until it is forgotten."""
        versions = iter(range(10))
        register("compile", "compiler", lambda: next(versions))
        first = await isolation_key()
        assert await isolation_key() == first
        reprobe("compiler")
        second = await isolation_key()
        assert await isolation_key() == second != first
        reprobe()
        assert await isolation_key() not in {first, second}
        assert next(versions) == 3

    async def test_only_the_named_ones(self, register: Register) -> None:
        """Other forms keep their answers."""
        asked: list[str] = []
        register("compile", "one", lambda: asked.append("one"))
        register("runtime", "two", lambda: asked.append("two"))
        await isolation_key()
        reprobe("two")
        await isolation_key()
        assert sorted(asked) == ["one", "two", "two"]

    def test_an_unknown_name(self) -> None:
        """It is an error that names the forms there are; nothing is forgotten."""
        before = isolation_now(DEFAULT_SCHEMA, PLAIN)
        with pytest.raises(ConfigurationError, match=r"'gpu'.*known forms: .*python.*scope"):
            reprobe("python", "gpu")
        assert isolation_now(DEFAULT_SCHEMA, PLAIN) is before


class TestOnReprobe:
    """Hearing that keys may have changed."""

    async def test_each_change_is_told(self, register: Register) -> None:
        """Whoever listens sees the new state at each registration, replacement, removal and new probe."""
        heard: list[str | None] = []

        def listen() -> None:
            found = isolation_now(IsolationSchema(False, True), PLAIN)
            heard.append(None if found is None else found.key)

        before = await isolation_key(IsolationSchema(False, True))
        stop = on_reprobe(listen)
        unregister = register("compile", "gpu", sm90, volatile=True)
        register("compile", "gpu", sm90, volatile=True)()  # changes nothing
        replaced = register("compile", "gpu", sm80, volatile=True, replace=True)
        unregister()  # changes nothing any more
        replaced()
        reprobe("python")
        assert len(set(heard)) == 3
        assert heard[2:] == [before, before]
        stop()
        stop()
        reprobe()
        assert len(heard) == 4

    def test_a_callback_may_use_everything(self) -> None:
        """A callback may end its own subscription, and ask anew itself."""
        calls: list[int] = []

        def callback() -> None:
            stop()
            calls.append(len(calls))
            reprobe()

        stop = on_reprobe(callback)
        reprobe()
        assert calls == [0]

    def test_a_failing_callback_hurts_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        """A callback that fails is logged with the type of its error, and the others are called."""
        heard: list[bool] = []

        def fail() -> None:
            raise ValueError("a secret")

        ends = [on_reprobe(fail), on_reprobe(lambda: heard.append(True))]
        reprobe()
        for end in ends:
            end()
        assert heard == [True]
        assert "ValueError" in caplog.text
        assert "secret" not in caplog.text

    def test_a_bound_method_does_not_keep_its_object_alive(self) -> None:
        """An object that listens may go; it is not called any more, and nothing of it is kept."""

        class Listener:
            heard = 0

            def listen(self) -> None:
                self.heard += 1

        listener = Listener()
        before = len(REGISTRY.listeners)
        on_reprobe(listener.listen)
        reprobe()
        assert listener.heard == 1
        reference = weakref.ref(listener)
        del listener
        gc.collect()
        assert reference() is None
        reprobe()
        assert len(REGISTRY.listeners) <= before
