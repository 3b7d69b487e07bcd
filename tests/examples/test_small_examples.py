"""The short examples run, and print what they claim."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples import quickstart, sync_callers

ROOT = Path(__file__).parents[2]


async def test_quickstart_computes_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred calls at once fetch once, and the second start fetches nothing."""
    await quickstart.main(str(tmp_path))
    first = capsys.readouterr().out
    await quickstart.main(str(tmp_path))
    second = capsys.readouterr().out
    assert (first.count("fetching"), first.count("squaring")) == (1, 1)
    assert (second.count("fetching"), second.count("squaring")) == (0, 0)
    for output in (first, second):
        assert "{'hello, world'} 144" in output
        assert "CacheInfo(hits=" in output


def test_sync_callers_share_computations(capsys: pytest.CaptureFixture[str]) -> None:
    """Eight threads and a coroutine get their answers from two computations in all."""
    sync_callers.main()
    output = capsys.readouterr().out
    assert output.count("from 2 computations") == 2
    assert "('HOME', 425)" in output
    assert "hello" in output


@pytest.mark.integration
@pytest.mark.parametrize("module", ["quickstart", "sync_callers"])
def test_example_runs_as_its_first_lines_say(module: str) -> None:
    """Each example can be started from the repository's root."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{module}"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.integration
def test_example_for_testers_passes() -> None:
    """The tests that show the testing kit are green, and none is skipped."""
    command = "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/testing_with_acache.py"
    ran = subprocess.run([sys.executable, *command], check=False, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert "skipped" not in ran.stdout
