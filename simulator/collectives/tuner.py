"""NCCL's own estimate of a collective, by which it chooses algorithm and protocol.

Base latency, latencies of the rounds, bytes over a bandwidth (NCCL 2.28, src/graph/tuning.cc,
ncclTopoTuneModel; Hu et al., arXiv 2507.04786, section 5). The estimate decides; how long the
choice then takes is the kernel tables' business. It explains the jumps of measured curves: 8 B200
gather 8 MiB in 44 us with LL, and 16 MiB in 104 us with Simple.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator import inputs
from simulator.hardware import PROTOCOLS, Tuner, TunerLimits
from simulator.topology import Network

RING, TREE, NVLS, NVLS_TREE, PAT = "ring", "tree", "nvls", "nvls_tree", "pat"


class Shape(NamedTuple):
    """What NCCL knows of a group."""

    ranks: int
    """GPUs that take part."""
    nodes: int
    """Nodes that they are on."""
    ring: float
    """What rings reach over NVLink [B/s]."""
    across: float
    """What the NICs of a node's members carry, at most what its rings do [B/s]."""
    limits: TunerLimits
    """Of the GPUs."""
    rails: int = 0
    """NICs of a node that its members use."""
    nic: float = 0.0
    """Rate of one of them, or of the PCIe slot that it is in; 0 without any [B/s]."""
    sharers: int = 1
    """GPUs of a node that leave it by the same NIC."""

    @property
    def scale(self) -> int:
        """Return the column of constants for 1, 2 and more nodes."""
        return min(self.nodes, 3) - 1

    @property
    def local(self) -> float:
        """Return the GPUs of a node."""
        return self.ranks / self.nodes


@cache
def constants() -> Tuner:
    """Return NCCL's constants."""
    return inputs.validate(inputs.data("nccl", "tuner"), Tuner)


