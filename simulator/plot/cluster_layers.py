"""Clusters whose switches stand in layers: rows from the nodes up, or GPUs under one NVSwitch."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from simulator.plot.cluster_marks import COLOURS, LINE, Block, Cable, Cables, Spot, Spots
from simulator.report import palette
from simulator.topology import TopologyConfig
from simulator.topology.cabling import Vertex
from simulator.topology.switches import Switches, text
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
GROUND = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8}
"""What is put below the name of a mark."""
PLURAL = {
    "leaf": "leaves",
    "switch": "switches",
    "agg": "aggregation switches",
    "mid": "middle switches",
    "top": "top switches",
    "core": "core switches",
}
"""Layer -> what several of it are called, where an s does not do."""


class MarkSize(NamedTuple):
    """How large a mark and its name are."""

    area: float
    """Area of the mark [pt2]."""
    name_below: float
    """Distance of the name below the mark, in layers."""
    letters: float
    """Size of the name [pt]."""


SIZE = MarkSize(area=260, name_below=0.12, letters=6)
CROWDED_SIZE = MarkSize(area=90, name_below=0.09, letters=4.5)


def rows_of(gpus: int) -> int:
    """Return the rows in which GPUs are drawn, in whole columns: those of NVL72 are its trays of 4."""
    for rows in range(1, gpus):
        is_whole = gpus % rows == 0
        if is_whole and gpus // rows <= MOST_COLUMNS:
            return rows
    return gpus


def draw_domain(axes: Axes, config: TopologyConfig) -> None:
    """Draw GPUs under their NVSwitch, column by column, one line for the links of a column."""
    rows = rows_of(config.node.gpus)
    columns = config.node.gpus // rows
    middle = columns / 2
    size = min(260, 4200 / columns)
    lowest = -0.5 * (rows - 1)
    # GPUs of a column share a line to the switch, which would else be a solid area.
    for column in range(columns):
        x = column + 0.5
        xs = [x, x, middle]
        ys = [lowest, 0.0, 1.2]
        axes.plot(
            xs,
            ys,
            color=palette.PALE,
            linewidth=0.6,
            zorder=1,
        )
        for row in range(rows):
            spot = Spot(x, -0.5 * row)
            _draw_gpu(axes, spot, column * rows + row, size)
    green = COLOURS["nvswitch"]
    axes.scatter(
        [middle],
        [1.2],
        s=400,
        marker="s",
        color=green,
        zorder=2,
    )
    rate = format_bandwidth(config.node.nvlink)
    axes.text(
        middle,
        1.5,
        f"NVSwitch, {rate} to each GPU",
        ha="center",
        fontsize=8,
    )
    if config.fabric.kind == "nvl72":
        note = f"each column a compute tray of {rows} GPUs"
        axes.text(
            middle,
            -0.5 * rows,
            note,
            ha="center",
            va="center",
            fontsize=7,
        )
    axes.set_ylim(-0.5 * rows - 0.2, 1.9)


def _draw_gpu(axes: Axes, spot: Spot, number: int, size: float) -> None:
    grey = COLOURS["node"]
    axes.scatter(
        [spot.x],
        [spot.y],
        s=size,
        marker="s",
        color=grey,
        zorder=2,
    )
    axes.text(
        *spot,
        str(number),
        ha="center",
        va="center",
        fontsize=6,
        zorder=3,
    )


def draw_layers(axes: Axes, switches: Switches, config: TopologyConfig) -> None:
    """Draw nodes, leaves and the layers above them as rows of blocks, all cables between two blocks as one line."""
    layers: Layers = defaultdict(list)
    for vertex in switches.graph:
        layers[vertex[0]].append(vertex)
    layers["node"] = [("node", number) for number in range(config.nodes)]
    block: dict[Vertex, Block] = {}
    for members in layers.values():
        block |= _blocks(members)
    # Blocks before spots: several switches may share a mark, and only marks take room in a row.
    shown = [layer for layer in ORDER if layer in layers]
    spots: Spots = {}
    for height, layer in enumerate(shown):
        marks = dict.fromkeys(block[vertex] for vertex in layers[layer])
        spots |= _row_of_spots(list(marks), height)
    cables = _cables(switches, block, config.node.nics)
    _draw_cables(axes, cables, spots)
    _draw_marks(axes, spots, Counter(block.values()))
    # A rack of NVL72 is one NVLink domain, which the topology calls a node.
    racks = config.fabric.kind == "nvl72"
    for height, layer in enumerate(shown):
        word = "rack" if layer == "node" and racks else layer
        name = _count(word, len(layers[layer]))
        axes.text(
            -0.03,
            height,
            name,
            ha="right",
            va="center",
            fontsize=8,
        )
        if height:
            below = f"{_up_to(height, cables, spots):,}\ncables"
            axes.text(
                1.01,
                height - 0.5,
                below,
                ha="left",
                va="center",
                fontsize=7,
            )
    axes.set_xlim(-0.24, 1.14)
    axes.set_ylim(-0.35, len(shown) - 0.65)


def _row_of_spots(marks: Sequence[Block], height: int) -> Spots:
    """Return spots for the marks of a layer, evenly spaced from 0 to 1."""
    spots: Spots = {}
    for number, mark in enumerate(marks):
        x = (number + 0.5) / len(marks)
        spots[mark] = Spot(x, float(height))
    return spots


def _cables(switches: Switches, block: dict[Vertex, Block], nics: int) -> Cables:
    """Return the cables between blocks, those of the NICs included. nics: per node."""
    cables: Cables = Counter()
    for one, other, count in switches.graph.edges(data="cables"):
        cables[Cable(block[one], block[other])] += count
    # `home` is the switch of each NIC, empty where a NIC has none.
    for number, home in enumerate(switches.home):
        if home:
            node = block["node", number // nics]
            cables[Cable(node, block[home])] += 1
    return cables


def _up_to(height: int, cables: Cables, spots: Spots) -> int:
    """Return how many cables lead up to a layer."""
    total = 0
    for cable, count in cables.items():
        one, other = spots[cable.one], spots[cable.other]
        upper = max(one.y, other.y)
        if upper == height:
            total += count
    return total


def _count(kind: str, count: int) -> str:
    word = kind
    if count != 1:
        word = PLURAL.get(kind, f"{kind}s")
    return f"{count:,} {word}"


def _blocks(members: Sequence[Vertex]) -> dict[Vertex, Block]:
    """Return the mark of every switch of a layer: itself, its pod, plane or rail, or a run of neighbours."""
    if len(members) <= MOST:
        return {vertex: vertex for vertex in members}
    # Vertices are (layer, pod or plane or rail, number): those with a group in the middle have one.
    groups = {vertex[1] for vertex in members}
    grouped = len(members[0]) > 2
    if grouped and 1 < len(groups) <= MOST:
        return {vertex: (vertex[0], vertex[1], "*") for vertex in members}
    size = -(-len(members) // BLOCKS)
    marks: dict[Vertex, Block] = {}
    for start in range(0, len(members), size):
        run = members[start : start + size]
        first, last = run[0], run[-1]
        mark = (first[0], f"{_number(first)}-{_number(last)}")
        marks |= dict.fromkeys(run, mark)
    return marks


def _number(mark: Block) -> str:
    """Return the name of a mark without its layer, which its row says."""
    return text(mark).removeprefix(mark[0])


def _draw_cables(axes: Axes, cables: Cables, spots: Spots) -> None:
    """Draw a line per connection, the wider the more cables, the fainter the more lines there are."""
    # From one cable to thousands: widths grow with the logarithm.
    most = max(cables.values(), default=1)
    lines = max(1, len(cables))
    faint = max(0.12, min(0.8, 60 / lines))
    log_most = math.log1p(most)
    for cable, count in cables.items():
        # Inside of one block there is nothing to draw a line between.
        if cable.one == cable.other:
            continue
        width = 0.7
        if most > 1:
            width = 0.4 + 1.6 * math.log1p(count) / log_most
        start = spots[cable.one]
        end = spots[cable.other]
        axes.plot(
            [start.x, end.x],
            [start.y, end.y],
            color=LINE,
            linewidth=width,
            alpha=faint,
            zorder=1,
            solid_capstyle="round",
        )


def _draw_marks(axes: Axes, spots: Spots, switches: Counter[Block]) -> None:
    """Draw blocks with their names. switches: of each block."""
    in_row = Counter(spot.y for spot in spots.values())
    for mark, spot in spots.items():
        crowded = in_row[spot.y] > CROWDED
        size = CROWDED_SIZE if crowded else SIZE
        axes.scatter(
            [spot.x],
            [spot.y],
            s=size.area,
            marker="s",
            color=COLOURS[mark[0]],
            edgecolor="white",
            linewidth=0.5,
            zorder=2,
        )
        name = _number(mark)
        count = switches[mark]
        # A run of neighbours says how many in its name, a whole group does not.
        if count > 1 and mark[-1] == "*":
            name = f"{name}\nx {count}"
        axes.text(
            spot.x,
            spot.y - size.name_below,
            name,
            ha="center",
            va="top",
            zorder=3,
            fontsize=size.letters,
            # Lines cross below the marks: without a ground of its own a name could not be read.
            bbox=GROUND,
        )
