"""Results as tables for people."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.result import Bound, Result, Unit

__all__ = ("amount", "show")

_SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def amount(value: float, unit: Unit | None) -> str:
    """Write a value with three digits and a fitting unit; a ratio or a count without one."""
    if unit is None:
        return f"{value:.2f}" if value % 1 else f"{value:.0f}"
    if unit == "B":
        return f"{value:,.0f} B"
    scale, name = next(((scale, name) for scale, name in _SCALES if abs(value) >= scale), _SCALES[-1])
    return f"{value / scale:.3g} {name}" if abs(value) < 1000 * scale else f"{value / scale:.0f} {name}"


def show(console: Console, title: str, result: Result) -> None:
    """Print what was measured, then what had to hold."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("")
    for heading in ("median", "middle half", "worst", "acache = 1"):
        table.add_column(heading, justify="right")
    group = None
    for row in result.rows:
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(f"[italic]{escape(group)}")
        relative = result.relative(row)
        low, high = row.sample.quartiles
        middle = f"{amount(low, row.unit)} to {amount(high, row.unit)}"
        several = len(row.sample.values) > 1
        table.add_row(
            f"  {escape(row.name)}",
            amount(row.sample.median, row.unit),
            middle if several else "",
            amount(row.sample.worst, row.unit) if several else "",
            "" if relative is None else f"{relative:.2f}",
            style="bold" if row.ours else None,
        )
    console.print(table)
    for bound in result.bounds:
        console.print(verdict(bound), highlight=False)
    for note in result.notes:
        console.print(f"  {escape(note)}", style="dim", highlight=False)
    console.print()


def verdict(bound: Bound) -> str:
    """Say in a line whether a bound holds."""
    sign, relation = ("[green]✓[/]", "≤") if bound.holds else ("[red]✗[/]", ">")
    return f"{sign} {escape(bound.claim)}: {amount(bound.measured, bound.unit)} {relation} {amount(bound.limit, bound.unit)}"
