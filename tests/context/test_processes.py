"""Isolation over processes: the same keys everywhere, and children of forks."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from acache.context import IsolationSchema, isolate, isolation

pytestmark = pytest.mark.integration

FORKER = Path(__file__).with_name("forker.py")
ROOT = Path(__file__).parents[2]

SCHEMA = IsolationSchema({"environment": {"HOME", "LANG"}, "scope": True}, True)  # type: ignore[dict-item]  # sets pass
#: Prints the key and the factors that :func:`mine` returns.
CODE = """
import asyncio, json
from acache.context import IsolationSchema, isolate, isolation, register_form
register_form("compile", "compiler", lambda: {"b": [1, {"z": None, "y": 2.5}], "a": "é"})
schema = IsolationSchema({"environment": {"LANG", "HOME"}, "scope": True}, True)
with isolate(b=2, a=[1, {"z": None, "k": True}]):
    found = asyncio.run(isolation(schema))
print(json.dumps([found.key, dict(found.factors)]))
"""


async def mine() -> list[object]:
    """Return what the code above finds, in this process."""
    with isolate(a=[1, {"k": True, "z": None}], b=2):
        found = await isolation(SCHEMA)
    return [found.key, dict(found.factors)]


@pytest.mark.parametrize("seed", ["0", "7", "random"])
async def test_keys_and_factors_agree(seed: str, register: Any) -> None:
    """Another process of the same interpreter finds the same, whatever its hash seed, and in whatever order it asks."""
    register("compile", "compiler", lambda: {"a": "é", "b": [1, {"y": 2.5, "z": None}]})
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CODE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))},
    )
    output, _ = await child.communicate()
    assert json.loads(output) == await mine()


@pytest.mark.parametrize("scenario", ["fork_after_a_probe", "fork_during_a_probe", "fork_with_locks_held"])
def test_forked_children(scenario: str) -> None:
    """In a child results stay, what was under way starts anew, and no lock is held (X1)."""
    # Without coverage: it has a lock of its own, which the other thread may hold at the moment of the fork.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", FORKER, scenario],
        env={**environment, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
