"""The shape of the package: floors, imports and sizes, read from the sources.

A module imports only from lower floors, from rooms named before its own on the same floor, or from its own package.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parent.parent / "acache"

#: The rooms of each floor, from the ground up; a room is a module or a package right under ``acache``.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("exceptions", "types", "clock", "mutexes", "listeners", "loops", "preloading", "callables"),
    ("config", "keys", "files", "codecs", "events", "bridge", "context"),
    ("stats", "locks", "flight", "futures", "dispatch"),
    ("stores",),
    ("tiers",),
    ("engine",),
    ("memoize",),
    ("caches", "defaults", "testing"),
    ("", "cli", "contrib"),  # "" is the root, acache/__init__.py
)
RANK = {room: rank for rank, room in enumerate(room for floor in FLOORS for room in floor)}

#: Imports inside functions that may stay, with the reason.
LAZY_IMPORTS: dict[str, str] = {
    "acache.testing.plugin": "pytest loads it in every project; only a test that asks for a fixture pays for acache",
}

LINES_MEDIAN = 150
LINES_LIMIT = 500
FUNCTION_LIMIT = 60


@dataclass(frozen=True)
class Import:
    """One import of one module or name.

    ``target`` is absolute; ``lazy`` tells whether a function holds it, ``binds_root`` whether the name ``acache`` comes
    with it.
    """

    line: int
    target: str
    lazy: bool
    binds_root: bool


@dataclass(frozen=True)
class Module:
    """One source file of the package."""

    name: str
    is_package: bool
    source: str

    @property
    def room(self) -> str:
        """The module or package right under the root that this is, or is part of."""
        return room_of(self.name)

    @property
    def imports(self) -> tuple[Import, ...]:
        """Every import there is, at the top, in a block or in a function."""
        return tuple(self._walk(ast.parse(self.source), lazy=False))

    def _walk(self, node: ast.AST, *, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for name in child.names:
                    root = name.name.partition(".")[0] == "acache" and name.asname is None
                    yield Import(child.lineno, name.name, lazy, binds_root=root)
            elif isinstance(child, ast.ImportFrom):
                base = self._absolute(child)
                for name in child.names:
                    yield Import(child.lineno, f"{base}.{name.name}", lazy, binds_root=False)
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from self._walk(child, lazy=lazy or inside)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        keep = len(parts) - node.level + self.is_package
        return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def room_of(name: str) -> str:
    """Return the room of a dotted name."""
    return [*name.split("."), ""][1]


def load(root: Path) -> dict[str, Module]:
    """Read every module under ``root``, the folder of the package."""
    found: dict[str, Module] = {}
    for path in sorted(root.rglob("*.py")):
        is_package = path.name == "__init__.py"
        relative = path.parent if is_package else path.with_suffix("")
        name = ".".join(["acache", *relative.relative_to(root).parts])
        found[name] = Module(name, is_package, path.read_text(encoding="utf-8"))
    return found


def target_of(imported: Import, modules: dict[str, Module]) -> str | None:
    """Return the module of ours that an import leads to, if it is one."""
    name = imported.target
    if name.partition(".")[0] != "acache":
        return None
    while name not in modules and "." in name:
        name = name.rpartition(".")[0]
    return name


def ours(modules: dict[str, Module]) -> Iterator[tuple[Module, Import, str]]:
    """Yield each import of one of our modules by another."""
    for module in modules.values():
        for imported in module.imports:
            target = target_of(imported, modules)
            if target is not None:
                yield module, imported, target


def unknown_rooms(modules: dict[str, Module]) -> list[str]:
    """Find rooms that stand on no floor."""
    return sorted({module.room for module in modules.values()} - set(RANK))


def upward_imports(modules: dict[str, Module]) -> list[str]:
    """Find imports of a higher floor, or of a later room on the same floor."""
    return [
        f"{module.name}:{imported.line} imports {target}"
        for module, imported, target in ours(modules)
        if RANK.get(room_of(target), len(RANK)) > RANK.get(module.room, len(RANK))
    ]


def root_imports(modules: dict[str, Module]) -> list[str]:
    """Find imports of the root and of names it re-exports; ``from acache import keys`` takes a module, not a name."""
    return [
        f"{module.name}:{imported.line} imports the root"
        for module, imported, target in ours(modules)
        if (imported.binds_root or target == "acache") and module.name != "acache"
    ]


def lazy_imports(modules: dict[str, Module]) -> list[str]:
    """Find imports of ours inside functions, beyond those with a reason."""
    return [
        f"{module.name}:{imported.line} imports {target} in a function"
        for module, imported, target in ours(modules)
        if imported.lazy and module.name not in LAZY_IMPORTS
    ]


def cycle(modules: dict[str, Module]) -> list[str]:
    """Find one cycle of imports, if there is any; imports for type checkers and in functions count too."""
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for module, _, target in ours(modules):
        if target != module.name:
            graph[module.name].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def outside_imports(modules: dict[str, Module]) -> list[str]:
    """Find imports on the ground floor from outside the standard library."""
    return [
        f"{module.name}:{imported.line} imports {imported.target}"
        for module in modules.values()
        if module.room in FLOORS[0]
        for imported in module.imports
        if imported.target.partition(".")[0] not in {"acache", *sys.stdlib_module_names}
    ]


def long_modules(modules: dict[str, Module]) -> list[str]:
    """Find modules over the limit."""
    lengths = {name: len(module.source.splitlines()) for name, module in modules.items()}
    return [f"{name} has {length} lines" for name, length in lengths.items() if length > LINES_LIMIT]


def long_functions(modules: dict[str, Module]) -> list[str]:
    """Find functions over the limit; their docstrings do not count."""
    found: list[str] = []
    for module in modules.values():
        for node in ast.walk(ast.parse(module.source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                documented = len((ast.get_docstring(node) or "").splitlines())
                length = (node.end_lineno or node.lineno) - node.lineno + 1 - documented
                if length > FUNCTION_LIMIT:
                    found.append(f"{module.name}:{node.lineno} {node.name} has {length} lines")
    return found


Rule: TypeAlias = Callable[[dict[str, Module]], list[str]]
RULES: tuple[Rule, ...] = (
    *(unknown_rooms, upward_imports, root_imports, lazy_imports, cycle, outside_imports),
    *(long_modules, long_functions),
)


def _rule_name(rule: object) -> str:
    return getattr(rule, "__name__", "")


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    """Read the package once."""
    return load(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=_rule_name)
def test_package(rule: Rule, modules: dict[str, Module]) -> None:
    """The package keeps every rule of its shape."""
    assert rule(modules) == []


def test_modules_are_small(modules: dict[str, Module]) -> None:
    """Half of the modules have no more than 150 lines."""
    assert median(len(module.source.splitlines()) for module in modules.values()) <= LINES_MEDIAN


def test_lazy_imports_are_needed(modules: dict[str, Module]) -> None:
    """An exception whose import has gone goes too."""
    lazy = {module.name for module, imported, _ in ours(modules) if imported.lazy}
    assert set(LAZY_IMPORTS) <= lazy


#: Sources that break a rule, by path under ``acache``, and what the checker must say.
PLANTED: tuple[tuple[Rule, dict[str, str], str], ...] = (
    (unknown_rooms, {"utils.py": ""}, "utils"),
    (upward_imports, {"keys.py": "from acache.tiers import Tier", "tiers/__init__.py": ""}, "keys:1 imports tiers"),
    (upward_imports, {"keys/a.py": "import acache.tiers.b as b", "tiers/b.py": ""}, "keys.a:1 imports tiers.b"),
    (upward_imports, {"keys.py": "from .tiers.b import c", "tiers/b.py": ""}, "keys:1 imports tiers.b"),
    (upward_imports, {"keys/a.py": "from ..tiers import b", "tiers/b.py": ""}, "keys.a:1 imports tiers.b"),
    (upward_imports, {"keys/__init__.py": "from .. import tiers", "tiers.py": ""}, "keys:1 imports tiers"),
    (upward_imports, {"types.py": "if True:\n    from acache.clock import C", "clock.py": ""}, "types:2 imports clock"),
    (upward_imports, {"keys.py": "import acache.utils as u", "utils.py": ""}, "keys:1 imports utils"),
    (root_imports, {"tiers/a.py": "import acache"}, "tiers.a:1 imports the root"),
    (root_imports, {"tiers/a.py": "import acache as a"}, "tiers.a:1 imports the root"),
    (root_imports, {"tiers/a.py": "import acache.types", "types.py": ""}, "tiers.a:1 imports the root"),
    (root_imports, {"tiers/a.py": "from acache import Hit"}, "tiers.a:1 imports the root"),
    (root_imports, {"keys.py": "from . import Hit"}, "keys:1 imports the root"),
    (
        lazy_imports,
        {"keys.py": "def f():\n  if f:\n    from acache.types import K", "types.py": ""},
        "keys:3 imports types",
    ),
    (lazy_imports, {"keys.py": "async def f():\n  import acache.types as t", "types.py": ""}, "keys:2 imports types"),
    (cycle, {"keys/a.py": "from acache.keys.b import y", "keys/b.py": "from acache.keys.a import x"}, "keys.b"),
    (cycle, {"keys/__init__.py": "from acache.keys.a import x", "keys/a.py": "from acache.keys import y"}, "keys.a"),
    (outside_imports, {"types.py": "import anyio.abc"}, "types:1 imports anyio.abc"),
    (outside_imports, {"clock.py": "from attrs import define"}, "clock:1 imports attrs.define"),
    (long_modules, {"keys.py": "\n" * (LINES_LIMIT + 1)}, f"keys has {LINES_LIMIT + 1} lines"),
    (
        long_functions,
        {"keys.py": "def f():" + "\n    f()" * FUNCTION_LIMIT},
        f"keys:1 f has {FUNCTION_LIMIT + 1} lines",
    ),
)

#: Sources that come close to breaking each rule, and break none.
INNOCENT = {
    "__init__.py": "from acache import types as types\nfrom acache.keys import encode",
    "types.py": "import enum\nfrom typing import Any",
    "clock.py": "from acache.types import Key",
    "keys/__init__.py": "from acache.keys.walk import encode",
    "keys/walk.py": "import anyio\nfrom acache.types import Key\nfrom .limits import DEPTH",
    "keys/limits.py": "def f():\n    import json\n    import acacheless\n" + "DEPTH = 1\n" * (LINES_LIMIT - 3),
    "tiers/base.py": "import acache.keys.walk as w\nfrom acache import types\n'from acache.caches import FastCache'",
}


def plant(root: Path, sources: dict[str, str]) -> dict[str, Module]:
    """Write a package of that shape and load it."""
    for path, source in {"__init__.py": "", **sources}.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(source, encoding="utf-8")
    return load(root)


@pytest.mark.parametrize(("rule", "sources", "finding"), PLANTED)
def test_planted_violation(tmp_path: Path, rule: Rule, sources: dict[str, str], finding: str) -> None:
    """The checker finds what is planted, wherever and however it is written."""
    findings = [text.replace("acache.", "") for text in rule(plant(tmp_path, sources))]
    assert [text for text in findings if text.startswith(finding)]


@pytest.mark.parametrize("rule", RULES, ids=_rule_name)
def test_innocent_package(tmp_path: Path, rule: Rule) -> None:
    """The checker accuses nobody else: earlier rooms of a floor, own packages, names that only look alike."""
    assert rule(plant(tmp_path, INNOCENT)) == []
