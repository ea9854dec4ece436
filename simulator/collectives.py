"""Collectives, sends, dispatch and combine -> demands on the links of the cluster graph.

Inside a step a collective is a coflow: one demand per link, paced by its slowest link.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.errors import LayoutError
from simulator.experts import Routing
from simulator.hardware import CommunicationModel
from simulator.topology import Network

Links = NDArray[np.int64]
Loads = list[tuple[Links, float]]


@dataclass(frozen=True, slots=True)
class Demand:
    """What a collective asks of the network.

    links: link indices, each once. bytes: that cross each [B]. latency: of all its rounds [s].
    """

    links: Links
    bytes: NDArray[np.float64]
    latency: float

    def scaled(self, factor: float) -> Demand:
        """Return the demand with every byte count multiplied."""
        return Demand(self.links, self.bytes * factor, self.latency)

    def occupied(self, network: Network, model: CommunicationModel) -> NDArray[np.float64]:
        """Return what each link is busy for [B]: its bytes over the share that the kernel reaches on that link."""
        share = [model.nvlink if network.kind[link] == "nvlink" else model.nic for link in self.links.tolist()]
        result: NDArray[np.float64] = self.bytes / np.array(share)
        return result


def _demand(loads: Loads, latency: float) -> Demand:
    """Return loads (links, bytes on each) as a demand that names every link once."""
    links = np.concatenate([ids for ids, _ in loads]) if loads else np.zeros(0, np.int64)
    each = np.concatenate([np.full(len(ids), count) for ids, count in loads]) if loads else np.zeros(0)
    used = each > 0
    unique, place = np.unique(links[used], return_inverse=True)
    total: NDArray[np.float64] = np.bincount(place, weights=each[used], minlength=len(unique)).astype(np.float64)
    return Demand(unique, total, latency)


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
    return _demand(loads, latency)


def _between_leaves(network: Network, ranks: Links, over_nic: float) -> Loads:
    """Return what leaves' uplinks carry when each GPU sends equal shares to its rail's GPU on every other node."""
    loads: Loads = []
    nodes = ranks // network.gpus_per_node
    others = len(np.unique(nodes)) - 1
    for rail in np.unique(network.rail[ranks]):
        on_rail = network.rail[ranks] == rail
        for leaf in np.unique(network.leaf[ranks[on_rail]]).tolist():
            here = on_rail & (network.leaf[ranks] == leaf)
            beyond = others + 1 - len(np.unique(nodes[here]))
            if beyond:
                crossing = over_nic * int(here.sum()) * beyond / others
                loads += [(network.leaf_up[[leaf]], crossing), (network.leaf_down[[leaf]], crossing)]
    return loads


def send(network: Network, source: int, target: int) -> tuple[tuple[int, ...], float]:
    """Return the links that a send crosses, and its latency [s]."""
    return network.route(source, target)


def _nodes(network: Network, members: Sequence[int]) -> list[list[int]]:
    nodes: dict[int, list[int]] = {}
    for rank in sorted(members):
        nodes.setdefault(network.node_of(rank), []).append(rank)
    groups = list(nodes.values())
    if len({len(group) for group in groups}) > 1:
        raise LayoutError(f"spreads a group of {len(members)} GPUs unevenly over {len(groups)} nodes", key="layout.pp")
    return groups


def rings(network: Network, members: Sequence[int]) -> Demand:
    """Return one pass of hierarchical rings over one byte: inside each node, then across, rail by rail.

    A pass is a reduce-scatter or an all-gather: every GPU sends (g-1)/g of the buffer over NVLink and then
    (n-1)/n of its g-th part over its NIC, for n nodes of g GPUs.
    """
    nodes = _nodes(network, members)
    local, count = len(nodes[0]), len(nodes)
    loads: Loads = []
    latency = 0.0
    if local > 1:
        ranks = np.asarray(sorted(members))
        share = (local - 1) / local
        loads += [(network.gpu_up[ranks], share), (network.gpu_down[ranks], share)]
        latency += (local - 1) * network.route(nodes[0][0], nodes[0][1])[1]
    if count > 1:
        share = (count - 1) / count / local
        slowest = 0.0
        for near, far in zip(nodes, nodes[1:] + nodes[:1], strict=True):
            for source, target in zip(near, far, strict=True):
                links, delay = network.route(source, target)
                loads.append((np.asarray(links, np.int64), share))
                slowest = max(slowest, delay)
        latency += (count - 1) * slowest
    return _demand(loads, latency)


COLLECTIVES: dict[str, Callable[[Network, Sequence[int]], Demand]] = {
    "reduce_scatter": rings,
    "all_gather": rings,
}
"""name -> demand of one byte of the whole buffer; scale it by the buffer."""
