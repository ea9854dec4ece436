"""A console that shows text as it is: markup, emoji codes and control characters do nothing there."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from simulator.escapes import visible

WIDTH = 110
"""Columns of what is written to a file or a pipe."""


class PlainConsole(Console):
    """A console on which names from input show themselves: `[bold]`, `:smile:` and escape sequences too."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)
        # The width of a terminal that nobody looks at would break tables in files.
        if not self.is_terminal:
            self.width = WIDTH

    def print(self, *objects: Any, **options: Any) -> None:
        """Print like rich, with control characters as they are written in source."""
        super().print(*map(plain, objects), **options)


def plain(shown: Any) -> Any:
    """Return a string, a text or a table without control characters; anything else as it is.

    This comes before the layout, so that columns are as wide as what they show.
    """
    if isinstance(shown, str):
        return visible(shown)
    if isinstance(shown, Text):
        content = visible(shown.plain)
        # A clean one is kept as it is: its spans of style would be lost.
        if content == shown.plain:
            return shown
        return Text(
            content,
            shown.style,
            no_wrap=shown.no_wrap,
            overflow=shown.overflow,
        )
    if isinstance(shown, Table):
        shown.title = plain(shown.title)
        for column in shown.columns:
            column.header = plain(column.header)
            # rich has no public way to replace cells.
            column._cells = [plain(cell) for cell in column.cells]
    return shown
