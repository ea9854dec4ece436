"""What figures of one step at the width of a paper's column share: opening, caption, legend."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.errors import InputError
from simulator.escapes import visible
from simulator.plot.canvas import COLUMN, Sheet, opened
from simulator.plot.steps import caption
from simulator.report import Report
from simulator.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def check_content(name: str, scenario: Scenario) -> None:
    """Refuse a figure that has nothing to show in a scenario. name: key of FIGURES. Errors: InputError."""
    rule = ""
    if name == "links" and scenario.topology.gpus == 1:
        rule = "needs links, and a lone GPU uses none"
    if name == "traffic" and scenario.layout.ep == 1:
        rule = "needs experts on several GPUs: layout.ep is 1"
    if name == "experts" and not scenario.model.n_routed_experts:
        rule = f"needs experts, and {scenario.workload.name} has none"
    if rule:
        remedy = "Draw step or memory, which every run has."
        raise InputError(rule, key="--figure", value=name, remedy=remedy)


@contextmanager
def panels(
    heights: Sequence[float], report: Report, note: str, path: Path, *, shared: bool = False
) -> Iterator[list[Axes]]:
    """Open a figure with panels one below the other; write it at the end, unless an error came between.

    heights: of the panels [inch]. note: what is shown, behind the scenario in the caption. shared:
    panels have one x axis.
    """
    # No line of the caption may begin with a unit.
    unbroken = caption(report).replace(" s,", "\N{NO-BREAK SPACE}s,")
    title = textwrap.fill(f"{unbroken}; {visible(note)}", 66)
    # The caption takes room of its own, so that panels keep their heights however long it is.
    lines = title.count("\n") + 1
    sheet = Sheet(
        width=COLUMN,
        height=sum(heights) + 0.13 * lines,
        rows=len(heights),
        dpi=200,
        options={"sharex": shared, "height_ratios": heights},
    )
    with opened(path, sheet) as (figure, rows):
        yield rows
        # Axes of the figure, not only the panels: colour bars are among them.
        for axes in figure.axes:
            axes.tick_params(labelsize=6.5, length=2.5)
        figure.suptitle(title, fontsize=7)


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
