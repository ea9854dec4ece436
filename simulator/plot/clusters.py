"""The graph of a cluster: layers as rows, groups on a circle, a torus as a box.

Large graphs are drawn in blocks: switches of one pod, plane, rail or group, or neighbours, become
one mark.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from simulator.plot.steps import metadata
from simulator.topology import TopologyConfig, describe
from simulator.topology.network import build
from simulator.topology.switches import Switches, Vertex, text
from simulator.units import format_bandwidth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Block: TypeAlias = tuple[Any, ...]
Places: TypeAlias = dict[Block, tuple[float, float]]

MOST = 32
"""marks in a row, beyond which they are drawn in blocks"""
COLOURS = {
    "node": "#999999",
    "nvswitch": "#009E73",
    "leaf": "#0072B2",
    "agg": "#56B4E9",
    "mid": "#56B4E9",
    "spine": "#D55E00",
    "core": "#D55E00",
    "top": "#D55E00",
    "router": "#0072B2",
    "switch": "#0072B2",
}
ORDER = ("node", "leaf", "agg", "mid", "spine", "core", "top")
PLURAL = {
    "leaf": "leaves",
    "switch": "switches",
    "agg": "aggregation switches",
    "mid": "middle switches",
    "top": "top switches",
    "core": "core switches",
}


def cluster(config: TopologyConfig, path: Path) -> None:
    """Draw the switches of a cluster and what hangs on them. Errors: LayoutError if the nodes do not fit."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    switches, _ = build(config)
    kind = config.fabric.kind
    round_ = kind in ("dragonfly", "slim_fly", "custom")
    height = (
        7.0 if round_ else 4.6 if len(switches.graph) else 2.2 + 0.35 * _rows_of(config.node.gpus)
    )
    figure, axes = plt.subplots(figsize=(7.2, height), layout="constrained")
    if not len(switches.graph):
        _one_domain(axes, config)
    elif kind == "torus_3d":
        _box(axes, switches, config)
    elif kind == "custom":
        _free(axes, switches)
    elif round_:
        _circle(axes, switches)
    else:
        _rows(axes, switches, config)
    axes.axis("off")
    figure.suptitle(_caption(config), fontsize=9)
    figure.savefig(path, dpi=160, metadata=metadata(path))
    plt.close(figure)


def _caption(config: TopologyConfig) -> str:
    figures = describe(config)
    bisection = format_bandwidth(figures["bisection_bandwidth"])
    if not figures["switches"]:
        return f"{config.name}: {figures['kind']}, {config.gpus:,} GPUs under one NVSwitch\nbisection {bisection}"
    return (
        f"{config.name}: {figures['kind']}, {config.gpus:,} GPUs, {figures['switches']:,} switches, "
        f"{figures['links']:,} cables between them\nbisection {bisection}, "
        f"{figures['diameter_switch_hops']} cables between the furthest switches"
    )


def _name(kind: str, count: int) -> str:
    return f"{count:,} {kind if count == 1 else PLURAL.get(kind, kind + 's')}"


