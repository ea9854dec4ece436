"""Memory of a GPU over the time of a step, by category, against what it has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.plot.column import above, panels
from simulator.report import Report
from simulator.report.palette import (
    BLUE,
    GREEN,
    GRID,
    ORANGE,
    PALE,
    PINK,
    RULE,
    SKY,
    VERMILLION,
    YELLOW,
)
from simulator.report.series import memory_over_time
from simulator.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
MEMORY_COLOURS = {
    "parameters": BLUE,
    "gradients": SKY,
    "optimizer": GREEN,
    "activations": ORANGE,
    "buffers": PINK,
    "update": YELLOW,
    "margin": RULE,
    "framework": PALE,
}
"""Category of memory -> its colour."""
ORDER = (
    "framework",
    "parameters",
    "gradients",
    "optimizer",
    "buffers",
    "margin",
    "activations",
)
"""From below: what stays, then what comes and goes."""


class Held(NamedTuple):
    """Memory of a GPU over the time of a step."""

    times: Floats
    """When it changes, the end of the step last [time] s."""
    by_category: dict[str, Floats]
    """Category, in ORDER -> bytes from each time on [time] B."""

    @property
    def total(self) -> Floats:
        """Return the bytes of all categories [time] B."""
        sizes = list(self.by_category.values())  # [category][time] B
        total: Floats = np.sum(sizes, axis=0)
        return total


def memory(timeline: Timeline, report: Report, path: Path) -> None:
    """Draw memory over time: the fullest GPU by category, and below it the totals of all classes of ranks.

    The reported peak lies above the categories by what a pass needs besides what is kept, which is
    there for that pass only; or by what the update of the optimizer needs.
    """
    program = timeline.program
    held: list[Held] = []  # [rank class]
    peaks: list[float] = []  # [rank class] B
    for rank in range(program.ranks):
        held.append(by_category(timeline, report, rank))
        peaks.append(report.memory[program.pipeline_index(rank)].peak)
    # By the reported peak, which counts what a recomputing pass holds for a moment.
    fullest = int(np.argmax(peaks))
    heights, note = [2.3], "one GPU"
    if program.ranks > 1:
        heights = [2.3, 2.0]
        note = f"GPU of pipeline index {program.pipeline_index(fullest)}, the fullest"
    with panels(heights, report, note, path, shared=True) as rows:
        _categories(rows[0], held[fullest])
        capacity = report.scenario.gpu.memory.capacity
        _lines(rows[0], peaks[fullest], capacity)
        above(rows[0], 4)
        if program.ranks > 1:
            _totals(rows[1], timeline, held)
        for axes in rows:
            axes.set_xlim(0, timeline.step_time)
        rows[-1].set_xlabel("time in the step [s]", fontsize=7)


def by_category(timeline: Timeline, report: Report, rank: int) -> Held:
    """Return the memory of a class of ranks, margin included, until the end of the step."""
    times, sizes = memory_over_time(timeline, rank)
    index = timeline.program.pipeline_index(rank)
    for name in ("margin", "framework"):
        fixed = report.memory[index].by_category[name]
        sizes = {**sizes, name: np.full(len(times), fixed)}
    # What a rank holds last, it holds until the end.
    extended: dict[str, Floats] = {}
    for name in ORDER:
        size = sizes[name]  # [time] B
        extended[name] = np.append(size, size[-1])
    return Held(np.append(times, timeline.step_time), extended)


def _categories(axes: Axes, held: Held) -> None:
    axes.stackplot(
        held.times,
        [size / 1e9 for size in held.by_category.values()],
        step="post",
        linewidth=0,
        colors=[MEMORY_COLOURS[name] for name in held.by_category],
        labels=list(held.by_category),
    )
    axes.set_ylabel("memory of the GPU [GB]", fontsize=7)


def _lines(axes: Axes, peak: float, capacity: float) -> None:
    axes.axhline(
        peak / 1e9,
        color="black",
        linewidth=0.8,
        linestyle=":",
        label="reported peak",
    )
    axes.axhline(
        capacity / 1e9,
        color=VERMILLION,
        linewidth=1.2,
        linestyle="--",
        label="capacity",
    )
    highest = max(peak, capacity)
    axes.set_ylim(0, 1.06 * highest / 1e9)


def _totals(axes: Axes, timeline: Timeline, held: Sequence[Held]) -> None:
    """Draw a line per class of ranks, in the shade of its pipeline index."""
    import matplotlib as mpl

    program = timeline.program
    indices = [program.pipeline_index(rank) for rank in range(program.ranks)]
    first = min(indices)
    # A lone index would leave the scale without a length.
    last = max(*indices, first + 1)
    norm = mpl.colors.Normalize(first, last)
    shades = mpl.colormaps["viridis"]
    for index, of_rank in zip(indices, held, strict=True):
        colour = shades(norm(index))
        total = of_rank.total / 1e9  # [time] GB
        # "post": sizes hold from their time on, until the next one.
        axes.step(
            of_rank.times,
            total,
            where="post",
            color=colour,
            linewidth=0.7,
        )
    # The scale of a bar: the lines that it explains have no mapping of their own.
    scale = mpl.cm.ScalarMappable(norm, shades)
    bar = axes.figure.colorbar(
        scale,
        ax=axes,
        location="top",
        fraction=0.05,
        shrink=0.6,
        aspect=30,
        pad=0.02,
        ticks=mpl.ticker.MaxNLocator(integer=True, nbins=5),
    )
    bar.set_label("pipeline index", fontsize=6.5, labelpad=2)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("all categories [GB]", fontsize=7)
    axes.grid(axis="y", color=GRID, linewidth=0.5)
