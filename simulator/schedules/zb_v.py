"""ZB-V (arXiv 2405.15362, V-ZB; drawn in arXiv 2401.10241, figure 8): no bubble in the memory of 1F1B.

Two stages per rank in the shape of a V: stage s goes down the ranks, stage 2P-1-s comes back. A
micro-batch ends where it began, so its backward starts at once and no rank holds more than 2P
chunks of half the size. No bubble where F = I = W.
"""

from __future__ import annotations

from simulator.errors import ScheduleError
from simulator.schedules.action import Turn, in_turn
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape


def build(shape: Shape) -> Schedule:
    """Return the ZB-V schedule of 2P stages on P ranks. Errors: ScheduleError for fewer than 2P micro-batches."""
    least = 2 * shape.ranks
    if shape.micro_batches < least:
        raise ScheduleError(
            f"micro-batches are too few: zb-v fills {shape.ranks} ranks with {least} before it "
            "runs steadily",
            value=shape.micro_batches,
            remedy=f"Use at least {least}.",
        )
    ranks = []
    for rank in range(shape.ranks):
        order = _turns(rank, shape.ranks, shape.micro_batches)
        ranks.append(in_turn(order))
    return Schedule("zb-v", 2 * shape.ranks, shape.micro_batches, tuple(ranks))


def _turns(rank: int, ranks: int, micro_batches: int) -> list[Turn]:
    """Return one rank's order: what enters and goes out on its way down, and what comes back up."""
    down = rank
    up = 2 * ranks - 1 - rank
    enter = [Turn("F", down)]
    back = [Turn("F", up), Turn("I", up), Turn("W", up)]
    out = [Turn("I", down), Turn("W", down)]
    back_f, back_i, back_w = back
    out_i, out_w = out
    inner = ranks - rank  # this rank and those between it and the turn of the V
    entered = 2 * inner - 1 + rank  # forwards on the way down before the steady rounds
    left = micro_batches - entered
    steady = micro_batches - ranks  # rounds in which something comes back
    return [
        # Fill: down to the turn and back takes 2 inner - 1 chunks; then both ways in turn.
        *enter * (2 * inner - 1),
        *[back_f, *enter] * rank,
        *back * inner,
        # Steady, with a forward each as long as some are left.
        *[*enter, *out, *back] * min(steady, left),
        *[*out, *back] * max(steady - left, 0),
        # Drain: gradients first, on which other ranks wait; then the weight gradients put off.
        *[out_i, back_i] * rank,
        *out * inner,
        *[back_w] * rank,
        *[out_w] * rank,
    ]
