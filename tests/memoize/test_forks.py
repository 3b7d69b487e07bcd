"""What becomes of refreshes and draws in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FORKER = Path(__file__).with_name("forker.py")
ROOT = Path(__file__).parents[2]


@pytest.mark.integration
@pytest.mark.parametrize("scenario", ["during_a_refresh", "in_a_loop", "draws"])
def test_a_forked_child_begins_anew(scenario: str) -> None:
    """A refresh under way in the parent keeps the child from none, and children do not draw alike."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", FORKER, scenario],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
