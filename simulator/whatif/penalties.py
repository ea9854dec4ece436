"""What inequality costs a step: of experts, found by making them equal; of GPUs, by healing them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simulator.costs import loads, price_loads
from simulator.engine import run
from simulator.program import lower, lower_schedule, schedule_of
from simulator.report import Report
from simulator.topology import network


@dataclass(frozen=True, slots=True)
class Imbalance:
    """What unequal popularity of experts costs."""

    lost: float
    """The step, less the step with equally popular experts [s]."""
    worst_share: float
    """Rows of the busiest GPU of an expert group over the mean, in the worst layer."""
    mean_share: float
    """The same, mean over layers."""
    dropped: float
    """Share of choices that capacity refuses."""


@dataclass(frozen=True, slots=True)
class Stragglers:
    """What GPUs below full speed cost."""

    lost: float
    """The step, less the step with all at full speed [s]."""
    slowest: float
    """Speed of the slowest GPU, 1 for a healthy one."""
    gpus: int
    """How many are slower than a healthy one."""


def imbalance(report: Report) -> Imbalance | None:
    """Return what unequal experts cost a step; None where all are equal."""
    scenario = report.scenario
    given = loads(scenario)
    if given is None or scenario.workload.experts.even:
        return None
    costs = price_loads(scenario, given.levelled())
    even = run(lower_schedule(scenario, schedule_of(scenario, costs), costs))
    return Imbalance(
        report.step_time - even.step_time, given.worst_share, given.mean_share, given.dropped
    )


def stragglers(report: Report) -> Stragglers | None:
    """Return what slow GPUs cost a step; None where all run at full speed."""
    scenario = report.scenario
    speed = scenario.network.speed  # [gpu]
    if (speed == 1.0).all():
        return None
    site = scenario.topology.at_full_speed
    healthy = run(lower(replace(scenario, topology=site, network=network(site))))
    return Stragglers(
        report.step_time - healthy.step_time, float(speed.min()), int((speed < 1.0).sum())
    )
