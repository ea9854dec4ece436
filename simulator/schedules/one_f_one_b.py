"""1F1B (PipeDream-Flush; arXiv 2006.09503; arXiv 2104.04473, figure 4 top): stage s on rank s."""

from __future__ import annotations

from typing import TypeVar

from simulator.schedules.action import Kind, in_turn
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape

Turn = TypeVar("Turn")


def build(shape: Shape) -> Schedule:
    """Return the 1F1B schedule: forwards until the pipeline is full, then one forward, one backward, then backwards."""
    ranks = tuple(
        in_turn(_turns(rank, shape.ranks, shape.micro_batches)) for rank in range(shape.ranks)
    )
    return Schedule("1f1b", shape.ranks, shape.micro_batches, ranks)


def _turns(rank: int, ranks: int, micro_batches: int) -> list[tuple[Kind, int]]:
    forwards: list[tuple[Kind, int]] = [("F", rank)] * micro_batches
    backwards: list[tuple[Kind, int]] = [("B", rank)] * micro_batches
    return one_by_one(forwards, backwards, ranks - 1 - rank)


def one_by_one(forwards: list[Turn], backwards: list[Turn], warm_up: int) -> list[Turn]:
    """Return so many forwards alone, then a forward and a backward in turn, then the backwards that are left."""
    warm_up = min(warm_up, len(forwards))
    steady = [turn for pair in zip(forwards[warm_up:], backwards, strict=False) for turn in pair]
    return [*forwards[:warm_up], *steady, *backwards[len(forwards) - warm_up :]]
