"""Dispatch and combine -> demands on links."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from simulator.collectives.demand import Demand, Loads, total
from simulator.collectives.paths import Links, ways
from simulator.topology import Network


class Load(Protocol):
    """How many copies of a token an exchange carries, per token of a GPU."""

    @property
    def over_nic(self) -> float:
        """Return the copies over one NIC in one direction."""

    @property
    def over_nvlink(self) -> float:
        """Return the copies over one NVLink port in one direction."""

    @property
    def ep_nodes(self) -> int:
        """Return the nodes of the group."""

    @property
    def gpus_per_node(self) -> int:
        """Return the GPUs of the group on each node."""


def exchange(network: Network, members: Sequence[int], load: Load) -> Demand:
    """Return hierarchical dispatch of one byte per token copy: NIC once per distinct remote node, then NVLink.

    Scale it by the bytes of all tokens of one GPU, each once. Combine is its mirror and loads the links alike: partial
    sums go over NVLink to the GPU of the token's rail and over its NIC home. DeepSeek-V3, arXiv 2412.19437, 3.2.2.
    """
    nvlink, nic = _units(network, tuple(members), load.ep_nodes, load.gpus_per_node)
    links = np.concatenate([nvlink.links, nic.links])  # they share none
    sizes = np.concatenate([nvlink.bytes * load.over_nvlink, nic.bytes * load.over_nic])
    order = np.flatnonzero(sizes)[np.argsort(links[sizes > 0])]
    return Demand(links[order], sizes[order], nvlink.latency + nic.latency)


@lru_cache(maxsize=256)  # the layers of a stage differ in how much travels, not in where
def _units(network: Network, members: tuple[int, ...], ep_nodes: int, gpus_per_node: int) -> tuple[Demand, Demand]:
    """Return the demands of one copy per token over NVLink and over NICs."""
    ranks = np.asarray(members)
    ports: Loads = [(network.gpu_up[ranks], 1.0), (network.gpu_down[ranks], 1.0)]
    near = total(ports, network.route(members[0], members[min(1, len(members) - 1)])[1])
    if ep_nodes == 1:
        return near, total([], 0.0)
    nics: Loads = [(network.nic_up[ranks], 1.0), (network.nic_down[ranks], 1.0)]
    far = network.route(members[0], members[(ep_nodes - 1) * gpus_per_node])[1]
    return near, total([*nics, *_between_leaves(network, ranks, 1.0)], far)


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
