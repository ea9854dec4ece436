"""DeepEP's normal kernels: a token goes once to each node of its experts, and on over NVLink.

DeepSeek-V3, arXiv 2412.19437, section 3.2.2; github deepseek-ai/DeepEP.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulator.collectives.batch import Batch, Batches, TokenKernels
from simulator.collectives.demand import Demand, merged
from simulator.collectives.kinds import EXCHANGES
from simulator.collectives.paths import Floats, Links, ways
from simulator.collectives.replicas import Demands
from simulator.errors import InputError
from simulator.experts import Load, Routing
from simulator.hardware import KernelConfig
from simulator.topology import Network, wired


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
    groups = np.array([members], dtype=np.int64)
    return _copies(_hops_of(network, groups, load), (load,)).of_size(0).each()[0]


def together(batch: Batches) -> Demands:
    """Return the demands of one byte per token copy in many groups under many loads at once.

    As `demand` returns them; the loads are those of the busiest GPU.
    """
    return _copies(_hops_of(batch.network, batch.groups, batch.loads[0]), batch.loads)


class _Hops(NamedTuple):
    """One copy per token on both hops of an exchange, in some groups."""

    first: Links
    """Where the links of each group begin, and their number [group + 1]."""
    links: Links
    """Links of either hop, of each group rising [entry]."""
    which: Links
    """Which of the different copies it carries [entry]."""
    near: Floats
    """Copies over NVLink, between the GPUs of a node [different]."""
    far: Floats
    """Copies over NICs, between GPUs of the same rail [different]."""
    latency: Floats
    """Of both: tokens follow each other, so that only the first one's add up [group] s."""


def _copies(hops: _Hops, loads: Sequence[Load | Routing]) -> Demands:
    """Return the copies under each load, one after another."""
    over_nvlink = np.array([load.over_nvlink for load in loads])[:, None]
    over_nic = np.array([load.over_nic for load in loads])[:, None]
    copies = hops.near * over_nvlink + hops.far * over_nic  # [load, different]
    carries = copies[0] > 0  # links that carry nothing would make a coflow wait for them
    if carries.all():
        return Demands(hops.first, hops.links, hops.which, copies, hops.latency)
    used = carries[hops.which]  # [entry]
    first = np.append(0, np.cumsum(used))[hops.first]
    number = np.cumsum(carries) - 1  # [different]
    which = number[hops.which[used]]
    return Demands(first, hops.links[used], which, copies[:, carries], hops.latency)


def _hops_of(network: Network, groups: Links, load: Load | Routing) -> _Hops:
    ranks = np.ascontiguousarray(groups)
    return _hops(wired(network), ranks.tobytes(), len(ranks), load.ep_nodes, load.gpus_per_node)


@lru_cache(maxsize=256)  # the layers of a stage differ in how much travels, not in where
def _hops(network: Network, ranks: bytes, count: int, ep_nodes: int, gpus_per_node: int) -> _Hops:
    groups = np.frombuffer(ranks, dtype=np.int64).reshape(count, -1)  # [group, member]
    ports = np.concatenate([network.gpu_up[groups], network.gpu_down[groups]], axis=1)
    latency = np.array([_near_latency(network, row, gpus_per_node) for row in groups])
    # A group and a link as one number: np.unique finds the links of each group.
    size = len(network.capacity)
    owner = np.repeat(np.arange(count), ports.shape[1]) * size  # [port]
    far = _far(network, groups) if ep_nodes > 1 else _no_hop(count)
    met = np.concatenate([owner + ports.ravel(), far.group * size + far.link])
    different, number = np.unique(met, return_inverse=True)
    entries = len(different)
    on_nvlink = np.bincount(number[: ports.size], minlength=entries).astype(np.float64)
    on_nics = np.bincount(number[ports.size :], far.copies, minlength=entries).astype(np.float64)
    first = np.searchsorted(different // size, np.arange(count + 1))
    copies = np.stack([on_nvlink, on_nics])
    (near, over_nics), which = np.unique(copies, axis=1, return_inverse=True)
    both = latency + far.latency
    return _Hops(first, different % size, which.ravel(), near, over_nics, both)


class _Far(NamedTuple):
    """The hop over NICs."""

    group: Links
    """[crossing]"""
    link: Links
    """[crossing]"""
    copies: Floats
    """Of a token that goes to another node [crossing]."""
    latency: Floats
    """Of the longest way [group] s."""


def _no_hop(count: int) -> _Far:
    nothing = np.zeros(0, dtype=np.int64)
    return _Far(nothing, nothing, np.zeros(0), np.zeros(count))


def _far(network: Network, groups: Links) -> _Far:
    """Return where tokens go over NICs: to the GPU of their own rail on every other node."""
    node, rail = np.divmod(groups, network.gpus_per_node)  # [group, member]
    apart = node[:, :, None] != node[:, None, :]  # [group, src, dst]
    same_rail = rail[:, :, None] == rail[:, None, :]  # [group, src, dst]
    group, src, dst = np.nonzero(apart & same_rail)  # [pair]
    crossed = ways(network, groups[group, src], groups[group, dst])
    # Equal shares to the peers on all other nodes.
    others = np.count_nonzero(np.diff(np.sort(node, axis=1), axis=1), axis=1)  # [group]
    owner = group[crossed.pair]  # [crossing]
    copies = crossed.share / others[owner]
    latency = np.zeros(len(groups))
    np.maximum.at(latency, group, crossed.latencies(len(group), network.latency))
    return _Far(owner, crossed.link, copies, latency)


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
