"""Tables and figures as a terminal shows them."""

from __future__ import annotations

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

_LEFT = ("source", "formula", "")
"""Headings of columns that hold prose."""
_WORDS = {"T": 1e12, "B": 1e9, "M": 1e6}
"""Word for a large factor -> the factor, as papers count parameters and tokens."""


def table(title: str, *columns: str, left: int = 1) -> Table:
    """Return an empty table. left: how many columns are names, and so start at the left."""
    # As a Text, since rich would break a plain title at the width of the table.
    heading = Text(title, no_wrap=True, overflow="ignore") if title else None
    result = Table(
        title=heading,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        show_edge=False,
        show_header=any(columns),
    )
    for index, column in enumerate(columns):
        prose = index < left or column in _LEFT
        side: JustifyMethod = "left" if prose else "right"
        # Folded, not cut off: a long source is read whole.
        result.add_column(Text(column), justify=side, overflow="fold")
    return result


def number(value: float) -> str:
    """Return a figure with four digits, thousands separated, large ones in words."""
    size = abs(value)
    for word, factor in _WORDS.items():
        if size >= factor:
            return f"{value / factor:.4g} {word}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
