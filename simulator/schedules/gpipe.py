"""GPipe (arXiv 1811.06965, figure 2c): all forwards, then all backwards, the last micro-batch first."""

from __future__ import annotations

from simulator.schedules.action import singles
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape


def build(shape: Shape) -> Schedule:
    """Return the GPipe schedule: stage s on rank s."""
    ranks = []
    for rank in range(shape.ranks):
        chunks = [(micro_batch, rank) for micro_batch in range(shape.micro_batches)]
        forwards = singles("F", chunks)
        # The last rank can begin at once with the micro-batch that it has just run.
        backwards = singles("B", reversed(chunks))
        ranks.append((*forwards, *backwards))
    return Schedule("gpipe", shape.ranks, shape.micro_batches, tuple(ranks))
