"""Bytes per rank over a step: what stays, and activations as the schedule's order takes and frees them."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Peak memory of the ranks at one pipeline index. stages: that it holds. by_category: bytes at the peak [B]."""

    pipeline_index: int
    stages: tuple[int, ...]
    by_category: dict[str, float]

    @property
    def peak(self) -> float:
        """Return the peak [B]."""
        return sum(self.by_category.values())


def memory(program: Program) -> tuple[RankMemory, ...]:
    """Return the peak memory of each pipeline index."""
    return memory_of(program.scenario, program.costs, program.schedule)


def memory_of(scenario: Scenario, costs: Costs, schedule: Schedule) -> tuple[RankMemory, ...]:
    """Return the peak memory of each pipeline index; nothing has to be lowered or run for it."""
    hosts = stage_hosts(schedule)
    return tuple(
        _rank(scenario, costs, (hosts, order), index) for index, order in enumerate(schedule.ranks)
    )


def _rank(
    scenario: Scenario,
    costs: Costs,
    runs: tuple[dict[int, tuple[int, ...]], tuple[Action, ...]],
    index: int,
) -> RankMemory:
    """Return the peak of one pipeline index. runs: stage -> its pipeline indices, and this one's actions."""
    layout, recipe, (hosts, order) = scenario.layout, scenario.recipe, runs
    stages = tuple(stage for stage, indices in hosts.items() if index in indices)
    count = sum(sum(costs.parameters(stage)) for stage in stages)
    shard = buckets.updated(costs, layout, hosts, stages)
    activations, buffers = _peak_activations(costs, order), _buffers(scenario, costs, stages)
    resharded = (
        layout.zero >= ZeroStage.PARAMETERS and scenario.workload.layout.reshard_after_forward
    )
    return RankMemory(
        index,
        stages,
        {
            "parameters": (shard if resharded else count) * recipe.parameter,
            "gradients": (shard if layout.zero >= ZeroStage.GRADIENTS else count) * recipe.gradient,
            "optimizer": shard * (recipe.master + recipe.moments),
            "activations": activations,
            "buffers": buffers,
            "margin": scenario.workload.training.fragmentation * (activations + buffers),
        },
    )


def _peak_activations(costs: Costs, order: tuple[Action, ...]) -> float:
    """Return the largest sum of kept activations in the order of a rank's actions [B].

    A micro-batch's activations are freed by its full backward or, where that is split, by its
    weight gradient. While a block is run recomputed, what it does not keep is there once more; where the
    backward pass is split, what the weight gradients read of that stays until they have run.
    """
    now = peak = 0.0
    for _, change, recomputed in _changes(costs, order):
        peak = max(peak, now + recomputed, now + change)
        now += change
    return peak


def _changes(costs: Costs, order: tuple[Action, ...]) -> list[tuple[int, float, float]]:
    """Return what each half of an action does: (position, bytes taken, bytes there while it runs)."""
    stages = {stage for action in order for _, _, stage in action.halves()}
    kept = {stage: costs.saved(stage) for stage in stages}
    recomputed = {
        stage: max((block.transient for block in costs.stage(stage)), default=0.0)
        for stage in stages
    }
    read = {stage: sum(block.reread for block in costs.stage(stage)) for stage in stages}
    found = []
    for position, action in enumerate(order):
        for kind, _, stage in action.halves():
            change = {
                "F": kept[stage],
                "B": -kept[stage],
                "I": read[stage],
                "W": -kept[stage] - read[stage],
            }[kind]
            there = {
                "F": kept[stage],
                "B": recomputed[stage],
                "I": max(recomputed[stage], read[stage]),
                "W": 0.0,
            }[kind]
            found.append((position, change, there))
    return found


def over_time(program: Program, index: int, start: Floats, end: Floats) -> tuple[Floats, Floats]:
    """Return times [s] and the kept activations from each on [B], of the ranks at a pipeline index.

    start, end: of the first and the last op of each of that rank's actions, by position [s]. A
    forward pass takes its bytes when it starts, a backward pass frees them when it ends.
    """
    changes = _changes(program.costs, program.schedule.ranks[index])
    times = np.array(
        [start[position] if change > 0 else end[position] for position, change, _ in changes]
    )
    order = np.argsort(times, kind="stable")
    held: Floats = np.cumsum(np.array([change for _, change, _ in changes])[order])
    return times[order], held


def _buffers(scenario: Scenario, costs: Costs, stages: tuple[int, ...]) -> float:
    """Return what moves between GPUs and is not kept [B].

    Received tokens of dispatch and combine; two residual streams each way for pipeline sends; with
    tensor parallelism a gathered input and what is to be scattered; under ZeRO 3 two blocks' whole
    parameters, and one's whole gradients where those are sharded.
    """
    work, layout, recipe = costs.work, scenario.layout, scenario.recipe
    most = (
        max((load.received for load in costs.loads.distinct), default=0.0) if costs.loads else 0.0
    )
    exchange = 2 * work.own * work.etp * most * work.model.hidden_size * 2.0
    tensor = 2 * work.tokens * work.model.hidden_size * 2.0 if layout.tp > 1 else 0.0
    largest = max(
        (sum(costs.held([kind])) for stage in stages for kind in costs.stages[stage]), default=0.0
    )
    whole = largest * recipe.gradient if layout.zero >= ZeroStage.GRADIENTS else 0.0
    resharded = (
        layout.zero >= ZeroStage.PARAMETERS and scenario.workload.layout.reshard_after_forward
    )
    whole += 2 * largest * recipe.parameter if resharded else 0.0
    return exchange + 4 * costs.activation_bytes() + tensor + whole
