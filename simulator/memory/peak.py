"""Bytes per rank over a step: what stays, and activations as the schedule takes and frees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.costs import Costs, buckets
from simulator.layout import ZeroStage
from simulator.program import Program
from simulator.program.coflows import stage_hosts
from simulator.scenario import Scenario
from simulator.schedules import Action, Schedule

CATEGORIES = ("parameters", "gradients", "optimizer", "activations", "buffers", "margin")
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Peak memory of the ranks at one pipeline index."""

    pipeline_index: int
    """Of the ranks."""
    stages: tuple[int, ...]
    """Stages that they hold."""
    by_category: dict[str, float]
    """Category -> bytes at the peak [B]."""

    @property
    def peak(self) -> float:
        """Return the peak [B]."""
        return sum(self.by_category.values())


class Change(NamedTuple):
    """What one half of an action does to the kept activations."""

    position: int
    """Of the action in its rank's order."""
    taken: float
    """Bytes that stay when it has run, below 0 where it frees some [B]."""
    extra: float
    """Bytes on top of what was kept before, while it runs [B]."""


class _Activations(NamedTuple):
    """What one micro-batch takes on a stage."""

    kept: float
    """From its forward pass until its last backward pass [B]."""
    transient: float
    """While the block that needs most is recomputed [B]."""
    reread: float
    """What weight gradients read of that: from a split backward pass's input gradient on [B]."""

    def change(self, kind: str, position: int) -> Change:
        """Return what half an action does. kind: F, B, I or W."""
        if kind == "F":
            return Change(position, self.kept, self.kept)
        if kind == "B":
            return Change(position, -self.kept, self.transient)
        if kind == "I":
            return Change(position, self.reread, max(self.transient, self.reread))
        return Change(position, -self.kept - self.reread, 0.0)


def memory(program: Program) -> tuple[RankMemory, ...]:
    """Return the peak memory of each pipeline index."""
    return memory_of(program.scenario, program.costs, program.schedule)


def memory_of(scenario: Scenario, costs: Costs, schedule: Schedule) -> tuple[RankMemory, ...]:
    """Return the peak memory of each pipeline index; nothing has to be lowered or run for it."""
    hosts = stage_hosts(schedule)
    return tuple(
        _rank_memory(scenario, costs, schedule.ranks[index], hosts, index)
        for index in range(len(schedule.ranks))
    )


def _rank_memory(
    scenario: Scenario,
    costs: Costs,
    order: tuple[Action, ...],
    hosts: dict[int, tuple[int, ...]],
    index: int,
) -> RankMemory:
    """Return the peak of one pipeline index.

    order: its actions. hosts: stage -> pipeline indices that hold it.
    """
    recipe = scenario.recipe
    stages = tuple(stage for stage, indices in hosts.items() if index in indices)
    # Dense and routed parameters, before and after ZeRO shards them.
    count = sum(sum(costs.parameters(stage)) for stage in stages)
    shard = buckets.updated(costs, scenario.layout, hosts, stages)
    # ZeRO 1 shards the optimizer's states, 2 gradients too, 3 parameters too.
    activations = _peak_activations(costs, order)
    buffers = _buffers(scenario, costs, stages)
    parameters = shard if _resharded(scenario) else count
    gradients = shard if _sharded_gradients(scenario) else count
    by_category = {
        "parameters": parameters * recipe.parameter,
        "gradients": gradients * recipe.gradient,
        "optimizer": shard * (recipe.master + recipe.moments),
        "activations": activations,
        "buffers": buffers,
        "margin": scenario.workload.training.fragmentation * (activations + buffers),
    }
    return RankMemory(index, stages, by_category)


def _sharded_gradients(scenario: Scenario) -> bool:
    """Tell whether a rank keeps only its shard of the gradients between two micro-batches."""
    # Sums wait for the last micro-batch's, whole, where they are not reduced after every one.
    sharded = scenario.layout.zero >= ZeroStage.GRADIENTS
    return sharded and scenario.workload.layout.syncs_every_pass


