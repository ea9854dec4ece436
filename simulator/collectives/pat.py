"""Parallel aggregated trees (NCCL's PAT): gathers and scatters of lone GPUs in log2(n) rounds.

Every rank is the root of a binomial tree of its own, and all trees run at once: in round k a rank
hands what it has to the rank 2^k places ahead. What a NIC carries is what it carries in a ring. NCCL
2.23, src/include/collectives.h (PatRSAlgorithm, PatAGAlgorithm); it takes them for one GPU a node.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Rounds, a_round, even_nodes, kept
from simulator.errors import LayoutError
from simulator.topology import Network


def one_pass(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return a reduce-scatter or an all-gather, chunk after chunk.

    Errors: LayoutError if a node holds more than one of the members.
    """
    local = even_nodes(network, members).shape[1]
    if local > 1:
        raise LayoutError(
            f"takes one GPU of each node; these are {local}",
            value="pat",
            key="--algorithm",
            remedy="Choose ring.",
        )
    ranks = np.array(sorted(members), dtype=np.int64)
    count = len(ranks)
    steps = []
    for bit in range((count - 1).bit_length()):
        distance = 1 << bit
        # So many parts a rank has by then, or as many as are missing ahead.
        parts = min(distance, count - distance)
        steps.append(a_round(ranks, np.roll(ranks, -distance), parts * size / count))
    return Rounds(kept(*steps), pipelined=True)
