"""Tables and figures as a terminal shows them."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

_LEFT = ("source", "formula", "")
"""Headings of columns that hold prose."""


def table(title: str, *columns: str, left: int = 1) -> Table:
    """Return an empty table. left: how many columns are names, and so start at the left."""
    result = Table(
        title=Text(title, no_wrap=True, overflow="ignore") if title else None,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        show_edge=False,
        show_header=any(columns),
    )
    for index, column in enumerate(columns):
        prose = index < left or column in _LEFT
        result.add_column(Text(column), justify="left" if prose else "right", overflow="fold")
    return result


def number(value: float) -> str:
    """Return a figure with four digits, thousands separated, large ones in words."""
    for factor, word in ((1e12, " T"), (1e9, " B"), (1e6, " M")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{word}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
