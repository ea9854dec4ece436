"""1F1B (PipeDream-Flush; arXiv 2006.09503; arXiv 2104.04473, figure 4 top): stage s on rank s."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.schedules.action import Action
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape


def build(shape: Shape) -> Schedule:
    """Return the 1F1B schedule: forwards until the pipeline is full, then one forward, one backward, then backwards."""
    ranks = tuple(
        one_by_one(
            [Action("F", m, rank) for m in range(shape.micro_batches)],
            [Action("B", m, rank) for m in range(shape.micro_batches)],
            shape.ranks - 1 - rank,
        )
        for rank in range(shape.ranks)
    )
    return Schedule("1f1b", shape.ranks, shape.micro_batches, ranks)


def one_by_one(forwards: Sequence[Action], backwards: Sequence[Action], warm_up: int) -> tuple[Action, ...]:
    """Return so many forwards alone, then a forward and a backward in turn, then the backwards that are left."""
    warm_up = min(warm_up, len(forwards))
    steady = [action for pair in zip(forwards[warm_up:], backwards, strict=False) for action in pair]
    return (*forwards[:warm_up], *steady, *backwards[len(forwards) - warm_up :])
