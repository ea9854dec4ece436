"""Clusters whose switches are all alike: groups on a circle, a torus as a box, a custom fabric by forces."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from simulator.plot.canvas import label
from simulator.plot.cluster_marks import (
    BETWEEN,
    INSIDE,
    LINE,
    Block,
    Cable,
    Cables,
    Spot,
    Spots,
    draw_dots,
)
from simulator.topology import TopologyConfig
from simulator.topology.switches import Switches, Vertex, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROUTERS = 400
"""Routers, beyond which a group is drawn as one dot."""
MOST_FORCED = 200
"""Switches of a custom fabric, beyond which they stand on a circle."""
MOST_NAMED = 64
"""Switches, beyond which they are drawn without their names."""
LONGEST = 8
"""Switches along an edge of the part of a torus that is drawn."""


def draw_circle(axes: Axes, switches: Switches) -> None:
    """Draw groups (dragonfly) or columns (slim fly) around a circle, their routers on small circles."""
    groups: dict[Block, list[Vertex]] = defaultdict(list)
    for vertex in switches.graph:
        groups[vertex[:2] if len(vertex) == 3 else vertex[:3]].append(vertex)
    merged = len(switches.graph) > MOST_ROUTERS
    # Groups are 2 pi / n apart on the circle: a quarter of that, about, leaves room between small circles.
    radius = 0.0 if merged else min(0.3, 0.55 * math.pi / max(3, len(groups)))
    spots: Spots = {}
    for number, (group, members) in enumerate(groups.items()):
        angle = math.pi / 2 - 2 * math.pi * number / len(groups)
        centre = Spot(math.cos(angle), math.sin(angle))
        marks = [group] if merged else members
        spots |= _ring(marks, centre, radius, angle)
        away = 1.0 + (0.06 if merged else radius + 0.07)
        name = ".".join(map(str, group[1:]))
        axes.text(away * centre.x, away * centre.y, name, ha="center", va="center", fontsize=6)
    owner = {vertex: group for group, members in groups.items() for vertex in members}
    cables: Cables = Counter()
    for one, other, count in switches.graph.edges(data="cables"):
        ends = Cable(owner[one], owner[other]) if merged else Cable(one, other)
        cables[ends] += count
    _draw_threads(axes, cables, spots, owner)
    draw_dots(axes, spots.values(), 4000 / max(40, len(spots)))
    axes.set_aspect("equal")
    what = "group" if len(next(iter(groups))) == 2 else "column"
    mark = f"each ring a {what}"
    if merged:
        mark = f"each dot a {what} of {len(switches.graph) // len(groups)} routers"
    note = f"{mark}; cables within a {what} green, between them grey"
    axes.text(0, -1.42, note, ha="center", fontsize=7)


def _ring(marks: list[Block], centre: Spot, radius: float, start: float) -> Spots:
    """Return spots for marks around a centre. start: angle of the first."""
    spots = {}
    for number, mark in enumerate(marks):
        angle = start + 2 * math.pi * number / len(marks)
        spots[mark] = Spot(centre.x + radius * math.cos(angle), centre.y + radius * math.sin(angle))
    return spots


def _draw_threads(axes: Axes, cables: Cables, spots: Spots, owner: dict[Vertex, Block]) -> None:
    """Draw thin lines, those inside a group above those between groups. owner: switch -> its group."""
    from matplotlib.collections import LineCollection

    # Cables between groups are many and long: below the others.
    for inside, colour in ((False, BETWEEN), (True, INSIDE)):
        lines = [
            (spots[cable.one], spots[cable.other])
            for cable in cables
            if cable.one != cable.other and _is_inside(cable, owner) == inside
        ]
        alpha = max(0.06, min(0.7, 150 / max(1, len(lines))))
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=0.6, alpha=alpha, zorder=1)
        )


def _is_inside(cable: Cable, owner: dict[Vertex, Block]) -> bool:
    return cable.one in owner and owner[cable.one] == owner.get(cable.other)


def draw_box(axes: Axes, switches: Switches, config: TopologyConfig) -> None:
    """Draw a torus as a box seen from a corner; cables that close a ring are left out."""
    dims = [min(LONGEST, length) for length in config.fabric.dims]
    spots: Spots = {}
    for vertex in switches.graph:
        _, x, depth, y = vertex
        if all(k < most for k, most in zip(vertex[1:], dims, strict=True)):
            spots[vertex] = Spot(x + 0.42 * depth, y + 0.34 * depth)
    # A cable that closes a ring joins switches more than one step apart.
    for one, other in switches.graph.edges:
        step = sum(abs(a - b) for a, b in zip(one[1:], other[1:], strict=True))
        if one in spots and other in spots and step == 1:
            far = min(one[2], other[2]) / max(1, dims[1])  # 0 at the front, below 1 at the back
            axes.plot(
                *zip(spots[one], spots[other], strict=True),
                color=LINE,
                linewidth=0.9 - 0.5 * far,
                alpha=0.8 - 0.5 * far,
                zorder=1 - far,
            )
    draw_dots(axes, spots.values(), 9000 / len(spots))
    if len(spots) <= MOST_NAMED:
        for vertex, (x, y) in spots.items():
            name = ".".join(map(str, vertex[1:]))
            axes.text(x + 0.06, y - 0.07, name, fontsize=5, ha="left", va="top")
    axes.set_aspect("equal")
    size = " x ".join(map(str, config.fabric.dims))
    part = ""
    if tuple(dims) != config.fabric.dims:
        part = f"; its corner of {' x '.join(map(str, dims))} is shown"
    note = f"torus of {size} switches{part}; the cables that close the rings are left out"
    axes.text(0.5, -0.04, note, ha="center", va="top", fontsize=7, transform=axes.transAxes)


def draw_free(axes: Axes, switches: Switches) -> None:
    """Draw a custom fabric: by forces where it is small, on a circle where it is large."""
    import networkx as nx

    graph = switches.graph
    # Forces are slow and show no structure any more where there are hundreds of switches.
    small = len(graph) <= MOST_FORCED
    positions = nx.spring_layout(graph, seed=0, weight=None) if small else nx.circular_layout(graph)
    spots: Spots = {vertex: Spot(float(x), float(y)) for vertex, (x, y) in positions.items()}
    cables: Cables = Counter(Cable(one, other) for one, other in graph.edges)
    _draw_threads(axes, cables, spots, {})
    draw_dots(axes, spots.values(), 6000 / len(spots))
    if len(graph) <= MOST_NAMED:
        for vertex, (x, y) in spots.items():
            axes.text(x, y + 0.04, label(text(vertex)), fontsize=6, ha="center")
