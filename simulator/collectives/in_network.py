"""Switches that add and copy: NVLink SHARP (NVLS) inside a node, trees or SHARP across.

A GPU owns 1/g of the buffer. It reads its part from everybody, summed by the switch, and writes the
result to everybody with one store: S + S/g over each direction of its NVLink for an all-reduce,
against 2 (g-1)/g S of a ring. Its bus bandwidth is therefore 2 (g-1)/(g+1) of the link's; 420, 440,
460 and 480 GB/s were seen on 5 to 8 GPUs (nccl issue 1455).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simulator.collectives.demand import Rounds, a_round, even_nodes, kept, single_node
from simulator.collectives.paths import FABRIC, SWITCH, Links
from simulator.collectives.tree import across, reverse
from simulator.errors import LayoutError
from simulator.topology import Network

ON_SWITCH, ON_FABRIC = np.array(SWITCH), np.array(FABRIC)


def _nvls(ranks: Links, up: float, down: float) -> Rounds:
    """Return one pass through the switch. up, down: bytes of each GPU."""
    return Rounds(
        kept(a_round(ranks, ON_SWITCH, up), a_round(ON_SWITCH, ranks, down)), pipelined=True
    )


def reduce_scatter(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return everybody's buffer going up, its own sum coming down to each."""
    ranks = single_node(network, members, "nvls")
    return _nvls(ranks, size, size / len(ranks)) if len(ranks) > 1 else Rounds(())


def all_gather(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return each part going up once, all of them coming down to everybody."""
    ranks = single_node(network, members, "nvls")
    return _nvls(ranks, size / len(ranks), size) if len(ranks) > 1 else Rounds(())


def all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return both passes, chunk after chunk."""
    up, down = reduce_scatter(network, members, size), all_gather(network, members, size)
    return Rounds((*up.rounds, *down.rounds), pipelined=True)


class _Nodes(NamedTuple):
    """What happens inside the nodes of a group that spans several."""

    up: Rounds
    """Sums of each node's buffers, a part to each of its GPUs."""
    down: Rounds
    """The results to all GPUs of each node."""
    table: Links
    """Ranks [node, member]."""


def _nodes(network: Network, members: Sequence[int], size: float, name: str) -> _Nodes:
    table = even_nodes(network, members)
    if len(table) == 1:
        raise LayoutError(
            "goes across nodes; this is one",
            value=name,
            key="--algorithm",
            remedy="Choose nvls, or more ranks.",
        )
    local = table.shape[1]
    if local == 1:
        return _Nodes(Rounds(()), Rounds(()), table)
    return _Nodes(_nvls(table, size, size / local), _nvls(table, size / local, size), table)


def tree_all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return NVLS inside the nodes and a double binary tree on each rail (NCCL's NVLSTree)."""
    up, down, table = _nodes(network, members, size, "nvls_tree")
    steps = across(table.T, size / table.shape[1])
    return Rounds((*up.rounds, *steps, *reverse(steps), *down.rounds), pipelined=True)


def sharp_all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return NVLS inside the nodes and sums in each rail's switches: S/g over each NIC, each way.

    What goes up from a leaf is one buffer per rail, less than any of its NICs brings, and is left
    out.
    """
    up, down, table = _nodes(network, members, size, "sharp")
    part = size / table.shape[1]
    rail = kept(a_round(table, ON_FABRIC, part), a_round(ON_FABRIC, table, part))
    return Rounds((*up.rounds, *rail, *down.rounds), pipelined=True)
