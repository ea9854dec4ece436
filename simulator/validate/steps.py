"""Published steps, runs and memory compared with what the simulator says.

Nothing is fitted to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simulator.costs import BlockCost, BlockMemory, Costs, price
from simulator.errors import InputError
from simulator.memory import RankMemory, memory_of
from simulator.program import schedule_of
from simulator.report import Report
from simulator.scenario import load
from simulator.trust import kind_of
from simulator.validate.case import MemoryCase, StepCase
from simulator.validate.check import RATES, Check
from simulator.whatif import host_interval, simulate

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
"""Quantity -> its unit."""


def step_check(case: StepCase, source: str, *, alternatives: bool) -> Check:
    """Return a published step compared with the simulated one.

    alternatives: also run the other choices, for the span.
    """
    scenario = case.scenario()
    report = simulate(scenario)
    # The span holds the chosen value too, so that it never leaves it out.
    value = report.quantities()[case.quantity]
    span: tuple[float, ...] = ()
    hosts: tuple[float, ...] = ()
    if alternatives:
        values = [value, *_alternatives(case)]
        span = (min(values), max(values))
        hosts = _hosts(case, report, value)
    check = Check(
        case=case.case,
        quantity=case.quantity,
        unit=UNITS.get(case.quantity, ""),
        published=case.published,
        simulated=value,
        use="validation",
        source=f"{source}, {case.source}",
        span=span,
        hosts=hosts,
        note=case.note,
        scored=case.scored,
        fits=report.fits,
        kind=kind_of(scenario),
        gpus=scenario.topology.gpus,
        twin_of=case.twin_of,
    )
    cost = report.step_time * scenario.topology.gpus / scenario.tokens_per_step
    return replace(check, published_cost=cost / (1.0 + check.slower))


def _alternatives(case: StepCase) -> Iterator[float]:
    """Yield the figure under each other choice that fits the rest of the case."""
    for changes in case.alternatives:
        try:
            report = simulate(case.scenario(changes))
        except InputError:
            continue  # an alternative of one row of a table need not fit the next
        yield report.quantities()[case.quantity]


def _hosts(case: StepCase, report: Report, value: float) -> tuple[float, ...]:
    """Return the least and the largest figure over paces of hosts, nothing where the pace is known.

    value: the figure at the pace of the report.
    """
    interval = host_interval(report)
    if interval is None:
        return ()
    # Every other figure of a step is in proportion to its time, or to one over it.
    ratios = [seconds / report.step_time for seconds in interval.steps.values()]
    if case.quantity in RATES:
        ratios = [1.0 / ratio for ratio in ratios]
    return (value * min(ratios), value * max(ratios))


def memory_check(case: MemoryCase, source: str) -> Check:
    """Return published bytes compared with those that the simulator counts."""
    scenario = case.scenario()
    costs = price(scenario)
    if case.what == "activations":
        costs = _layers_alone(costs)
    ranks = memory_of(scenario, costs, schedule_of(scenario, costs))
    if case.stage == "largest":
        rank = max(ranks, key=lambda memory: memory.peak)
    else:
        rank = ranks[0 if case.stage == "first" else len(ranks) // 2]
    return Check(
        case=case.case,
        quantity=case.what,
        unit="B",
        published=case.published,
        simulated=_bytes(case, rank),
        use="validation",
        source=f"{source}, {case.source}",
        note=case.note,
        scored=case.scored,
    )


def _layers_alone(costs: Costs) -> Costs:
    """Return costs whose memory is what transformer layers keep, as formulas of papers count it.

    They leave out the head with the loss, and what is there only while a pass runs.
    """

    def of_part(kind: str, part: BlockCost) -> BlockCost:
        kept = 0.0 if kind in ("embedding", "head") else part.saved
        return replace(part, memory=BlockMemory(kept))

    blocks = {
        kind: tuple(of_part(kind, part) for part in parts) for kind, parts in costs.blocks.items()
    }
    return replace(costs, blocks=blocks)


def _bytes(case: MemoryCase, rank: RankMemory) -> float:
    """Return what a case counts of the memory of a rank [B]."""
    if case.what == "peak":
        outside = {
            "allocated": ("margin", "framework"),
            "reserved": ("framework",),
            "process": (),
        }[case.measure]
        return rank.peak - sum(rank.by_category[name] for name in outside)
    if case.what == "activations":
        return rank.by_category["activations"]
    # What papers call "parameters and optimizer states" includes the gradients.
    counted = ("parameters", "gradients", "optimizer")
    return sum(rank.by_category[name] for name in counted)


def pre_training() -> tuple[Check, ...]:
    """Return everything that was published of DeepSeek-V3's pre-training on 2,048 H800s."""
    report = simulate(load("h800-2048", "deepseek-v3"))
    return tuple(
        Check(
            case="deepseek-v3",
            quantity=row.quantity,
            unit="",
            published=row.published,
            simulated=row.simulated,
            use="validation",
            source=row.source,
        )
        for row in report.references()
    )
