"""Comparisons as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from simulator.cli.tables import number, table
from simulator.compare import Row, binding, names, rows, why
from simulator.report import Report
from simulator.units import format_bytes, format_seconds


def comparison_text(reports: Sequence[Report]) -> Iterator[RenderableType]:
    """Yield the parts of a comparison."""
    labels = names(reports)
    heads = [labels[0]]
    for label in labels[1:]:
        heads += [label, "ratio"]
    figures = table("Side by side", "quantity", *heads)
    for row in rows(reports):
        figures.add_row(*_cells(row))
    yield figures
    for report, label in zip(reports[1:], labels[1:], strict=True):
        yield Text()
        yield Text(f"{label} against {labels[0]}", style="bold")
        for line in why(reports[0], report):
            yield Text(f"  {line}")
    yield Text()
    yield Text(f"{labels[0]}: {binding(reports[0])}")


def _cells(row: Row) -> list[str]:
    cells = [row.quantity, _value(row.values[0], row.unit)]
    for value, ratio in zip(row.values[1:], row.relative[1:], strict=True):
        cells.append(_value(value, row.unit))
        cells.append("" if math.isnan(ratio) else f"{ratio:.3f}")
    return cells


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return format_seconds(value)
    if unit == "B":
        return format_bytes(value)
    return f"{number(value)} {unit}" if unit else f"{value:.1%}"
