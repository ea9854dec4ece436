"""1F1B (PipeDream-Flush; arXiv 2006.09503; arXiv 2104.04473, figure 4 top): stage s on rank s."""

from __future__ import annotations

from simulator.schedules.action import Action
from simulator.schedules.schedule import Schedule


def build(stages: int, micro_batches: int) -> Schedule:
    """Return the 1F1B schedule: forwards until the pipeline is full, then one forward, one backward, then backwards."""
    ranks = tuple(_order(rank, stages, micro_batches) for rank in range(stages))
    return Schedule("1f1b", stages, micro_batches, ranks)


def _order(rank: int, stages: int, micro_batches: int) -> tuple[Action, ...]:
    warm_up = min(stages - 1 - rank, micro_batches)
    forwards = [Action("F", m, rank) for m in range(micro_batches)]
    backwards = [Action("B", m, rank) for m in range(micro_batches)]
    steady = [action for pair in zip(forwards[warm_up:], backwards, strict=False) for action in pair]
    return (*forwards[:warm_up], *steady, *backwards[micro_batches - warm_up :])
