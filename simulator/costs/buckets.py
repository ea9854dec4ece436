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
    dense, routed = costs.held(kinds[number : number + 1])
    if "embedding" in kinds and kinds[number] == "head":
        # A tied head next to the embedding holds no copy of it.
        dense = costs.held(("embedding", "head")).dense - costs.held(("embedding",)).dense
    buckets = (Bucket(stage, "data", dense), Bucket(stage, "expert_data", routed))
    return tuple(bucket for bucket in buckets if bucket.parameters)


def of_stage(costs: Costs, stage: int) -> tuple[Bucket, ...]:
    """Return the different buckets of a stage."""
    different: dict[Bucket, None] = {}
    for number in range(len(costs.stages[stage])):
        different.update(dict.fromkeys(of_block(costs, stage, number)))
    return tuple(different)


def holders(layout: Layout, group: str, hosts: tuple[int, ...]) -> Members:
    """Return the ranks that hold the same parameters of a stage. hosts: its pipeline indices."""
    members = [layout.ranks(index, group) for index in hosts]
    return np.sort(np.concatenate(members, axis=1), axis=1)


def shards(layout: Layout, members: Members) -> Shards:
    """Return how the ranks that hold the same parameters spread them. members: see `holders`."""
    groups, count = members.shape
    size = layout.shard if 0 < layout.shard < count else count
    inside = members.reshape(-1, size)
    # Runs of `size` members hold a copy each; the n-th members of all runs hold the same shard.
    runs = members.reshape(groups, -1, size)
    across = runs.swapaxes(1, 2).reshape(-1, count // size)
    return Shards(inside, across)


def updated(
    costs: Costs, layout: Layout, hosts: dict[int, tuple[int, ...]], stages: Iterable[int]
) -> float:
    """Return the parameters whose optimizer states one rank holds.

    Those are its shard of each stage under ZeRO, else all. hosts: stage -> its pipeline indices.
    """
    count = 0.0
    for stage in stages:
        held = costs.parameters(stage)
        for parameters, group in ((held.dense, "data"), (held.routed, "expert_data")):
            ranks = replicas(layout, group, len(hosts[stage])) if layout.zero else 1
            count += parameters / ranks
    return count


def replicas(layout: Layout, group: str, hosts: int) -> int:
    """Return over how many ranks ZeRO spreads the parameters of a stage.

    hosts: number of pipeline indices that hold it.
    """
    members = int(layout.groups(group).shape[1]) * hosts
    return min(members, layout.shard) if layout.shard else members
