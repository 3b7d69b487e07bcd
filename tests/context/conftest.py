"""Fixtures of isolation tests: forms, and a torch, that go with the test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from types import ModuleType
from typing import Any, Literal

import pytest

from acache.context import register_form, reprobe
from tests.context.helpers import ImportTorch, Register


@pytest.fixture
def register() -> Generator[Register]:
    """Register forms that are unregistered when the test is over."""
    ends: list[Callable[[], None]] = []

    def add(
        kind: Literal["compile", "runtime"],
        name: str,
        probe: Callable[[], object],
        volatile: bool = False,
        *,
        replace: bool = False,
    ) -> Callable[[], None]:
        ends.append(register_form(kind, name, probe, volatile, replace=replace))
        return ends[-1]

    yield add
    for end in ends:
        end()


@pytest.fixture
def import_torch() -> Generator[ImportTorch]:
    """Let a module be imported as torch; it is gone, and forgotten, when the test is over."""
    modules: dict[str, Any] = sys.modules
    before = {name: module for name, module in modules.items() if name == "torch"}
    modules.pop("torch", None)
    reprobe()

    def put(module: ModuleType | None) -> None:
        modules["torch"] = module

    yield put
    modules.pop("torch", None)
    modules.update(before)
    reprobe()
