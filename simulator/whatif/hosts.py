"""The step at every pace of hosts, for stacks whose own was never measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simulator.engine import run
from simulator.program import lower
from simulator.progress import doing
from simulator.report import Report
from simulator.scenario import host_pace

PACES = ("lean", "ordinary")
"""Paces of hosts that were measured, the fastest first."""


@dataclass(frozen=True, slots=True)
class HostInterval:
    """What a step takes with hosts of each measured pace."""

    pace: str
    """The pace of the report itself."""
    steps: dict[str, float]
    """Pace, one of PACES -> step [s]."""


@doing("other paces of hosts")
def host_interval(report: Report) -> HostInterval | None:
    """Return the step at every pace; None where the stack's own pace was measured."""
    scenario = report.scenario
    host = scenario.stack.host
    if host.measured:
        return None
    steps = {}
    for pace in PACES:
        if pace == host.pace:
            steps[pace] = report.step_time
        else:
            other = replace(scenario, host=host_pace(pace))
            steps[pace] = run(lower(other)).step_time
    return HostInterval(host.pace, steps)
