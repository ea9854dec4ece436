"""Expert traffic between the GPUs of a group, and the tokens of experts and GPUs, in one MoE layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulator.collectives import dispatcher_of
from simulator.costs import layer_visits
from simulator.experts import Visits
from simulator.plot.column import above, check_content, panels
from simulator.program import Program
from simulator.report import Report
from simulator.report.palette import BLUE, EMPTY, VERMILLION
from simulator.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
FILL, EVEN = BLUE, VERMILLION


def traffic(timeline: Timeline, report: Report, path: Path) -> None:
    """Draw what dispatch moves between the GPUs of an expert group for a micro-batch in its least even layer.

    Errors: InputError where no two GPUs hold different experts.
    """
    check_content("traffic", report.scenario)
    program = timeline.program
    layer, visits = least_even(program)
    sent = dispatched(program, visits) / 1e6  # [src, dst] MB
    note = f"dispatch of one micro-batch in {layer}, once per node over NICs, there over NVLink"
    with panels([3.1], report, note, path) as rows:
        axes = rows[0]
        # Pairs that exchange nothing are left out of the scale, and show the grey behind.
        shown = np.ma.masked_equal(sent, 0.0)
        image = axes.imshow(
            shown,
            cmap="viridis",
            interpolation="nearest",
            vmin=0.0,
        )
        axes.set_facecolor(EMPTY)
        _nodes(axes, visits, sent)
        axes.set_xlabel("to GPU of the expert group", fontsize=7)
        axes.set_ylabel("from GPU of the expert group", fontsize=7)
        bar = axes.figure.colorbar(
            image,
            ax=axes,
            pad=0.02,
            fraction=0.046,
        )
        bar.set_label("sent [MB]; grey: nothing", fontsize=7)


def experts(timeline: Timeline, report: Report, path: Path) -> None:
    """Draw the tokens of each expert in all layers, and of each expert and GPU in the least even layer.

    Errors: InputError without experts.
    """
    check_content("experts", report.scenario)
    program = timeline.program
    name, visits = least_even(program)
    visits_of_layers = layer_visits(program.scenario)
    per_layer = np.array([layer.experts for layer in visits_of_layers])  # [layer, expert]
    # Visits are shares per token: times the tokens of one GPU, then of all that route together.
    own = program.costs.work.own
    members = len(visits.gpus)
    tokens = visits.experts * own * members  # [expert]
    note = f"lower panels: {name}, one micro-batch of all {members} GPUs of an expert group"
    with panels([1.6, 1.25, 1.25], report, note, path) as (layers, of_experts, of_gpus):
        _layers(layers, per_layer, program.scenario.model.moe_layers)
        _bars(of_experts, tokens, "expert")
        _bars(of_gpus, visits.rows(own), "GPU of the expert group")


def least_even(program: Program) -> tuple[str, Visits]:
    """Return the MoE layer whose busiest GPU is furthest above the mean, by name and what a token does in it."""
    visits = layer_visits(program.scenario)
    # The busiest GPU sets the pace of a layer: `pairs` are tokens per GPU, weighted by their experts.
    above_mean = [layer.pairs.max() / layer.pairs.mean() for layer in visits]
    worst = int(np.argmax(above_mean))
    first = visits[0].pairs
    if all(np.array_equal(layer.pairs, first) for layer in visits):
        return "any MoE layer, all alike", visits[worst]
    layers = program.scenario.model.moe_layers
    # Layers of MTP modules come behind those of the model.
    name = f"MTP module {worst - layers + 1}"
    if worst < layers:
        name = f"MoE layer {worst + 1} of {layers}"
    return f"{name}, the least even", visits[worst]


def dispatched(program: Program, visits: Visits) -> Floats:
    """Return the bytes of a micro-batch that dispatch moves in one layer between GPUs of a group [src, dst] B."""
    copies = dispatcher_of(program.scenario).way.expected(visits, 1.0)
    copies = copies.scaled(program.costs.token_bytes("dispatch"))
    return copies.nic + copies.nvlink


def _nodes(axes: Axes, visits: Visits, sent: Floats) -> None:
    """Frame the nodes of a matrix [src, dst] MB, and say what a pair of GPUs sends inside of one and between two."""
    from matplotlib.patches import Rectangle

    size = visits.gpus_per_node
    node = np.arange(len(sent)) // size  # [gpu]
    inside = node[:, None] == node  # [src, dst]
    # Pairs that exchange nothing, such as a GPU with itself, would pull the means down.
    parts = {"in a node, NVLink": inside, "between nodes, NIC": ~inside}
    labels = []
    for where, mask in parts.items():
        pairs = sent[mask & (sent > 0)]  # [pair] MB
        if len(pairs):
            mean, most = pairs.mean(), pairs.max()
            label = f"{where}: mean {mean:.3g} MB, most {most:.3g} MB"
            labels.append(label)
    # Cells are centred on whole numbers: a node begins half a cell before its first GPU.
    for first in range(0, len(sent), size):
        corner = (first - 0.5, first - 0.5)
        frame = Rectangle(
            corner,
            size,
            size,
            fill=False,
            edgecolor=EVEN,
            linewidth=0.8,
        )
        axes.add_patch(frame)
    axes.set_title("\n".join(labels), fontsize=6.5)


def _layers(axes: Axes, tokens: Floats, layers: int) -> None:
    """Draw tokens [layer, expert] over an even share. layers: those that are not of an MTP module."""
    # Shares, so that layers compare whatever number of tokens they route.
    shares = tokens / tokens.mean(axis=1, keepdims=True)  # [layer, expert]
    rows, columns = tokens.shape
    image = axes.imshow(
        shares,
        aspect="auto",
        cmap="viridis",
        interpolation="nearest",
        # No narrower than 5% either way, or rounding of an even distribution would look uneven.
        vmin=min(0.95, shares.min()),
        vmax=max(1.05, shares.max()),
        extent=(-0.5, columns - 0.5, rows + 0.5, 0.5),
    )
    axes.set_xlabel("expert", fontsize=7)
    name = "MoE layer, MTP last" if rows > layers else "MoE layer"
    axes.set_ylabel(name, fontsize=7)
    bar = axes.figure.colorbar(
        image,
        ax=axes,
        pad=0.02,
        fraction=0.05,
    )
    bar.set_label("tokens / even share", fontsize=6.5)


def _bars(axes: Axes, tokens: Floats, what: str) -> None:
    """Draw tokens as differences from their mean. tokens: [expert or GPU]."""
    mean = float(tokens.mean())
    least = float(tokens.min())
    most = float(tokens.max())
    edges = np.arange(len(tokens) + 1) - 0.5
    # From the mean, not from zero: what matters is who has more than an even share.
    axes.stairs(
        tokens,
        edges,
        baseline=mean,
        fill=True,
        color=FILL,
    )
    excess = f"{most / mean - 1.0:+.1%}"
    label = f"mean {mean:,.0f}, busiest {most:,.0f} ({excess})"
    axes.axhline(
        mean,
        color=EVEN,
        linewidth=0.9,
        linestyle="--",
        label=label,
    )
    axes.set_xlim(-0.5, len(tokens) - 0.5)
    # Differences of a percent would vanish on an axis from zero.
    room = 0.1 * max(most - least, 0.01 * mean)
    lowest = max(0.0, least - room)
    axes.set_ylim(lowest, most + room)
    axes.set_xlabel(what, fontsize=7)
    axes.set_ylabel("tokens", fontsize=7)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    above(axes, 1)
