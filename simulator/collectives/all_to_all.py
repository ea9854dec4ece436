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
    return Rounds(kept(Round(src, dst, np.full(len(src), size / len(members)))))


def hierarchical(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return S/g to each GPU of the own node for all nodes, then S/n to the same rail of each node.

    Few, large messages. Hwang et al., Tutel, arXiv 2206.03382, section 3.2 (2DH).
    Errors: LayoutError if the nodes hold different numbers.
    """
    table = even_nodes(network, members)
    nodes, local = table.shape
    inside = [np.roll(table, -hop, axis=1) for hop in range(1, local)]
    across = [np.roll(table, -hop, axis=0) for hop in range(1, nodes)]
    return Rounds(
        kept(
            *_at_once(table, inside, size / local),
            *_at_once(table, across, size / nodes),
        )
    )


def _at_once(src: Links, targets: Sequence[Links], size: float) -> list[Round]:
    """Return one round from each rank to all of its targets. src, targets: [node, member] ranks."""
    if not targets:
        return []
    return [a_round(np.stack([src] * len(targets)), np.stack(targets), size)]
