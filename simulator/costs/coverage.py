"""How much of a step's GEMM time was measured, and how much only computed."""

from __future__ import annotations

from simulator.costs.blocks import Coverage
from simulator.costs.table import Costs


def coverage(costs: Costs) -> Coverage:
    """Return how much GEMM time has shapes that were measured, as the kernel tables have it.

    Every block runs once per micro-batch whatever the schedule, so that one micro-batch stands for
    the step.
    """
    gemm, measured = 0.0, 0.0
    for stage in range(len(costs.stages)):
        for member in costs.members:
            for block in costs.stage(stage, member):
                gemm += block.coverage.gemm
                measured += block.coverage.measured
    return Coverage(gemm, measured)
