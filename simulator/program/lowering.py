"""Scenario -> Program: costs, schedule, coflows, classes of ranks, and the rows of each class.

Of each rank the different templates are written down (`rank_rows`), then all rows are laid at once
(`laying`).
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from simulator.costs import Costs, price
from simulator.program.coflows import Coflows, coflows
from simulator.program.folding import Partition, fold, members, program_colours, unfolded
from simulator.program.laying import lay
from simulator.program.pace import expected_paces, filling, paces
from simulator.program.program import Floats, Program
from simulator.program.rank_rows import RankBuilder, Step
from simulator.program.tiles import UnevenError, tiles
from simulator.program.timed import schedule_of
from simulator.program.totals import totals
from simulator.progress import counted, doing
from simulator.scenario import Scenario
from simulator.schedules import Schedule


def lower(scenario: Scenario, *, folded: bool = True) -> Program:
    """Return the program of one step. folded: ranks that are alike are simulated once."""
    costs = price(scenario)
    return lower_schedule(scenario, schedule_of(scenario, costs), costs, folded=folded)


@doing("lowering")
def lower_schedule(
    scenario: Scenario, schedule: Schedule, costs: Costs, *, folded: bool = True
) -> Program:
    """Return the program of a schedule and of costs that need not be the scenario's own."""
    if folded:
        found = tiles(scenario.network, scenario.layout)
        if found.count > 1:
            with suppress(UnevenError):
                table = coflows(scenario, schedule, costs, found)
                return _lowered(Step(scenario, schedule, costs, table))
    table = coflows(scenario, schedule, costs)
    return _lowered(Step(scenario, schedule, costs, table), folded=folded)


def _lowered(step: Step, *, folded: bool = True) -> Program:
    """Return the program of a step whose transfers are listed. Errors: UnevenError."""
    scenario, table = step.scenario, step.table
    parts = _partition(step) if folded else _whole(scenario, table)
    builder = RankBuilder(step)
    speed = _speeds(step, builder)
    # One rank of each class speaks for all; the builder keeps what the ranks of a stage share.
    firsts = counted(parts.first_rank.tolist(), "classes of ranks")
    ranks = [builder.build(rank, float(speed[rank])) for rank in firsts]
    return lay(step, parts, ranks, builder.uses.columns)


def _speeds(step: Step, builder: RankBuilder) -> Floats:
    """Return the speed of each GPU, and with a spread that of those that it waits for [gpu]."""
    scenario = step.scenario
    layout, deviation = scenario.layout, scenario.topology.spread
    speed = scenario.network.speed
    if deviation is None:
        return speed
    # Kernels of one rank of each pipeline index; the builder has them again for the rows.
    firsts = [layout.rank(index, 0) for index in range(layout.pp)]
    built = [builder.build(rank, 1.0) for rank in firsts]
    sums = totals(built, builder.uses.columns.sums())
    kernels = [sum(total.seconds.values()) for total in sums]
    ramp = filling(kernels, scenario.micro_batches)
    expected = expected_paces(layout, kernels, ramp, deviation)
    pace = paces(layout, program_colours(step.schedule), kernels, expected)
    every = np.arange(layout.gpus)
    index = every // layout.inner() % layout.pp  # Layout.pipeline_index of every rank
    of_gpu: Floats = speed / pace[index]
    return of_gpu


def _partition(step: Step) -> Partition:
    """Return the classes of what is alike; GPUs with other expert loads are not."""
    layout = step.scenario.layout
    loads = members(layout) if step.costs.per_gpu else ()
    return fold(step.scenario.network, step.schedule, step.table, layout, loads)


def _whole(scenario: Scenario, table: Coflows) -> Partition:
    return unfolded(scenario.network, table, scenario.layout.gpus)
