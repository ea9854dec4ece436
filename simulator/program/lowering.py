"""Scenario -> Program: costs, schedule, coflows, classes of ranks, and the rows of each class.

Of each rank the different templates are written down (`rank_rows`), then all rows are laid at once
(`laying`).
"""

from __future__ import annotations

from simulator.costs import Costs, price
from simulator.program.coflows import Coflows, coflows
from simulator.program.folding import Partition, fold, members, unfolded
from simulator.program.laying import lay
from simulator.program.program import Program
from simulator.program.rank_rows import RankBuilder, Step
from simulator.program.timed import schedule_of
from simulator.scenario import Scenario
from simulator.schedules import Schedule


def lower(scenario: Scenario, *, folded: bool = True) -> Program:
    """Return the program of one step. folded: ranks that are alike are simulated once."""
    costs = price(scenario)
    return lower_schedule(scenario, schedule_of(scenario, costs), costs, folded=folded)


def lower_schedule(
    scenario: Scenario, schedule: Schedule, costs: Costs, *, folded: bool = True
) -> Program:
    """Return the program of a schedule and of costs that need not be the scenario's own."""
    table = coflows(scenario, schedule, costs)
    step = Step(scenario, schedule, costs, table)
    parts = _partition(step) if folded else _whole(scenario, table)
    builder = RankBuilder(step)
    speed = scenario.network.speed
    # One rank of each class speaks for all; the builder keeps what the ranks of a stage share.
    ranks = [builder.build(rank, float(speed[rank])) for rank in parts.first_rank.tolist()]
    return lay(step, parts, ranks)


def _partition(step: Step) -> Partition:
    """Return the classes of what is alike; GPUs with other expert loads are not."""
    layout = step.scenario.layout
    loads = members(layout) if step.costs.per_gpu else ()
    return fold(step.scenario.network, step.schedule, step.table, layout, loads)


def _whole(scenario: Scenario, table: Coflows) -> Partition:
    return unfolded(scenario.network, table, scenario.layout.gpus)
