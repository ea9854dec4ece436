"""Clusters whose switches stand in layers: rows from the nodes up, or GPUs under one NVSwitch."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from simulator.plot.cluster_marks import COLOURS, LINE, Block, Cable, Cables, Spot, Spots
from simulator.topology import TopologyConfig
from simulator.topology.switches import Switches, Vertex, text
from simulator.units import format_bandwidth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Layers: TypeAlias = dict[str, list[Vertex]]
"""Name of a layer -> its switches, or nodes."""

MOST = 32
"""Marks in a row, beyond which they are drawn in blocks."""
BLOCKS = 8
"""Blocks of neighbours, where nothing else groups switches."""
MOST_COLUMNS = 18
"""Columns of GPUs under one NVSwitch."""
CROWDED = 16
"""Marks in a row, beyond which they are drawn small."""
ORDER = ("node", "leaf", "agg", "mid", "spine", "core", "top")
"""Layers from below."""
PLURAL = {
    "leaf": "leaves",
    "switch": "switches",
    "agg": "aggregation switches",
    "mid": "middle switches",
    "top": "top switches",
    "core": "core switches",
}
"""Layer -> what several of it are called, where an s does not do."""


def rows_of(gpus: int) -> int:
    """Return the rows in which GPUs are drawn, in whole columns: those of NVL72 are its trays of 4."""
    return next(
        rows for rows in range(1, gpus + 1) if gpus % rows == 0 and gpus // rows <= MOST_COLUMNS
    )


def draw_domain(axes: Axes, config: TopologyConfig) -> None:
    """Draw GPUs under their NVSwitch, column by column, one line for the links of a column."""
    rows = rows_of(config.node.gpus)
    columns = config.node.gpus // rows
    middle = columns / 2
    # GPUs of a column share a line to the switch, which would else be a solid area.
    for column in range(columns):
        x = column + 0.5
        axes.plot(
            [x, x, middle], [-0.5 * (rows - 1), 0.0, 1.2], color="#BBBBBB", linewidth=0.6, zorder=1
        )
        for row in range(rows):
            _draw_gpu(axes, Spot(x, -0.5 * row), column * rows + row, min(260, 4200 / columns))
    axes.scatter([middle], [1.2], s=400, marker="s", color=COLOURS["nvswitch"], zorder=2)
    rate = format_bandwidth(config.node.nvlink)
    axes.text(middle, 1.5, f"NVSwitch, {rate} to each GPU", ha="center", fontsize=8)
    if config.fabric.kind == "nvl72":
        note = f"each column a compute tray of {rows} GPUs"
        axes.text(middle, -0.5 * rows, note, ha="center", va="center", fontsize=7)
    axes.set_ylim(-0.5 * rows - 0.2, 1.9)


def _draw_gpu(axes: Axes, spot: Spot, number: int, size: float) -> None:
    axes.scatter([spot.x], [spot.y], s=size, marker="s", color=COLOURS["node"], zorder=2)
    axes.text(*spot, str(number), ha="center", va="center", fontsize=6, zorder=3)


def draw_layers(axes: Axes, switches: Switches, config: TopologyConfig) -> None:
    """Draw nodes, leaves and the layers above them as rows of blocks, all cables between two blocks as one line."""
    layers: Layers = defaultdict(list)
    for vertex in switches.graph:
        layers[vertex[0]].append(vertex)
    layers["node"] = [("node", number) for number in range(config.nodes)]
    block: dict[Vertex, Block] = {}
    for members in layers.values():
        block |= _blocks(members)
    shown = [layer for layer in ORDER if layer in layers]
    spots: Spots = {}
    for height, layer in enumerate(shown):
        marks = list(dict.fromkeys(block[vertex] for vertex in layers[layer]))
        for number, mark in enumerate(marks):
            spots[mark] = Spot((number + 0.5) / len(marks), float(height))
    cables = _cables(switches, block, config.node.nics)
    _draw_cables(axes, cables, spots)
    _draw_marks(axes, spots, Counter(block.values()))
    for height, layer in enumerate(shown):
        word = "rack" if layer == "node" and config.fabric.kind == "nvl72" else layer
        name = _count(word, len(layers[layer]))
        axes.text(-0.03, height, name, ha="right", va="center", fontsize=8)
        if height:
            below = f"{_up_to(height, cables, spots):,}\ncables"
            axes.text(1.01, height - 0.5, below, ha="left", va="center", fontsize=7)
    axes.set_xlim(-0.24, 1.14)
    axes.set_ylim(-0.35, len(shown) - 0.65)


def _cables(switches: Switches, block: dict[Vertex, Block], nics: int) -> Cables:
    """Return the cables between blocks, those of the NICs included. nics: per node."""
    cables: Cables = Counter()
    for one, other, count in switches.graph.edges(data="cables"):
        cables[Cable(block[one], block[other])] += count
    for number, home in enumerate(switches.home):
        if home:
            cables[Cable(block["node", number // nics], block[home])] += 1
    return cables


def _up_to(height: int, cables: Cables, spots: Spots) -> int:
    """Return how many cables lead up to a layer."""
    return sum(
        count
        for cable, count in cables.items()
        if max(spots[cable.one].y, spots[cable.other].y) == height
    )


def _count(kind: str, count: int) -> str:
    return f"{count:,} {kind if count == 1 else PLURAL.get(kind, kind + 's')}"


def _blocks(members: Sequence[Vertex]) -> dict[Vertex, Block]:
    """Return the mark of every switch of a layer: itself, its pod, plane or rail, or a run of neighbours."""
    if len(members) <= MOST:
        return {vertex: vertex for vertex in members}
    groups = {vertex[1] for vertex in members}
    if len(members[0]) > 2 and 1 < len(groups) <= MOST:
        return {vertex: (vertex[0], vertex[1], "*") for vertex in members}
    size = -(-len(members) // BLOCKS)
    marks: dict[Vertex, Block] = {}
    for start in range(0, len(members), size):
        run = members[start : start + size]
        first, last = (text(vertex).removeprefix(vertex[0]) for vertex in (run[0], run[-1]))
        marks |= {vertex: (vertex[0], f"{first}-{last}") for vertex in run}
    return marks


def _draw_cables(axes: Axes, cables: Cables, spots: Spots) -> None:
    """Draw a line per connection, the wider the more cables, the fainter the more lines there are."""
    # From one cable to thousands: widths grow with the logarithm.
    most = max(cables.values(), default=1)
    faint = max(0.12, min(0.8, 60 / max(1, len(cables))))
    for cable, count in cables.items():
        if cable.one == cable.other:
            continue
        width = 0.4 + 1.6 * math.log1p(count) / math.log1p(most) if most > 1 else 0.7
        axes.plot(
            *zip(spots[cable.one], spots[cable.other], strict=True),
            color=LINE,
            linewidth=width,
            alpha=faint,
            zorder=1,
            solid_capstyle="round",
        )


def _draw_marks(axes: Axes, spots: Spots, sizes: Counter[Block]) -> None:
    """Draw blocks with their names. sizes: switches of each."""
    in_row = Counter(spot.y for spot in spots.values())
    for mark, spot in spots.items():
        crowded = in_row[spot.y] > CROWDED
        axes.scatter(
            [spot.x],
            [spot.y],
            s=90 if crowded else 260,
            marker="s",
            color=COLOURS[mark[0]],
            edgecolor="white",
            linewidth=0.5,
            zorder=2,
        )
        name = text(mark).removeprefix(mark[0])
        if sizes[mark] > 1 and mark[-1] == "*":
            name = f"{name}\nx {sizes[mark]}"
        axes.text(
            spot.x,
            spot.y - (0.09 if crowded else 0.12),
            name,
            ha="center",
            va="top",
            zorder=3,
            fontsize=4.5 if crowded else 6,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
        )
