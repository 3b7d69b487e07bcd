"""The benchmarks run, say what they measured, and fail when a bound is missed. What they measure is no matter here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.result import Bound, Result, Row, Sample, ratio
from benchmarks.table import amount, verdict

ROOT = Path(__file__).parent.parent
NAMES = {
    *(
        "async-hit",
        "sync-hit",
        "isolation",
        "policies",
        "disk",
        "scale",
        "eviction",
        "groups",
        "limits",
        "responsiveness",
        "stampede",
        "costs",
    )
}


def run_benchmarks(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", *arguments]
    places = ["--output", str(directory / "results"), "--directory", str(directory / "caches")]
    return subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)


@pytest.mark.integration
def test_every_benchmark_runs_and_writes_its_results(tmp_path: Path) -> None:
    """Each one prints a table with ratios and verdicts, writes JSON and a plot, and leaves no cache behind."""
    done = run_benchmarks(tmp_path, "--tolerance", "1000")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "acache = 1" in done.stdout
    assert "✓" in done.stdout
    assert "✗" not in done.stdout
    written = {path.name for path in (tmp_path / "results").iterdir()}
    assert written == {f"{name}.{kind}" for name in NAMES for kind in ("json", "png")}
    assert list((tmp_path / "caches").iterdir()) == []
    reports = {name: json.loads((tmp_path / "results" / f"{name}.json").read_text()) for name in NAMES}
    assert {name for name in NAMES if not reports[name]["bounds"]} == {"costs"}
    hits = [row for row in reports["disk"]["rows"] if row["group"] == "warm hit"]
    assert {row["relative_to_acache"] == 1.0 for row in hits if row["name"].startswith("acache DiskTier")} == {True}
    assert all(row["median"] > 0 and row["relative_to_acache"] > 0 for row in hits)


@pytest.mark.integration
def test_a_missed_bound_is_an_error(tmp_path: Path) -> None:
    """With bounds that nothing can hold the exit code is 1, and the JSON says which were missed."""
    done = run_benchmarks(tmp_path, "--only", "sync-hit", "--tolerance", "0", "--json")
    assert done.returncode == 1, done.stderr
    (report,) = json.loads(done.stdout)
    missed: list[dict[str, Any]] = [bound for bound in report["bounds"] if not bound["holds"]]
    assert (report["name"], [bound["limit"] for bound in missed]) == ("sync-hit", [0.0])


def test_ratios_are_taken_round_by_round() -> None:
    """A round in which the machine was busy leaves the ratio as it is, and the best of the others counts."""
    ours, slower, faster = Sample((1.0, 10.0, 1.0)), Sample((8.0, 80.0, 8.0)), Sample((2.0, 20.0, 2.0))
    assert ratio(ours, [slower, faster]) == 0.5


def test_a_bound_holds_at_its_limit() -> None:
    """A bound is the largest value allowed."""
    assert Bound("claim", 0.5, 0.5).holds
    assert not Bound("claim", 0.6, 0.5).holds
    assert "0.60 > 0.50" in verdict(Bound("claim", 0.6, 0.5))


def test_rows_are_compared_with_acache_in_their_group() -> None:
    """A row says how many times as much it took as acache's; without one in the group it says nothing."""
    ours, theirs = Row("hit", "acache", Sample((2.0,)), ours=True), Row("hit", "peer", Sample((6.0,)))
    alone = Row("information", "peer", Sample((6.0,)))
    result = Result([ours, theirs, alone])
    assert [result.relative(row) for row in result.rows] == [1.0, 3.0, None]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(3.2e-7, "s", "320 ns"), (1.5e-3, "s", "1.5 ms"), (2.0, "s", "2 s"), (0.0, "s", "0 ns"), (1234.5, "B", "1,234 B")],
)
def test_amounts_have_fitting_units(value: float, unit: Any, text: str) -> None:
    """Seconds are shown in the unit that leaves few digits, bytes as they are."""
    assert amount(value, unit) == text
