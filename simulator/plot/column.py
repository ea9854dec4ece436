"""What figures of one step at the width of a paper's column share: opening, caption, saving."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.errors import InputError
from simulator.plot.steps import caption, metadata
from simulator.plot.sweeps import WIDTH
from simulator.report import Report
from simulator.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def check_content(name: str, scenario: Scenario) -> None:
    """Refuse a figure that has nothing to show in a scenario. name: of a row of FIGURES. Errors: InputError."""
    needs = {
        "links": (scenario.topology.gpus == 1, "needs links, and a lone GPU uses none"),
        "traffic": (scenario.layout.ep == 1, "needs experts on several GPUs: layout.ep is 1"),
        "experts": (
            not scenario.model.n_routed_experts,
            f"needs experts, and {scenario.workload.name} has none",
        ),
    }
    lacks, rule = needs.get(name, (False, ""))
    if lacks:
        raise InputError(
            rule, key="--figure", value=name, remedy="Draw step or memory, which every run has."
        )


@contextmanager
def panels(
    heights: Sequence[float], report: Report, note: str, path: Path, *, shared: bool = False
) -> Iterator[list[Axes]]:
    """Open a figure with panels one below the other; write it at the end, unless an error came between.

    heights: of the panels [inch]. note: what is shown, behind the scenario in the caption. shared:
    panels have one x axis.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "simulate"  # else SVG's ids are random
    import matplotlib.pyplot as plt

    title = textwrap.fill(f"{caption(report)}; {note}".replace(" s,", "\N{NO-BREAK SPACE}s,"), 66)
    figure, grid = plt.subplots(
        len(heights),
        1,
        figsize=(WIDTH, sum(heights) + 0.13 * (title.count("\n") + 1)),
        squeeze=False,
        sharex=shared,
        layout="constrained",
        height_ratios=heights,
    )
    try:
        yield list(grid[:, 0])
        for axes in figure.axes:
            axes.tick_params(labelsize=6.5, length=2.5)
        figure.suptitle(title, fontsize=7)
        # The layout's last digits differ from call to call, and SVG's ids are made of them.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes in figure.axes:
            left, bottom, width, height = axes.get_position(original=True).bounds
            axes.set_position((round(left, 6), round(bottom, 6), round(width, 6), round(height, 6)))
        figure.savefig(path, dpi=200, metadata=metadata(path))
    finally:
        plt.close(figure)


def above(axes: Axes, columns: int) -> None:
    """Put the legend of a panel above it, to its right end."""
    axes.legend(
        fontsize=6,
        ncols=columns,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        handlelength=1.2,
        handletextpad=0.5,
        columnspacing=0.9,
        borderpad=0.1,
        borderaxespad=0.2,
    )
