"""Rings, one per GPU of a node where there are several nodes: each leaves by a rail of its own.

Patarasuk and Yuan, J. Parallel Distrib. Comput. 69 (2009): all-reduce in 2(n-1) rounds of S/n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from simulator.collectives.demand import OnNodes, Round, Rounds, a_round, by_node, kept
from simulator.collectives.paths import Links
from simulator.topology import Network


def orders(network: Network, members: Sequence[int], first: int | None = None) -> list[Links]:
    """Return the ring orders: node after node, in ring c starting at the c-th member of each.

    first: the rank that stands first in each order, of the first node's, whoever comes next.
    """
    on_nodes = OnNodes.of(network, members)
    sizes = np.diff(on_nodes.begin)  # [node]
    # The member that a node's chain begins with receives over its own NIC, and the one that it ends
    # with sends: beginning elsewhere in every ring uses all of a node's NICs at once.
    count = int(sizes.max()) if len(sizes) > 1 else 1
    if first is None and (sizes == sizes[0]).all():
        members_of = on_nodes.ranks.reshape(len(sizes), -1)  # [node, member]
        return [np.roll(members_of, -ring, axis=1).ravel() for ring in range(count)]
    groups = by_node(network, members)
    result = []
    for ring in range(count):
        nodes = [_from(group, ring % len(group)) for group in groups]
        if first is not None:
            nodes[0] = _led_by(first, nodes[0])
        in_order = list(chain.from_iterable(nodes))
        result.append(np.array(in_order, dtype=np.int64))
    return result


def _from(group: list[int], start: int) -> list[int]:
    """Return the members of a node, beginning with the one at `start`."""
    return group[start:] + group[:start]


def _led_by(first: int, group: list[int]) -> list[int]:
    """Return the members of a node with `first` in front."""
    others = [rank for rank in group if rank != first]
    return [first, *others]


def _ring(network: Network, members: Sequence[int], size: float, passes: int) -> Rounds:
    n = len(members)
    src = np.array(orders(network, members))  # [ring, position] ranks
    dst = np.roll(src, -1, axis=1)
    # All rings run at the same time, each with its share of the buffer.
    part = size / n / len(src)
    step = replace(a_round(src, dst, part, repeat=passes * (n - 1)), chained=True)
    return Rounds(kept(step))


def all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return a reduce-scatter and an all-gather: 2(n-1) rounds of S/n."""
    return _ring(network, members, size, 2)


def one_pass(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return a reduce-scatter or an all-gather: n-1 rounds of S/n."""
    return _ring(network, members, size, 1)


def broadcast(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return the chains from the lowest rank along the open rings, chunk after chunk."""
    chains = np.array(orders(network, members, first=min(members)))  # [ring, position] ranks
    part = size / len(chains)
    steps: list[Round] = []
    for hop in range(len(members) - 1):
        src = chains[:, hop]  # [ring] ranks
        dst = chains[:, hop + 1]
        steps.append(a_round(src, dst, part))
    return Rounds(kept(*steps), pipelined=True)
