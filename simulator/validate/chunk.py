"""DeepSeek's published profile of one overlapped chunk pair: a calibration, not a prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from simulator import inputs
from simulator.costs import PhaseKey, price
from simulator.engine import run
from simulator.model import BlockKind
from simulator.ops import Phase
from simulator.program import STREAMS, Program, lower_schedule
from simulator.scenario import load
from simulator.schedules import Action, Schedule
from simulator.timeline import Timeline, measure, union
from simulator.validate.check import Check

PAIR_LAYERS = 4
"""MoE layers of the profile's chunks."""
PHASE_NAMES = {
    "attn(F)": Phase.ATTENTION_F,
    "mlp(F)": Phase.MLP_F,
    "mlp(B)": Phase.MLP_B,
    "mlp(W)": Phase.MLP_W,
    "attn(B)": Phase.ATTENTION_B,
    "attn(W)": Phase.ATTENTION_W,
}
"""DeepSeek's name of a phase -> ours."""


class Figure(NamedTuple):
    """A figure of the profile."""

    name: str
    """What was measured."""
    published: float
    """As DeepSeek's profile has it [ms]."""
    simulated: float
    """As the simulator has it [ms]."""


def chunk_pair() -> tuple[Check, ...]:
    """Return the checks of one overlapped chunk pair of four MoE layers against DeepSeek's profile.

    The kernel tables are calibrated on this profile's kernels, so this shows how well they describe
    it, not a prediction; how the streams wait for each other is not fitted.
    """
    published = inputs.data("measured", "deepseek_v3_chunk").data
    timeline = run(pair_program())
    figures = [*_streams(timeline, published), *_kernels(timeline, published)]
    source = published["source"]
    return tuple(
        Check("deepseek-v3-chunk", name, "ms", measured, simulated, "calibration", source)
        for name, measured, simulated in figures
    )


def _streams(timeline: Timeline, published: dict[str, Any]) -> Iterator[Figure]:
    """Return how long the pair takes, and how long its streams are busy."""
    program, pair = timeline.program, _pair(timeline.program)
    span = float(timeline.end[pair].max() - timeline.start[pair].min())
    yield Figure("span", published["span_ms"], 1e3 * span)
    compute = program.stream == STREAMS.index("compute")  # [op]
    side = program.stream == STREAMS.index("side")  # [op]
    for name, key, rows in (
        ("compute stream busy", "compute", compute),
        ("compute or side stream busy", "compute_or_side", compute | side),
    ):
        busy = union(timeline.start[rows & pair], timeline.end[rows & pair])
        yield Figure(name, published["busy_ms"][key], 1e3 * measure(busy))


def _kernels(timeline: Timeline, published: dict[str, Any]) -> Iterator[Figure]:
    """Return what the kernels of each phase and each transfer take in a layer."""
    for name, phase in PHASE_NAMES.items():
        seconds = _phase(timeline.program, phase)
        yield Figure(f"{name}, kernels per layer", published["phase_ms"][name], seconds)
    for name, kernels in published["communication_us"].items():
        measured = float(np.mean(kernels["payload"])) / 1e3
        yield Figure(f"{name}, payload per layer", measured, _payload(timeline, name))


def pair_program() -> Program:
    """Return the program of one F&B pair of four MoE layers on 64 H800s.

    EP64, no pipeline, 4,096 tokens per GPU.
    """
    scenario = load(
        "h800-2048",
        "deepseek-v3",
        {
            "experts": {"distribution": "balanced"},
            "nodes": 8,
            "layout.pp": 1,
            "layout.stages": "even",
            "schedule.name": "1f1b",
            "training.global_batch_size": 128,
        },
    )
    layers: tuple[BlockKind, ...] = tuple(["moe"] * PAIR_LAYERS)
    costs = replace(price(scenario, pairs=True), stages=(layers,))
    order = (Action("F", 0, 0), Action("FB", 1, 0, 0, 0), Action("B", 1, 0))
    schedule = Schedule("pair", 1, 2, (order,))
    return lower_schedule(scenario, schedule, costs)


def _phase(program: Program, phase: Phase) -> float:
    """Return the summed kernel time of a phase of one layer, without the gaps between kernels [ms].

    As the profile counts.
    """
    (block,) = program.costs.blocks["moe"]
    cost = block.phases[PhaseKey(phase, True)]
    return 1e3 * (cost.total - cost.seconds["kernel_gaps"])


def _pair(program: Program) -> Any:
    """Tell which rows belong to the overlapped pair [op]."""
    return program.action == [kind for _, _, kind in program.actions].index("FB")


def _payload(timeline: Timeline, name: str) -> float:
    """Return the time of the pair's transfers of one name, per layer [ms]."""
    program = timeline.program
    rows = np.flatnonzero((program.label == program.labels.index(name)) & _pair(program))
    return 1e3 * float(np.sum(timeline.end[rows] - timeline.start[rows])) / PAIR_LAYERS
