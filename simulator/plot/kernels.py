"""Measured kernels compared with what the kernel tables say of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.plot.canvas import Sheet, opened
from simulator.report import palette
from simulator.report.palette import SERIES
from simulator.residuals import Residuals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = "os^Dv"
BAND = 0.1
"""The grey band: as far off as this."""


def kernels(classes: Sequence[Residuals], path: Path) -> None:
    """Draw the computed over the measured time of every measured kernel, a panel per group of ops."""
    groups = list(dict.fromkeys(row.group for row in classes))
    columns = -(-len(groups) // 2)
    # The legend below a panel has a line per class.
    longest = max(len(_drawn([row for row in classes if row.group == group])) for group in groups)
    height = 2 * (3.0 + 0.11 * longest)
    sheet = Sheet(4.6 * columns, height, rows=2, columns=columns)
    with opened(path, sheet) as (figure, panels):
        # Not strict: an odd number of groups leaves a panel empty.
        for axes, group in zip(panels, groups, strict=False):
            members = [row for row in classes if row.group == group]
            _panel(axes, group, members)
        for axes in panels[len(groups) :]:
            axes.set_axis_off()
        title = "Kernels and links: computed from the kernel tables over measured, alone"
        figure.suptitle(title, fontsize=10)


def _panel(axes: Axes, group: str, classes: Sequence[Residuals]) -> None:
    low, high = 1 - BAND, 1 + BAND
    axes.axhspan(low, high, color=palette.BAND, zorder=0)
    axes.axhline(1.0, color=palette.RULE, linewidth=0.8, zorder=1)
    for number, row in enumerate(_drawn(classes)):
        # Hundreds of points are small and pale, so that it shows where they lie close.
        many = len(row.measured) > 100
        size, alpha = (7, 0.45) if many else (18, 0.9)
        # Hollow marks were not fitted: they show how well the tables predict.
        check = "" if row.fitted else " (check)"
        gpu = row.gpu.upper()
        shape = number // len(SERIES)  # another mark once the colours are used up
        axes.scatter(
            1e6 * row.measured,
            row.computed / row.measured,
            s=size,
            alpha=alpha,
            color=SERIES[number % len(SERIES)],
            marker=MARKS[shape % len(MARKS)],
            facecolors=None if row.fitted else "none",
            linewidths=0.9,
            zorder=2,
            label=f"{gpu}: {row.name}{check}",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    # Logarithmic, so that half and twice the time lie equally far from 1.
    axes.set_yscale("log", base=2)
    ticks = [0.5, 0.7, 1.0, 1.4, 2.0]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(0.4, 2.6)
    axes.minorticks_off()
    axes.set_title(group, fontsize=9)
    axes.set_xlabel("measured time [us]", fontsize=8)
    axes.set_ylabel("computed / measured", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(
        fontsize=5.5,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.18),
        ncols=1,
    )


def _drawn(classes: Sequence[Residuals]) -> list[Residuals]:
    """Return the classes without those whose rows another one holds as well.

    Those are the `2,048 and more tokens`, and the shapes of grids by the wave model alone.
    """
    twice = ("2,048 and more tokens", "wave model alone")
    return [row for row in classes if not row.name.endswith(twice)]
