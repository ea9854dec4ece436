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

# As arrays without axes, which `a_round` repeats for every rank at the other end.
ON_SWITCH = np.array(SWITCH)
ON_FABRIC = np.array(FABRIC)


def _nvls(ranks: Links, up: float, down: float) -> Rounds:
    """Return one pass through the switch. up, down: bytes of each GPU."""
    rising = a_round(ranks, ON_SWITCH, up)
    falling = a_round(ON_SWITCH, ranks, down)
    return Rounds(kept(rising, falling), pipelined=True)


def reduce_scatter(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return everybody's buffer going up, its own sum coming down to each."""
    ranks = single_node(network, members, "nvls")
    if len(ranks) == 1:
        return Rounds(())
    return _nvls(ranks, up=size, down=size / len(ranks))


def all_gather(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return each part going up once, all of them coming down to everybody."""
    ranks = single_node(network, members, "nvls")
    if len(ranks) == 1:
        return Rounds(())
    return _nvls(ranks, up=size / len(ranks), down=size)


def all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return both passes, chunk after chunk."""
    # Pipelined: while the switch sums one chunk, it copies the chunk before it to everybody.
    up = reduce_scatter(network, members, size)
    down = all_gather(network, members, size)
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
    part = size / local  # the share of the buffer that each GPU takes across nodes
    return _Nodes(
        up=_nvls(table, up=size, down=part),
        down=_nvls(table, up=part, down=size),
        table=table,
    )


def tree_all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return NVLS inside the nodes and a double binary tree on each rail (NCCL's NVLSTree)."""
    up, down, table = _nodes(network, members, size, "nvls_tree")
    part = size / table.shape[1]
    rising = across(table.T, part)  # a tree over the nodes for each rail
    falling = reverse(rising)
    return Rounds((*up.rounds, *rising, *falling, *down.rounds), pipelined=True)


def sharp_all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return NVLS inside the nodes and sums in each rail's switches: S/g over each NIC, each way.

    What goes up from a leaf is one buffer per rail, less than any of its NICs brings, and is left
    out.
    """
    up, down, table = _nodes(network, members, size, "sharp")
    part = size / table.shape[1]
    rising = a_round(table, ON_FABRIC, part)
    falling = a_round(ON_FABRIC, table, part)
    rail = kept(rising, falling)
    return Rounds((*up.rounds, *rail, *down.rounds), pipelined=True)