def _resharded(scenario: Scenario) -> bool:
    """Tell whether a rank keeps only its shard of the parameters between two passes of a block."""
    sharded = scenario.layout.zero >= ZeroStage.PARAMETERS
    return sharded and scenario.workload.layout.reshard_after_forward


def _peak_activations(costs: Costs, order: tuple[Action, ...]) -> float:
    """Return the largest sum of kept activations in the order of a rank's actions [B].

    A micro-batch's activations are freed by its full backward or, where that is split, by its
    weight gradient. While a block is recomputed, what it does not keep is there once more; where
    the backward pass is split, what the weight gradients read of that stays until they have run.
    """
    # What is there only while an action runs is no more when the next one begins.
    now = peak = 0.0
    for change in _changes(costs, order):
        while_it_runs = now + change.extra
        now += change.taken
        peak = max(peak, while_it_runs, now)
    return peak


def _changes(costs: Costs, order: tuple[Action, ...]) -> list[Change]:
    """Return what each half of each action does, in order."""
    stages = {stage for action in order for _, _, stage in action.halves()}
    activations = {stage: _activations(costs, stage) for stage in stages}
    return [
        activations[stage].change(kind, position)
        for position, action in enumerate(order)
        for kind, _, stage in action.halves()
    ]


def _activations(costs: Costs, stage: int) -> _Activations:
    # Blocks are recomputed one after another, so only one of them is whole; what weight gradients
    # will read stays of each.
    blocks = costs.stage(stage)
    return _Activations(
        kept=costs.saved(stage),
        transient=max((block.transient for block in blocks), default=0.0),
        reread=sum(block.reread for block in blocks),
    )


def over_time(program: Program, index: int, start: Floats, end: Floats) -> tuple[Floats, Floats]:
    """Return times [s] and the kept activations from each on [B], of the ranks at a pipeline index.

    start, end: of the first and the last op of each of that rank's actions [position] s. A forward
    pass takes its bytes when it starts, a backward pass frees them when it ends.
    """
    changes = _changes(program.costs, program.schedule.ranks[index])
    position = np.array([change.position for change in changes], dtype=np.int64)
    taken = np.array([change.taken for change in changes])
    # Bytes are taken when an action begins and freed when it ends; two halves of a pair share both.
    times = np.where(taken > 0, start[position], end[position])
    order = np.argsort(times, kind="stable")
    held: Floats = np.cumsum(taken[order])
    return times[order], held


def _buffers(scenario: Scenario, costs: Costs, stages: tuple[int, ...]) -> float:
    """Return what moves between GPUs and is not kept [B].

    Received tokens of dispatch and combine; two residual streams each way for pipeline sends; with
    tensor parallelism a gathered input and what is to be scattered; under ZeRO 2 and 3 whole
    blocks.
    """
    work = costs.work
    width = work.model.hidden_size
    received = 0.0  # tokens per token of the residual stream, under the largest load
    if costs.loads:
        received = max((load.received for load in costs.loads.distinct), default=0.0)
    # In BF16, once as dispatch brings tokens and once as combine takes them back.
    brought = 2 * work.own * work.etp * received
    exchange = brought * width * 2.0  # [B]
    tensor = 0.0  # [B]
    if scenario.layout.tp > 1:
        tensor = 2 * work.tokens * width * 2.0
    # To send and to receive, ahead and back.
    sends = 4 * costs.activation_bytes()
    return exchange + sends + tensor + _whole_blocks(scenario, costs, stages)


def _whole_blocks(scenario: Scenario, costs: Costs, stages: tuple[int, ...]) -> float:
    """Return the bytes of whole blocks next to shards [B].

    Two blocks' parameters where these are sharded, the one that runs and the next, and one block's
    gradients where those are.
    """
    kinds = [kind for stage in stages for kind in costs.stages[stage]]
    # Buffers are reused from block to block, so they have the size of the largest one.
    largest = max((sum(costs.held([kind])) for kind in kinds), default=0.0)
    size = 0.0
    if _sharded_gradients(scenario):
        size += largest * scenario.recipe.gradient
    if _resharded(scenario):
        size += 2 * largest * scenario.recipe.parameter
    return size
