"""The whole cluster as one directed networkx graph: GPUs, NVSwitches, NICs and switches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from simulator.topology.assembly import build
from simulator.topology.cabling import Vertex
from simulator.topology.config import TopologyConfig
from simulator.topology.faults import Damage
from simulator.topology.link_kind import LinkKind
from simulator.topology.switches import Switches

if TYPE_CHECKING:
    import networkx as nx


def as_graph(config: TopologyConfig) -> nx.DiGraph:
    """Return the cluster with its faults.

    Errors: LayoutError if the fabric cannot hold these nodes.

    Vertices: ("gpu", node, i), ("nvswitch", node), ("nic", node, j), and the family's switches.
    Edges go both ways and carry `bandwidth` [B/s], `latency` [s] and `kind`: nvlink, pcie, nic or
    fabric; fabric edges also `cables`, whose bandwidth together theirs is. With `node.pcie`,
    ("pcie", node, j) is between NIC j and its GPUs; without, the edges between them are
    infinite: nothing there is slower than the NIC.
    """
    import networkx as nx

    switches, damage = build(config)
    result = nx.DiGraph()
    _add_gpus(result, config, damage)
    _add_nics(result, config, switches, damage)
    result.add_nodes_from(switches.cabling)
    for one, other, trunk in switches.cabling.edges():
        # In `Switches` the bandwidth is that of one cable, here that of all.
        _both(
            result,
            one,
            other,
            bandwidth=trunk.bandwidth * trunk.cables,
            latency=trunk.latency,
            kind=LinkKind.FABRIC,
            cables=trunk.cables,
        )
    result.graph["bisection_bandwidth"] = switches.bisection
    return result


def _add_gpus(graph: nx.DiGraph, config: TopologyConfig, damage: Damage) -> None:
    """Join every GPU that is not down to its NVSwitch."""
    node = config.node
    half = node.nvlink_latency / 2  # two such edges lead from GPU to GPU
    for rank in range(config.gpus):
        if rank in damage.gpu_down:
            continue
        n, i = divmod(rank, node.gpus)
        gpu, nvswitch = ("gpu", n, i), ("nvswitch", n)
        width = damage.nvlink.get(rank, node.nvlink)
        _both(graph, gpu, nvswitch, bandwidth=width, latency=half, kind=LinkKind.NVLINK)


def _add_nics(
    graph: nx.DiGraph, config: TopologyConfig, switches: Switches, damage: Damage
) -> None:
    """Join every NIC that works to its switch and to its GPUs."""
    node = config.node
    share = node.gpus // node.nics  # GPUs of one NIC
    slot = node.pcie or math.inf
    for number, home in enumerate(switches.home):
        n, j = divmod(number, node.nics)
        width = node.nic
        latency = config.fabric.leaf_latency / 2  # two such edges lead from NIC to NIC
        if switches.nic:
            width, latency = switches.nic[number]
        width = damage.nic.get(number, width)
        first = j * share
        own = [("gpu", n, i) for i in range(first, first + share)]
        users = [gpu for gpu in own if gpu in graph]
        if not home or not width or not users:
            continue
        # Without PCIe the GPUs hang on the NIC itself.
        nic = hub = ("nic", n, j)
        _both(graph, nic, home, bandwidth=width, latency=latency, kind=LinkKind.NIC)
        if node.pcie is not None:
            hub = ("pcie", n, j)
            _both(graph, hub, nic, bandwidth=slot, latency=0.0, kind=LinkKind.PCIE)
        for gpu in users:
            _both(graph, gpu, hub, bandwidth=slot, latency=0.0, kind=LinkKind.PCIE)


def _both(graph: nx.DiGraph, one: Vertex, other: Vertex, **attributes: object) -> None:
    """Add an edge there and one back."""
    graph.add_edge(one, other, **attributes)
    graph.add_edge(other, one, **attributes)
