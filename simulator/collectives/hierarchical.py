"""Inside each node first, then across nodes, rail by rail: rings of the GPUs that share a rail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Rounds, a_round, even_nodes, kept
from simulator.topology import Network


def _passes(network: Network, members: Sequence[int], size: float, passes: int) -> Rounds:
    table = even_nodes(network, members)
    nodes, local = table.shape
    next_gpu, next_node = np.roll(table, -1, axis=1), np.roll(table, -1, axis=0)
    inside = a_round(table, next_gpu, size / local, passes * (local - 1))
    across = a_round(table, next_node, size / local / nodes, passes * (nodes - 1))
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
