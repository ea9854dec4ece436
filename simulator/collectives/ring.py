"""Rings, one per GPU of a node where there are several nodes: each leaves by a rail of its own.

Patarasuk and Yuan, J. Parallel Distrib. Comput. 69 (2009): all-reduce in 2(n-1) rounds of S/n.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Round, Rounds, a_round, by_node, kept
from simulator.collectives.paths import Links
from simulator.topology import Network


def orders(network: Network, members: Sequence[int], first: int | None = None) -> list[Links]:
    """Return the ring orders: node after node, in ring c starting at the c-th member of each.

    first: the rank that stands first in each order, of the first node's, whoever comes next.
    """
    groups = by_node(network, members)
    count = max(len(group) for group in groups) if len(groups) > 1 else 1
    result = []
    for ring in range(count):
        nodes = [_from(group, ring % len(group)) for group in groups]
        if first is not None:
            nodes[0] = [first, *[rank for rank in nodes[0] if rank != first]]
        result.append(np.array([rank for node in nodes for rank in node], dtype=np.int64))
    return result


def _from(group: list[int], start: int) -> list[int]:
    return group[start:] + group[:start]


def _ring(network: Network, members: Sequence[int], size: float, passes: int) -> Rounds:
    rings = orders(network, members)
    n = len(members)
    src = np.array(rings)  # [ring, position]
    dst = np.roll(src, -1, axis=1)
    return Rounds(kept(a_round(src, dst, size / n / len(rings), passes * (n - 1))))


def all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return a reduce-scatter and an all-gather: 2(n-1) rounds of S/n."""
    return _ring(network, members, size, 2)


def one_pass(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return a reduce-scatter or an all-gather: n-1 rounds of S/n."""
    return _ring(network, members, size, 1)


def broadcast(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return the chains from the lowest rank along the open rings, chunk after chunk."""
    chains = np.array(orders(network, members, first=min(members)))  # [ring, position]
    steps: list[Round] = [
        a_round(chains[:, hop], chains[:, hop + 1], size / len(chains))
        for hop in range(len(members) - 1)
    ]
    return Rounds(kept(*steps), pipelined=True)
