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
    with opened(path, Sheet(PAGE, _height(config, switches))) as (figure, [axes]):
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
    return 4.6 if len(switches.graph) else 2.2 + 0.35 * rows_of(config.node.gpus)


def _caption(config: TopologyConfig) -> str:
    figures = describe(config)
    head = f"{visible(config.name)}: {figures['kind']}, {config.gpus:,} GPUs"
    bisection = f"bisection {format_bandwidth(figures['bisection_bandwidth'])}"
    if not figures["switches"]:
        return f"{head} under one NVSwitch\n{bisection}"
    return (
        f"{head}, {figures['switches']:,} switches, {figures['links']:,} cables between them\n"
        f"{bisection}, {figures['diameter_switch_hops']} cables between the furthest switches"
    )
