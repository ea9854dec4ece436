"""How busy the links are over the time of a step, a panel for each kind of link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.escapes import visible
from simulator.plot.column import above, check_content, panels
from simulator.report import Report
from simulator.report.palette import BLUE, GREEN, GRID, PINK, VERMILLION
from simulator.report.series import link_use, means
from simulator.timeline import Timeline
from simulator.topology import LinkKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
BINS = 150
"""Spans of a step that are averaged over; links go on and off thousands of times in it."""
COLOURS: dict[str, str] = {
    LinkKind.NVLINK: GREEN,
    LinkKind.PCIE: PINK,
    LinkKind.NIC: BLUE,
    LinkKind.FABRIC: VERMILLION,
}
"""Kind of link -> its colour."""


Shares: TypeAlias = dict[str, Floats]
"""Name of a class of links -> its mean busy shares [edge - 1]."""


def links(timeline: Timeline, report: Report, path: Path) -> None:
    """Draw the busy share of links over time: the busiest link of each kind, and from the least to the most busy.

    Errors: InputError for a lone GPU.
    """
    check_content("links", report.scenario)
    edges = np.linspace(0.0, timeline.step_time, BINS + 1)
    kinds = busy_shares(timeline, edges)
    note = f"each point the mean over {timeline.step_time / BINS:.2g} s"
    heights = [1.25] * len(kinds)
    with panels(heights, report, note, path, shared=True) as rows:
        for axes, (kind, shares) in zip(rows, kinds.items(), strict=True):
            _panel(axes, edges, kind, shares)
        rows[-1].set_xlabel("time in the step [s]", fontsize=7)


def busy_shares(timeline: Timeline, edges: Floats) -> dict[str, Shares]:
    """Return the mean busy shares between edges [s] by kind of link, of the kinds that a cluster has."""
    kinds: dict[str, Shares] = {kind: {} for kind in COLOURS}
    # Means keep what was moved: an instantaneous share would show only on or off.
    for link in link_use(timeline):
        shares = means(link.times, link.shares, edges)  # [edge - 1]
        kinds[link.kind][link.name] = shares
    return {kind: shares for kind, shares in kinds.items() if shares}


def _percent(shares: Floats) -> str:
    mean = float(shares.mean())
    # Two digits at least: 9.95 is the first that one decimal would show as 10.0.
    if mean >= 9.95:
        return f"{mean:.0f}%"
    return f"{mean:.1f}%"


def _panel(axes: Axes, edges: Floats, kind: str, shares: Shares) -> None:
    """Draw one kind of link: its busiest class as a line, all classes as a band."""
    table = 100.0 * np.array(list(shares.values()))  # [class, edge - 1] %
    colour = COLOURS[kind]
    middle = (edges[:-1] + edges[1:]) / 2  # [edge - 1] s
    if len(shares) > 1:
        least = table.min(axis=0)  # [edge - 1] %
        most = table.max(axis=0)  # [edge - 1] %
        axes.fill_between(
            middle,
            least,
            most,
            color=colour,
            alpha=0.25,
            linewidth=0,
            label=f"all {len(shares)} classes",
        )
    # The busiest over the whole step, so that the line is one link and not an envelope.
    worst = int(np.argmax(table.mean(axis=1)))
    busiest = table[worst]
    name = visible(list(shares)[worst])
    said = f"busiest: {name}, mean {_percent(busiest)}"
    axes.plot(
        middle,
        busiest,
        color=colour,
        linewidth=0.9,
        label=said,
    )
    # Room above 100% for a line that lies on it, and for means of uneven transfers beyond it.
    highest = max(104.0, 1.02 * table.max())
    axes.set_ylim(0, highest)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_yticks(range(0, 101, 25))
    axes.grid(axis="y", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_ylabel(f"{kind}\nbusy [%]", fontsize=7)
    above(axes, 2)
