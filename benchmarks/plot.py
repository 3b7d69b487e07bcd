"""Results as pictures: a panel for each group, a bar for each row, acache's in colour."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

from benchmarks.result import Result, Row
from benchmarks.table import amount

mpl.use("Agg")  # no display is needed

from matplotlib import pyplot as plt  # after the backend is chosen

__all__ = ("draw",)

_OURS, _THEIRS, _SPREAD = "#3b6fb6", "#b9bec6", "#555555"
_ROW_INCHES: Final = 0.34
_PANEL_INCHES: Final = 0.75


def draw(title: str, result: Result, path: Path) -> None:
    """Write a PNG file: medians as bars, the middle half of the rounds as whiskers."""
    panels = [(group, list(rows)) for group, rows in groupby(result.rows, key=lambda row: row.group)]
    heights = [_PANEL_INCHES + _ROW_INCHES * len(rows) for _, rows in panels]
    figure, axes = plt.subplots(
        len(panels),
        figsize=(9, 0.6 + sum(heights)),
        gridspec_kw={"height_ratios": heights},
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(title, fontweight="bold")
    for axis, (group, rows) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, group, rows)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panel(axis: Any, group: str, rows: Sequence[Row]) -> None:
    places = range(len(rows))
    medians = [row.sample.median for row in rows]
    whiskers = [
        [max(0.0, row.sample.median - row.sample.quartiles[0]) for row in rows],
        [max(0.0, row.sample.quartiles[1] - row.sample.median) for row in rows],
    ]
    colours = [_OURS if row.ours else _THEIRS for row in rows]
    axis.barh(places, medians, xerr=whiskers, color=colours, ecolor=_SPREAD, height=0.7)
    for place, row in zip(places, rows, strict=True):
        axis.annotate(
            f" {amount(row.sample.median, row.unit)}",
            (max(row.sample.quartiles[1], 0.0), place),
            va="center",
            fontsize=8,
        )
    axis.set_title(group, loc="left", fontsize=10)
    axis.set_yticks(places, [row.name for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_xticks([])
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
