"""Memory of a GPU over the time of a step, by category, against what it has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulator.plot.column import above, panels
from simulator.report import Report
from simulator.report.palette import BLUE, GREEN, ORANGE, PINK, SKY, VERMILLION
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
    "margin": "#999999",
}
ORDER = ("parameters", "gradients", "optimizer", "buffers", "margin", "activations")
"""From below: what stays, then what comes and goes."""


def memory(timeline: Timeline, report: Report, path: Path) -> None:
    """Draw memory over time: the fullest GPU by category, and below it the totals of all classes of ranks.

    The reported peak lies above the categories by what a backward pass runs again, which is there
    for that pass only.
    """
    program = timeline.program
    held = [by_category(timeline, report, rank) for rank in range(program.ranks)]
    peaks = [report.memory[program.pipeline_index(rank)].peak for rank in range(program.ranks)]
    fullest = int(np.argmax(peaks))
    several = program.ranks > 1
    note = (
        f"GPU of pipeline index {program.pipeline_index(fullest)}, the fullest"
        if several
        else "one GPU"
    )
    with panels([2.3, 2.0] if several else [2.3], report, note, path, shared=True) as rows:
        _categories(rows[0], held[fullest], timeline.step_time)
        _lines(rows[0], peaks[fullest], report.scenario.gpu.memory.capacity)
        above(rows[0], 4)
        if several:
            _totals(rows[1], timeline, held)
        for axes in rows:
            axes.set_xlim(0, timeline.step_time)
        rows[-1].set_xlabel("time in the step [s]", fontsize=7)


def by_category(timeline: Timeline, report: Report, rank: int) -> tuple[Floats, dict[str, Floats]]:
    """Return times [s] and bytes from each on by category [B], margin included, until the end of the step."""
    times, held = memory_over_time(timeline, rank)
    margin = report.memory[timeline.program.pipeline_index(rank)].by_category["margin"]
    held = {**held, "margin": np.full(len(times), margin)}
    return np.append(times, timeline.step_time), {
        name: np.append(held[name], held[name][-1]) for name in ORDER
    }


def _categories(axes: Axes, series: tuple[Floats, dict[str, Floats]], step_time: float) -> None:
    times, held = series
    axes.stackplot(
        times,
        [size / 1e9 for size in held.values()],
        step="post",
        linewidth=0,
        colors=[MEMORY_COLOURS[name] for name in held],
        labels=list(held),
    )
    axes.set_ylabel("memory of the GPU [GB]", fontsize=7)


def _lines(axes: Axes, peak: float, capacity: float) -> None:
    axes.axhline(peak / 1e9, color="black", linewidth=0.8, linestyle=":", label="reported peak")
    axes.axhline(capacity / 1e9, color=VERMILLION, linewidth=1.2, linestyle="--", label="capacity")
    axes.set_ylim(0, 1.06 * max(peak, capacity) / 1e9)


def _totals(axes: Axes, timeline: Timeline, held: list[tuple[Floats, dict[str, Floats]]]) -> None:
    import matplotlib as mpl

    indices = [timeline.program.pipeline_index(rank) for rank in range(timeline.program.ranks)]
    norm = mpl.colors.Normalize(min(indices), max(*indices, min(indices) + 1))
    shades = mpl.colormaps["viridis"]
    for index, (times, parts) in zip(indices, held, strict=True):
        total = np.sum(list(parts.values()), axis=0) / 1e9
        axes.step(times, total, where="post", color=shades(norm(index)), linewidth=0.7)
    bar = axes.figure.colorbar(
        mpl.cm.ScalarMappable(norm, shades),
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
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
