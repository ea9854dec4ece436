"""How much of a step's GEMM time was measured, and how much only computed."""

from __future__ import annotations

from typing import NamedTuple

from simulator.costs.blocks import BlockCost
from simulator.costs.table import Costs
from simulator.ops import Phase


class Coverage(NamedTuple):
    """GEMM time of one micro-batch, all stages together."""

    gemm: float
    """Of all GEMMs [s]."""
    measured: float
    """Of those whose shapes lie between measured ones [s]."""

    @property
    def share(self) -> float:
        """Return the measured share, 0 where nothing is multiplied."""
        return self.measured / self.gemm if self.gemm else 0.0


def coverage(costs: Costs) -> Coverage:
    """Return how much GEMM time has shapes that were measured, as the kernel tables have it.

    Every block runs once per micro-batch whatever the schedule, so that one micro-batch stands for
    the step.
    """
    gemm, measured = 0.0, 0.0
    for stage in range(len(costs.stages)):
        for member in costs.members:
            for block in costs.stage(stage, member):
                part = _block(block)
                gemm += part.gemm
                measured += part.measured
    return Coverage(gemm, measured)


def _block(block: BlockCost) -> Coverage:
    gemm, measured = 0.0, 0.0
    for phase in Phase:
        cost = block.phases[phase]
        # What is recomputed as a whole runs once more.
        times = 2 if block.repeats(phase) else 1
        gemm += times * cost.seconds.get("gemm", 0.0)
        measured += times * cost.measured
    return Coverage(gemm, measured)
