"""DeepEP's normal kernels: a token goes once to each node of its experts, and on over NVLink.

DeepSeek-V3, arXiv 2412.19437, section 3.2.2; github deepseek-ai/DeepEP.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulator.collectives.batch import Batch, TokenKernels
from simulator.collectives.demand import Demand, merged
from simulator.collectives.kinds import EXCHANGES
from simulator.collectives.paths import Links, ways
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
    """Return dispatch of one byte per token copy: once to each remote node, there over NVLink.

    Scale it by the bytes of all tokens of one GPU, each once. Combine is its mirror and loads the
    links alike: partial sums go over NVLink to the GPU of the token's rail and over its NIC home.
    Where GPUs have loads of their own, every link carries its own copies. back: combine, whose
    copies go the other way.
    """
    if not isinstance(load, Routing) and load.per_gpu:
        return _per_gpu(network, np.asarray(members), load, back=back)
    near, far = _hops(network, tuple(members), load.ep_nodes, load.gpus_per_node)
    links = np.concatenate([near.links, far.links])
    copies = np.concatenate([near.bytes * load.over_nvlink, far.bytes * load.over_nic])
    return merged(links, copies, near.latency + far.latency)


class _Hops(NamedTuple):
    """One copy per token on both hops of an exchange, which overlap token by token."""

    near: Demand
    """Over NVLink, between the GPUs of a node."""
    far: Demand
    """Over NICs, between GPUs of the same rail."""


@lru_cache(maxsize=256)  # the layers of a stage differ in how much travels, not in where
def _hops(network: Network, members: tuple[int, ...], ep_nodes: int, gpus_per_node: int) -> _Hops:
    ranks = np.asarray(members)
    ports = np.concatenate([network.gpu_up[ranks], network.gpu_down[ranks]])
    near = merged(ports, np.ones(len(ports)), _near_latency(network, ranks, gpus_per_node))
    if ep_nodes == 1:
        return _Hops(near, merged(np.zeros(0, np.int64), np.zeros(0), 0.0))
    node = ranks // network.gpus_per_node
    same_rail = (ranks[:, None] - ranks) % network.gpus_per_node == 0
    src, dst = np.nonzero((node[:, None] != node) & same_rail)
    crossed = ways(network, ranks[src], ranks[dst])
    # Equal shares to the peers on all other nodes.
    copies = crossed.share / (len(np.unique(node)) - 1)  # [entry]
    latency = crossed.latency(len(src), network.latency)
    return _Hops(near, merged(crossed.link, copies, latency))


def _near_latency(network: Network, ranks: Links, gpus_per_node: int) -> float:
    if gpus_per_node == 1:
        return 0.0
    return network.route(int(ranks[0]), int(ranks[1]))[1]


def _per_gpu(network: Network, ranks: Links, load: Load, *, back: bool) -> Demand:
    """Return the exchange of a group whose GPUs receive unlike numbers of tokens.

    A node's GPUs pass on what came for the others: a token of each of the group's nodes reaches GPU
    g with probability received(g) / ep, so that g gets received(g) / g_n from each of its node's
    g_n GPUs, one of which is g itself.
    """
    up, down = network.gpu_up, network.gpu_down
    if back:
        up, down = down, up
    on_node = load.gpus_per_node
    from_each = np.array([gpu.received for gpu in load.per_gpu]) / on_node  # [gpu]
    of_node = from_each.reshape(-1, on_node).sum(axis=1).repeat(on_node)  # [gpu]
    links = np.concatenate([up[ranks], down[ranks]])
    copies = np.concatenate([of_node - from_each, from_each * (on_node - 1)])
    latency = _near_latency(network, ranks, on_node)
    if load.ep_nodes == 1:
        return merged(links, copies, latency)
    node, rail = np.divmod(np.arange(len(ranks)), on_node)
    here, there = np.nonzero((node[:, None] != node) & (rail[:, None] == rail))
    reach = np.array(load.reach)[there // on_node]  # [pair]
    src, dst = (there, here) if back else (here, there)
    crossed = ways(network, ranks[src], ranks[dst])
    sizes = crossed.share * reach[crossed.pair]  # [entry]
    far = merged(crossed.link, sizes, crossed.latency(len(src), network.latency))
    return merged(
        np.concatenate([links, far.links]),
        np.concatenate([copies, far.bytes]),
        latency + far.latency,
    )
