"""What the README and the other documents show works, and what they name exists."""

from __future__ import annotations

import ast
import builtins
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from acache import CompileContext, RuntimeContext, exceptions
from acache.config import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def run_block(directory: Path, heading: str, *calls: str) -> str:
    """Run the Python of one section of the README, then ``calls``, at home in ``directory``; return what was printed."""
    [block] = python_blocks(README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0])
    script = directory / "program.py"
    script.write_text("\n".join([block, *(f"asyncio.run({call})" for call in calls)]))
    environment = {
        "HOME": str(directory),
        "PATH": os.pathsep.join([str(directory), os.environ["PATH"]]),
        "PYTHONPATH": ":".join([str(ROOT), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, cwd=directory, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.integration
def test_the_first_example_runs(tmp_path: Path) -> None:
    """The fifteen lines of the README run as they stand, compute once, and store below the home directory."""
    assert "computed=1, joined=999" in run_block(tmp_path, "Fifteen lines", "main()")
    assert list((tmp_path / ".cache" / "app").rglob("??/*"))


@pytest.mark.integration
def test_the_example_of_isolation_runs(tmp_path: Path) -> None:
    """It asks the compiler, runs again without compiling, misses for another compiler, and says what differs."""
    compiler = tmp_path / "cc"

    def run(version: str) -> str:
        compiler.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo {version}\n")
        compiler.chmod(0o700)
        return run_block(tmp_path, "A compile service: what is in the key", "main()", "main()")

    def stored() -> int:
        return len(list((tmp_path / ".cache" / "objects").rglob("??/*")))

    assert run("1.0").count("differs in scope.target\n") == 2
    assert stored() == 1
    run("1.0")
    assert stored() == 1
    run("2.0")
    assert stored() == 2


@pytest.mark.integration
def test_the_example_of_determinism_runs(tmp_path: Path) -> None:
    """One run tunes and dumps, the other replays."""
    run_block(tmp_path, "Workers that agree", "tune()", "replay()")
    assert (tmp_path / "tuned.bundle").is_file()


@pytest.mark.integration
def test_the_example_of_plain_threads_runs(tmp_path: Path) -> None:
    """Each of its calls, from a thread without a loop, gives what it is there for."""
    printed = run_block(tmp_path, "Legacy threads").splitlines()
    assert printed == ["['a', 'b']", "saxpy for sm90", "42", "saxpy for sm90"]


def test_what_the_readme_names_exists() -> None:
    """Files and commands named in the README are there."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    for name in re.findall(r"`(\w+\.py)`", README):
        assert (ROOT / "examples" / name).is_file()


#: What the commands that are described make.
MADE = {"benchmarks/results"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(document: Path) -> None:
    """Errors, settings and files are there, and Python is Python that imports what there is."""
    text = document.read_text()
    known = {f"ACACHE_{name.upper()}" for name in Settings.__dataclass_fields__}
    assert set(re.findall(r"ACACHE_[A-Z_]+[A-Z]", text)) <= known
    for path in re.findall(r"`((?:docs|examples|benchmarks)/[\w./]+)`", text):
        assert (ROOT / path).exists() or path in MADE, path
    for name in re.findall(r"`(\w+Error)`", text):
        assert hasattr(exceptions, name) or hasattr(builtins, name), name
    for block in python_blocks(text):
        for node in ast.walk(compile(block, document.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert [each.name for each in node.names if not hasattr(module, each.name)] == []


def test_the_table_of_forms_is_whole() -> None:
    """Each form that every process has is in the table of its half, and no other is."""
    rows = re.findall(
        r"^\| (compile|runtime) \| ([^|]+) \|", (ROOT / "docs" / "isolation.md").read_text(), re.MULTILINE
    )
    for half, context in (("compile", CompileContext), ("runtime", RuntimeContext)):
        named = [name for kind, cell in rows if kind == half for name in re.findall(r"`(\w+)`", cell)]
        assert sorted(named) == list(context.forms_of_context())
