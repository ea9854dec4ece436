"""DualPipeV (github.com/deepseek-ai/DualPipe, dualpipe/dualpipev.py): DualPipe cut in half, each rank meets itself.

P stages in the shape of a V on P/2 ranks: stage s and stage P-1-s on rank s. Each rank runs what it
runs in DualPipe, with the way back of every micro-batch instead of the other direction; one
copy of the parameters in all.
"""

from __future__ import annotations

from simulator.errors import ScheduleError
from simulator.schedules.dualpipe import BothWays, Phase
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape


def build(shape: Shape) -> Schedule:
    """Return the DualPipeV schedule of 2P stages on P ranks. Errors: ScheduleError for fewer than 2P micro-batches."""
    stages = 2 * shape.ranks
    if shape.micro_batches < stages:
        raise ScheduleError(
            f"micro-batches are too few: dualpipev needs one for each of its {stages} stages on "
            f"{shape.ranks} ranks",
            value=shape.micro_batches,
            remedy=f"Use at least {stages}.",
        )
    ranks = []
    for rank in range(shape.ranks):
        # The way back of a micro-batch is the other direction: both count all of them.
        down = Phase(rank, 0)
        back = Phase(stages - 1 - rank, 0)
        line = BothWays(near=down, far=back)
        inner = shape.ranks - 1 - rank  # ranks between this one and the turn of the V
        ranks.append(line.run(shape.micro_batches, depth=rank, inner=inner))
    return Schedule("dualpipev", stages, shape.micro_batches, tuple(ranks))
