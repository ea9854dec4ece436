"""Parameters, gradients and optimizer states of a rank, and what ZeRO has whole next to shards."""

from __future__ import annotations

from typing import NamedTuple

from simulator.costs import Costs, buckets
from simulator.layout import ZeroStage
from simulator.model import BlockKind
from simulator.ops.optimizer import temporaries
from simulator.scenario import Scenario


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
        if scenario.stack.sharding.masters:
            # The shards are the master weights, cast as they are gathered.
            parameters = shard * recipe.master
            optimizer = shard * recipe.moments
    on_gpu = 1.0 - scenario.workload.training.offload.optimizer
    optimizer *= on_gpu
    gradients = shard if shards_gradients(scenario) else count
    update = temporaries(
        recipe, scenario.stack.optimizer, on_gpu * of_kind.dense, on_gpu * of_kind.routed
    )
    return States(parameters, gradients * recipe.gradient, optimizer, update)


def shards_gradients(scenario: Scenario) -> bool:
    """Tell whether a rank keeps only its shard of the gradients between two micro-batches."""
    # Sums wait for the last micro-batch's, whole, where they are not reduced after every one.
    sharded = scenario.layout.zero >= ZeroStage.GRADIENTS
    return sharded and scenario.workload.layout.syncs_every_pass


def resharded(scenario: Scenario) -> bool:
    """Tell whether a rank keeps only its shard of the parameters between two passes of a block."""
    sharded = scenario.layout.zero >= ZeroStage.PARAMETERS
    return sharded and scenario.workload.layout.reshard_after_forward


def whole_blocks(scenario: Scenario, costs: Costs, stages: tuple[int, ...]) -> float:
    """Return the bytes of whole blocks next to shards [B].

    Two blocks' parameters where these are sharded, the one that runs and the next, and one block's
    gradients where those are.
    """
    sharding = scenario.stack.sharding
    kinds = [kind for stage in stages for kind in costs.stages[stage]]
    whole: list[BlockKind] = []
    if resharded(scenario):
        # What stays gathered has its whole gradients too, from the loss on.
        whole = [kind for kind in kinds if kind in sharding.kept]
        kinds = [kind for kind in kinds if kind not in sharding.kept]
    # Buffers are reused from block to block, so they have the size of the largest one.
    largest = max((sum(costs.held([kind])) for kind in kinds), default=0.0)
    recipe = scenario.recipe
    size = 2 * sum(costs.held(whole)) * recipe.parameter
    if shards_gradients(scenario):
        size += largest * recipe.gradient
        if sharding.copies_in:  # from the gradients that autograd has made
            size += largest * recipe.parameter
    if resharded(scenario):
        size += 2 * largest * recipe.parameter
    return size
