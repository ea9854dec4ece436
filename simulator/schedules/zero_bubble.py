"""ZB-H1 and ZB-H2, written by hand (arXiv 2401.10241, section 2, figure 3): stage s on rank s, I and W apart.

Only input gradients travel, so each rank runs them as soon as it can and puts weight gradients off to fill the end.
Both schedules are one rule. Rank r runs `k (P - 1 - r) + 1` forwards before its first I and keeps `k r` weight
gradients back, so that all ranks hold `k (P - 1) + 1` micro-batches at their peak. H1 has k = 1, as 1F1B holds; H2 has
k = 2, enough forwards to fill the wait for the first I.
"""

from __future__ import annotations

from simulator.schedules.action import Kind, in_turn
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape

_KINDS: tuple[Kind, ...] = ("F", "I", "W")


def build_h1(shape: Shape) -> Schedule:
    """Return ZB-H1: the memory of 1F1B."""
    return _build("zb-h1", shape, 1)


def build_h2(shape: Shape) -> Schedule:
    """Return ZB-H2: twice that memory, and no bubble where F = I = W and there are 2P - 1 micro-batches or more."""
    return _build("zb-h2", shape, 2)


def _build(name: str, shape: Shape, factor: int) -> Schedule:
    ranks = tuple(
        in_turn(_turns(rank, shape.micro_batches, factor * (shape.ranks - 1 - rank), factor * rank))
        for rank in range(shape.ranks)
    )
    return Schedule(name, shape.ranks, shape.micro_batches, ranks)


def _turns(rank: int, micro_batches: int, ahead: int, kept: int) -> list[tuple[Kind, int]]:
    """Return one rank's order. ahead: forwards before the first pair of F and I; kept: weight gradients put off."""
    forward, dgrad, wgrad = ((kind, rank) for kind in _KINDS)
    turns = [forward] * min(ahead, micro_batches)
    for m in range(micro_batches):
        if m + ahead < micro_batches:
            turns.append(forward)
        turns.append(dgrad)
        if m >= kept:
            turns.append(wgrad)
    return turns + [wgrad] * min(kept, micro_batches)
