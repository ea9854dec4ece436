"""Dispatch and combine -> demands on links."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Demand, Loads, total
from simulator.collectives.paths import Links, ways
from simulator.experts import Routing
from simulator.topology import Network


def exchange(network: Network, members: Sequence[int], routing: Routing) -> Demand:
    """Return hierarchical dispatch of one byte per token copy: NIC once per distinct remote node, then NVLink.

    Scale it by the bytes of all tokens of one GPU, each once. Combine is its mirror and loads the links alike: partial
    sums go over NVLink to the GPU of the token's rail and over its NIC home. DeepSeek-V3, arXiv 2412.19437, 3.2.2.
    """
    ranks = np.asarray(members)
    loads: Loads = [
        (network.gpu_up[ranks], routing.over_nvlink),
        (network.gpu_down[ranks], routing.over_nvlink),
    ]
    latency = network.route(members[0], members[min(1, len(members) - 1)])[1]
    if routing.ep_nodes > 1:
        loads += [(network.nic_up[ranks], routing.over_nic), (network.nic_down[ranks], routing.over_nic)]
        loads += _between_leaves(network, ranks, routing.over_nic)
        latency += network.route(members[0], members[(routing.ep_nodes - 1) * routing.gpus_per_node])[1]
    return total(loads, latency)


def _between_leaves(network: Network, ranks: Links, over_nic: float) -> Loads:
    """Return what the fabric's links carry when each GPU sends equal shares to its peer on every other node."""
    nodes = ranks // network.gpus_per_node
    one, other = np.nonzero((nodes[:, None] != nodes) & ((ranks[:, None] - ranks) % network.gpus_per_node == 0))
    way = ways(network, ranks[one], ranks[other])
    share = over_nic / (len(np.unique(nodes)) - 1)
    fabric = np.array([kind == "fabric" for kind in network.kind])[way.link]
    links, place = np.unique(way.link[fabric], return_inverse=True)
    carried = np.bincount(place, way.share[fabric] * share, len(links))
    return [(links[[number]], float(each)) for number, each in enumerate(carried)]
