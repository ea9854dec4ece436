"""DeepSeek's published profile of one overlapped chunk pair: a calibration, not a prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator import inputs
from simulator.costs import price
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
    return tuple(
        Check(
            case="deepseek-v3-chunk",
            quantity=figure.name,
            unit="ms",
            published=figure.published,
            simulated=figure.simulated,
            use="calibration",
            source=published["source"],
        )
        for figure in figures
    )


def _streams(timeline: Timeline, published: dict[str, Any]) -> Iterator[Figure]:
    """Return how long the pair takes, and how long its streams are busy."""
    program = timeline.program
    pair = _pair(program)
    span = float(timeline.end[pair].max() - timeline.start[pair].min())
    yield Figure("span", published["span_ms"], 1e3 * span)
    compute = pair & (program.stream == STREAMS.index("compute"))  # [op]
    side = pair & (program.stream == STREAMS.index("side"))  # [op]
    measured = published["busy_ms"]
    # The side stream runs some of the weight gradients, so one stream may work while the other waits.
    yield Figure(
        name="compute stream busy",
        published=measured["compute"],
        simulated=_busy(timeline, compute),
    )
    yield Figure(
        name="compute or side stream busy",
        published=measured["compute_or_side"],
        simulated=_busy(timeline, compute | side),
    )


def _busy(timeline: Timeline, rows: NDArray[np.bool_]) -> float:
    """Return how long any of some rows runs [ms]. rows: mask [op]."""
    intervals = union(timeline.start[rows], timeline.end[rows])
    return 1e3 * measure(intervals)


def _kernels(timeline: Timeline, published: dict[str, Any]) -> Iterator[Figure]:
    """Return what the kernels of each phase and each transfer take in a layer."""
    for name, phase in PHASE_NAMES.items():
        yield Figure(
            name=f"{name}, kernels per layer",
            published=published["phase_ms"][name],
            simulated=_phase(timeline, name, phase),
        )
    for name, kernels in published["communication_us"].items():
        # The kernels that move tokens, one a layer; those that wait for peers are not compared.
        payload = float(np.mean(kernels["payload"]))
        yield Figure(
            name=f"{name}, payload per layer",
            published=payload / 1e3,
            simulated=_payload(timeline, name),
        )


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
    # The profile shows one pair in the steady state. A forward pass before it and a backward pass
    # after it complete both micro-batches, without which no schedule is valid.
    layers: tuple[BlockKind, ...] = tuple(["moe"] * PAIR_LAYERS)
    costs = replace(price(scenario, pairs=True), stages=(layers,))
    pair = Action("FB", 1, 0, 0, 0)
    order = (Action("F", 0, 0), pair, Action("B", 1, 0))
    schedule = Schedule("pair", 1, 2, (order,))
    return lower_schedule(scenario, schedule, costs)


def _phase(timeline: Timeline, name: str, phase: Phase) -> float:
    """Return the summed kernel time of a phase of one layer, without the gaps between kernels [ms].

    As the profile counts, next to transfers. name: label of its rows.
    """
    program = timeline.program
    (block,) = program.costs.blocks["moe"]
    gaps = block.phases[phase].seconds["kernel_gaps"]
    rows = (program.label == program.labels.index(name)) & _pair(program)
    lasts = timeline.end[rows] - timeline.start[rows]  # [op] s
    return 1e3 * (float(lasts.sum()) / PAIR_LAYERS - gaps)


def _pair(program: Program) -> NDArray[np.bool_]:
    """Tell which rows belong to the overlapped pair [op]."""
    kinds = [kind for _, _, kind in program.actions]  # [action]
    rows: NDArray[np.bool_] = program.action == kinds.index("FB")
    return rows


def _payload(timeline: Timeline, name: str) -> float:
    """Return the time of the pair's transfers of one name, per layer [ms]."""
    program = timeline.program
    named = program.label == program.labels.index(name)  # [op]
    rows = named & _pair(program)
    seconds = timeline.end[rows] - timeline.start[rows]  # [transfer] s
    return 1e3 * float(np.sum(seconds)) / PAIR_LAYERS
