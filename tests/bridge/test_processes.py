"""The ends of processes: exits that are quick and quiet (X3), and children that have a bridge of their own (X1)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

LEAVER = Path(__file__).with_name("leaver.py")
ROOT = Path(__file__).parents[2]


def run(*scenario: str) -> list[str]:
    """Run a scenario; it must end in time, with success and without a word; return the lines it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", LEAVER, *scenario],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(done.stdout.split("\n"))[1:]


@pytest.mark.parametrize(
    ("scenario", "printed"),
    [
        ("end_at_once", []),
        ("end_in_the_middle", ["finished"]),
        ("end_with_tasks", ["cleaned up", "closed"]),
        ("end_with_a_daemon_thread", []),
        ("end_by_atexit", ["checked"]),
        ("end_by_atexit again", ["checked", "checked"]),
        ("end_by_a_late_finalizer", ["refused"]),
        ("end_stubbornly", []),
        ("end_below", ["cleaned up"]),
    ],
)
def test_an_exit_is_quick_and_quiet(scenario: str, printed: list[str]) -> None:
    """At exit tasks may finish, then are cancelled and clean up; nothing is printed or waited for without limit (X3)."""
    assert run(*scenario.split()) == printed


@pytest.mark.parametrize(
    "scenario",
    ["fork_after_use", "fork_before_use", "fork_during_a_call", "fork_in_a_worker_thread", "fork_in_a_driven_function"],
)
def test_a_forked_child_has_a_bridge_of_its_own(scenario: str) -> None:
    """In a child the first use starts a new portal; the parent goes on with its own (X1)."""
    run(scenario)
