"""Bytes per rank over a step: what stays, and activations as the schedule takes and frees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.costs import Costs
from simulator.memory.activations import changes, peak
from simulator.memory.framework import framework
from simulator.memory.host import NO_HOST, HostUse, host_use, offloads
from simulator.memory.sharded import states, whole_blocks
from simulator.program import Program
from simulator.program.coflows import stage_hosts
from simulator.scenario import Scenario
from simulator.schedules import Action, Schedule

CATEGORIES = (
    "parameters",
    "gradients",
    "optimizer",
    "activations",
    "buffers",
    "update",
    "margin",
    "framework",
)
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
    host: HostUse = NO_HOST
    """What is in the memory of the host, and what crosses the link to it in a step."""

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
    stages = tuple(stage for stage, indices in hosts.items() if index in indices)
    stays = states(scenario, costs, hosts, stages)
    activations = peak(costs, order)
    buffers = _buffers(scenario, costs, stages)
    by_category = {
        "parameters": stays.parameters,
        "gradients": stays.gradients,
        "optimizer": stays.optimizer,
        "activations": activations,
        "buffers": buffers,
        # The update has the room of what the passes needed; this is what it needs beyond that.
        "update": max(0.0, stays.update - activations - buffers),
        "margin": scenario.workload.training.fragmentation * (activations + buffers),
        "framework": framework(scenario),
    }
    host = NO_HOST
    if offloads(scenario):
        host = host_use(scenario, costs, order, hosts, stages)
    return RankMemory(index, stages, by_category, host)


def over_time(program: Program, index: int, start: Floats, end: Floats) -> tuple[Floats, Floats]:
    """Return times [s] and the kept activations from each on [B], of the ranks at a pipeline index.

    start, end: of the first and the last op of each of that rank's actions [position] s. A forward
    pass takes its bytes when it starts, a backward pass frees them when it ends.
    """
    steps = changes(program.costs, program.schedule.ranks[index])
    position = np.array([change.position for change in steps], dtype=np.int64)
    taken = np.array([change.taken for change in steps])
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
    return exchange + sends + tensor + whole_blocks(scenario, costs, stages)
