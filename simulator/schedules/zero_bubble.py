"""ZB-H1 and ZB-H2, written by hand (arXiv 2401.10241, section 2, figure 3): stage s on rank s, I and W split.

Only input gradients travel, so each rank runs them as soon as it can and puts weight gradients off
to fill the end. Both schedules are one rule. Rank r runs `k (P - 1 - r) + 1` forwards before its
first I and keeps `k r` weight gradients back, so that all ranks hold `k (P - 1) + 1` micro-batches
at their peak. H1 has k = 1, as 1F1B holds; H2 has k = 2, enough forwards to fill the wait for the
first I.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from simulator.schedules.action import Turn, in_turn
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape

Item = TypeVar("Item")


def build_h1(shape: Shape) -> Schedule:
    """Return ZB-H1: the memory of 1F1B."""
    return _build("zb-h1", shape, 1)


def build_h2(shape: Shape) -> Schedule:
    """Return ZB-H2: twice that memory, and no bubble where F = I = W and there are 2P - 1 micro-batches or more."""
    return _build("zb-h2", shape, 2)


def _build(name: str, shape: Shape, factor: int) -> Schedule:
    """Return the schedule of one rule. factor: its k."""
    ranks = []
    for rank in range(shape.ranks):
        kinds = (Turn("F", rank), Turn("I", rank), Turn("W", rank))
        held = held_by(rank, shape.ranks, factor)
        order = turns(kinds, shape.micro_batches, held)
        ranks.append(in_turn(order))
    return Schedule(name, shape.ranks, shape.micro_batches, tuple(ranks))


class Held(NamedTuple):
    """What a rank holds between its first forward and its last weight gradient."""

    early: int
    """Forwards before the first pair of F and I."""
    late: int
    """Weight gradients that are put off to the end."""


def held_by(rank: int, ranks: int, factor: int) -> Held:
    """Return what a rank holds in H1 (factor 1) or H2 (factor 2)."""
    behind = ranks - 1 - rank
    return Held(early=factor * behind, late=factor * rank)


def turns(kinds: Sequence[Item], micro_batches: int, held: Held) -> list[Item]:
    """Return one rank's order. kinds: what stands for F, I and W."""
    forward, dgrad, wgrad = kinds
    # Ahead of the first I, so that its gradient comes back while the rank still has work.
    order = [forward] * min(held.early, micro_batches)
    for m in range(micro_batches):
        if m + held.early < micro_batches:
            order.append(forward)
        order.append(dgrad)
        # The first `late` rounds run no W: what they put off fills the end, when nothing arrives.
        if m >= held.late:
            order.append(wgrad)
    order.extend([wgrad] * min(held.late, micro_batches))
    return order
