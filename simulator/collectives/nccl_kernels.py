"""A row of the communication table as one algorithm of NCCL runs it in one group.

Rows are what was measured; here stand NCCL's own rules on what the algorithm and the group change
of them: channels, chunks, and latencies of rounds that no measurement has alone.
"""

from __future__ import annotations

from simulator.collectives import tuner
from simulator.collectives.tuner import NVLS_TREE, PAT, TREE, Shape, constants
from simulator.hardware import PROTOCOLS, CommunicationModel

DIRECT, PAIRWISE = "direct", "pairwise"
NVLINK = 3.33e-6
"""Latency of a round over NVLink to which rows relate theirs [s]: arXiv 2505.09343, table 5."""
FEW_NODES = 4
"""Nodes from which on chunks of NVLSTree are half as large: NCCL 2.28, src/enqueue.cc."""
KIB = 1024.0
STEP = {"LL": 32 * KIB, "LL128": 562.5 * KIB, "Simple": 512 * KIB}
"""Largest chunk of a tree's channel [B]: an eighth of a buffer, less flags; src/include/device.h."""


def adapted(
    kernel: CommunicationModel, algorithm: str, protocol: str, group: Shape
) -> CommunicationModel:
    """Return a row as an algorithm runs it in a group. algorithm: row of `ALGORITHMS`."""
    if algorithm == TREE and group.nodes > 1:
        return _up_and_down(kernel, protocol)
    if algorithm == PAT:
        return _aggregated(kernel, group)
    if algorithm == NVLS_TREE and kernel.ramp and group.nodes >= FEW_NODES:
        half = kernel.ramp.model_copy(update={"most": kernel.ramp.most / 2})
        return kernel.model_copy(update={"ramp": half})
    if algorithm == PAIRWISE and group.nodes > 1:
        return posted(kernel, protocol, group.ranks - group.local)
    if algorithm == DIRECT and kernel.channel and group.nodes > 1:
        # All GPUs of a stage send at once, those that share a NIC too.
        most = peer_channels(group) * kernel.channel * group.sharers / group.nic
        return kernel.model_copy(update={"nic": min(kernel.nic, most)})
    return kernel


def _up_and_down(kernel: CommunicationModel, protocol: str) -> CommunicationModel:
    """Return a row whose rounds inside a node take what NCCL expects of a tree's.

    Rings alone were measured, in which rounds overlap.
    """
    near = constants().nvlink[TREE][PROTOCOLS.index(protocol)]
    return kernel.model_copy(update={"nvlink_latency": near / NVLINK})


def _aggregated(kernel: CommunicationModel, group: Shape) -> CommunicationModel:
    """Return a row with the latencies of NCCL's estimate of PAT: nobody has published it by size.

    Of the 4 us that a round then takes, 3.7 are the network's, which the topology has.
    """
    setup = kernel.setup + tuner.constants().pat.rank * group.ranks
    return kernel.model_copy(update={"setup": setup, "nic_overhead": 0.0})


def posted(kernel: CommunicationModel, protocol: str, peers: float) -> CommunicationModel:
    """Return a row whose messages to other nodes one proxy thread posts, one after another.

    What a post takes is NCCL's own overhead of a step (getNetOverhead, three times with Simple).
    peers: GPUs on other nodes.
    """
    post = tuner.constants().overhead * (3 if protocol == "Simple" else 1)
    return kernel.model_copy(update={"setup": kernel.setup + peers * post})


def group_channels(group: Shape) -> int:
    """Return NCCL's channels of a group that spans nodes."""
    wide = constants().nic_share * group.nic > group.limits.wide_nic
    rail = group.limits.rail_channels if wide else 2
    return min(constants().channels_across, rail * group.rails)


def peer_channels(group: Shape) -> int:
    """Return the channels of a send from node to node.

    Two, or one where they would crowd the group's (NCCL 2.28, src/graph/paths.cc,
    ncclTopoGetNchannels).
    """
    crowded = 2 * group.ranks > 4 * group_channels(group)
    return 1 if crowded else 2


def tree_loop(protocol: str, size: float, group: Shape) -> float:
    """Return how much of a buffer is in the chunks that all channels of a tree begin with [B].

    size: of the buffer [B]. NCCL 2.28, src/enqueue.cc, calcCollChunking.
    """
    chunk, channels = STEP[protocol], group_channels(group)
    if protocol == "LL128":
        depth = 1 + (group.nodes.bit_length() - 1) + 0.1 * group.local
        for share, least in ((64, 128 * KIB), (16, 32 * KIB)):
            while chunk > least and size // (channels * chunk) < depth * share / group.local:
                chunk /= 2
    return min(size, channels * chunk)
