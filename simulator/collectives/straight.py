"""DeepEP's kernels that send every copy of a token straight to its GPU: flat and low-latency ones.

github deepseek-ai/DeepEP, docs/legacy.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from simulator.collectives.batch import Batch, TokenKernels
from simulator.collectives.demand import Demand, Round, Rounds, latencies
from simulator.collectives.kinds import EXCHANGES, CoflowKind
from simulator.collectives.paths import Floats, Links, Ways, all_pairs, ways
from simulator.experts import Copies, Load
from simulator.experts.kernels import low_latency_table
from simulator.hardware import KernelConfig
from simulator.topology import Network, wired


def straight(copies: Copies) -> Rounds:
    """Return copies as pairs: every copy goes to its GPU at once, and all at the same time.

    copies: bytes between GPUs 0, 1, ... [src, dst].
    """
    size = copies.nic + copies.nvlink
    src, dst = np.nonzero(size)
    step = Round(
        src=src.astype(np.int64),
        dst=dst.astype(np.int64),
        bytes=size[src, dst],
    )
    return Rounds((step,))


def without_forwarding(network: Network) -> Network:
    """Return the network as kernels use it that write from their own NIC into any other.

    Only where the fabric does not join the two NICs (planes) does NVLink forward.
    """
    if network.paths.routing != "rail_local":
        return network
    own_nics = replace(network.paths, routing="adaptive")
    return replace(network, paths=own_nics)


def low_latency_kernels(table: KernelConfig) -> TokenKernels:
    """Return the low-latency kernels, whose dispatch finds no layout. Errors: InputError."""
    measured = low_latency_table(table.name)
    models = dict.fromkeys(EXCHANGES, measured.dispatch)
    models[CoflowKind.COMBINE] = measured.combine
    return TokenKernels(models, measured.header, measured.tokens)


def demand(batch: Batch) -> Demand:
    """Return the demand of one byte per copy, over the ways of kernels that do not forward."""
    return between(batch, forwarding=False)


def between(batch: Batch, *, forwarding: bool) -> Demand:
    """Return the demand of one byte per copy where each GPU sends to each other one.

    forwarding: by the ways of the network's own routing, which may lead over a neighbour's NIC.
    """
    pairs = _pairs(wired(batch.network), batch.members, forwarding)
    copies = per_token(batch.load)
    if batch.kind.returns:
        copies = copies.T
    # Copies of each pair in the order of `all_pairs`, source by source, and then what each link
    # carries of them.
    other = ~np.eye(len(copies), dtype=bool)  # [src, dst]
    sent = copies[other]  # [pair]
    crossing = pairs.ways.share * sent[pairs.ways.pair]  # [entry]
    total = np.bincount(pairs.slot, crossing, minlength=len(pairs.links))
    carried: Floats = total.astype(np.float64)  # [slot]
    used = carried > 0
    delay = pairs.ways.latency(len(sent), latencies(batch.network, batch.kernel))
    return Demand(pairs.links[used], carried[used], delay)


def per_token(load: Load) -> Floats:
    """Return the copies of a token that go to each GPU, zero on the diagonal [src, dst]."""
    count = load.ep_nodes * load.gpus_per_node
    if load.per_gpu:
        received = np.array([gpu.received for gpu in load.per_gpu])  # [gpu], from all of the group
        copies = np.tile(received / count, (count, 1))
    else:
        # Every pair carries what those of the busiest NIC and of the busiest NVLink port carry.
        node = np.arange(count) // load.gpus_per_node
        near = load.over_nvlink / max(1, load.gpus_per_node - 1)
        far = load.over_nic / max(1, count - load.gpus_per_node)
        copies = np.where(node[:, None] == node, near, far)
    np.fill_diagonal(copies, 0.0)
    return copies


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The ways between all members of a group, which its layers and passes share."""

    ways: Ways
    """[entry], see `Ways`."""
    links: Links
    """Links that are crossed, each once [slot]."""
    slot: Links
    """Index into `links` of each entry [entry]."""


@lru_cache(maxsize=256)
def _pairs(network: Network, members: tuple[int, ...], forwarding: bool) -> _Pairs:
    routed = network if forwarding else without_forwarding(network)
    crossed = ways(routed, *all_pairs(members))
    links, slot = np.unique(crossed.link, return_inverse=True)
    return _Pairs(crossed, links, slot)
