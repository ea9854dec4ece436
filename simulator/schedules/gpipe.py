"""GPipe (arXiv 1811.06965, figure 2c): all forwards, then all backwards, the last micro-batch first."""

from __future__ import annotations

from simulator.schedules.action import singles
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape


def build(shape: Shape) -> Schedule:
    """Return the GPipe schedule: stage s on rank s."""
    count = range(shape.micro_batches)
    ranks = tuple(
        (
            *singles("F", ((m, rank) for m in count)),
            *singles("B", ((m, rank) for m in reversed(count))),
        )
        for rank in range(shape.ranks)
    )
    return Schedule("gpipe", shape.ranks, shape.micro_batches, ranks)
