"""What unequal GPUs would cost a step, without another run; and what those of its file do cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from simulator.engine import run
from simulator.program import Program, expected_paces, filling, lower
from simulator.progress import doing
from simulator.report import Report
from simulator.timeline import Timeline

DEVIATIONS = (0.01, 0.02, 0.03)
"""Of GPU speeds, relative: published deviations of clocks are of this size, but none was read where
it was first published, so that a cluster has none unless its file says so."""


@dataclass(frozen=True, slots=True)
class SpreadCost:
    """What one deviation of GPU speeds costs."""

    deviation: float
    """Relative standard deviation of the time that kernels take."""
    lost: float
    """What the step takes longer [s]."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What GPUs of unequal speed cost a step."""

    costs: tuple[SpreadCost, ...]
    """What each of DEVIATIONS would add to a step of equal GPUs; nothing where the cluster has a spread."""
    own: SpreadCost | None = None
    """What the cluster's own spread costs; None where its GPUs are equal."""


@doing("cost of unequal GPUs")
def spread_cost(timeline: Timeline, report: Report) -> Spread:
    """Return what unequal GPUs cost, or would cost, the step of a timeline."""
    scenario = report.scenario
    deviation = scenario.topology.spread
    if deviation is None:
        costs = tuple(_added(timeline.program, each) for each in DEVIATIONS)
        return Spread(costs)
    site = scenario.topology.model_copy(update={"spread": None})
    equal = run(lower(replace(scenario, topology=site)))
    return Spread((), SpreadCost(deviation, report.step_time - equal.step_time))


def _added(program: Program, deviation: float) -> SpreadCost:
    """Return what a deviation adds: the pace of each pipeline index, times the kernels that all wait for.

    Communication that would be exposed less next to longer kernels is not counted.
    """
    scenario = program.scenario
    of_index: defaultdict[int, float] = defaultdict(float)  # s
    for rank, seconds in enumerate(program.class_seconds):
        index = program.pipeline_index(rank)
        of_index[index] = max(of_index[index], sum(seconds.values()))
    kernels = _every_index(of_index, scenario.layout.pp)
    ramp = filling(kernels, scenario.micro_batches)
    paces = expected_paces(scenario.layout, kernels, ramp, deviation)
    lost = (paces.busiest - 1.0) * max(kernels) + (paces.others - 1.0) * ramp
    return SpreadCost(deviation, lost)


def _every_index(of_index: dict[int, float], count: int) -> list[float]:
    """Return the kernels of all pipeline indices [pipeline index] s."""
    # Of a bidirectional pipeline the two ends are alike, and only one of them is simulated.
    longest = max(of_index.values())
    mirrored = {count - 1 - index: seconds for index, seconds in of_index.items()}
    known = {**mirrored, **of_index}
    return [known.get(index, longest) for index in range(count)]
