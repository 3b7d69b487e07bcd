"""What a benchmark finds: samples, rows to show, and bounds that hold or do not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ("Bound", "Result", "Row", "Sample", "Unit", "ratio")

Unit: TypeAlias = Literal["s", "B"]


@dataclass(frozen=True, slots=True)
class Sample:
    """Measurements of one thing, one for each round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return what half of the rounds did not exceed."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Return what a quarter and what three quarters of the rounds did not exceed."""
        if len(self.values) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def worst(self) -> float:
        """Return the largest value."""
        return max(self.values)


def ratio(ours: Sample, theirs: Sequence[Sample]) -> float:
    """Compare with the best of ``theirs``: the median of the ratios of each round.

    What slows the machine down for a while slows a whole round, and leaves its ratio as it is.
    """
    best = min(theirs, key=lambda sample: sample.median)
    return statistics.median(a / b for a, b in zip(ours.values, best.values, strict=True))


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured. Rows of one ``group`` are compared with the first of acache's among them."""

    group: str
    name: str
    sample: Sample
    unit: Unit = "s"
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """A claim: ``measured`` is at most ``limit``. ``unit`` is that of both; without one they are ratios or counts."""

    claim: str
    measured: float
    limit: float
    unit: Unit | None = None

    @property
    def holds(self) -> bool:
        """Tell whether the claim is true."""
        return self.measured <= self.limit


@dataclass(slots=True)
class Result:
    """All that one benchmark found."""

    rows: list[Row] = field(default_factory=list[Row])
    bounds: list[Bound] = field(default_factory=list[Bound])
    notes: list[str] = field(default_factory=list[str])

    def add(self, group: str, samples: dict[str, Sample], unit: Unit = "s") -> None:
        """Add a row for each of ``samples``; a name that begins with "acache" is ours."""
        self.rows += [
            Row(group, name, sample, unit, ours=name.startswith("acache")) for name, sample in samples.items()
        ]

    def relative(self, row: Row) -> float | None:
        """Return how many times as much as the first row of acache in its group a row took."""
        ours = next((other for other in self.rows if other.ours and other.group == row.group), None)
        return None if ours is None or ours.sample.median == 0 else row.sample.median / ours.sample.median

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "rows": [
                {
                    "group": row.group,
                    "name": row.name,
                    "unit": row.unit,
                    "median": row.sample.median,
                    "quartiles": row.sample.quartiles,
                    "worst": row.sample.worst,
                    "rounds": len(row.sample.values),
                    "relative_to_acache": self.relative(row),
                }
                for row in self.rows
            ],
            "bounds": [{**asdict(bound), "holds": bound.holds} for bound in self.bounds],
            "notes": self.notes,
        }
