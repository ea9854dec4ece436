"""Rows of Markdown tables."""

from __future__ import annotations


def row(*cells: str) -> str:
    """Return the row of a table."""
    return f"| {' | '.join(cells)} |"
