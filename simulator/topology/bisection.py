"""What half of the nodes can send to the other half: in closed form, or the least of some cuts."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from simulator.topology.config import TopologyConfig
from simulator.topology.network import Network
from simulator.topology.routing import distances
from simulator.topology.switches import Switches

_SPECTRAL = 1200
"""Switches of the largest fabric whose spectrum is looked at: half a second."""
_VECTORS = 3
"""Eigenvectors that are looked at."""


def bisection(config: TopologyConfig, switches: Switches, net: Network) -> tuple[float, str]:
    """Return the bisection bandwidth [B/s in one direction], and what the figure is.

    Of custom and faulty fabrics the least maximum flow between two halves, over a few ways to halve
    the nodes. Which half is the worst is NP-hard to find, so that it is an upper bound.
    """
    if math.isfinite(switches.bisection) and not config.faults:
        slots = config.nics // 2 * (config.node.pcie or math.inf)
        if switches.home and slots < switches.bisection:
            return slots, "of the NICs' PCIe slots"
        return switches.bisection, switches.note
    if config.nodes == 1:
        return switches.bisection, "of the fabric without faults"
    everyone = frozenset(range(config.nodes))
    # A half and the other are one way to halve: the one with node 0 names it.
    splits = {half if 0 in half else everyone - half for half in halvings(net)}
    least = min(halves(net, half) for half in splits)
    return least, f"least of {len(splits)} halvings, an estimate from above"


def halvings(net: Network) -> Iterator[frozenset[int]]:
    """Yield halves of the nodes to try: in order, every other, near, on a side of vibrations.

    Near: by switch hops from the first node. Vibrations: the eigenvectors of the graph's Laplacian
    after the constant one; halves on either side of their median are cut by few links (Fiedler
    1975; Pothen, Simon and Liou 1990).
    """
    nodes = len(net.nic_links) // net.nics_per_node
    home = np.array([_switches_of(net, node)[0] for node in range(nodes)])  # [node]
    hops = np.array(distances(net.paths.ahead, int(home[0])))[home]  # [node], from node 0
    orders = [
        np.arange(nodes),
        np.concatenate([np.arange(0, nodes, 2), np.arange(1, nodes, 2)]),
        np.argsort(home, kind="stable"),
        np.lexsort((home, hops)),
    ]
    if len(net.paths.ahead) <= _SPECTRAL:
        orders += [np.argsort(vector, kind="stable") for vector in _vibrations(net, nodes).T]
    for order in orders:
        yield frozenset(order[: nodes // 2].tolist())


def _switches_of(net: Network, node: int) -> list[int]:
    """Return the switches of the NICs of a node; the first one of the fabric if none works."""
    numbers = range(node * net.nics_per_node, (node + 1) * net.nics_per_node)
    return [net.switch[number] for number in numbers if net.nic_links[number] >= 0] or [0]


def _vibrations(net: Network, nodes: int) -> NDArray[np.float64]:
    """Return the slowest vibrations of the switches at each node [node, vector].

    Mean over its NICs, weighted by bandwidth. The lowest vectors are flat but for one part where something is cut off.
    """
    size = len(net.paths.ahead)
    weight = np.zeros((size, size))  # [switch, switch] B/s
    for start, ahead in enumerate(net.paths.ahead):
        for end, links in ahead.items():
            weight[start, end] = net.capacity[list(links)].sum()
    weight = np.maximum(weight, weight.T) / max(weight.max(), 1.0)
    laplacian = np.diag(weight.sum(axis=1)) - weight
    # The first eigenvector is constant: it divides nothing.
    vectors = np.linalg.eigh(laplacian)[1][:, 1 : 1 + _VECTORS]  # [switch, vector]
    mean = np.array([vectors[_switches_of(net, node)].mean(axis=0) for node in range(nodes)])
    # So that ties stay in the order of the nodes on every machine.
    rounded: NDArray[np.float64] = mean.round(9)
    return rounded


def halves(net: Network, first: frozenset[int] = frozenset()) -> float:
    """Return the maximum flow from some nodes' NICs to all others' [B/s].

    first: the nodes that send; by default the first half.
    """
    import networkx as nx

    nodes = len(net.nic_links) // net.nics_per_node
    senders = first or frozenset(range(nodes // 2))
    flow = nx.DiGraph()
    flow.add_nodes_from(("source", "sink"))
    for number, link in enumerate(net.nic_links):
        if link < 0:
            continue
        sends = number // net.nics_per_node in senders
        switch = net.switch[number]
        edge = ("source", switch) if sends else (switch, "sink")
        so_far = flow.get_edge_data(*edge, {"capacity": 0.0})["capacity"]
        flow.add_edge(*edge, capacity=so_far + _nic_width(net, number))
    for start, ahead in enumerate(net.paths.ahead):
        for end, links in ahead.items():
            flow.add_edge(start, end, capacity=sum(float(net.capacity[link]) for link in links))
    return float(nx.maximum_flow_value(flow, "source", "sink"))


def _nic_width(net: Network, number: int) -> float:
    """Return what a NIC carries [B/s]: its line rate, or what its PCIe slot lets through."""
    width = float(net.capacity[net.nic_links[number]])
    slot = net.slot[number]
    return min(width, float(net.capacity[slot])) if slot >= 0 else width
