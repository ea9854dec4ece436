"""Everybody sends a part to everybody."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Round, Rounds, a_round, even_nodes, kept
from simulator.collectives.paths import Links, all_pairs
from simulator.topology import Network


def pairwise(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return S/n from each to each, all posted at once as NCCL groups them."""
    src, dst = all_pairs(sorted(members))
    blocks = np.full(len(src), size / len(members))  # [pair] B
    return Rounds(kept(Round(src, dst, blocks)))


def hierarchical(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return S/g to each GPU of the own node for all nodes, then S/n to the same rail of each node.

    Few, large messages. Hwang et al., Tutel, arXiv 2206.03382, section 3.2 (2DH).
    Errors: LayoutError if the nodes hold different numbers.
    """
    table = even_nodes(network, members)  # [node, member] ranks
    nodes, local = table.shape
    inside = [np.roll(table, -hop, axis=1) for hop in range(1, local)]
    across = [np.roll(table, -hop, axis=0) for hop in range(1, nodes)]
    # NVLink first: what a GPU then sends to a node is one message of the parts of all its peers,
    # so that few and large messages cross the NICs.
    gathering = _at_once(table, inside, size / local)
    crossing = _at_once(table, across, size / nodes)
    return Rounds(kept(*gathering, *crossing))


def _at_once(src: Links, targets: Sequence[Links], size: float) -> list[Round]:
    """Return one round from each rank to all of its targets. src, targets: [node, member] ranks."""
    if not targets:
        return []
    sources = np.stack([src] * len(targets))  # [hop, node, member] ranks
    return [a_round(sources, np.stack(targets), size)]
