"""What becomes of locks in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FORKER = Path(__file__).with_name("forker.py")
ROOT = Path(__file__).parents[2]


@pytest.mark.integration
def test_locks_are_free_in_a_forked_child() -> None:
    """In the child nobody holds or awaits anything; in the parent everything goes on as it was (X1)."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", FORKER],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
