"""The published cases: what the simulator says beside what was measured. Calibration is named as such."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulator import inputs
from simulator.compare import simulate
from simulator.engine import run
from simulator.errors import InputError
from simulator.model import BlockKind
from simulator.program import STREAMS, Program, costs, lower_schedule
from simulator.scenario import load
from simulator.schedules import Action, Schedule
from simulator.timeline import Timeline, measure, union

PAIR_LAYERS = 4
PHASE_NAMES = {
    "attn(F)": "attention_f", "mlp(F)": "mlp_f", "mlp(B)": "mlp_b", "mlp(W)": "mlp_w", "attn(B)": "attention_b",
    "attn(W)": "attention_w",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One published figure beside the simulated one. unit: of both. use: calibration or validation."""

    case: str
    quantity: str
    unit: str
    published: float
    simulated: float
    use: str
    source: str

    @property
    def error(self) -> float:
        """Return the signed relative error."""
        return self.simulated / self.published - 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return the check as `simulate validate --json` writes it."""
        return {
            "case": self.case, "quantity": self.quantity, "unit": self.unit, "published": self.published,
            "simulated": self.simulated, "error_percent": 100 * self.error, "use": self.use, "source": self.source,
        }


def chunk_pair() -> tuple[Check, ...]:
    """Return the checks of one overlapped chunk pair of four MoE layers against DeepSeek's profile.

    The kernel tables are calibrated on this profile's kernels, so this shows how well they describe it, not a
    prediction; how the streams wait for each other is not fitted.
    """
    published = inputs.data("measured", "deepseek_v3_chunk").data
    timeline = run(pair_program())
    program = timeline.program
    compute, side = (program.stream == STREAMS.index(name) for name in ("compute", "side"))
    pair = _pair(program)

    def busy(rows: Any) -> float:
        return 1e3 * measure(*union(timeline.start[rows & pair], timeline.end[rows & pair]))

    rows = [
        ("span", published["span_ms"], 1e3 * float(timeline.end[pair].max() - timeline.start[pair].min())),
        ("compute stream busy", published["busy_ms"]["compute"], busy(compute)),
        ("compute or side stream busy", published["busy_ms"]["compute_or_side"], busy(compute | side)),
    ]
    rows += [
        (f"{name}, kernels per layer", published["phase_ms"][name], _phase(program, phase))
        for name, phase in PHASE_NAMES.items()
    ]
    rows += [
        (f"{name}, payload per layer", float(np.mean(kernels["payload"])) / 1e3, _payload(timeline, name))
        for name, kernels in published["communication_us"].items()
    ]
    return tuple(
        Check("deepseek-v3-chunk", name, "ms", value, simulated, "calibration", published["source"])
        for name, value, simulated in rows
    )


def pair_program() -> Program:
    """Return the program of one F&B pair of four MoE layers on 64 H800s: EP64, no pipeline, 4,096 tokens per GPU."""
    scenario = load(
        "h800-2048",
        "deepseek-v3",
        {"experts": {"distribution": "balanced"}, "nodes": 8, "layout.pp": 1, "layout.stages": "even",
         "schedule.name": "1f1b", "training.global_batch_size": 128},
    )
    layers: tuple[BlockKind, ...] = tuple(["moe"] * PAIR_LAYERS)
    priced = replace(costs(scenario), stages=(layers,))
    order = (Action("F", 0, 0), Action("FB", 1, 0, 0, 0), Action("B", 1, 0))
    schedule = Schedule("pair", 1, 2, (order,))
    return lower_schedule(scenario, schedule, priced)


def _phase(program: Program, phase: str) -> float:
    """Return the summed kernel time of a phase of one layer, gaps between kernels apart, as the profile counts [ms]."""
    (block,) = program.costs.blocks["moe"]
    cost = block.phases[phase, True]
    return 1e3 * (cost.total - cost.seconds["kernel_gaps"])


def _pair(program: Program) -> Any:
    """Tell which rows belong to the overlapped pair [op]."""
    return program.action == [kind for _, _, kind in program.actions].index("FB")


def _payload(timeline: Timeline, name: str) -> float:
    program = timeline.program
    rows = np.flatnonzero((program.label == program.labels.index(name)) & _pair(program))
    return 1e3 * float(np.sum(timeline.end[rows] - timeline.start[rows])) / PAIR_LAYERS


def pre_training() -> tuple[Check, ...]:
    """Return the checks of DeepSeek-V3's pre-training on 2,048 H800s. Nothing is fitted to them."""
    report = simulate(load("h800-2048", "deepseek-v3"))
    return tuple(
        Check("deepseek-v3", row.quantity, "", row.published, row.simulated, "validation", row.source)
        for row in report.references()
    )


CASES: dict[str, Callable[[], tuple[Check, ...]]] = {
    "deepseek-v3-chunk": chunk_pair,
    "deepseek-v3": pre_training,
}


def validate(names: tuple[str, ...] = ()) -> tuple[Check, ...]:
    """Return the checks of the named cases, of all where none is named. Errors: InputError on an unknown name."""
    for name in names:
        if name not in CASES:
            raise InputError("is not a case", key="CASE", value=name, remedy=f"Known: {', '.join(CASES)}.")
    return tuple(check for name in names or CASES for check in CASES[name]())