def shape(network: Network, members: Sequence[int], limits: TunerLimits) -> Shape:
    """Return what NCCL knows of a group of ranks."""
    ranks = np.asarray(members, dtype=np.int64)
    node = ranks // network.gpus_per_node
    first = ranks[node == node[0]]
    nodes = int(np.count_nonzero(np.diff(np.sort(node), prepend=-1)))
    ring = limits.ring * float(network.capacity[network.gpu_up[first[0]]])
    rates = _leaving(network, first)
    across = constants().nic_share * float(rates.sum())
    if len(first) == 1:  # nothing but the NIC
        ring = across
    return Shape(
        ranks=len(ranks),
        nodes=nodes,
        ring=ring,
        across=min(ring, across),
        rails=len(rates),
        nic=float(rates.max(initial=0.0)),
        sharers=max(1, network.gpus_per_node // max(1, network.nics_per_node)),
        limits=limits,
    )


def _leaving(network: Network, gpus: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what each NIC of some GPUs of a node carries, at most what its PCIe slot does [NIC] B/s."""
    nics, one = np.unique(network.nic_up[gpus], return_index=True)
    rates = network.capacity[nics]
    slots = network.pcie[gpus[one]]  # [NIC]; as wide as the NIC's own
    rates = np.where(slots >= 0, np.minimum(rates, network.capacity[slots]), rates)
    return rates[nics >= 0]


def estimate(op: str, algorithm: str, protocol: str, group: Shape, size: float) -> float:
    """Return NCCL's estimate of a collective [s]; infinity if it does not consider the way.

    size: as nccl-tests counts it [B].
    """
    rate = _rate(op, algorithm, protocol, group)
    if not rate:
        return math.inf
    if algorithm == TREE:
        rate *= _correction(protocol, size)
    return _latency(op, algorithm, protocol, group) + size / rate


def _steps(op: str, ranks: int) -> int:
    """Return the rounds of a ring."""
    if op == "all_reduce":
        return 2 * (ranks - 1)
    return ranks - 1 if op in ("reduce_scatter", "all_gather") else ranks


def _rate(op: str, algorithm: str, protocol: str, group: Shape) -> float:
    """Return the algorithm bandwidth of NCCL's estimate [B/s], 0 of a way that it leaves out."""
    if algorithm in (NVLS, NVLS_TREE):
        return _switched(op, algorithm, protocol, group)
    bus = group.ring if group.nodes <= 2 else group.across
    if algorithm == PAT:
        if protocol != "Simple":
            return 0.0
        return constants().pat.rate * bus * group.ranks / _steps(op, group.ranks)
    if algorithm == TREE:
        return 0.5 * _tree(protocol, group, bus)
    return _ring(protocol, group, bus) * group.ranks / _steps(op, group.ranks)


def _ring(protocol: str, group: Shape, bus: float) -> float:
    limits = group.limits
    if protocol == "LL":
        return min(_most_of_ll(group), bus / 2)
    if protocol == "LL128":
        return min(0.92 * bus, limits.channels * limits.ll128)
    return bus


def _most_of_ll(group: Shape) -> float:
    if group.nodes == 1:
        return group.limits.ll
    return constants().ll_across[group.scale - 1]


def _tree(protocol: str, group: Shape, bus: float) -> float:
    limits = group.limits
    rate = min(0.92 * bus, limits.channels * limits.tree[group.scale])
    if protocol == "LL":
        return min(rate / 3.8, _most_of_ll(group))
    if protocol == "LL128":
        share = 7 / 9 if group.nodes == 1 else 120 / 128
        return min(share * rate, limits.channels * limits.ll128)
    return rate


def _switched(op: str, algorithm: str, protocol: str, group: Shape) -> float:
    """Return the rate of NVLS, or of NVLSTree: by Simple alone, on GPUs with switches that add."""
    one_node = group.nodes == 1
    few = group.local < constants().nvls_from
    if protocol != "Simple" or not group.limits.nvls or few or one_node != (algorithm == NVLS):
        return 0.0
    known = constants()
    heads = 1 - 1 / known.nvls_channels
    bus = group.ring * group.limits.nvls * heads
    if op != "all_reduce":
        return bus * (1 - 1 / group.local)
    bus *= 2
    if algorithm == NVLS_TREE:
        across = group.across * (2 if group.nodes == 2 else 1)
        channels = known.nvls_channels * known.nvls_tree_channel[group.scale - 1]
        bus = min(bus, across, channels)
    return bus * group.ranks / _steps(op, group.ranks)


def _latency(op: str, algorithm: str, protocol: str, group: Shape) -> float:
    known, column = constants(), PROTOCOLS.index(protocol)
    if algorithm == PAT:
        round_ = known.network[TREE][column] / known.pat.hidden
        doublings = math.floor(math.log2(group.nodes))
        return known.pat.base + doublings * round_ + known.pat.rank * group.ranks
    base = known.base[algorithm][column]
    near = known.nvlink[algorithm][column]
    # A GPU alone on its node has nothing to hide the network behind.
    far = known.network[TREE if group.local == 1 else algorithm][column]
    doublings = math.floor(math.log2(group.nodes))
    if algorithm == RING:
        latency = base + _round_latency(op, protocol, group, near, far)
        plateau = group.nodes > 1 and op == "all_reduce" and protocol == "Simple"
        return latency * known.plateau if plateau else latency
    if algorithm == TREE:
        return base + 2 * ((group.local - 1) * near + doublings * far)
    return base + near + 2 * doublings * far


def _round_latency(op: str, protocol: str, group: Shape, near: float, far: float) -> float:
    """Return the latency of a ring's rounds. near, far: of one inside and between nodes [s]."""
    steps = _steps(op, group.ranks)
    if group.nodes == 1:
        return steps * near
    crossing = (2 if op == "all_reduce" else 1) * (group.nodes - 1)
    least = constants().overhead * (3 if protocol == "Simple" else 1)
    return (steps - crossing) * max(near, least) + crossing * far


def _correction(protocol: str, size: float) -> float:
    """Return the share of a tree's bandwidth that NCCL counts on."""
    shares = constants().tree_correction[protocol]
    doublings = int(math.log2(max(size, 64.0) / 64.0))
    return shares[doublings] if doublings < len(shares) else 1.0
