"""The rows of the original about isolation (4.2), under their own names, and forms of a user's own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from acache import (
    CompileContext,
    FastCache,
    IsolationSchema,
    RuntimeContext,
    SelectedCompileContext,
    SelectedRuntimeContext,
    isolate,
    isolation_context,
    isolation_key,
)
from acache.testing import ComputeCounter
from tests.acceptance.support import RegisterForm, run_aside

Selected = dict[str, bool]


async def forms(half: str) -> dict[str, Any]:
    """Return the forms of one half with their present values."""
    found = (await isolation_context())[half]
    assert found
    return found


def selections(*names: str) -> Iterator[Selected]:
    """Return every selection of the forms, from none to all."""
    for wanted in itertools.product((False, True), repeat=len(names)):
        yield dict(zip(names, wanted, strict=True))


def every_schema() -> Iterator[tuple[Selected, Selected]]:
    """Return every selection of runtime forms with every one of compile forms."""
    return itertools.product(
        selections(*RuntimeContext.forms_of_context()), selections(*CompileContext.forms_of_context())
    )


async def test_selected_isolation_context() -> None:
    """SPEC 8: for every selection of both halves the context holds exactly those forms, with their values."""
    with isolate(target="sm90"):
        runtime, build = await forms("runtime_context"), await forms("compile_context")
        assert runtime["scope"] == {"target": "sm90"}
        for some, others in every_schema():
            assert await isolation_context(IsolationSchema(some, others)) == {
                "runtime_context": {name: runtime[name] for name, wanted in some.items() if wanted} or None,
                "compile_context": {name: build[name] for name, wanted in others.items() if wanted} or None,
            }


@pytest.mark.parametrize("runtime", [True, False])
@pytest.mark.parametrize("build", [True, False])
async def test_all_or_none_isolation_context(runtime: bool, build: bool) -> None:
    """SPEC 8: ``True`` is every form of a half, ``False`` none of it."""
    assert await isolation_context(IsolationSchema(runtime_context=runtime, compile_context=build)) == {
        "runtime_context": await forms("runtime_context") if runtime else None,
        "compile_context": await forms("compile_context") if build else None,
    }


async def test_isolation_key_is_distinct() -> None:
    """SPEC 8: every selection has a key of its own, whatever the values are, and so has every value; a key is 32 hex digits."""
    chosen = list(every_schema())
    keys = [await isolation_key(IsolationSchema(some, others)) for some, others in chosen]
    assert len(keys) == 2 ** len(await forms("runtime_context")) * 2 ** len(await forms("compile_context"))
    assert keys[-1] == await isolation_key()  # by name or by True: all forms are all forms
    for factors in ({"a": None}, {"b": None}, {"a": 1}, {"a": "1"}, {"a": None, "b": None}, {"a": {"b": None}}):
        with isolate(**factors):
            keys.append(await isolation_key())
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in keys)


KEYS = """
register_form("compile", "toolchain", lambda: {"b": [2], "a": 1})

async def main():
    everything = await isolation_key()
    builtin = IsolationSchema(True, {name: name != "toolchain" for name in CompileContext.forms_of_context()})
    with isolate(one=[1, {"b": 2, "a": 1}], other="text"):
        inner = await isolation_key()
    tell([await isolation_key(builtin), everything, await isolation_key(), inner])
