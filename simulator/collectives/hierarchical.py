"""Inside each node first, then across nodes, rail by rail: rings of the GPUs that share a rail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Rounds, a_round, even_nodes, kept
from simulator.topology import Network


def _passes(network: Network, members: Sequence[int], size: float, passes: int) -> Rounds:
    table = even_nodes(network, members)  # [node, member] ranks
    nodes, local = table.shape
    # Inside a node first, so that a GPU's NIC carries its g-th part of the buffer only: a member's
    # successors are the next GPU of its node and the GPU of its rail on the next node.
    next_gpu = np.roll(table, -1, axis=1)
    next_node = np.roll(table, -1, axis=0)
    part = size / local
    inside = a_round(table, next_gpu, part, passes * (local - 1))
    across = a_round(table, next_node, part / nodes, passes * (nodes - 1))
    return Rounds(kept(inside, across))


def one_pass(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return a reduce-scatter or an all-gather.

    Every GPU sends (g-1)/g of the buffer over NVLink and then (n-1)/n of its g-th part over its
    NIC, for n nodes of g GPUs. Errors: LayoutError if nodes hold different numbers of the members.
    """
    return _passes(network, members, size, 1)


def all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return a scatter inside the nodes, an all-reduce on each rail, a gather inside the nodes."""
    return _passes(network, members, size, 2)
