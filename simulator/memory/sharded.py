"""Parameters, gradients and optimizer states of a rank, and what ZeRO has whole next to shards."""

from __future__ import annotations

from typing import NamedTuple

from simulator.costs import Costs, buckets
from simulator.layout import ZeroStage
from simulator.model import BlockKind
from simulator.ops.optimizer import temporaries
from simulator.scenario import Scenario

ROOT = ("embedding", "head")
"""Blocks that FSDP2 wraps with the model itself: they are gathered once, until the backward pass."""


class States(NamedTuple):
    """What stays on a rank for the whole step."""

    parameters: float
    """[B]."""
    gradients: float
    """[B]."""
    optimizer: float
    """Master weights and moments [B]."""
    update: float
    """What the update needs besides, when all activations are gone [B]."""


def states(
    scenario: Scenario, costs: Costs, hosts: dict[int, tuple[int, ...]], stages: tuple[int, ...]
) -> States:
    """Return what stays on a rank. hosts: stage -> pipeline indices that hold it. stages: its own."""
    recipe = scenario.recipe
    # Dense and routed parameters, before and after ZeRO shards them.
    count = sum(sum(costs.parameters(stage)) for stage in stages)
    of_kind = buckets.updated(costs, scenario.layout, hosts, stages)
    shard = sum(of_kind)
    # ZeRO 1 shards the optimizer's states, 2 gradients too, 3 parameters too.
    parameters = count * recipe.parameter
    optimizer = shard * (recipe.master + recipe.moments)
    if resharded(scenario):
        parameters = shard * recipe.parameter
        if scenario.stack.memory.shards_masters:
            # The shards are the master weights, cast as they are gathered.
            parameters = shard * recipe.master
            optimizer = shard * recipe.moments
    gradients = shard if scenario.layout.zero >= ZeroStage.GRADIENTS else count
    update = temporaries(recipe, scenario.stack.optimizer, of_kind.dense, of_kind.routed)
    return States(parameters, gradients * recipe.gradient, optimizer, update)


def resharded(scenario: Scenario) -> bool:
    """Tell whether a rank keeps only its shard of the parameters between two passes of a block."""
    sharded = scenario.layout.zero >= ZeroStage.PARAMETERS
    return sharded and scenario.workload.layout.reshard_after_forward


def whole_blocks(scenario: Scenario, costs: Costs, stages: tuple[int, ...]) -> float:
    """Return the bytes of whole blocks next to shards [B].

    Two blocks' parameters where these are sharded, the one that runs and the next, and one block's
    gradients where those are.
    """
    kinds = [kind for stage in stages for kind in costs.stages[stage]]
    root: list[BlockKind] = []
    if resharded(scenario) and scenario.stack.memory.keeps_root:
        root = [kind for kind in kinds if kind in ROOT]
        kinds = [kind for kind in kinds if kind not in ROOT]
    # Buffers are reused from block to block, so they have the size of the largest one.
    largest = max((sum(costs.held([kind])) for kind in kinds), default=0.0)
    recipe = scenario.recipe
    size = 0.0
    if scenario.layout.zero >= ZeroStage.GRADIENTS:
        size += largest * recipe.gradient
    if resharded(scenario):
        size += 2 * largest * recipe.parameter
    # The root's gradients are whole from the loss on, in the format of the parameters.
    return size + 2 * sum(costs.held(root)) * recipe.parameter
