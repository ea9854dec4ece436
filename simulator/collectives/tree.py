"""Double binary trees: a chain inside each node, two trees across nodes, each for half of the buffer.

Every node but one is a leaf of one tree or of the other, so that up and down no NIC carries more
than S each way. Sanders, Speck and Träff, Parallel Computing 35 (2009); NCCL 2.4,
src/graph/trees.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Round, Rounds, even_nodes, kept
from simulator.collectives.paths import Links
from simulator.topology import Network

Edges = list[tuple[int, int]]


def parents(count: int) -> list[int]:
    """Return the parent of each of `count` places in an in-order binary tree, -1 for place 0, its root."""
    result = [-1]
    for place in range(1, count):
        low = place & -place
        up = (place ^ low) | (low << 1)
        result.append(up if up < count else place ^ low)
    return result


def both(count: int) -> tuple[list[int], list[int]]:
    """Return the two trees as parents: the second mirrored, or shifted by one where the count is odd."""
    first, second = parents(count), [-1] * count
    for place, parent in enumerate(first):
        other = count - 1 - place if count % 2 == 0 else (place + 1) % count
        if parent >= 0:
            second[other] = count - 1 - parent if count % 2 == 0 else (parent + 1) % count
    return first, second


def levels(tree: Sequence[int]) -> list[Edges]:
    """Return the edges (child, parent) by depth, the root's first."""
    depth: dict[int, int] = {}

    def down(place: int) -> int:
        if place not in depth:
            depth[place] = 0 if tree[place] < 0 else down(tree[place]) + 1
        return depth[place]

    result: list[Edges] = [
        [] for _ in range(max((down(place) for place in range(len(tree))), default=0))
    ]
    for place, parent in enumerate(tree):
        if parent >= 0:
            result[depth[place] - 1].append((place, parent))
    return result


def _upward(network: Network, members: Sequence[int], size: float) -> list[Round]:
    """Return the rounds from the farthest rank to the roots, one chain and two trees per GPU of a node."""
    table = even_nodes(network, members)
    nodes, local = table.shape
    channels = local if nodes > 1 else 1
    chains = np.stack(
        [np.roll(table, -channel, axis=1) for channel in range(channels)]
    )  # [channel, node, place]
    steps = [
        _round([(chains[:, :, place + 1].ravel(), chains[:, :, place].ravel(), size / channels)])
        for place in reversed(range(local - 1))
    ]
    heads = chains[:, :, 0]
    return steps + across(heads, size / channels)


def across(heads: Links, size: float) -> list[Round]:
    """Return the rounds up both trees over the nodes. heads: [channel, node] ranks. size: of each channel [B]."""
    trees = [levels(tree) for tree in both(heads.shape[1])] if heads.shape[1] > 1 else [[], []]
    deepest = max(len(tree) for tree in trees)
    steps = []
    for level in reversed(range(deepest)):
        edges = [tree[level] for tree in trees if level < len(tree)]
        steps.append(
            _round(
                [
                    (
                        heads[:, [child for child, _ in some]].ravel(),
                        heads[:, [up for _, up in some]].ravel(),
                        size / 2,
                    )
                    for some in edges
                ]
            )
        )
    return steps


def _round(parts: list[tuple[Links, Links, float]]) -> Round:
    return Round(
        np.concatenate([src for src, _, _ in parts]),
        np.concatenate([dst for _, dst, _ in parts]),
        np.concatenate([np.full(len(src), each) for src, _, each in parts]),
    )


def reverse(steps: Sequence[Round]) -> list[Round]:
    """Return the same ways downward."""
    return [Round(step.dst, step.src, step.bytes, step.repeat) for step in reversed(steps)]


def all_reduce(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return the sum going up and the result coming down, chunk after chunk."""
    steps = _upward(network, members, size)
    return Rounds(kept(*steps, *reverse(steps)), pipelined=True)


def broadcast(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return the way down from the roots; the second root gets its half from the first in one more round."""
    ordered = sorted(members)
    steps = _upward(network, ordered, size)
    root, table = ordered[0], even_nodes(network, ordered)
    nodes, local = table.shape
    channels = local if nodes > 1 else 1
    second = both(nodes)[1].index(-1) if nodes > 1 else 0
    starts = [(table[0, channel % local], size / channels / 2) for channel in range(channels)]
    starts += [(table[second, channel % local], size / channels / 2) for channel in range(channels)]
    others = [(rank, each) for rank, each in starts if rank != root]
    lead = Round(
        np.full(len(others), root),
        np.array([rank for rank, _ in others], dtype=np.int64),
        np.array([each for _, each in others]),
    )
    return Rounds(kept(lead, *reverse(steps)), pipelined=True)
