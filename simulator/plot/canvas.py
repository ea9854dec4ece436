"""How every figure is opened and written: fonts, text from input, sizes, and the same bytes each time."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.errors import InputError
from simulator.escapes import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
PAGE, COLUMN = 7.2, 3.5
"""Width of a page and of a column of most two-column papers [inch]."""
LONGEST = 32
"""Characters on a line of a label."""
STYLE: dict[Any, Any] = {
    # TrueType, since journals refuse matplotlib's default, Type 3; in SVG, text that can be selected.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    # SVG's ids are random without it.
    "svg.hashsalt": "simulate",
    # A `$` of a name is a `$`, not the start of a formula.
    "text.parse_math": False,
}
"""Settings of matplotlib that all figures share."""


def check_format(path: Path) -> None:
    """Refuse a figure whose file name does not end in an image format. Errors: InputError."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            "is not an image format",
            key="--plot",
            value=path.name,
            remedy=f"End it in {', '.join(FORMATS)}.",
        )


@dataclass(frozen=True, slots=True)
class Sheet:
    """The paper that a figure is drawn on."""

    width: float
    """Width [inch]."""
    height: float
    """Height [inch]."""
    rows: int = 1
    """Panels one below the other."""
    columns: int = 1
    """Panels next to each other."""
    dpi: int = 160
    """Dots per inch of a PNG."""
    options: dict[str, Any] = field(default_factory=dict)
    """What else `matplotlib.figure.Figure.subplots` is told."""


@contextmanager
def opened(path: Path, sheet: Sheet) -> Iterator[tuple[Figure, list[Axes]]]:
    """Open a figure, yield it with its panels row by row, and write it unless an error comes between."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # A figure of its own, not pyplot's: nothing global to close, and no display to look for.
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(sheet.width, sheet.height),
            dpi=sheet.dpi,  # hinted text is as wide as at the resolution of the layout
            layout="constrained",
        )
        panels = figure.subplots(
            sheet.rows,
            sheet.columns,
            squeeze=False,
            **sheet.options,
        )
        yield figure, list(panels.flat)
        _settle(figure)
        figure.savefig(
            path,
            dpi=sheet.dpi,
            metadata=_metadata(path),
        )


def _settle(figure: Figure) -> None:
    """Lay a figure out for good. The last digits of a layout differ from call to call, and SVG shows them."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = axes.get_position(original=True).bounds
        # Shares of the figure: six digits are far below a pixel.
        corner = round(left, 6), round(bottom, 6)
        size = round(width, 6), round(height, 6)
        axes.set_position((*corner, *size))


def _metadata(path: Path) -> dict[str, str | None]:
    """Return what is written next to the figure: not the date, so that the same figure has the same bytes."""
    dates = {".svg": "Date", ".pdf": "CreationDate"}
    key = dates.get(path.suffix.lower())
    return {key: None} if key else {}


def label(name: object) -> str:
    """Return a name from input as a label: on lines that leave room for the axes, never hidden by a `_` in front."""
    shown = textwrap.fill(visible(name), LONGEST, break_on_hyphens=False)
    # matplotlib leaves labels that start with `_` out of legends; a hair space keeps them.
    return f"\N{HAIR SPACE}{shown}" if shown.startswith("_") else shown


def swatch(colour: str, text: str) -> Any:
    """Return an entry of a legend: a filled rectangle and its text."""
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, label=text)
