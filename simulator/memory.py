"""Bytes per rank over a step: what stays, and activations as the schedule's order takes and frees them."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.program import Costs, Program, buckets
from simulator.program.coflows import stage_hosts

CATEGORIES = ("parameters", "gradients", "optimizer", "activations", "buffers")


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
    return tuple(_rank(program, index) for index in range(program.scenario.layout.pp))


def _rank(program: Program, index: int) -> RankMemory:
    priced, layout, recipe = program.costs, program.scenario.layout, program.scenario.recipe
    hosts = stage_hosts(program.schedule)
    stages = tuple(stage for stage, indices in hosts.items() if index in indices)
    count = sum(sum(priced.parameters(stage)) for stage in stages)
    sharded = buckets.updated(priced, layout, hosts, stages)
    return RankMemory(
        index,
        stages,
        {
            "parameters": count * recipe.parameter,
            "gradients": count * recipe.gradient,
            "optimizer": sharded * (recipe.master + recipe.moments),
            "activations": _peak_activations(program, index),
            "buffers": _buffers(priced),
        },
    )


def _peak_activations(program: Program, index: int) -> float:
    """Return the largest sum of kept activations in the order of a rank's actions [B].

    A micro-batch's activations are freed by its full backward or, where that is split, by its weight gradient.
    """
    kept = {stage: program.costs.saved(stage) for stage in range(program.schedule.stages)}
    now = peak = 0.0
    for action in program.schedule.ranks[index]:
        for kind, _, stage in action.halves():
            if kind == "F":
                now += kept[stage]
                peak = max(peak, now)
            elif kind in ("B", "W"):
                now -= kept[stage]
    return peak


def _buffers(priced: Costs) -> float:
    """Return receive buffers of dispatch and combine and the two residual streams that pipeline sends use [B]."""
    most = max((load.received for load in priced.loads.distinct), default=0.0) if priced.loads else 0.0
    exchange = 2 * priced.work.own * most * priced.work.model.hidden_size * 2.0
    return exchange + 4 * priced.activation_bytes()
