"""The key format, digest by digest: the same in every process, under every hash seed, in every version of Python."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GOLDEN: dict[str, dict[str, str]] = json.loads((HERE / "golden.json").read_text("utf-8"))

#: The package ``acache`` is a stub with the real folder: its ``__init__`` may import what a bare interpreter has not.
CHILD = """
import importlib.util, json, sys, types
folder, values = sys.argv[1:]
package = types.ModuleType("acache")
package.__path__ = [folder]
sys.modules["acache"] = package
spec = importlib.util.spec_from_file_location("golden_values", values)
module = sys.modules["golden_values"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
foreign = [name for name in sys.modules if name.partition(".")[0] in {"anyio", "numpy", "attr", "attrs"}]
print(json.dumps({"digests": module.digests(), "version": sys.version_info[:2], "foreign": foreign}))
"""


def _golden_values() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_values", HERE / "golden_values.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["golden_values"] = module
    spec.loader.exec_module(module)
    return module


def _interpreters() -> list[str]:
    """Every CPython from 3.11 on that is on the path or under pyenv, one of each version; this one first."""
    wanted = [f"3.{minor}" for minor in range(11, 20)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [sys.executable]
    for version in wanted:
        candidates = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
        works = [path for path in candidates if path is not None and _version(path) == version]
        found += works[:1]
    return found


def _version(path: str) -> str:
    code = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


def _digests_in_child(interpreter: str, seed: str) -> dict[str, Any]:
    # -S: no site-packages, so nothing but the standard library and the checkout can be imported.
    command = [interpreter, "-S", "-c", CHILD, str(ROOT / "acache"), str(HERE / "golden_values.py")]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_golden_digests() -> None:
    """Every digest that is written down is made again; a change of one is a change of the format."""
    module = _golden_values()
    assert module.digests() == GOLDEN
    assert len(GOLDEN["values"]) >= 60


def test_golden_digests_differ() -> None:
    """Different values have different digests; the only equal ones are spellings of one value."""
    same = [{"union", "Optional"}, {"enum", "enum alias"}, {"partial", "area"}]
    seen: dict[str, set[str]] = {}
    for name, digest in [*GOLDEN["values"].items(), *GOLDEN["calls"].items()]:
        seen.setdefault(digest, set()).add(name)
    shared = [names for names in seen.values() if len(names) > 1]
    assert sorted(map(sorted, shared)) == sorted(map(sorted, same))


@pytest.mark.integration
@pytest.mark.parametrize("seed", ["0", "1", "7", "4711", "random"])
def test_hash_seeds_agree(seed: str) -> None:
    """K2, P24: the hash seed of a process does not show in any key."""
    assert _digests_in_child(sys.executable, seed)["digests"] == GOLDEN


@pytest.mark.integration
def test_python_versions_agree() -> None:
    """K2: every version of Python makes the same keys, with nothing but its standard library."""
    for interpreter in _interpreters():
        result = _digests_in_child(interpreter, "random")
        assert result["digests"] == GOLDEN, interpreter
        assert result["foreign"] == [], interpreter
