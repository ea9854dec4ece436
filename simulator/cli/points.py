"""What became of the points of a sweep, as text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from simulator.cli.tables import number, table
from simulator.sweep import Sweep
from simulator.units import format_seconds

SHOWN = 40
"""Points up to which all are shown, and errors up to which all are listed."""
_FITS = {True: "fits", False: "does not fit", None: ""}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A sweep that has run."""

    plan: Sweep
    """The sweep."""
    columns: Mapping[str, Sequence[Any]]
    """Its table, a row a point in the order of the axes."""
    root: Path
    """The folder that holds it."""

    def cell(self, name: str, row: int) -> Any:
        """Return a cell, None where the table does not have its column."""
        if name not in self.columns:
            return None
        return self.columns[name][row]


def points_text(outcome: Outcome) -> Iterator[RenderableType]:
    """Yield the parts of the report: the points if they are few, errors, the best, and counts."""
    columns = outcome.columns
    total = len(columns["point"])
    if total <= SHOWN:
        yield _points(outcome, total)
        yield Text()
    # Many points break the same rule: once each, with how many they are, the most frequent first.
    errors = Counter(error for error in columns["error"] if error)
    for error, count in errors.most_common(SHOWN):
        yield Text(f"{count} of {total} points: {error}")
    yield from _shortest(outcome)
    counts = []
    for status, count in Counter(columns["status"]).items():
        counts.append(f"{count} {status}")
    listed = ", ".join(counts)
    parquet = outcome.root / "results.parquet"
    csv = outcome.root / "results.csv"
    yield Text(f"{total} points: {listed}; in {parquet} and {csv}")


def _points(outcome: Outcome, total: int) -> Table:
    """Return a table with a row for each point."""
    plan = outcome.plan
    axes = list(plan.axes)
    headings = [*axes, "step time", *plan.derived, "memory", ""]
    rows = table(plan.config.name, *headings, left=len(axes))
    for row in range(total):
        cells = [_value(outcome, path, row) for path in axes]
        step = outcome.cell("step_time_s", row)
        cells.append("" if step is None else format_seconds(step))
        cells += [_shown(outcome.cell(name, row)) for name in plan.derived]
        fits = outcome.cell("memory.fits", row)
        cells.append(_FITS[fits])
        status = outcome.cell("status", row)
        cells.append("" if status == "ok" else status)
        rows.add_row(*map(Text, cells))
    return rows


def _value(outcome: Outcome, path: str, row: int) -> str:
    """Return the value of an axis in a row."""
    value = outcome.cell(f"axis.{path}", row)
    return _shown(value)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float):  # true and false as 1 and 0
        return number(value)
    return str(value)


def _shortest(outcome: Outcome) -> Iterator[RenderableType]:
    """Yield the point of the shortest step, where any was simulated."""
    times = outcome.columns.get("step_time_s", ())
    simulated = [row for row, step in enumerate(times) if step is not None]
    if not simulated:
        return
    best = min(simulated, key=lambda row: times[row])  # of equals the first
    where = []
    for path in outcome.plan.axes:
        value = _value(outcome, path, best)
        where.append(f"{path} {value}")
    listed = ", ".join(where)
    shortest = format_seconds(times[best])
    yield Text(f"shortest step: {shortest} with {listed}", style="bold")
