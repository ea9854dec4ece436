"""What drawings of clusters share: marks for switches, lines for cables, their places and colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from simulator.report import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Block: TypeAlias = tuple[Any, ...]
"""A mark: a switch, or several that are drawn as one."""


class Spot(NamedTuple):
    """Where a mark is drawn."""

    x: float
    """To the right, in the units of the drawing."""
    y: float
    """Upwards."""


class Cable(NamedTuple):
    """A connection that is drawn: between two marks, however many cables it stands for."""

    one: Block
    """One of its ends."""
    other: Block
    """The other."""


Spots: TypeAlias = dict[Block, Spot]
Cables: TypeAlias = Counter[Cable]
"""Connection -> its cables."""

# Layers of one height share a colour, whatever their family calls them: colours tell how far up.
COLOURS = {
    "node": palette.RULE,
    "nvswitch": palette.GREEN,
    "leaf": palette.BLUE,
    "agg": palette.SKY,
    "mid": palette.SKY,
    "spine": palette.VERMILLION,
    "core": palette.VERMILLION,
    "top": palette.VERMILLION,
    "router": palette.BLUE,
    "switch": palette.BLUE,
}
"""Layer of a switch -> colour of its mark."""
INSIDE, BETWEEN, LINE = palette.GREEN, palette.CABLE, palette.NOTE
"""Cables inside a group, between two, and where there are no groups."""


def draw_dots(axes: Axes, spots: Iterable[Spot], size: float) -> None:
    """Draw routers as dots. size: their area, unless it is too large [pt2]."""
    xs, ys = zip(*spots, strict=True)
    # One call for all: a scatter each would make thousands of objects of a figure.
    axes.scatter(
        xs,
        ys,
        s=min(90.0, size),
        color=COLOURS["switch"],
        edgecolor="white",
        linewidth=0.4,
        zorder=2,
    )
