"""Figures of sweeps, as wide as a paper's column: a panel for each figure that the sweep names."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from simulator.escapes import visible
from simulator.plot.canvas import COLUMN, Sheet, opened
from simulator.plot.sweep_panels import PANELS
from simulator.plot.sweep_values import Columns, Shown, SweepFigure, default

HEIGHT = 2.35
"""Height of a panel [inch]."""


def sweep(columns: Columns, figures: Sequence[SweepFigure], caption: str, path: Path) -> None:
    """Draw a sweep, a panel for each figure, one below the other. columns: as `sweep.table` makes them."""
    chosen = list(figures) or [default(columns)]
    # The caption takes what is beyond the panels.
    height = HEIGHT * len(chosen) + 0.35
    sheet = Sheet(
        COLUMN,
        height,
        rows=len(chosen),
        dpi=200,
    )
    with opened(path, sheet) as (canvas, panels):
        for axes, figure in zip(panels, chosen, strict=True):
            PANELS[figure.kind](axes, Shown(figure, columns))
            axes.tick_params(labelsize=6.5)
        canvas.suptitle(textwrap.fill(visible(caption), 66), fontsize=7)
