"""Everybody sends a part to everybody."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Round, Rounds, a_round, even_nodes, kept
from simulator.collectives.paths import all_pairs
from simulator.topology import Network


def pairwise(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return S/n from each to each, all posted at once as NCCL groups them, by the ways of `Network.route`."""
    src, dst = all_pairs(sorted(members))
    return Rounds(kept(Round(src, dst, np.full(len(src), size / len(members)))))


def hierarchical(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return S/g to each GPU of the own node for all nodes, then S/n to the same rail of each node.

    Few, large messages. Hwang et al., Tutel, arXiv 2206.03382, section 3.2 (2DH).
    Errors: LayoutError if the nodes hold different numbers.
    """
    table = even_nodes(network, members)
    nodes, local = table.shape
    inside = [a_round(table, np.roll(table, -k, axis=1), size / local) for k in range(1, local)]
    across = [a_round(table, np.roll(table, -k, axis=0), size / nodes) for k in range(1, nodes)]
    return Rounds(kept(*_at_once(inside), *_at_once(across)))


def _at_once(steps: Sequence[Round]) -> list[Round]:
    if not steps:
        return []
    src, dst, each = (
        np.concatenate([getattr(step, name) for step in steps]) for name in ("src", "dst", "bytes")
    )
    return [Round(src, dst, each)]
