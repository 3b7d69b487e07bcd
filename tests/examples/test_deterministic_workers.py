"""The example of deterministic workers: real processes agree, replay, and refuse; and it would say so if they did not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.deterministic_workers import Report, cell, problems

ROOT = Path(__file__).parents[2]
UNKNOWN = "StrictDeterministicCachingKeyNotFoundError"
CONFLICT = "DeterministicCachingIMCDumpConflictError"


@pytest.mark.integration
def test_all_workers_use_the_same_results(tmp_path: Path) -> None:
    """Four tune, four replay with the same results and digest, one conflicts; and nothing is left."""
    command = [sys.executable, "-W", "error", "-m", "examples.deterministic_workers"]
    ran = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, env={"TMPDIR": str(tmp_path)}, timeout=30
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    _, *rows = ran.stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["tune"] * 4 + ["replay"] * 4 + ["stray"]
    used = [tuple(re.findall(r"(\d+) KiB", row)) for row in rows]
    assert len(set(used[:8])) == 1
    assert used[8] != used[0]
    assert all(UNKNOWN in row and "not" not in row for row in rows[4:8])
    assert CONFLICT in rows[8]
    assert list(tmp_path.iterdir()) == []


def report(*, sha256: int = 16, measured: int | None = 16, digest: str = "aa", refused: str = "") -> Report:
    """Make what a worker may have said of one algorithm."""
    return Report(
        used={"sha256": sha256},
        measured={} if measured is None else {"sha256": measured},
        digest=digest,
        refused=refused,
    )


TUNED = [report(), report(measured=32)]
REPLAYED = [report(measured=None, refused=UNKNOWN)]
STRAY = report(sha256=1, measured=None, digest="bb", refused=CONFLICT)


def test_workers_as_promised_have_no_problem() -> None:
    """Equal results, whatever was measured, are as they should be."""
    assert list(problems(TUNED, REPLAYED, STRAY)) == []


@pytest.mark.parametrize(
    ("tuned", "replayed", "stray", "problem"),
    [
        ([report(), report(sha256=32)], REPLAYED, STRAY, "do not agree"),
        (TUNED, [report(sha256=32, measured=None, refused=UNKNOWN)], STRAY, "do not agree"),
        ([report(measured=32), report(measured=None)], REPLAYED, STRAY, "nobody has measured"),
        (TUNED, [report(refused=UNKNOWN)], STRAY, "a replay has measured"),
        (TUNED, [report(measured=None)], STRAY, "did not refuse"),
        ([report(), report(digest="cc")], REPLAYED, STRAY, "different digests"),
        (TUNED, REPLAYED, report(refused=CONFLICT), "one digest"),
        (TUNED, REPLAYED, report(digest="bb"), "conflict was not refused"),
    ],
)
def test_workers_that_are_off_are_named(
    tuned: list[Report], replayed: list[Report], stray: Report, problem: str
) -> None:
    """Every promise that is broken is named, alone: the example cannot pass by not looking."""
    [found] = problems(tuned, replayed, stray)
    assert problem in found


def test_what_was_measured_shows() -> None:
    """A worker that used another's result shows its own measurement beside it."""
    assert [cell(each, "sha256") for each in (*TUNED, *REPLAYED)] == ["16 KiB", "16 KiB, not 32", "16 KiB"]
