"""Memory that no tensor takes: the CUDA context, and the buffers of communication libraries.

PyTorch counts none of it. NCCL's buffers are those of a communicator: with every group that sends,
there is one more (NVIDIA/nccl issue 864); beyond two nodes they do not grow.
"""

from __future__ import annotations

from simulator.collectives import dispatcher_of
from simulator.scenario import Scenario

MIB = 2.0**20
CONTEXT = 1.06e9
"""The CUDA context with its kernels, and a communicator that has not sent yet [B]."""
PAIR = 544 * MIB
"""A communicator of two ranks that runs collectives [B]."""
RING = 688 * MIB
"""The same of more ranks [B]."""
PEER = 3.28e9 / 7
"""For each peer in the node that a rank exchanges with by sends [B]."""
NETWORK = 512 * MIB
"""What the sends of a communicator to other nodes share [B]."""

# DeepEP, csrc/config.hpp: a slot holds a token, and top-k indices, weights and scales of 128 each;
# sizes of chunks: deep_ep/buffer.py, get_dispatch_config.
_SLOT = 128 * (8 + 4 + 4)
_NVLINK_TOKENS = 288
_RDMA_TOKENS = 128
_PEERS = 8


def framework(scenario: Scenario) -> float:
    """Return what a GPU holds besides PyTorch's memory [B]."""
    layout = scenario.layout
    size = CONTEXT
    groups = ["tp", "cp", "data"]
    if scenario.model.n_routed_experts:
        groups += ["etp", "expert_data"]
    for group in groups:
        size += _collectives(layout.groups(group).shape[1])
    if layout.pp > 1:
        size += _sends(scenario, layout.pp, neighbours=2)
    if layout.ep > 1:
        size += _experts(scenario)
    return size


def _collectives(ranks: int) -> float:
    if ranks == 1:
        return 0.0
    return PAIR if ranks == 2 else RING


def _sends(scenario: Scenario, ranks: int, neighbours: int) -> float:
    """Return the buffers of a group that sends to some neighbours.

    Stages of a pipeline lie on other nodes where there are any.
    """
    if scenario.topology.nodes > 1:
        return NETWORK
    return min(ranks - 1, neighbours) * PEER


def _experts(scenario: Scenario) -> float:
    """Return the buffers of dispatch and combine."""
    dispatcher = dispatcher_of(scenario)
    ep = scenario.layout.ep
    if dispatcher.name == "all_gather":
        return _collectives(ep)
    inside = min(ep, scenario.topology.node.gpus)
    across = ep > inside
    if dispatcher.name == "all_to_all":
        return (inside - 1) * PEER + (NETWORK if across else 0.0)
    # DeepEP's hint; HybridEP's buffers are as large, for want of a source.
    channels = dispatcher.sms // 2 or _PEERS
    token = 2.0 * scenario.model.hidden_size + _SLOT
    nvlink = channels * inside * _NVLINK_TOKENS * token
    rdma = channels * (ep // _PEERS) * _RDMA_TOKENS * token * 2 if across else 0.0
    return nvlink + rdma
