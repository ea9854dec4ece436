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
    # In an in-order tree the lowest set bit of a node is its height: a parent lies as far away as
    # that bit, and has the next bit as its lowest. Where the tree is cut off there is no node above
    # on the right, and the one on the left is the parent (NCCL, ncclGetBtree).
    result = [-1]
    for node in range(1, count):
        low = node & -node
        left = node ^ low
        right = left | (low << 1)
        result.append(right if right < count else left)
    return result


def both(count: int) -> tuple[list[int], list[int]]:
    """Return both trees as parents: the second mirrored, or shifted by one for odd counts."""
    first, second = parents(count), [-1] * count

    # Leaves have odd numbers. Mirroring an even count, or shifting an odd one, gives them even
    # numbers in the second tree, so that they pass on there what they only take in the first.
    def other(node: int) -> int:
        if count % 2 == 0:
            return count - 1 - node
        return (node + 1) % count

    for node, parent in enumerate(first):
        if parent >= 0:
            second[other(node)] = other(parent)
    return first, second


def levels(tree: Sequence[int]) -> list[list[Edge]]:
    """Return the edges by depth, the root's first. tree: parents."""
    depth: dict[int, int] = {}

    def down(node: int) -> int:
        if node not in depth:
            is_root = tree[node] < 0
            depth[node] = 0 if is_root else down(tree[node]) + 1
        return depth[node]

    deepest = max(map(down, range(len(tree))), default=0)
    result: list[list[Edge]] = [[] for _ in range(deepest)]
    for node, parent in enumerate(tree):
        if parent >= 0:
            result[depth[node] - 1].append(Edge(node, parent))
    return result


def _upward(network: Network, members: Sequence[int], size: float) -> list[Round]:
    """Return the rounds up to the roots: one chain and two trees for each GPU of a node."""
    table = even_nodes(network, members)  # [node, member] ranks
    local = table.shape[1]
    channels = _channels(table)
    part = size / channels
    # Each channel's chain begins at another GPU, so that each leaves its nodes by another rail:
    # [channel, node, position in the chain].
    turned = [np.roll(table, -channel, axis=1) for channel in range(channels)]
    chains = np.stack(turned)
    steps = []
    for position in reversed(range(local - 1)):
        src = chains[:, :, position + 1]  # [channel, node] ranks
        dst = chains[:, :, position]
        steps.append(a_round(src, dst, part))
    heads = chains[:, :, 0]  # [channel, node] ranks
    return steps + across(heads, part)


def _channels(table: Links) -> int:
    """Return the number of channels: one for each rail, one where nothing leaves the node."""
    nodes, local = table.shape
    return local if nodes > 1 else 1


def across(heads: Links, size: float) -> list[Round]:
    """Return the rounds up both trees over the nodes.

    heads: [channel, node] ranks. size: of each channel [B].
    """
    nodes = heads.shape[1]
    if nodes == 1:
        return []
    trees = [levels(tree) for tree in both(nodes)]
    steps = []
    deepest = max(map(len, trees))
    for level in reversed(range(deepest)):
        edges = [tree[level] for tree in trees if level < len(tree)]
        steps.append(_both_trees(heads, edges, size / 2))
    return steps


def _both_trees(heads: Links, edges: Sequence[Sequence[Edge]], size: float) -> Round:
    """Return a round up one level of each tree, tree by tree and channel by channel."""
    children, above = [], []
    for of_tree in edges:
        child = [edge.child for edge in of_tree]
        parent = [edge.parent for edge in of_tree]
        children.append(heads[:, child].ravel())
        above.append(heads[:, parent].ravel())
    return a_round(np.concatenate(children), np.concatenate(above), size)


def reverse(steps: Sequence[Round]) -> list[Round]:
    """Return the same ways downward."""
    return [_backwards(step) for step in reversed(steps)]


def _backwards(step: Round) -> Round:
    return Round(src=step.dst, dst=step.src, bytes=step.bytes, repeat=step.repeat)


def all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return the sum going up and the result coming down, chunk after chunk."""
    rising = _upward(network, members, size)
    falling = reverse(rising)
    return Rounds(kept(*rising, *falling), pipelined=True)


def broadcast(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return the way down from the roots, to which the first rank hands their halves first."""
    ordered = sorted(members)
    steps = _upward(network, ordered, size)
    root, table = ordered[0], even_nodes(network, ordered)
    nodes, local = table.shape
    channels = _channels(table)
    second = 0  # node that is the second tree's root
    if nodes > 1:
        second = both(nodes)[1].index(-1)
    # Every channel has a root in each of its two trees, of which rank `root` is only one: it hands
    # the others the half of a channel's share that each spreads.
    heads = []
    for node in (0, second):
        heads += [table[node, channel % local] for channel in range(channels)]
    without_root = [rank for rank in heads if rank != root]
    others = np.array(without_root, dtype=np.int64)
    sources = np.full(len(others), root)
    lead = a_round(sources, others, size / channels / 2)
    return Rounds(kept(lead, *reverse(steps)), pipelined=True)
