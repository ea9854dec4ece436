"""What inequality costs a step: of experts, found by making them equal; of GPUs, by healing them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simulator.costs import loads, price_loads
from simulator.engine import run
from simulator.program import lower, lower_schedule, schedule_of
from simulator.progress import doing
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


@doing("cost of unequal experts")
def imbalance(report: Report) -> Imbalance | None:
    """Return what unequal experts cost a step; None where all are equal."""
    scenario = report.scenario
    given = loads(scenario)
    if given is None or scenario.workload.experts.even:
        return None
    # The same tokens and capacity in equal shares; schedules that follow chunk times are built anew.
    costs = price_loads(scenario, given.levelled())
    schedule = schedule_of(scenario, costs)
    even = run(lower_schedule(scenario, schedule, costs))
    return Imbalance(
        lost=report.step_time - even.step_time,
        worst_share=given.worst_share,
        mean_share=given.mean_share,
        dropped=given.dropped,
    )


@doing("cost of slow GPUs")
def stragglers(report: Report) -> Stragglers | None:
    """Return what slow GPUs cost a step; None where all run at full speed."""
    scenario = report.scenario
    speed = scenario.network.speed  # [gpu]
    if (speed == 1.0).all():
        return None
    # Slow GPUs are healed, faults of links stay: those have nothing to do with stragglers.
    site = scenario.topology.at_full_speed
    healed = replace(scenario, topology=site, network=network(site))
    healthy = run(lower(healed))
    slow = speed < 1.0  # [gpu]
    return Stragglers(
        lost=report.step_time - healthy.step_time,
        slowest=float(speed.min()),
        gpus=int(slow.sum()),
    )
