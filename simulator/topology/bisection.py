"""What half of the nodes can send to the other half: in closed form, or the least of some cuts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.progress import doing
from simulator.topology.config import TopologyConfig
from simulator.topology.network import Network
from simulator.topology.routing import distances
from simulator.topology.switches import Switches

Floats: TypeAlias = NDArray[np.float64]

_SPECTRAL = 1200
"""Switches of the largest fabric whose spectrum is looked at: half a second."""
_VECTORS = 3
"""Eigenvectors that are looked at."""


@doing("searching the bisection")
def bisection(config: TopologyConfig, switches: Switches, net: Network) -> tuple[float, str]:
    """Return the bisection bandwidth [B/s in one direction], and what the figure is.

    Of custom and faulty fabrics the least maximum flow between two halves, over a few ways to halve
    the nodes. Which half is the worst is NP-hard to find, so that it is an upper bound.
    """
    if math.isfinite(switches.bisection) and not config.faults:
        slot = config.node.pcie or math.inf
        slots = config.nics // 2 * slot  # of half of the NICs
        if switches.home and slots < switches.bisection:
            return slots, "of the NICs' PCIe slots"
        return switches.bisection, switches.note
    if config.nodes == 1:
        return switches.bisection, "of the fabric without faults"
    # A half and its complement are one way to halve: the one with node 0 names it.
    everyone = frozenset(range(config.nodes))
    splits = set()
    for half in halvings(net):
        splits.add(half if 0 in half else everyone - half)
    least = min(halves(net, half) for half in splits)
    return least, f"least of {len(splits)} halvings, an estimate from above"


def halvings(net: Network) -> Iterator[frozenset[int]]:
    """Yield halves of the nodes to try: in order, every other, near, on a side of vibrations.

    Near: by switch hops from the first node. Vibrations: the eigenvectors of the graph's Laplacian
    after the constant one; halves on either side of their median are cut by few links (Fiedler
    1975; Pothen, Simon and Liou 1990).
    """
    count = len(net.nic_links) // net.nics_per_node
    nodes = np.arange(count)
    homes = [_switches_of(net, node)[0] for node in range(count)]
    home = np.array(homes)  # [node] switch
    hops = np.array(distances(net.paths.ahead, homes[0]))  # [switch], from node 0's
    # Stable sorts: nodes that are alike stay in their order, on every machine.
    even, odd = nodes[0::2], nodes[1::2]
    orders = [
        nodes,
        np.concatenate([even, odd]),
        np.argsort(home, kind="stable"),
        np.lexsort((home, hops[home])),
    ]
    if len(net.paths.ahead) <= _SPECTRAL:
        for vector in _vibrations(net, count).T:
            orders.append(np.argsort(vector, kind="stable"))
    for order in orders:
        half = order[: count // 2].tolist()
        yield frozenset(half)


def _switches_of(net: Network, node: int) -> list[int]:
    """Return the switches of the NICs of a node; the first one of the fabric if none works."""
    first = node * net.nics_per_node
    nics = range(first, first + net.nics_per_node)
    working = [nic for nic in nics if net.nic_links[nic] >= 0]
    switches = [net.switch[nic] for nic in working]
    return switches or [0]


def _vibrations(net: Network, nodes: int) -> Floats:
    """Return the slowest vibrations of the switches at each node [node, vector].

    A node's is the mean over its NICs; links are springs as stiff as they are wide. Where something
    is cut off, the lowest vectors are flat but for one part.
    """
    # The Laplacian of the fabric: its quadratic form is the sum of weight (x_i - x_j)^2 over links,
    # so that its slow vectors separate what few links join.
    size = len(net.paths.ahead)
    width = np.zeros((size, size))  # [switch, switch] B/s
    for start, ahead in enumerate(net.paths.ahead):
        for end, links in ahead.items():
            capacity = net.capacity[list(links)]  # [cable] B/s
            width[start, end] = capacity.sum()
    widest = max(width.max(), 1.0)
    weight = np.maximum(width, width.T) / widest  # [switch, switch], symmetric
    degree = weight.sum(axis=1)  # [switch]
    laplacian = np.diag(degree) - weight
    _, vectors = np.linalg.eigh(laplacian)  # [switch, vector], slowest first
    # The first eigenvector is constant: it divides nothing.
    slowest = vectors[:, 1 : 1 + _VECTORS]  # [switch, vector]
    means = []
    for node in range(nodes):
        switches = _switches_of(net, node)
        of_node = slowest[switches]  # [nic, vector]
        means.append(of_node.mean(axis=0))
    # Rounded, so that ties stay in the order of the nodes on every machine.
    rounded: Floats = np.array(means).round(9)  # [node, vector]
    return rounded


def halves(net: Network, first: frozenset[int] = frozenset()) -> float:
    """Return the maximum flow from some nodes' NICs to all others' [B/s].

    first: the nodes that send; by default the first half.
    """
    import networkx as nx

    nodes = len(net.nic_links) // net.nics_per_node
    senders = first or frozenset(range(nodes // 2))
    # All NICs that send are one source, all others one sink: NICs on the same switch are one edge.
    flow = nx.DiGraph()
    flow.add_nodes_from(("source", "sink"))
    for number, link in enumerate(net.nic_links):
        if link < 0:
            continue
        node = number // net.nics_per_node
        switch = net.switch[number]
        edge = ("source", switch) if node in senders else (switch, "sink")
        width = _nic_width(net, number)
        if flow.has_edge(*edge):
            width += flow.edges[edge]["capacity"]
        flow.add_edge(*edge, capacity=width)
    for start, ahead in enumerate(net.paths.ahead):
        for end, links in ahead.items():
            width = sum(float(net.capacity[link]) for link in links)
            flow.add_edge(start, end, capacity=width)
    return float(nx.maximum_flow_value(flow, "source", "sink"))


def _nic_width(net: Network, number: int) -> float:
    """Return what a NIC carries [B/s]: its line rate, or what its PCIe slot lets through."""
    link = net.nic_links[number]
    width = float(net.capacity[link])
    slot = net.slot[number]
    if slot < 0:
        return width
    return min(width, float(net.capacity[slot]))
