"""Comparisons as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from simulator.cli.tables import number, table
from simulator.compare import Row, binding, names, rows, told_apart, why
from simulator.units import format_bytes, format_seconds
from simulator.whatif import Study


def comparison_text(studies: Sequence[Study]) -> Iterator[RenderableType]:
    """Yield the parts of a comparison."""
    reports = [study.report for study in studies]
    first_label, *labels = names(reports)
    first = reports[0]
    # Values and ratios to the first scenario alternate, so that a ratio stands next to its value.
    heads = [first_label]
    for label in labels:
        heads += [label, "ratio"]
    figures = table("Side by side", "quantity", *heads)
    for row in rows(reports):
        figures.add_row(*_cells(row))
    yield figures
    for study, label in zip(studies[1:], labels, strict=True):
        yield Text()
        yield Text(f"{label} against {first_label}", style="bold")
        for line in why(first, study.report):
            yield Text(f"  {line}")
        yield Text(f"  {told_apart(studies[0], study).sentence}", style="bold")
    yield Text()
    yield Text(f"{first_label}: {binding(first)}")


def _cells(row: Row) -> list[str]:
    first, *others = row.values
    _, *ratios = row.relative  # the first is 1
    cells = [row.quantity, _value(first, row.unit)]
    for value, ratio in zip(others, ratios, strict=True):
        shown = "" if math.isnan(ratio) else f"{ratio:.3f}"
        cells += [_value(value, row.unit), shown]
    return cells


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return format_seconds(value)
    if unit == "B":
        return format_bytes(value)
    if unit:
        return f"{number(value)} {unit}"
    return f"{value:.1%}"
