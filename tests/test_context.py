"""Scopes and isolation keys."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pytest

from acache import IsolationSchema, disabled, isolate, isolation_context, isolation_key, recompute
from acache.context import PLAIN, current_scope
from acache.exceptions import ConfigurationError

COMPILE = ("platform", "python")
RUNTIME = ("scope",)


def subsets(names: tuple[str, ...]) -> list[dict[str, bool]]:
    return [dict.fromkeys(chosen, True) for size in range(len(names) + 1) for chosen in combinations(names, size)]


async def test_a_context_holds_exactly_the_selected_forms() -> None:
    """Each half has the selected forms with their present values; a half with none is None."""
    for runtime in subsets(RUNTIME):
        for compiled in subsets(COMPILE):
            context = await isolation_context(IsolationSchema(runtime_context=runtime, compile_context=compiled))
            assert set(context["runtime_context"] or ()) == set(runtime)
            assert set(context["compile_context"] or ()) == set(compiled)
            assert (context["runtime_context"] is None) == (not runtime)
    context = await isolation_context()
    assert context["compile_context"] is not None
    assert context["compile_context"]["python"]["implementation"] == sys.implementation.name


async def test_true_is_every_form_and_false_is_none() -> None:
    """The four combinations of all and nothing."""
    for runtime in (True, False):
        for compiled in (True, False):
            context = await isolation_context(IsolationSchema(runtime, compiled))
            assert (context["runtime_context"] is not None, context["compile_context"] is not None) == (
                runtime,
                compiled,
            )


async def test_every_selection_has_a_key_of_its_own() -> None:
    """Keys are 32 hex digits and differ for different selections, even where values are equal."""
    keys = [
        await isolation_key(IsolationSchema(runtime, compiled))
        for runtime in subsets(RUNTIME)
        for compiled in subsets(COMPILE)
    ]
    assert len(set(keys)) == len(keys) == 8
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in keys)
    assert await isolation_key() == await isolation_key(IsolationSchema(True, True))


async def test_factors_are_part_of_the_scope_form_only() -> None:
    """A changed factor changes the keys that contain the scope, and no other."""
    without = IsolationSchema(runtime_context=False)
    plain, bare = await isolation_key(), await isolation_key(without)
    with isolate(target="sm90"):
        assert await isolation_key() != plain
        assert await isolation_key(without) == bare
        with isolate(target="sm80"):
            inner = await isolation_key()
        with isolate(target="sm90"):
            assert await isolation_key() not in {inner, plain}
        context = await isolation_context()
        assert context["runtime_context"] == {"scope": {"target": "sm90"}}
    assert await isolation_key() == plain
    with isolate(a=1, b=2):
        one = await isolation_key()
    with isolate(b=2), isolate(a=1):
        assert await isolation_key() == one


async def test_scopes_do_not_leak_between_tasks_and_threads() -> None:
    """A scope is of one task and what it starts."""
    inside, outside = asyncio.Event(), asyncio.Event()
    seen: list[Mapping[str, object]] = []

    async def other() -> None:
        await inside.wait()
        seen.append(current_scope().factors)
        outside.set()

    task = asyncio.create_task(other())
    with isolate(mine=True):
        inside.set()
        await outside.wait()
        child = asyncio.create_task(asyncio.to_thread(current_scope))
    assert (await child).factors == {"mine": True}
    await task
    assert seen == [{}]
    found: list[object] = []
    with isolate(mine=True):
        thread = threading.Thread(target=lambda: found.append(current_scope()))
        thread.start()
        thread.join()
    assert found == [PLAIN]
    assert current_scope() is PLAIN


def test_switches_nest_and_restore() -> None:
    """Each switch adds to the scope around it, and the scope comes back after an error too."""
    with isolate(a=1), disabled(), recompute():
        scope = current_scope()
        assert (dict(scope.factors), scope.disabled, scope.recompute) == ({"a": 1}, True, True)
    with pytest.raises(ValueError, match="out"), disabled():
        raise ValueError("out")
    assert current_scope() is PLAIN


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", float("nan"), 1j])
def test_a_factor_that_json_cannot_hold_is_refused(value: Any) -> None:
    """What cannot be encoded is an error that names the factor."""
    with pytest.raises(ConfigurationError, match="target"), isolate(target=value):
        pass


@pytest.mark.parametrize("half", ["runtime_context", "compile_context"])
def test_a_schema_knows_its_forms(half: str) -> None:
    """An unknown form, or what is no selection, is an error that names the half and the forms there are."""
    with pytest.raises(ConfigurationError, match=f"{half}.*'gpu'.*known forms"):
        IsolationSchema(**{half: {"gpu": True}})
    wrong: Any = "all"
    with pytest.raises(ConfigurationError, match=half):
        IsolationSchema(**{half: wrong})


def test_schemas_are_values() -> None:
    """Equal selections are equal schemas; a form set to False is not selected."""
    assert IsolationSchema(compile_context={"python": True, "platform": False}) == IsolationSchema(
        compile_context={"python": True}
    )
    assert len({IsolationSchema(), IsolationSchema(True, True), IsolationSchema(False)}) == 2
    assert IsolationSchema() != "schema"
    assert "python" in repr(IsolationSchema())


@pytest.mark.integration
async def test_keys_are_stable_across_processes() -> None:
    """Another process of the same interpreter makes the same key, whatever its hash seed."""
    code = (
        "import asyncio, acache\n"
        "with acache.isolate(b=2, a=[1, {'z': None}]): print(asyncio.run(acache.isolation_key()))"
    )
    with isolate(a=[1, {"z": None}], b=2):
        mine = await isolation_key()
    for seed in ("0", "7"):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            stdout=subprocess.PIPE,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )
        output, _ = await child.communicate()
        assert output.decode().strip() == mine
