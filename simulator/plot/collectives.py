"""Figures of collectives that run alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.collectives import Row
from simulator.escapes import visible
from simulator.plot.canvas import PAGE, Sheet, opened
from simulator.report.palette import GRID, RULE, SERIES
from simulator.units import format_binary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX<"
MOST_TICKS = 8


def collective(rows: Sequence[Row], where: str, path: Path) -> None:
    """Draw bus bandwidth over size, marked by the algorithm that was taken. where: the cluster, for the caption."""
    with opened(path, Sheet(PAGE, 3.6)) as (figure, [axes]):
        _draw_points(axes, rows)
        _scale(axes, rows)
        axes.legend(fontsize=7, frameon=False, loc="upper left")
        # All rows are of one op and one group; they differ in size.
        first = rows[0]
        name = visible(where)
        title = f"{first.op} on {first.ranks} GPUs of {name}, alone on the network"
        figure.suptitle(title, fontsize=9)


def _draw_points(axes: Axes, rows: Sequence[Row]) -> None:
    # One grey line through all, for where the algorithm changes is what the marks show.
    sizes = [row.bytes for row in rows]
    rates = [row.busbw / 1e9 for row in rows]
    axes.plot(
        sizes,
        rates,
        color=RULE,
        linewidth=1,
        zorder=1,
    )
    for number, (way, members) in enumerate(_by_way(rows).items()):
        axes.scatter(
            [row.bytes for row in members],
            [row.busbw / 1e9 for row in members],
            s=26,
            zorder=2,
            marker=MARKERS[number % len(MARKERS)],
            color=SERIES[number % len(SERIES)],
            label=way,
        )


def _by_way(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each algorithm with its protocol, in the order in which sizes first take them."""
    ways: dict[str, list[Row]] = {}
    for row in rows:
        algorithm = row.algorithm.replace("_", " ")
        way = f"{algorithm}, {row.protocol}"
        ways.setdefault(way, []).append(row)
    return ways


def _scale(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_xscale("log", base=2)
    # Sizes double from row to row: every n-th one keeps the ticks evenly spaced.
    every = -(-len(rows) // MOST_TICKS)
    ticks = [row.bytes for row in rows][::every]
    axes.set_xticks(ticks, [format_binary(size) for size in ticks])
    axes.minorticks_off()
    # From zero, so that heights compare as rates do.
    axes.set_ylim(bottom=0)
    axes.set_xlabel("size of the buffer", fontsize=8)
    axes.set_ylabel("bus bandwidth [GB/s]", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", linewidth=0.4, color=GRID)
