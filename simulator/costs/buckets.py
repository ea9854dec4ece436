"""Gradients and parameters that data parallel ranks share: one or two buckets for each block.

Dense parameters are shared by the ranks that differ in cp and dp, routed experts by those of equal
etp and ep; where a bidirectional pipeline holds a stage twice, by both holders. ZeRO spreads
states, gradients and parameters over all of these, or over runs of `layout.shard` of them, between
which gradients are summed (hybrid sharding; PyTorch FSDP's HYBRID_SHARD, arXiv 2304.11277, section
3.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.costs.blocks import Held
from simulator.costs.table import Costs
from simulator.layout import Layout

Members = NDArray[np.int64]
"""Ranks of groups [group, member]."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Parameters that travel together."""

    stage: int
    """Stage that holds them."""
    group: str
    """Kind of group that shares them: data or expert_data."""
    parameters: float
    """How many one GPU holds."""


class Shards(NamedTuple):
    """How the ranks that hold the same parameters spread them."""

    inside: Members
    """Groups that share one copy of the shards."""
    across: Members
    """Groups that hold the same shard."""


def of_block(costs: Costs, stage: int, number: int) -> tuple[Bucket, ...]:
    """Return the buckets of a block: its dense and its routed parameters."""
    kinds = costs.stages[stage]
    kind = kinds[number]
    dense, routed = costs.held((kind,))
    if "embedding" in kinds and kind == "head":
        # A tied head next to the embedding holds no copy of it.
        both = costs.held(("embedding", "head"))
        embedding = costs.held(("embedding",))
        dense = both.dense - embedding.dense
    buckets = []
    if dense:
        buckets.append(Bucket(stage, "data", dense))
    if routed:
        buckets.append(Bucket(stage, "expert_data", routed))
    return tuple(buckets)


def of_stage(costs: Costs, stage: int) -> tuple[Bucket, ...]:
    """Return the different buckets of a stage."""
    different: dict[Bucket, None] = {}
    for number in range(len(costs.stages[stage])):
        for bucket in of_block(costs, stage, number):
            different[bucket] = None  # a dict keeps the order of blocks, a set would not
    return tuple(different)


def holders(layout: Layout, group: str, hosts: tuple[int, ...]) -> Members:
    """Return the ranks that hold the same parameters of a stage. hosts: its pipeline indices."""
    # Groups of all holders side by side: the n-th group of each holds the same part of the stage.
    of_host = [layout.ranks(index, group) for index in hosts]  # [host] of [group, member]
    members = np.concatenate(of_host, axis=1)  # [group, member]
    # In order of ranks, so that runs of members, which hybrid sharding makes, are neighbours.
    return np.sort(members, axis=1)


def shards(layout: Layout, members: Members) -> Shards:
    """Return how the ranks that hold the same parameters spread them. members: see `holders`."""
    groups, count = members.shape
    size = count
    if 0 < layout.shard < count:
        size = layout.shard
    inside = members.reshape(-1, size)
    # Runs of `size` members hold a copy each; the n-th members of all runs hold the same shard.
    runs = members.reshape(groups, -1, size)  # [group, run, shard]
    of_shard = runs.swapaxes(1, 2)  # [group, shard, run]
    across = of_shard.reshape(-1, count // size)
    return Shards(inside, across)


def updated(
    costs: Costs,
    layout: Layout,
    hosts: dict[int, tuple[int, ...]],
    stages: Iterable[int],
) -> Held:
    """Return the parameters whose optimizer states one rank holds.

    Those are its shard of each stage under ZeRO, else all. hosts: stage -> its pipeline indices.
    """
    dense = routed = 0.0
    for stage in stages:
        held = costs.parameters(stage)
        # Every level of ZeRO, from the first on, spreads the optimizer's states.
        holding = len(hosts[stage])
        dense += held.dense / (replicas(layout, "data", holding) if layout.zero else 1)
        routed += held.routed / (replicas(layout, "expert_data", holding) if layout.zero else 1)
    return Held(dense, routed)


def gathered(
    costs: Costs,
    layout: Layout,
    hosts: dict[int, tuple[int, ...]],
    stages: Iterable[int],
) -> float:
    """Return the parameters of `updated` that other ranks gather: those of shards with peers."""
    total = 0.0
    for stage in stages:
        dense, routed = updated(costs, layout, hosts, (stage,))
        holding = len(hosts[stage])
        if replicas(layout, "data", holding) > 1:
            total += dense
        if replicas(layout, "expert_data", holding) > 1:
            total += routed
    return total


def replicas(layout: Layout, group: str, hosts: int) -> int:
    """Return over how many ranks ZeRO spreads the parameters of a stage.

    hosts: number of pipeline indices that hold it.
    """
    _, size = layout.groups(group).shape
    members = int(size) * hosts
    if layout.shard:
        return min(members, layout.shard)
    return members
