"""1F1B (PipeDream-Flush; arXiv 2006.09503; arXiv 2104.04473, figure 4 top): stage s on rank s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from simulator.schedules.action import Action, Turn, in_turn, singles
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape

Item = TypeVar("Item")


def build(shape: Shape) -> Schedule:
    """Return the 1F1B schedule: forwards until the pipeline is full, then one forward, one backward, then backwards."""
    if shape.overlap_moe_expert_parallel_comm:
        count = range(shape.micro_batches)
        chunks = [(micro_batch, 0) for micro_batch in count]
        pairs = paired(singles("F", chunks), singles("B", chunks), 1)
        return Schedule("1f1b", 1, shape.micro_batches, (tuple(pairs),))
    ranks = []
    for rank in range(shape.ranks):
        forwards = [Turn("F", rank)] * shape.micro_batches
        backwards = [Turn("B", rank)] * shape.micro_batches
        # The first gradient comes back after the ranks behind this one have run a forward each.
        behind = shape.ranks - 1 - rank
        order = one_by_one(forwards, backwards, behind)
        ranks.append(in_turn(order))
    return Schedule("1f1b", shape.ranks, shape.micro_batches, tuple(ranks))


def one_by_one(forwards: Sequence[Item], backwards: Sequence[Item], warm_up: int) -> list[Item]:
    """Return so many forwards alone, then a forward and a backward in turn, then the backwards that are left."""
    warm_up = min(warm_up, len(forwards))
    order = list(forwards[:warm_up])
    for pair in zip(forwards[warm_up:], backwards, strict=False):
        order.extend(pair)
    paired = len(forwards) - warm_up
    order.extend(backwards[paired:])
    return order


def paired(forwards: Sequence[Action], backwards: Sequence[Action], warm_up: int) -> list[Action]:
    """Return so many forwards, then pairs of a forward and a backward, then the backwards that are left.

    warm_up: one more than without pairs, so that no pair holds both passes of a chunk (Megatron-LM,
    overlap_moe_expert_parallel_comm in core/pipeline_parallel/schedules.py).
    """
    warm_up = min(warm_up, len(forwards))
    pairs = [
        Action("FB", ahead.micro_batch, ahead.stage, back.micro_batch, back.stage)
        for ahead, back in zip(forwards[warm_up:], backwards, strict=False)
    ]
    return [*forwards[:warm_up], *pairs, *backwards[len(pairs) :]]
