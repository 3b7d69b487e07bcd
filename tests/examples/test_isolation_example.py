"""The example of isolation: a changed toolchain, or another target, is a miss that can be explained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from acache import CompileContext
from examples import isolation

ROOT = Path(__file__).parents[2]
CALLS = (
    "first call                     compiled   nothing stored",
    "again                          hit        stored",
    "for another target             compiled   differs in scope.target",
    "the same target again          hit        stored",
    "upgraded, and not probed anew  hit        stored",
    "upgraded, and probed anew      compiled   differs in compile.compiler",
)


@pytest.mark.integration
@pytest.mark.parametrize("compiler", [True, False], ids=["c", "python"])
async def test_each_call_says_why_it_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, compiler: bool
) -> None:
    """With a C compiler and without one, a miss names the form or factor that differs; no form is left registered."""
    if not compiler:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert await isolation.main(str(tmp_path / "cache"))
    listed, *calls = capsys.readouterr().out.splitlines()
    assert "compiler" in listed
    assert calls == list(CALLS)
    assert "compiler" not in CompileContext.forms_of_context()


@pytest.mark.integration
def test_a_call_that_compiles_too_often_is_noticed(tmp_path: Path) -> None:
    """The exit code is 1 when a call came to something else than it should have: here everything is recomputed."""
    command = [sys.executable, "-W", "error", "-m", "examples.isolation"]
    good, bad = (
        subprocess.run(
            command,
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={"PATH": str(tmp_path), "TMPDIR": str(tmp_path), **switches},
        )
        for switches in ({}, {"ACACHE_RECACHE": "1"})
    )
    assert (good.returncode, good.stderr) == (0, "")
    assert bad.returncode == 1
    assert "where it should not" in bad.stderr
    assert list(tmp_path.iterdir()) == []
