"""The graph of a cluster: layers as rows, groups on a circle, a torus as a box.

Large graphs are drawn in blocks: switches of one pod, plane, rail or group, or neighbours, become
one mark.
"""

from __future__ import annotations

from pathlib import Path

from simulator.escapes import visible
from simulator.plot.canvas import PAGE, Sheet, opened
from simulator.plot.cluster_layers import draw_domain, draw_layers, rows_of
from simulator.plot.cluster_rings import draw_box, draw_circle, draw_free
from simulator.topology import TopologyConfig, describe
from simulator.topology.assembly import build
from simulator.topology.switches import Switches
from simulator.units import format_bandwidth

ROUND = ("dragonfly", "slim_fly", "custom")
"""Kinds of fabric that are drawn on a square."""


def cluster(config: TopologyConfig, path: Path) -> None:
    """Draw the switches of a cluster and what is attached to them. Errors: LayoutError if the nodes do not fit."""
    switches, _ = build(config)
    sheet = Sheet(PAGE, _height(config, switches))
    with opened(path, sheet) as (figure, [axes]):
        # By the shape of the graph, not by its family: most families are layers.
        if not len(switches.graph):
            draw_domain(axes, config)
        elif config.fabric.kind == "torus_3d":
            draw_box(axes, switches, config)
        elif config.fabric.kind == "custom":
            draw_free(axes, switches)
        elif config.fabric.kind in ROUND:
            draw_circle(axes, switches)
        else:
            draw_layers(axes, switches, config)
        axes.axis("off")
        figure.suptitle(_caption(config), fontsize=9)


def _height(config: TopologyConfig, switches: Switches) -> float:
    """Return the height of a figure [inch]."""
    if config.fabric.kind in ROUND:
        return 7.0
    # Layers need the same room however many there are; GPUs a row of their own each.
    if len(switches.graph):
        return 4.6
    return 2.2 + 0.35 * rows_of(config.node.gpus)


def _caption(config: TopologyConfig) -> str:
    figures = describe(config)
    name = visible(config.name)
    head = f"{name}: {figures['kind']}, {config.gpus:,} GPUs"
    rate = format_bandwidth(figures["bisection_bandwidth"])
    bisection = f"bisection {rate}"
    if not figures["switches"]:
        return f"{head} under one NVSwitch\n{bisection}"
    # Cables to NICs are left out, as in the tables that publications count switches and links in.
    switches, links = figures["switches"], figures["links"]
    counts = f"{switches:,} switches, {links:,} cables between them"
    hops = figures["diameter_switch_hops"]
    diameter = f"{hops} cables between the furthest switches"
    return f"{head}, {counts}\n{bisection}, {diameter}"
