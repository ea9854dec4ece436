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
from simulator.collectives.paths import Floats, Links, ways
from simulator.errors import InputError
from simulator.experts import Load, Routing
from simulator.hardware import KernelConfig
from simulator.topology import Network


def kernels(table: KernelConfig) -> TokenKernels:
    """Return the normal kernels, which a flat layout of the copies shares.

    Errors: InputError where none were measured: between nodes DeepEP needs Hopper's instructions
    (its setup.py, DISABLE_SM90_FEATURES).
    """
    rows = table.communication
    if "dispatch" not in rows:
        raise InputError(f"has no published measurement on {table.name} GPUs")
    return TokenKernels({kind: rows[kind] for kind in EXCHANGES})


def demand(batch: Batch) -> Demand:
    """Return the demand of one byte per token copy."""
    return exchange(batch.network, batch.members, batch.load, back=batch.kind.returns)


def nodes_reached(load: Load) -> float:
    """Return the nodes that a token of the busiest NIC goes to, its own included."""
    return load.over_nic * load.ep_nodes / (load.ep_nodes - 1)


def copied(load: Load) -> float:
    """Return the copies that SMs make of a token: for each node, and there for each GPU."""
    over_nics = nodes_reached(load) if load.ep_nodes > 1 else 0.0
    return over_nics + load.received


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
    near, far, both = _hops(network, tuple(members), load.ep_nodes, load.gpus_per_node)
    # Tokens follow each other over both hops, so that only the first token's latencies add up.
    on_nvlink = near.bytes * load.over_nvlink
    on_nics = far.bytes * load.over_nic
    copies = np.concatenate([on_nvlink, on_nics])
    return both.merged(copies, near.latency + far.latency)


class _Slots(NamedTuple):
    """Links that entries name, each once, for what `merged` would find each time."""

    links: Links
    """Links that are named [entry]."""
    different: Links
    """Each once [link]."""
    number: Links
    """Index into `different` [entry]."""

    @classmethod
    def of(cls, links: Links) -> _Slots:
        return cls(links, *np.unique(links, return_inverse=True))

    def merged(self, sizes: Floats, latency: float) -> Demand:
        """Return bytes on the links as `merged` does. sizes: [entry]."""
        if not (sizes > 0).all():
            return merged(self.links, sizes, latency)
        total = np.bincount(self.number, sizes, minlength=len(self.different))  # [link] B
        return Demand(self.different, total.astype(np.float64), latency)


class _Hops(NamedTuple):
    """One copy per token on both hops of an exchange, which overlap token by token."""

    near: Demand
    """Over NVLink, between the GPUs of a node."""
    far: Demand
    """Over NICs, between GPUs of the same rail."""
    both: _Slots
    """The links of both."""


@lru_cache(maxsize=256)  # the layers of a stage differ in how much travels, not in where
def _hops(network: Network, members: tuple[int, ...], ep_nodes: int, gpus_per_node: int) -> _Hops:
    ranks = np.asarray(members)
    ports = np.concatenate([network.gpu_up[ranks], network.gpu_down[ranks]])
    delay = _near_latency(network, ranks, gpus_per_node)
    near = merged(ports, np.ones(len(ports)), delay)
    if ep_nodes == 1:
        nowhere = merged(np.zeros(0, np.int64), np.zeros(0), 0.0)
        return _Hops(near, nowhere, _Slots.of(near.links))
    # Over NICs a token goes to the GPU of its own rail on the other node.
    node = ranks // network.gpus_per_node
    apart = node[:, None] != node  # [src, dst]
    same_rail = (ranks[:, None] - ranks) % network.gpus_per_node == 0  # [src, dst]
    src, dst = np.nonzero(apart & same_rail)
    crossed = ways(network, ranks[src], ranks[dst])
    # Equal shares to the peers on all other nodes.
    others = len(np.unique(node)) - 1
    copies = crossed.share / others  # [entry]
    latency = crossed.latency(len(src), network.latency)
    far = merged(crossed.link, copies, latency)
    return _Hops(near, far, _Slots.of(np.concatenate([near.links, far.links])))


def _near_latency(network: Network, ranks: Links, gpus_per_node: int) -> float:
    """Return the latency between two GPUs of a node [s], which the first two stand for."""
    if gpus_per_node == 1:
        return 0.0
    source, target = int(ranks[0]), int(ranks[1])
    return network.route(source, target)[1]


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
    received = np.array([gpu.received for gpu in load.per_gpu])  # [gpu]
    from_each = received / on_node  # [gpu]
    of_node = from_each.reshape(-1, on_node).sum(axis=1).repeat(on_node)  # [gpu]
    # A GPU passes on to the others of its node, and gets from each of them, not from itself.
    passed_on = of_node - from_each
    taken = from_each * (on_node - 1)
    links = np.concatenate([up[ranks], down[ranks]])
    copies = np.concatenate([passed_on, taken])
    latency = _near_latency(network, ranks, on_node)
    if load.ep_nodes == 1:
        return merged(links, copies, latency)
    # Between nodes a token goes along its rail to every node that it reaches: the pairs are those
    # of a token's home and the GPU there, whichever way the copies travel.
    node, rail = np.divmod(np.arange(len(ranks)), on_node)
    apart = node[:, None] != node  # [here, there]
    same_rail = rail[:, None] == rail  # [here, there]
    here, there = np.nonzero(apart & same_rail)
    reach = np.array(load.reach)[there // on_node]  # [pair]
    src, dst = here, there
    if back:
        src, dst = there, here
    crossed = ways(network, ranks[src], ranks[dst])
    sizes = crossed.share * reach[crossed.pair]  # [entry]
    delay = crossed.latency(len(src), network.latency)
    far = merged(crossed.link, sizes, delay)
    all_links = np.concatenate([links, far.links])
    all_copies = np.concatenate([copies, far.bytes])
    return merged(all_links, all_copies, latency + far.latency)
