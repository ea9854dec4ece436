"""Clusters whose switches are all alike: groups on a circle, a torus as a box, a custom fabric by forces."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from functools import partial
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
from simulator.topology.cabling import Vertex
from simulator.topology.switches import Switches, text

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
    groups = _groups(switches)
    merged = len(switches.graph) > MOST_ROUTERS
    # Groups are 2 pi / n apart on the circle: a quarter of that, about, leaves room between small circles.
    radius, name_away = 0.0, 1.06
    if not merged:
        apart = math.pi / max(3, len(groups))
        radius = min(0.3, 0.55 * apart)
        name_away = 1.0 + (radius + 0.07)
    spots: Spots = {}
    for number, (group, members) in enumerate(groups.items()):
        # Clockwise from the top, as on a clock.
        turned = 2 * math.pi * number / len(groups)
        angle = math.pi / 2 - turned
        centre = Spot(math.cos(angle), math.sin(angle))
        marks = [group] if merged else members
        spots |= _ring(marks, centre, radius, angle)
        name = ".".join(map(str, group[1:]))
        x, y = name_away * centre.x, name_away * centre.y
        axes.text(
            x,
            y,
            name,
            ha="center",
            va="center",
            fontsize=6,
        )
    owner = _owners(groups)
    _draw_threads(axes, _threads(switches, owner, merged=merged), spots, owner)
    draw_dots(axes, spots.values(), 4000 / max(40, len(spots)))
    axes.set_aspect("equal")
    # A slim fly's groups are named by side and column, a dragonfly's by one number.
    first = next(iter(groups))
    what = "group" if len(first) == 2 else "column"
    mark = f"each ring a {what}"
    if merged:
        routers = len(switches.graph) // len(groups)
        mark = f"each dot a {what} of {routers} routers"
    note = f"{mark}; cables within a {what} green, between them grey"
    axes.text(
        0,
        -1.42,
        note,
        ha="center",
        fontsize=7,
    )


def _groups(switches: Switches) -> dict[Block, list[Vertex]]:
    """Return the routers of each group: (kind, group) of a dragonfly, (kind, side, column) of a slim fly."""
    groups: dict[Block, list[Vertex]] = defaultdict(list)
    # The last item of a vertex is its number within the group.
    for vertex in switches.graph:
        groups[vertex[:-1]].append(vertex)
    return groups


def _owners(groups: dict[Block, list[Vertex]]) -> dict[Vertex, Block]:
    """Return switch -> its group."""
    owner: dict[Vertex, Block] = {}
    for group, members in groups.items():
        owner |= dict.fromkeys(members, group)
    return owner


def _threads(switches: Switches, owner: dict[Vertex, Block], *, merged: bool) -> Cables:
    """Return the cables that are drawn: between routers, or between groups where each is one dot."""
    cables: Cables = Counter()
    for one, other, count in switches.graph.edges(data="cables"):
        ends = Cable(one, other)
        if merged:
            ends = Cable(owner[one], owner[other])
        cables[ends] += count
    return cables


def _ring(marks: list[Block], centre: Spot, radius: float, start: float) -> Spots:
    """Return spots for marks around a centre. start: angle of the first."""
    spots = {}
    for number, mark in enumerate(marks):
        angle = start + 2 * math.pi * number / len(marks)
        x = centre.x + radius * math.cos(angle)
        y = centre.y + radius * math.sin(angle)
        spots[mark] = Spot(x, y)
    return spots


def _draw_threads(axes: Axes, cables: Cables, spots: Spots, owner: dict[Vertex, Block]) -> None:
    """Draw thin lines, those inside a group above those between groups. owner: switch -> its group."""
    from matplotlib.collections import LineCollection

    # Cables between groups are many and long: below the others.
    for inside, colour in ((False, BETWEEN), (True, INSIDE)):
        lines = []
        for cable in cables:
            is_loop = cable.one == cable.other
            if not is_loop and _is_inside(cable, owner) == inside:
                start, end = spots[cable.one], spots[cable.other]
                lines.append((start, end))
        # The more lines, the fainter each: thousands would else fill the circle.
        share = 150 / max(1, len(lines))
        alpha = max(0.06, min(0.7, share))
        drawn = LineCollection(
            lines,
            colors=colour,
            linewidths=0.6,
            alpha=alpha,
            zorder=1,
        )
        axes.add_collection(drawn)


def _is_inside(cable: Cable, owner: dict[Vertex, Block]) -> bool:
    group = owner.get(cable.one)
    # A custom fabric has no groups, and none of its cables are inside of one.
    return group is not None and group == owner.get(cable.other)


def draw_box(axes: Axes, switches: Switches, config: TopologyConfig) -> None:
    """Draw a torus as a box seen from a corner; cables that close a ring are left out."""
    dims = [min(LONGEST, length) for length in config.fabric.dims]
    # A vertex is (kind, x, depth, y): an oblique projection shifts what lies deeper to the upper right.
    spots: Spots = {}
    wide, deep, high = dims
    for vertex in switches.graph:
        _, x, depth, y = vertex
        if x < wide and depth < deep and y < high:
            right, up = 0.42 * depth, 0.34 * depth
            spots[vertex] = Spot(x + right, y + up)
    # A cable that closes a ring joins switches more than one step apart.
    for one, other in switches.graph.edges:
        is_shown = one in spots and other in spots
        if is_shown and _steps(one, other) == 1:
            front = min(one[2], other[2])
            far = front / max(1, deep)  # 0 at the front, below 1 at the back
            start, end = spots[one], spots[other]
            axes.plot(
                [start.x, end.x],
                [start.y, end.y],
                color=LINE,
                linewidth=0.9 - 0.5 * far,
                alpha=0.8 - 0.5 * far,
                zorder=1 - far,
            )
    draw_dots(axes, spots.values(), 9000 / len(spots))
    if len(spots) <= MOST_NAMED:
        for vertex, spot in spots.items():
            name = ".".join(map(str, vertex[1:]))
            axes.text(
                spot.x + 0.06,
                spot.y - 0.07,
                name,
                fontsize=5,
                ha="left",
                va="top",
            )
    axes.set_aspect("equal")
    size = " x ".join(map(str, config.fabric.dims))
    part = ""
    if tuple(dims) != config.fabric.dims:
        corner = " x ".join(map(str, dims))
        part = f"; its corner of {corner} is shown"
    note = f"torus of {size} switches{part}; the cables that close the rings are left out"
    axes.text(
        0.5,
        -0.04,
        note,
        ha="center",
        va="top",
        fontsize=7,
        transform=axes.transAxes,
    )


def _steps(one: Vertex, other: Vertex) -> int:
    """Return the distance of two switches of a torus whose rings are open."""
    pairs = zip(one[1:], other[1:], strict=True)
    return sum(abs(a - b) for a, b in pairs)


def draw_free(axes: Axes, switches: Switches) -> None:
    """Draw a custom fabric: by forces where it is small, on a circle where it is large."""
    import networkx as nx

    graph = switches.graph
    # Forces are slow and show no structure any more where there are hundreds of switches.
    is_small = len(graph) <= MOST_FORCED
    forced = partial(nx.spring_layout, seed=0, weight=None)
    positions = forced(graph) if is_small else nx.circular_layout(graph)
    spots: Spots = {}
    for vertex, (x, y) in positions.items():
        spots[vertex] = Spot(float(x), float(y))
    cables: Cables = Counter(Cable(one, other) for one, other in graph.edges)
    _draw_threads(axes, cables, spots, {})
    draw_dots(axes, spots.values(), 6000 / len(spots))
    if len(graph) <= MOST_NAMED:
        for vertex, spot in spots.items():
            name = label(text(vertex))
            axes.text(
                spot.x,
                spot.y + 0.04,
                name,
                fontsize=6,
                ha="center",
            )