asyncio.run(main())
"""


@pytest.mark.integration
async def test_isolation_key_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC 8: the key is the same twice and in every process with these settings, whatever its hash seed; a changed one shows."""
    here = await isolation_key()
    assert await isolation_key() == here
    found = [await run_aside(KEYS, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    builtin, everything, again, inner = found[0]
    assert (builtin, everything) == (here, again)
    assert len({here, everything, inner}) == 3
    assert found[1] == found[0]
    schema = IsolationSchema({"environment": ["ACCEPTANCE_LEVEL"]}, compile_context=False)
    unset = await isolation_key(schema)
    monkeypatch.setenv("ACCEPTANCE_LEVEL", "3")
    assert unset != await isolation_key(schema) == await isolation_key(schema)
    monkeypatch.delenv("ACCEPTANCE_LEVEL")
    assert await isolation_key(schema) == unset


async def assert_type_is_followed(selected: Any, context: Any, half: str) -> None:
    names = set(context.forms_of_context())
    assert selected.__required_keys__ == names == set(await forms(half))
    assert not selected.__optional_keys__


async def test_select_runtime_context_matches_forms_of_context(register: RegisterForm) -> None:
    """SPEC 8: the required keys of the type are the runtime forms there are, those of a user included while they are."""
    await assert_type_is_followed(SelectedRuntimeContext, RuntimeContext, "runtime_context")
    end = register("runtime", "dialect", lambda: "c++20")
    assert "dialect" in RuntimeContext.forms_of_context()
    await assert_type_is_followed(SelectedRuntimeContext, RuntimeContext, "runtime_context")
    end()
    assert "dialect" not in RuntimeContext.forms_of_context()
    await assert_type_is_followed(SelectedRuntimeContext, RuntimeContext, "runtime_context")


async def test_select_compile_context_matches_forms_of_context(register: RegisterForm) -> None:
    """SPEC 8: the same for the compile forms."""
    await assert_type_is_followed(SelectedCompileContext, CompileContext, "compile_context")
    end = register("compile", "dialect", lambda: "c++20")
    assert "dialect" in CompileContext.forms_of_context()
    await assert_type_is_followed(SelectedCompileContext, CompileContext, "compile_context")
    end()
    assert "dialect" not in CompileContext.forms_of_context()
    await assert_type_is_followed(SelectedCompileContext, CompileContext, "compile_context")


async def test_a_form_of_ones_own_is_asked_once(register: RegisterForm) -> None:
    """SPEC 8: an async probe is awaited once for all who ask together; its value is in the context and in every key."""
    asked: list[str] = []

    async def probe() -> dict[str, object]:
        asked.append("asked")
        await asyncio.sleep(0)
        return {"driver": "560.1", "cores": 132}

    without = await isolation_key()
    end = register("compile", "device", probe)
    keys = await asyncio.gather(*[isolation_key() for _ in range(5)])
    assert len(asked) == len(set(keys)) == 1
    assert (await forms("compile_context"))["device"] == {"driver": "560.1", "cores": 132}
    assert without not in keys
    everything_else = {name: name != "device" for name in CompileContext.forms_of_context()}
    assert await isolation_key(IsolationSchema(True, everything_else)) == without
    end()
    assert await isolation_key() == without


@pytest.mark.parametrize("is_async", [False, True], ids=["sync probe", "async probe"])
@pytest.mark.parametrize("kind", ["runtime", "compile"])
async def test_custom_ischema_of_a_volatile_form(
    isolated_cache: FastCache, register: RegisterForm, kind: Any, is_async: bool
) -> None:
    """SPEC 8: a volatile form is asked for every call: changed it recomputes, changed back it hits; left out it has no say."""
    counter, level = ComputeCounter(), ["O1"]

    def probe() -> str:
        return level[0]

    async def probe_later() -> str:
        await asyncio.sleep(0)
        return level[0]

    @counter.wrap
    async def compile_async(n: int) -> str:
        return level[0]

    @counter.wrap
    def compile_plain(n: int) -> str:
        return level[0]

    register(kind, "level", probe_later if is_async else probe, volatile=True)
    half = f"{kind}_context"
    no_forms: dict[str, Any] = {"runtime_context": False, "compile_context": False}
    only = IsolationSchema(**{**no_forms, half: {"level": True}})
    others = IsolationSchema(**{half: dict.fromkeys(set(await forms(half)) - {"level"}, True)})
    memoize = isolated_cache.memoize
    for function in (memoize(compile_async), memoize(compile_plain).aio):
        assert [await function(1), await function(1)] == ["O1", "O1"]
    for schema in (only, others):
        for function in (
            memoize(version=half, ischema=schema)(compile_async),
            memoize(ischema=schema)(compile_plain).aio,
        ):
            level[0] = "O1"
            assert [await function(2), await function(2)] == ["O1", "O1"]
            level[0] = "O2"
            changed = "O2" if schema is only else "O1"
            assert [await function(2), await function(2)] == [changed] * 2
            level[0] = "O1"
            assert await function(2) == "O1"
    counter.assert_computed(2 + 4 + 2)
