"""Scopes: the switches and factors around a call."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import pytest

from acache.context import (
    DEFAULT_SCHEMA,
    PLAIN,
    current_scope,
    disabled,
    isolate,
    isolation_key_now,
    recompute,
)
from acache.exceptions import ConfigurationError


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
    assert current_scope() is PLAIN


def test_a_new_thread_is_plain() -> None:
    """A thread that nobody gave a context to is in no scope."""
    found: list[object] = []
    with isolate(mine=True):
        thread = threading.Thread(target=lambda: found.append(current_scope()))
        thread.start()
        thread.join()
    assert found == [PLAIN]


def test_switches_nest_and_restore() -> None:
    """Each switch adds to the scope around it, and the scope comes back after an error too."""
    with isolate(a=1), disabled(), recompute():
        scope = current_scope()
        assert (dict(scope.factors), scope.disabled, scope.recompute) == ({"a": 1}, True, True)
    with pytest.raises(ValueError, match="out"), disabled():
        raise ValueError("out")
    assert current_scope() is PLAIN


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "object"),
        ({1, 2}, "set"),
        ({"deep": [{"er": b"a secret"}]}, "bytes"),
        (float("nan"), "float"),
        (1j, "complex"),
        ({("a", "b"): 1}, "dict"),
        ({1: 1, "1": 1}, "dict"),
        ({1: 1}, "dict"),
        ({True: 1}, "dict"),
        ({None: 1}, "dict"),
        ({1.5: 1}, "dict"),
        (OrderedDict({2: 1}), "OrderedDict"),
        ([{"deep": ({"er": {1: "a secret"}},)}], "dict"),
    ],
)
def test_a_factor_that_json_cannot_hold_is_refused(value: Any, kind: str) -> None:
    """What cannot be encoded is an error that names the factor and the type, and shows nothing."""
    with pytest.raises(ConfigurationError, match=rf"target.*{kind}$") as caught, isolate(target=value):
        pass
    assert "secret" not in str(caught.value)
    assert current_scope() is PLAIN


def test_it_says_which_names_are_meant() -> None:
    """Of a mapping with a name that is no text, the error says that this is what is wrong."""
    with pytest.raises(ConfigurationError, match="a name in it is no text"), isolate(target={1: "a"}):
        pass


def test_texts_are_names_of_any_kind() -> None:
    """A text of a class of its own is a text: it is the name it spells."""

    class Name(str):
        __slots__ = ()

    def key() -> str:
        return isolation_key_now(DEFAULT_SCHEMA, current_scope())

    with isolate(target={Name("a"): 1}):
        named = key()
    with isolate(target={"a": 1}):
        assert key() == named


def test_a_factor_in_itself_is_refused() -> None:
    """A value without an end is refused as well."""
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ConfigurationError, match=r"target.*list"), isolate(target=endless):
        pass
