"""Double binary trees: a chain inside each node, two trees across nodes for half the buffer each.

Every node but one is a leaf of one tree or of the other, so that up and down no NIC carries more
than S each way. Sanders, Speck and Träff, Parallel Computing 35 (2009); NCCL 2.4,
src/graph/trees.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simulator.collectives.demand import Round, Rounds, a_round, even_nodes, kept
from simulator.collectives.paths import Links
from simulator.topology import Network


class Edge(NamedTuple):
    """A child and its parent in a tree over the nodes."""

    child: int
    """Position of the child among the nodes."""
    parent: int
    """Position of its parent."""


def parents(count: int) -> list[int]:
    """Return the parent of each node of an in-order binary tree, -1 for node 0, its root."""
    result = [-1]
    for node in range(1, count):
        low = node & -node
        up = (node ^ low) | (low << 1)
        result.append(up if up < count else node ^ low)
    return result


def both(count: int) -> tuple[list[int], list[int]]:
    """Return both trees as parents: the second mirrored, or shifted by one for odd counts."""
    first, second = parents(count), [-1] * count

    def other(node: int) -> int:
        return count - 1 - node if count % 2 == 0 else (node + 1) % count

    for node, parent in enumerate(first):
        if parent >= 0:
            second[other(node)] = other(parent)
    return first, second


def levels(tree: Sequence[int]) -> list[list[Edge]]:
    """Return the edges by depth, the root's first. tree: parents."""
    depth: dict[int, int] = {}

    def down(node: int) -> int:
        if node not in depth:
            depth[node] = 0 if tree[node] < 0 else down(tree[node]) + 1
        return depth[node]

    deepest = max((down(node) for node in range(len(tree))), default=0)
    result: list[list[Edge]] = [[] for _ in range(deepest)]
    for node, parent in enumerate(tree):
        if parent >= 0:
            result[depth[node] - 1].append(Edge(node, parent))
    return result


def _upward(network: Network, members: Sequence[int], size: float) -> list[Round]:
    """Return the rounds up to the roots: one chain and two trees for each GPU of a node."""
    table = even_nodes(network, members)
    nodes, local = table.shape
    channels = local if nodes > 1 else 1
    # Each channel's chain begins at another GPU, so that each leaves its nodes by another rail:
    # [channel, node, position in the chain].
    chains = np.stack([np.roll(table, -channel, axis=1) for channel in range(channels)])
    steps = [
        a_round(chains[:, :, position + 1], chains[:, :, position], size / channels)
        for position in reversed(range(local - 1))
    ]
    return steps + across(chains[:, :, 0], size / channels)


def across(heads: Links, size: float) -> list[Round]:
    """Return the rounds up both trees over the nodes.

    heads: [channel, node] ranks. size: of each channel [B].
    """
    nodes = heads.shape[1]
    if nodes == 1:
        return []
    trees = [levels(tree) for tree in both(nodes)]
    steps = []
    for level in reversed(range(max(map(len, trees)))):
        edges = [tree[level] for tree in trees if level < len(tree)]
        steps.append(_both_trees(heads, edges, size / 2))
    return steps


def _both_trees(heads: Links, edges: Sequence[Sequence[Edge]], size: float) -> Round:
    """Return a round up one level of each tree, tree by tree and channel by channel."""
    children, above = [], []
    for of_tree in edges:
        children.append(heads[:, [edge.child for edge in of_tree]].ravel())
        above.append(heads[:, [edge.parent for edge in of_tree]].ravel())
    return a_round(np.concatenate(children), np.concatenate(above), size)


def reverse(steps: Sequence[Round]) -> list[Round]:
    """Return the same ways downward."""
    return [Round(step.dst, step.src, step.bytes, step.repeat) for step in reversed(steps)]


def all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return the sum going up and the result coming down, chunk after chunk."""
    steps = _upward(network, members, size)
    return Rounds(kept(*steps, *reverse(steps)), pipelined=True)


def broadcast(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return the way down from the roots, to which the first rank hands their halves first."""
    ordered = sorted(members)
    steps = _upward(network, ordered, size)
    root, table = ordered[0], even_nodes(network, ordered)
    nodes, local = table.shape
    channels = local if nodes > 1 else 1
    second = both(nodes)[1].index(-1) if nodes > 1 else 0  # node that is the second tree's root
    heads = [table[node, channel % local] for node in (0, second) for channel in range(channels)]
    others = np.array([rank for rank in heads if rank != root], dtype=np.int64)
    lead = a_round(np.full(len(others), root), others, size / channels / 2)
    return Rounds(kept(lead, *reverse(steps)), pipelined=True)
