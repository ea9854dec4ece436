"""The schedule of a step where its order depends on how long chunks take: sums of op seconds, and one hop of travel."""

from __future__ import annotations

from simulator.program.costs import Costs
from simulator.scenario import Scenario
from simulator.schedules import SCHEDULES, Schedule, Times, build

_PARTS = {"F": ("attention_f", "mlp_f"), "I": ("mlp_b", "attention_b"), "W": ("mlp_w", "side_w", "attention_w")}


def timed_schedule(scenario: Scenario, priced: Costs) -> Schedule:
    """Return the scenario's schedule, searched anew with the times of its chunks if it is one that is searched for."""
    schedule = scenario.schedule
    if not SCHEDULES[schedule.name].timed:
        return schedule
    return build(schedule.name, len(schedule.ranks), schedule.micro_batches, times=chunk_times(scenario, priced))


def chunk_times(scenario: Scenario, priced: Costs) -> Times:
    """Return op seconds of F, I and W by stage, exchanges of tokens apart, and what an activation takes to send [s]."""
    table = {
        kind: tuple(
            sum(block.phases[part, False].total for block in priced.stage(stage) for part in parts)
            for stage in range(scenario.schedule.stages)
        )
        for kind, parts in _PARTS.items()
    }
    return Times.of(table | {"comm": priced.activation_bytes() / scenario.topology.node.nic})
