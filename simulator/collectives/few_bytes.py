"""All-reduces of a few bytes over any number of ranks, in closed form: latency alone.

Held against the rounds of the table on small clusters (tests/test_step_sums.py). The rounds of a
norm over 16,384 GPUs take seconds to resolve, and have no transfer worth mentioning.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulator.collectives.algorithms import ALGORITHMS, of_nccl
from simulator.collectives.nccl_kernels import adapted
from simulator.collectives.tuner import RING, TREE, Shape, estimate, shape
from simulator.hardware import CommunicationModel, KernelConfig
from simulator.topology import Network, TopologyConfig

BYTES = 4.0
"""A number in FP32 [B]."""


def few_bytes(
    site: TopologyConfig, network: Network, kernels: KernelConfig, members: Sequence[int]
) -> float:
    """Return how long an all-reduce of one number takes, as NCCL would run it [s]."""
    if len(members) < 2:
        return 0.0
    group = shape(network, members, kernels.nccl)
    ways: list[tuple[float, int, str, CommunicationModel]] = []
    for name in of_nccl("all_reduce"):
        if name not in (RING, TREE):  # the others have kernels for large buffers alone
            continue
        rows = ALGORITHMS[name].protocols("all_reduce", kernels.communication)
        for protocol, row in rows.items():
            expected = estimate("all_reduce", name, protocol, group, BYTES)
            kernel = adapted(kernels.communication[row], name, protocol, group)
            ways.append((expected, len(ways), name, kernel))
    _, _, name, kernel = min(ways)
    return kernel.setup + _rounds(site, group, name, kernel)


def _rounds(site: TopologyConfig, group: Shape, name: str, kernel: CommunicationModel) -> float:
    """Return the latencies of the rounds [s]."""
    near = kernel.nvlink_latency * site.node.nvlink_latency
    far = site.fabric.latency + kernel.nic_overhead
    if name == TREE:
        # A chain in each node, up and down again; then the deeper of two trees over the nodes.
        levels = (group.nodes - 1).bit_length()
        return 2 * ((group.local - 1) * near + levels * far)
    rounds = 2 * (group.ranks - 1)
    crossing = group.nodes / group.ranks if group.nodes > 1 else 0.0
    return rounds * ((1 - crossing) * near + crossing * far)
