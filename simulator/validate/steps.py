"""Published steps and runs, and published memory, beside what the simulator says.

Nothing is fitted to them.
"""

from __future__ import annotations

from simulator.costs import price
from simulator.errors import InputError
from simulator.memory import RankMemory, memory_of
from simulator.program import schedule_of
from simulator.report import Report
from simulator.scenario import load
from simulator.validate.case import MemoryCase, StepCase
from simulator.validate.check import Check
from simulator.whatif import simulate

UNITS = {
    "step_time_s": "s",
    "tflops_per_gpu": "TFLOP/s",
    "gpu_hours": "h",
    "gpu_hours_per_trillion_tokens": "h",
    "wall_days": "d",
    "cost_usd": "USD",
    "tokens_per_second": "/s",
    "tokens_per_second_per_gpu": "/s",
    "tokens_per_day": "/d",
}


def step_check(case: StepCase, source: str, *, alternatives: bool) -> Check:
    """Return a published step beside the simulated one.

    alternatives: also run the other choices, for the span.
    """
    report = simulate(case.scenario())
    value = report.quantities()[case.quantity]
    span = [value]
    for changes in case.alternatives if alternatives else ():
        try:
            other = simulate(case.scenario(changes))
        except InputError:
            continue  # a choice that does not fit the rest is none
        span.append(other.quantities()[case.quantity])
    return Check(
        case.case,
        case.quantity,
        UNITS.get(case.quantity, ""),
        case.published,
        value,
        "validation",
        f"{source}, {case.source}",
        (min(span), max(span)) if alternatives else (),
        case.note,
        case.scored,
        _fits(report),
    )


def _fits(report: Report) -> bool:
    return report.fits


def memory_check(case: MemoryCase, source: str) -> Check:
    """Return published bytes beside those that the simulator counts."""
    scenario = case.scenario()
    costs = price(scenario)
    held = memory_of(scenario, costs, schedule_of(scenario, costs))
    largest = max(held, key=lambda one: one.peak)
    rank = {"first": held[0], "middle": held[len(held) // 2], "largest": largest}[case.stage]
    return Check(
        case.case,
        case.what,
        "B",
        case.published,
        _bytes(case, rank),
        "validation",
        f"{source}, {case.source}",
        note=case.note,
        scored=case.scored,
    )


def _bytes(case: MemoryCase, rank: RankMemory) -> float:
    if case.what == "peak":
        return rank.peak
    names = (
        ("activations",) if case.what == "activations" else ("parameters", "gradients", "optimizer")
    )
    return sum(rank.by_category[name] for name in names)


def pre_training() -> tuple[Check, ...]:
    """Return everything that was published of DeepSeek-V3's pre-training on 2,048 H800s."""
    report = simulate(load("h800-2048", "deepseek-v3"))
    return tuple(
        Check(
            "deepseek-v3", row.quantity, "", row.published, row.simulated, "validation", row.source
        )
        for row in report.references()
    )
