"""The example measures what it says, and finds again what it has measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch, an extra, is not installed")
from acache.contrib.torch import register_torch_forms  # noqa: E402 - not before it is known that torch is there
from examples import torch_autotune  # noqa: E402 - as above

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def _forms() -> Generator[None]:
    """Register torch's forms, and put back the precision that the example changes."""
    end = register_torch_forms()
    yield
    end()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.usefixtures("_forms")
async def test_each_round_measures_what_it_should(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """New settings are measured, known ones are not; what was measured at first is found to the end."""
    assert await torch_autotune.main(str(tmp_path))
    head, *rounds = capsys.readouterr().out.splitlines()
    assert "256 float32" in head
    assert [line.split()[-2] for line in rounds] == ["3", "0", "3", "0", "0"]
    first, again, _, back, disk = (line[20:-12] for line in rounds)
    assert first == again == back == disk


@pytest.mark.usefixtures("_forms")
async def test_a_wrong_count_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With results on the disk from before, the first round measures nothing, and the example says so."""
    assert await torch_autotune.main(str(tmp_path))
    assert not await torch_autotune.main(str(tmp_path))
    assert capsys.readouterr().out.count(" 0 measured") == 8


@pytest.mark.parametrize("way", torch_autotune.WAYS)
def test_every_way_multiplies(way: str) -> None:
    """All ways come to the same product."""
    a, b = torch.rand(16, 16), torch.rand(16, 16)
    torch.testing.assert_close(torch_autotune.WAYS[way](a, b), a @ b)


@pytest.mark.integration
def test_it_runs_as_its_first_lines_say() -> None:
    """The example can be started from the repository's root, and leaves quietly."""
    command = sys.executable, "-W", "error", "-m", "examples.torch_autotune"
    ran = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
