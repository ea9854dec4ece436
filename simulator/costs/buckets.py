"""Gradients and parameters that data parallel ranks share, bucket by bucket: a block of the model is one or two.

Dense parameters are shared by the ranks that differ in cp and dp, routed experts by those of equal
etp and ep; where a bidirectional pipeline holds a stage twice, by both holders. ZeRO spreads
states, gradients and parameters over all of these, or over runs of `layout.shard` of them, between
which gradients are summed (hybrid sharding; PyTorch FSDP's HYBRID_SHARD, arXiv 2304.11277, section
3.2.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.costs.table import Costs
from simulator.layout import Layout

Members = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Parameters that travel together. stage: that holds them. group: data or expert_data. parameters: per GPU."""

    stage: int
    group: str
    parameters: float


def of_block(costs: Costs, stage: int, number: int) -> tuple[Bucket, ...]:
    """Return the buckets of a block: its dense and its routed parameters."""
    dense, routed = costs.held(costs.stages[stage][number : number + 1])
    if "embedding" in costs.stages[stage] and costs.stages[stage][number] == "head":
        dense = costs.held(("embedding", "head"))[0] - costs.held(("embedding",))[0]
    found = (Bucket(stage, "data", dense), Bucket(stage, "expert_data", routed))
    return tuple(bucket for bucket in found if bucket.parameters)


def of_stage(costs: Costs, stage: int) -> tuple[Bucket, ...]:
    """Return the different buckets of a stage."""
    return tuple(
        dict.fromkeys(
            bucket
            for number in range(len(costs.stages[stage]))
            for bucket in of_block(costs, stage, number)
        )
    )


def holders(layout: Layout, group: str, hosts: tuple[int, ...]) -> Members:
    """Return the ranks that hold the same parameters of a stage [group, member]. hosts: its pipeline indices."""
    return np.sort(np.concatenate([layout.ranks(index, group) for index in hosts], axis=1), axis=1)


def shards(layout: Layout, members: Members) -> tuple[Members, Members]:
    """Return the groups that share one copy of the shards, and those that hold the same shard [group, member]."""
    size = layout.shard if 0 < layout.shard < members.shape[1] else members.shape[1]
    inside = members.reshape(-1, size)
    across = (
        members.reshape(len(members), -1, size).swapaxes(1, 2).reshape(-1, members.shape[1] // size)
    )
    return inside, across


def updated(
    costs: Costs,
    layout: Layout,
    hosts: dict[int, tuple[int, ...]],
    stages: Iterator[int] | tuple[int, ...],
) -> float:
    """Return the parameters whose optimizer states one rank holds: its shard of each stage under ZeRO, or all."""
    count = 0.0
    for stage in stages:
        for part, group in zip(costs.parameters(stage), ("data", "expert_data"), strict=True):
            count += part / (replicas(layout, group, len(hosts[stage])) if layout.zero else 1)
    return count


def replicas(layout: Layout, group: str, hosts: int) -> int:
    """Return over how many ranks ZeRO spreads the parameters of a stage. hosts: pipeline indices that hold it."""
    members = int(layout.groups(group).shape[1]) * hosts
    return min(members, layout.shard) if layout.shard else members
