"""What figures of one step at the width of a paper's column share: opening, caption, saving."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.plot.steps import caption, metadata
from simulator.plot.sweeps import WIDTH
from simulator.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@contextmanager
def panels(heights: Sequence[float], report: Report, note: str, path: Path, *, shared: bool = False
           ) -> Iterator[list[Axes]]:
    """Open a figure with panels one below the other; write it at the end, unless an error came between.

    heights: of the panels [inch]. note: what is shown, behind the scenario in the caption. shared: panels have one x
    axis.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "simulate"  # else SVG's ids are random
    import matplotlib.pyplot as plt

    title = textwrap.fill(f"{caption(report)}; {note}", 66)
    figure, grid = plt.subplots(
        len(heights), 1, figsize=(WIDTH, sum(heights) + 0.13 * (title.count("\n") + 1)), squeeze=False,
        sharex=shared, layout="constrained", height_ratios=heights,
    )
    try:
        yield list(grid[:, 0])
        for axes in figure.axes:
            axes.tick_params(labelsize=6.5, length=2.5)
        figure.suptitle(title, fontsize=7)
        figure.savefig(path, dpi=200, metadata=metadata(path))
    finally:
        plt.close(figure)


def above(axes: Axes, columns: int) -> None:
    """Put the legend of a panel above it, to its right end."""
    axes.legend(fontsize=6, ncols=columns, loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False,
                handlelength=1.2, handletextpad=0.5, columnspacing=0.9, borderpad=0.1, borderaxespad=0.2)
