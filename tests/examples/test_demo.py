"""The demo tells the truth: it passes when all is well, fails when a count is off, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.demo_report import Phase

ROOT = Path(__file__).parents[2]
PHASES = ("cold", "warm (memory)", "restart (disk)", "legacy threads", "two services")


def start_demo(scratch: Path, *options: str) -> subprocess.Popen[str]:
    """Start the demo with few requests; its temporary files go to ``scratch``."""
    return subprocess.Popen(
        [sys.executable, "-m", "examples.compile_demo", "--requests", "120", "--clients", "8", *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch), "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def processes_of(scratch: Path) -> list[str]:
    """Return the command lines of processes that use the demo's directory."""
    listed = subprocess.run(["/bin/ps", "-Ao", "args"], check=True, capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if str(scratch) in line]


@pytest.mark.integration
@pytest.mark.parametrize(("language", "units"), [("c", "35"), ("python", "28")])
def test_demo_passes_and_shows_every_phase(tmp_path: Path, language: str, units: str) -> None:
    """Each unit is compiled once where that is due and never where it is not, and every program checks itself."""
    demo = start_demo(tmp_path, "--language", language)
    output, _ = demo.communicate(timeout=100)
    assert demo.returncode == 0, output
    assert "PASS" in output
    assert ("bytecode" in output) == (language == "python")
    for phase in PHASES:
        row = re.search(re.escape(phase) + r"\s+(\d+)\s+(\d+)\s+(\d+)\s", output)
        assert row is not None, output
        assert row.groups() == ("120", units, units if phase in {"cold", "two services"} else "0")
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


@pytest.mark.integration
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_nothing(tmp_path: Path, kind: signal.Signals) -> None:
    """Ctrl-C in the middle ends the services and removes the directory."""
    demo = start_demo(tmp_path, "--requests", "100000")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("acache-demo-*/shared/*")):
        assert demo.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    demo.send_signal(kind)
    output, _ = demo.communicate(timeout=30)
    assert demo.returncode == 130, output
    assert "interrupted" in output
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def phase_of(*headers: str, runs: int, right: bool = True) -> Phase:
    """Make a phase that expected one compiler run and saw these answers."""
    phase = Phase("cold", 1, 1, runs=runs)
    for header in headers:
        phase.note(header, 0.1, right=right)
    return phase


def test_phase_as_promised_has_no_problem() -> None:
    """One miss, the rest joined or hit, and one compiler run for one unit."""
    phase = phase_of("miss", "joined", "hit; tier=memory; age=0.1", "hit; tier=disk; age=0.1", runs=1)
    assert list(phase.problems(4)) == []
    assert phase.origins == {"miss": 1, "joined": 1, "memory": 1, "disk": 1}
    assert len(phase.compiling) == 2


@pytest.mark.parametrize(
    ("phase", "requests", "problem"),
    [
        (phase_of("miss", runs=1), 2, "1 answers to 2 requests"),
        (phase_of("miss", runs=1, right=False), 1, "1 answers differ"),
        (phase_of("miss", "miss", runs=2), 2, "2 compiler runs, expected 1"),
        (phase_of("joined", runs=1), 1, "0 misses for 1 compiler runs"),
    ],
)
def test_phase_that_is_off_says_what(phase: Phase, requests: int, problem: str) -> None:
    """Every kind of wrong count is named: the demo cannot pass by not looking."""
    assert any(problem in found for found in phase.problems(requests))
