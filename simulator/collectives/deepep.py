"""DeepEP's normal kernels: a token goes once to each node of its experts, and on over NVLink.

DeepSeek-V3, arXiv 2412.19437, section 3.2.2; github deepseek-ai/DeepEP.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from simulator.collectives.batch import Batch, TokenKernels
from simulator.collectives.demand import Demand, Loads, total
from simulator.collectives.kinds import EXCHANGES
from simulator.collectives.paths import Floats, Links, ways
from simulator.experts import Load, Routing
from simulator.hardware import KernelConfig
from simulator.topology import Network


def kernels(table: KernelConfig) -> TokenKernels:
    """Return the normal kernels, which a flat layout of the copies shares."""
    return TokenKernels({kind: table.communication[kind] for kind in EXCHANGES})


def demand(batch: Batch) -> Demand:
    """Return the demand of one byte per token copy."""
    return exchange(batch.network, batch.members, batch.load, back=batch.kind.returns)


def exchange(
    network: Network, members: Sequence[int], load: Load | Routing, *, back: bool = False
) -> Demand:
    """Return hierarchical dispatch of one byte per token copy: NIC once per distinct remote node, then NVLink.

    Scale it by the bytes of all tokens of one GPU, each once. Combine is its mirror and loads the
    links alike: partial sums go over NVLink to the GPU of the token's rail and over its NIC home.
    DeepSeek-V3, arXiv 2412.19437, 3.2.2. Where GPUs have loads of their own, every link carries its
    own copies. back: combine, whose copies go the other way.
    """
    if not isinstance(load, Routing) and load.per_gpu:
        return _per_gpu(network, np.asarray(members), load, back=back)
    nvlink, nic = _units(network, tuple(members), load.ep_nodes, load.gpus_per_node)
    links, place = np.unique(np.concatenate([nvlink.links, nic.links]), return_inverse=True)
    sizes = np.concatenate([nvlink.bytes * load.over_nvlink, nic.bytes * load.over_nic])
    carried: Floats = np.bincount(place, sizes, len(links)).astype(np.float64)
    return Demand(links[carried > 0], carried[carried > 0], nvlink.latency + nic.latency)


@lru_cache(maxsize=256)  # the layers of a stage differ in how much travels, not in where
def _units(
    network: Network, members: tuple[int, ...], ep_nodes: int, gpus_per_node: int
) -> tuple[Demand, Demand]:
    """Return the demands of one copy per token over NVLink and over NICs."""
    ranks = np.asarray(members)
    ports: Loads = [(network.gpu_up[ranks], 1.0), (network.gpu_down[ranks], 1.0)]
    near = total(ports, network.route(members[0], members[1])[1] if gpus_per_node > 1 else 0.0)
    return near, _between_nodes(network, ranks) if ep_nodes > 1 else total([], 0.0)


def _between_nodes(network: Network, ranks: Links) -> Demand:
    """Return what links carry when each GPU sends equal shares to its peer on every other node."""
    nodes = ranks // network.gpus_per_node
    one, other = np.nonzero(
        (nodes[:, None] != nodes) & ((ranks[:, None] - ranks) % network.gpus_per_node == 0)
    )
    way = ways(network, ranks[one], ranks[other])
    links, place = np.unique(way.link, return_inverse=True)
    carried: Floats = np.bincount(
        place, way.share / (len(np.unique(nodes)) - 1), len(links)
    ).astype(np.float64)
    return Demand(links, carried, way.latency(len(one), network.latency))


def _per_gpu(network: Network, ranks: Links, load: Load, *, back: bool) -> Demand:
    """Return the exchange of a group whose GPUs receive unlike numbers of tokens.

    A node's GPUs pass on what came for the others: a token of each of the group's nodes reaches GPU
    g with probability received(g) / ep, so that g gets received(g) / g_n from each of its node's
    g_n GPUs, one of which is g itself.
    """
    up, down = (network.gpu_down, network.gpu_up) if back else (network.gpu_up, network.gpu_down)
    on_node = load.gpus_per_node
    received = np.array([tokens for _, tokens in load.per_gpu]) / on_node
    handed = received.reshape(-1, on_node).sum(axis=1).repeat(on_node) - received
    ports: Loads = [
        (np.array([link]), float(size))
        for links, sizes in ((up[ranks], handed), (down[ranks], received * (on_node - 1)))
        for link, size in zip(links.tolist(), sizes.tolist(), strict=True)
    ]
    near = network.route(int(ranks[0]), int(ranks[1]))[1] if on_node > 1 else 0.0
    if load.ep_nodes == 1:
        return total(ports, near)
    node, rail = np.divmod(np.arange(len(ranks)), on_node)
    one, other = np.nonzero((node[:, None] != node) & (rail[:, None] == rail))
    src, dst = (other, one) if back else (one, other)
    way = ways(network, ranks[src], ranks[dst])
    sizes = np.array(load.reach)[other // on_node]
    links, which = np.unique(way.link, return_inverse=True)
    carried = np.bincount(which, way.share * sizes[way.pair], len(links))
    ports += [
        (np.array([link]), float(size))
        for link, size in zip(links.tolist(), carried.tolist(), strict=True)
    ]
    return total(ports, near + way.latency(len(src), network.latency))
