"""Bytes per rank over a step: what stays, and activations as the schedule takes and frees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.costs import Costs
from simulator.memory.activations import changes
from simulator.memory.framework import framework
from simulator.memory.host import NO_HOST, HostUse, host_use, offloads
from simulator.memory.sharded import States, states, whole_blocks
from simulator.program import Program
from simulator.program.coflows import stage_hosts
from simulator.scenario import Scenario
from simulator.schedules import Schedule

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
    runs = _Run(scenario, costs, hosts, framework(scenario))
    stays: dict[tuple[int, ...], _Stays] = {}  # both ends of a bidirectional pipeline hold the same
    ranks = []
    for index, change in enumerate(changes(costs, schedule)):
        stages = tuple(stage for stage, indices in hosts.items() if index in indices)
        if stages not in stays:
            stays[stages] = runs.stays(stages)
        host = NO_HOST
        if offloads(scenario):
            host = host_use(scenario, costs, schedule.ranks[index], hosts, stages)
        by_category = runs.by_category(stays[stages], change.peak)
        ranks.append(RankMemory(index, stages, by_category, host))
    return tuple(ranks)


class _Stays(NamedTuple):
    """What the ranks that hold some stages need for the whole step."""

    states: States
    """Parameters, gradients and optimizer."""
    buffers: float
    """What moves between GPUs and is not kept [B]."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What all ranks of a scenario share."""

    scenario: Scenario
    """What is simulated."""
    costs: Costs
    """What its blocks keep."""
    hosts: dict[int, tuple[int, ...]]
    """Stage -> pipeline indices that hold it."""
    framework: float
    """What no tensor takes [B]."""

    def stays(self, stages: tuple[int, ...]) -> _Stays:
        """Return what the ranks that hold some stages need for the whole step."""
        return _Stays(
            states(self.scenario, self.costs, self.hosts, stages),
            _buffers(self.scenario, self.costs, stages),
        )

    def by_category(self, stays: _Stays, activations: float) -> dict[str, float]:
        """Return the bytes at the peak by category. activations: at most [B]."""
        kept, buffers = stays
        return {
            "parameters": kept.parameters,
            "gradients": kept.gradients,
            "optimizer": kept.optimizer,
            "activations": activations,
            "buffers": buffers,
            # The update has the room of what the passes needed; this is what it needs beyond that.
            "update": max(0.0, kept.update - activations - buffers),
            "margin": self.scenario.workload.training.fragmentation * (activations + buffers),
            "framework": self.framework,
        }


def over_time(program: Program, index: int, start: Floats, end: Floats) -> tuple[Floats, Floats]:
    """Return times [s] and the kept activations from each on [B], of the ranks at a pipeline index.

    start, end: of the first and the last op of each of that rank's actions [position] s. A forward
    pass takes its bytes when it starts, a backward pass frees them when it ends.
    """
    position, taken, _ = changes(program.costs, program.schedule)[index]
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