def _rows_of(gpus: int) -> int:
    """Return the rows in which GPUs are drawn: whole columns, at most 18; those of NVL72 are its trays of 4."""
    return next(rows for rows in range(1, gpus + 1) if gpus % rows == 0 and gpus // rows <= 18)


def _one_domain(axes: Axes, config: TopologyConfig) -> None:
    """Draw GPUs under their NVSwitch, column by column, one line for the links of a column."""
    gpus = config.node.gpus
    rows = _rows_of(gpus)
    width = gpus // rows
    for x in range(width):
        ends = ([x + 0.5, x + 0.5, width / 2], [-0.5 * (rows - 1), 0.0, 1.2])
        axes.plot(*ends, color="#BBBBBB", linewidth=0.6, zorder=1)
        for row in range(rows):
            axes.scatter(
                [x + 0.5],
                [-0.5 * row],
                s=min(260, 4200 / width),
                marker="s",
                color=COLOURS["node"],
                zorder=2,
            )
            axes.text(
                x + 0.5,
                -0.5 * row,
                str(x * rows + row),
                ha="center",
                va="center",
                fontsize=6,
                zorder=3,
            )
    axes.scatter([width / 2], [1.2], s=400, marker="s", color=COLOURS["nvswitch"], zorder=2)
    axes.text(
        width / 2,
        1.5,
        f"NVSwitch, {format_bandwidth(config.node.nvlink)} to each GPU",
        ha="center",
        fontsize=8,
    )
    if config.fabric.kind == "nvl72":
        note = f"each column a compute tray of {rows} GPUs"
        axes.text(width / 2, -0.5 * rows, note, ha="center", va="center", fontsize=7)
    axes.set_ylim(-0.5 * rows - 0.2, 1.9)


# Layers


def _rows(axes: Axes, switches: Switches, config: TopologyConfig) -> None:
    """Draw nodes, leaves and the layers above them as rows of blocks, all cables between two blocks as one line."""
    layers: dict[str, list[Vertex]] = defaultdict(list)
    for vertex in switches.graph:
        layers[vertex[0]].append(vertex)
    block = {
        vertex: mark for members in layers.values() for vertex, mark in _blocks(members).items()
    }
    block |= _blocks([("node", n) for n in range(config.nodes)])
    layers["node"] = [("node", n) for n in range(config.nodes)]
    shown = [layer for layer in ORDER if layer in layers]
    places: Places = {}
    for height, layer in enumerate(shown):
        marks = list(dict.fromkeys(block[vertex] for vertex in layers[layer]))
        places |= {mark: ((k + 0.5) / len(marks), float(height)) for k, mark in enumerate(marks)}
    wires: Counter[tuple[Block, Block]] = Counter()
    for one, other, cables in switches.graph.edges(data="cables"):
        wires[block[one], block[other]] += cables
    for number, home in enumerate(switches.home):
        if home:
            wires[block["node", number // config.node.nics], block[home]] += 1
    _wires(axes, wires, places)
    _marks(axes, places, Counter(block.values()))
    for height, layer in enumerate(shown):
        word = "rack" if layer == "node" and config.fabric.kind == "nvl72" else layer
        axes.text(
            -0.03, height, _name(word, len(layers[layer])), ha="right", va="center", fontsize=8
        )
        if height:
            axes.text(
                1.01,
                height - 0.5,
                _between(wires, places, height),
                ha="left",
                va="center",
                fontsize=7,
            )
    axes.set_xlim(-0.24, 1.14)
    axes.set_ylim(-0.35, len(shown) - 0.65)


def _between(wires: Counter[tuple[Block, Block]], places: Places, height: int) -> str:
    ends = (
        (sorted((places[one][1], places[other][1])), cables)
        for (one, other), cables in wires.items()
    )
    return f"{sum(cables for levels, cables in ends if levels[1] == height):,}\ncables"


def _blocks(members: list[Vertex]) -> dict[Vertex, Block]:
    """Return the mark of every switch of a layer: itself, its pod, plane or rail, or a run of neighbours."""
    if len(members) <= MOST:
        return {vertex: vertex for vertex in members}
    firsts = dict.fromkeys(vertex[1] for vertex in members)
    if len(members[0]) > 2 and 1 < len(firsts) <= MOST:
        return {vertex: (vertex[0], vertex[1], "*") for vertex in members}
    each = -(-len(members) // 8)
    marks = {}
    for k, vertex in enumerate(members):
        run = members[k // each * each : (k // each + 1) * each]
        first, last = (text(end).removeprefix(end[0]) for end in (run[0], run[-1]))
        marks[vertex] = (vertex[0], f"{first}-{last}")
    return marks


def _wires(axes: Axes, wires: Counter[tuple[Block, Block]], places: Places) -> None:
    most = max(wires.values(), default=1)
    faint = max(0.12, min(0.8, 60 / max(1, len(wires))))
    for (one, other), cables in wires.items():
        if one != other:
            xs, ys = zip(places[one], places[other], strict=True)
            width = 0.4 + 1.6 * math.log1p(cables) / math.log1p(most) if most > 1 else 0.7
            axes.plot(
                xs,
                ys,
                color="#444444",
                linewidth=width,
                alpha=faint,
                zorder=1,
                solid_capstyle="round",
            )


def _marks(axes: Axes, places: Places, sizes: Counter[Block]) -> None:
    row = Counter(y for _, y in places.values())
    for mark, (x, y) in places.items():
        crowded = row[y] > 16
        size = 90 if crowded else 260
        axes.scatter(
            [x],
            [y],
            s=size,
            marker="s",
            color=COLOURS[mark[0]],
            edgecolor="white",
            linewidth=0.5,
            zorder=2,
        )
        label = text(mark).removeprefix(mark[0])
        if sizes[mark] > 1 and mark[-1] == "*":
            label = f"{label}\nx {sizes[mark]}"
        axes.text(
            x,
            y - (0.09 if crowded else 0.12),
            label,
            ha="center",
            va="top",
            zorder=3,
            fontsize=4.5 if crowded else 6,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
        )


# Circles, boxes and the rest


def _circle(axes: Axes, switches: Switches) -> None:
    """Draw groups (dragonfly) or columns (slim fly) around a circle, their routers on small circles."""
    groups: dict[Block, list[Vertex]] = defaultdict(list)
    for vertex in switches.graph:
        groups[vertex[:2] if len(vertex) == 3 else vertex[:3]].append(vertex)
    merged = len(switches.graph) > 400
    small = 0.55 * math.pi / max(3, len(groups))
    places: Places = {}
    for k, (group, members) in enumerate(groups.items()):
        angle = math.pi / 2 - 2 * math.pi * k / len(groups)
        x, y = math.cos(angle), math.sin(angle)
        for i, vertex in enumerate([group] if merged else members):
            turn = angle + 2 * math.pi * i / len(members)
            radius = 0.0 if merged else min(0.3, small)
            places[vertex] = (x + radius * math.cos(turn), y + radius * math.sin(turn))
        away = 1.0 + (0.06 if merged else min(0.3, small) + 0.07)
        axes.text(
            away * x, away * y, ".".join(map(str, group[1:])), ha="center", va="center", fontsize=6
        )
    wires: Counter[tuple[Block, Block]] = Counter()
    owner = {vertex: group for group, members in groups.items() for vertex in members}
    for one, other, cables in switches.graph.edges(data="cables"):
        wires[(owner[one], owner[other]) if merged else (one, other)] += cables
    _threads(axes, wires, places, owner)
    _dots(axes, places.values(), 4000 / max(40, len(places)))
    axes.set_aspect("equal")
    what = "group" if len(next(iter(groups))) == 2 else "column"
    shown = (
        f"each dot a {what} of {len(switches.graph) // len(groups)} routers"
        if merged
        else f"each ring a {what}"
    )
    axes.text(
        0,
        -1.42,
        f"{shown}; cables within a {what} green, between them grey",
        ha="center",
        fontsize=7,
    )


def _threads(
    axes: Axes, wires: Counter[tuple[Block, Block]], places: Places, owner: dict[Vertex, Block]
) -> None:
    from matplotlib.collections import LineCollection

    for inside, colour in ((False, "#777777"), (True, "#009E73")):
        chosen = [
            (one, other)
            for one, other in wires
            if (owner.get(one) == owner.get(other, 0)) == inside
        ]
        lines = [(places[one], places[other]) for one, other in chosen if one != other]
        alpha = max(0.06, min(0.7, 150 / max(1, len(lines))))
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=0.6, alpha=alpha, zorder=1)
        )


def _dots(axes: Axes, places: Iterable[tuple[float, float]], size: float) -> None:
    xs, ys = zip(*places, strict=True)
    axes.scatter(
        xs,
        ys,
        s=min(90.0, size),
        color=COLOURS["switch"],
        edgecolor="white",
        linewidth=0.4,
        zorder=2,
    )


def _box(axes: Axes, switches: Switches, config: TopologyConfig) -> None:
    """Draw a torus as a box seen from a corner, at most 8 switches long; cables that close a ring are left out."""
    dims = [min(8, length) for length in config.fabric.dims]
    kept = [
        vertex
        for vertex in switches.graph
        if all(k < most for k, most in zip(vertex[1:], dims, strict=True))
    ]
    places = {
        vertex: (vertex[1] + 0.42 * vertex[2], vertex[3] + 0.34 * vertex[2]) for vertex in kept
    }
    for one, other in switches.graph.edges:
        step = sum(abs(a - b) for a, b in zip(one[1:], other[1:], strict=True))
        if one in places and other in places and step == 1:
            xs, ys = zip(places[one], places[other], strict=True)
            depth = min(one[2], other[2]) / max(1, dims[1])
            axes.plot(
                xs,
                ys,
                color="#444444",
                linewidth=0.9 - 0.5 * depth,
                alpha=0.8 - 0.5 * depth,
                zorder=1 - depth,
            )
    _dots(axes, places.values(), 9000 / len(places))
    if len(kept) <= 64:
        for vertex, (x, y) in places.items():
            axes.text(
                x + 0.06, y - 0.07, ".".join(map(str, vertex[1:])), fontsize=5, ha="left", va="top"
            )
    axes.set_aspect("equal")
    size = " x ".join(str(length) for length in config.fabric.dims)
    part = (
        f"; its corner of {' x '.join(map(str, dims))} is shown"
        if tuple(dims) != config.fabric.dims
        else ""
    )
    note = f"torus of {size} switches{part}; the cables that close the rings are left out"
    axes.text(0.5, -0.04, note, ha="center", va="top", fontsize=7, transform=axes.transAxes)


def _free(axes: Axes, switches: Switches) -> None:
    """Draw a custom fabric: by forces where it is small, on a circle where it is large."""
    import networkx as nx

    graph = switches.graph
    places = (
        nx.spring_layout(graph, seed=0, weight=None)
        if len(graph) <= 200
        else nx.circular_layout(graph)
    )
    points: Places = {vertex: (float(x), float(y)) for vertex, (x, y) in places.items()}
    _threads(axes, Counter(dict.fromkeys(graph.edges, 1)), points, {})
    _dots(axes, points.values(), 6000 / len(points))
    if len(graph) <= 64:
        for vertex, (x, y) in points.items():
            axes.text(x, y + 0.04, text(vertex), fontsize=6, ha="center")
