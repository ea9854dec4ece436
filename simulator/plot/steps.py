"""The parts of one step, and of several compared with each other, as stacked bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simulator.compare import names
from simulator.escapes import visible
from simulator.plot.canvas import PAGE, Sheet, label, opened
from simulator.report import Report
from simulator.report.palette import ink
from simulator.report.parts import PARTS, Part

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NARROW = 1e-4
"""A part below this share of the longest step is not drawn."""
LABELLED = 0.04
"""A part above this share of the longest step has room for its time."""


def comparison(reports: Sequence[Report], path: Path) -> None:
    """Draw the parts of several steps as stacked bars."""
    workloads = dict.fromkeys(report.scenario.workload.name for report in reports)
    sheet = Sheet(PAGE, 1.6 + 0.5 * len(reports))
    with opened(path, sheet) as (figure, [axes]):
        draw_parts(axes, reports)
        shown = visible(", ".join(workloads))
        figure.suptitle(f"One step of {shown}", fontsize=9)


def caption(report: Report) -> str:
    """Return the scenario of a step in one line."""
    scenario = report.scenario
    workload = visible(scenario.workload.name)
    topology = visible(scenario.topology.name)
    return (
        f"{workload} on {topology}: "
        f"{scenario.topology.gpus} GPUs, {scenario.workload.schedule.name}, "
        f"step {report.step_time:.2f} s, {scenario.micro_batches} micro-batches"
    )


def draw_parts(axes: Axes, reports: Sequence[Report]) -> None:
    """Draw a bar per report, divided into the parts of its step."""
    longest = max(report.step_time for report in reports)
    left = np.zeros(len(reports))  # [report] s, where the next part starts
    # In the order of the table, so that parts follow each other alike in every figure.
    for part in PARTS:
        exposed = [report.breakdown.get(part.name, 0.0) for report in reports]
        values = np.array(exposed)  # [report] s
        if values.max() < NARROW * longest:
            continue
        rows = np.arange(len(reports))
        axes.barh(
            rows,
            values,
            left=left,
            color=part.colour,
            label=part.text,
            edgecolor="white",
            linewidth=0.6,
            height=0.62,
        )
        middle = left + values / 2  # [report] s
        for row in np.flatnonzero(values > LABELLED * longest).tolist():
            _write_seconds(axes, part, row, middle[row], values[row])
        left += values
    labels = [label(name) for name in names(reports)]
    axes.set_yticks(range(len(reports)), labels)
    # The bar ends with the axis: in a step's figure it has the scale of the lanes above it.
    axes.set_xlim(0, longest)
    # The first report on top, as in the tables.
    axes.invert_yaxis()
    axes.set_xlabel("exposed time in a step, mean over ranks [s]", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(
        fontsize=6.5,
        ncols=6,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        frameon=False,
        handlelength=1.3,
        columnspacing=1.4,
    )


def _write_seconds(axes: Axes, part: Part, row: int, middle: float, seconds: float) -> None:
    axes.text(
        middle,
        row,
        f"{seconds:.2f}",
        ha="center",
        va="center",
        fontsize=6.5,
        color=ink(part.colour),
    )
