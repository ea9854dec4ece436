"""The whole cluster as one directed networkx graph: GPUs, NVSwitches, NICs and switches."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from simulator.topology.assembly import build
from simulator.topology.config import TopologyConfig
from simulator.topology.switches import Vertex

if TYPE_CHECKING:
    import networkx as nx


def as_graph(config: TopologyConfig) -> nx.DiGraph:
    """Return the cluster with its faults.

    Errors: LayoutError if the fabric cannot hold these nodes.

    Vertices: ("gpu", node, i), ("nvswitch", node), ("nic", node, j), and the family's switches.
    Edges go both ways and carry `bandwidth` [B/s], `latency` [s] and `kind`: nvlink, pcie, nic or
    fabric; fabric edges also `cables`, whose bandwidth together theirs is. With `node.pcie`,
    ("pcie", node, j) stands between NIC j and its GPUs; without, the edges between them are
    infinite: nothing there is slower than the NIC.
    """
    import networkx as nx

    switches, damage = build(config)
    result, node = nx.DiGraph(), config.node
    for rank, (n, i) in enumerate(itertools.product(range(config.nodes), range(node.gpus))):
        if rank not in damage.gpu_down:
            width, half = damage.nvlink.get(rank, node.nvlink), node.nvlink_latency / 2
            _both(
                result, ("gpu", n, i), ("nvswitch", n), bandwidth=width, latency=half, kind="nvlink"
            )
    share = node.gpus // node.nics
    for number, home in enumerate(switches.home):
        n, j = divmod(number, node.nics)
        width, latency = (
            switches.nic[number] if switches.nic else (node.nic, config.fabric.leaf_latency / 2)
        )
        width = damage.nic.get(number, width)
        users = [
            ("gpu", n, i) for i in range(j * share, (j + 1) * share) if ("gpu", n, i) in result
        ]
        if home and width and users:
            _both(result, ("nic", n, j), home, bandwidth=width, latency=latency, kind="nic")
            hub = ("nic", n, j)
            if node.pcie is not None:
                hub = ("pcie", n, j)
                _both(result, hub, ("nic", n, j), bandwidth=node.pcie, latency=0.0, kind="pcie")
            for gpu in users:
                _both(result, gpu, hub, bandwidth=node.pcie or math.inf, latency=0.0, kind="pcie")
    result.add_nodes_from(switches.graph)
    for one, other, edge in switches.graph.edges(data=True):
        width = edge["bandwidth"] * edge["cables"]
        _both(
            result,
            one,
            other,
            bandwidth=width,
            latency=edge["latency"],
            kind="fabric",
            cables=edge["cables"],
        )
    result.graph["bisection_bandwidth"] = switches.bisection
    return result


def _both(graph: nx.DiGraph, one: Vertex, other: Vertex, **attributes: object) -> None:
    graph.add_edge(one, other, **attributes)
    graph.add_edge(other, one, **attributes)
