"""Recursive halving and doubling: log2 n rounds, near partners first.

So the large halves stay inside nodes.
Thakur, Rabenseifner and Gropp, Int. J. High Perf. Comput. Appl. 19 (2005), sections 4.1 and 4.5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Round, Rounds, a_round, kept
from simulator.errors import LayoutError
from simulator.topology import Network


def _halving(members: Sequence[int], size: float) -> list[Round]:
    n = len(members)
    is_power_of_two = n & (n - 1) == 0
    if not is_power_of_two:
        below = 1 << (n.bit_length() - 1)
        raise LayoutError(
            f"needs a power of two; these are {n} ranks",
            value="halving_doubling",
            key="--algorithm",
            remedy=f"Choose ring, or --ranks {below}.",
        )
    ranks = np.array(sorted(members))
    position = np.arange(n)
    steps = []
    # Lowest bit first: ranks are numbered node by node, so that the first and largest halves go to
    # partners on the same node.
    for bit in range(n.bit_length() - 1):
        partner = ranks[position ^ (1 << bit)]
        half = size / 2 ** (bit + 1)
        steps.append(a_round(ranks, partner, half))
    return steps


def one_pass(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return a reduce-scatter; an all-gather is the same rounds in the other order."""
    return Rounds(kept(*_halving(members, size)))


def all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return recursive halving, then recursive doubling."""
    steps = _halving(members, size)
    return Rounds(kept(*steps, *reversed(steps)))
