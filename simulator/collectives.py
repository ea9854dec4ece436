"""Collectives, sends, dispatch and combine -> demands on the links of the cluster graph.

Inside a step a collective is a coflow: one demand per link, paced by its slowest link. `simulate collective`, which
resolves every pair, belongs to the same functions.
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


@dataclass(frozen=True, slots=True)
class Demand:
    """What a collective asks of the network.

    links: link indices, each once. bytes: that cross each [B]. occupied: bytes over the kernel's efficiency on that
    link, what the link is busy for [B]. latency: of all its rounds [s].
    """

    links: NDArray[np.int64]
    bytes: NDArray[np.float64]
    occupied: NDArray[np.float64]
    latency: float

    def alone(self, capacity: NDArray[np.float64]) -> float:
        """Return the seconds that the demand takes on an idle network, latency apart."""
        return float(np.max(self.occupied / capacity[self.links], initial=0.0))


def _demand(network: Network, loads: Sequence[tuple[NDArray[np.int64] | Sequence[int], float]],
            model: CommunicationModel, latency: float) -> Demand:
    links = np.concatenate([np.asarray(ids, dtype=np.int64) for ids, _ in loads] or [np.zeros(0, np.int64)])
    each = np.concatenate([np.full(len(ids), count) for ids, count in loads] or [np.zeros(0)])
    unique, place = np.unique(links, return_inverse=True)
    total = np.bincount(place, weights=each, minlength=len(unique))
    keep = total > 0
    share = np.array([model.nvlink if network.kind[link] == "nvlink" else model.nic for link in unique[keep]])
    return Demand(unique[keep], total[keep], total[keep] / share, latency)


def exchange(network: Network, members: Sequence[int], routing: Routing, token_bytes: float,
             model: CommunicationModel) -> Demand:
    """Return hierarchical dispatch or combine of a group: NIC once per distinct remote node, then NVLink.

    token_bytes: of all the tokens of one GPU, each once [B]. Combine is dispatch's mirror: partial sums go over NVLink
    to the GPU of the sender's rail, and over its NIC back. DeepSeek-V3, arXiv 2412.19437, section 3.2.2.
    """
    ranks = np.asarray(members)
    over_nic, over_nvlink = token_bytes * routing.over_nic, token_bytes * routing.over_nvlink
    loads: list[tuple[NDArray[np.int64] | Sequence[int], float]] = [
        (network.gpu_up[ranks], over_nvlink), (network.gpu_down[ranks], over_nvlink)
    ]
    latency = 0.0
    if len(members) > 1:
        latency = network.route(members[0], members[1])[1]
    if routing.ep_nodes > 1:
        loads += [(network.nic_up[ranks], over_nic), (network.nic_down[ranks], over_nic)]
        loads += _between_leaves(network, members, over_nic)
        latency += network.route(members[0], members[-1])[1]
    return _demand(network, loads, model, latency)


def _between_leaves(network: Network, members: Sequence[int], over_nic: float
                    ) -> list[tuple[NDArray[np.int64] | Sequence[int], float]]:
    """Return what the leaves' uplinks carry: each GPU sends an equal share to its rail on every other node."""
    by_rail: dict[int, list[int]] = {}
    for rank in members:
        by_rail.setdefault(rank % network.gpus_per_node, []).append(rank)
    loads: list[tuple[NDArray[np.int64] | Sequence[int], float]] = []
    for peers in by_rail.values():
        for source in peers:
            for target in peers:
                middle = network.route(source, target)[0][1:-1] if source != target else ()
                loads += [([link], over_nic / (len(peers) - 1)) for link in middle]
    return loads


def send(network: Network, source: int, target: int, size: float, model: CommunicationModel) -> Demand:
    """Return a send of `size` bytes [B] from one GPU to another."""
    links, latency = network.route(source, target)
    return _demand(network, [([link], size) for link in links], model, latency)


def _nodes(network: Network, members: Sequence[int]) -> list[list[int]]:
    nodes: dict[int, list[int]] = {}
    for rank in sorted(members):
        nodes.setdefault(network.node_of(rank), []).append(rank)
    groups = list(nodes.values())
    if len({len(group) for group in groups}) > 1:
        raise LayoutError(f"spreads a group of {len(members)} unevenly over {len(groups)} nodes", key="layout")
    return groups


def _rings(network: Network, members: Sequence[int], size: float, model: CommunicationModel) -> Demand:
    """Return one pass of hierarchical rings over `size` bytes [B]: inside each node, then across, rail by rail.

    A pass is a reduce-scatter or an all-gather: every GPU sends (g-1)/g of the buffer over NVLink and then
    (n-1)/n of its g-th part over its NIC, for n nodes of g GPUs.
    """
    nodes = _nodes(network, members)
    local, count = len(nodes[0]), len(nodes)
    loads: list[tuple[NDArray[np.int64] | Sequence[int], float]] = []
    latency = 0.0
    if local > 1:
        ranks = np.asarray([rank for node in nodes for rank in node])
        share = size * (local - 1) / local
        loads += [(network.gpu_up[ranks], share), (network.gpu_down[ranks], share)]
        latency += (local - 1) * network.route(nodes[0][0], nodes[0][1])[1]
    if count > 1:
        share = size / local * (count - 1) / count
        slowest = 0.0
        for near, far in zip(nodes, nodes[1:] + nodes[:1], strict=True):
            for source, target in zip(near, far, strict=True):
                links, delay = network.route(source, target)
                loads.append((links, share))
                slowest = max(slowest, delay)
        latency += (count - 1) * slowest
    return _demand(network, loads, model, latency)


COLLECTIVES: dict[str, Callable[[Network, Sequence[int], float, CommunicationModel], Demand]] = {
    "reduce_scatter": _rings,
    "all_gather": _rings,
}
