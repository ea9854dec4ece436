"""ZB-V (arXiv 2405.15362, V-ZB; drawn in arXiv 2401.10241, figure 8): no bubble in the memory of 1F1B.

Two stages per rank in the shape of a V: stage s goes down the ranks, stage 2P-1-s comes back. A
micro-batch ends where it began, so its backward starts at once and no rank holds more than 2P
chunks of half the size. No bubble where F = I = W.
"""

from __future__ import annotations

from simulator.errors import ScheduleError
from simulator.schedules.action import Kind, in_turn
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape


def build(shape: Shape) -> Schedule:
    """Return the ZB-V schedule of 2P stages on P ranks. Errors: ScheduleError for fewer than 2P micro-batches."""
    least = 2 * shape.ranks
    if shape.micro_batches < least:
        rule = f"micro-batches are too few: zb-v fills {shape.ranks} ranks with {least} before it runs steadily"
        raise ScheduleError(rule, value=shape.micro_batches, remedy=f"Use at least {least}.")
    ranks = tuple(
        in_turn(_turns(rank, shape.ranks, shape.micro_batches)) for rank in range(shape.ranks)
    )
    return Schedule("zb-v", 2 * shape.ranks, shape.micro_batches, ranks)


def _turns(rank: int, ranks: int, micro_batches: int) -> list[tuple[Kind, int]]:
    """Return one rank's order: what enters and goes out on its way down, and what comes back up."""
    down, up = rank, 2 * ranks - 1 - rank
    enter: list[tuple[Kind, int]] = [("F", down)]
    back: list[tuple[Kind, int]] = [("F", up), ("I", up), ("W", up)]
    out: list[tuple[Kind, int]] = [("I", down), ("W", down)]
    inner = ranks - rank  # this rank and those between it and the turn of the V
    entered = 2 * inner - 1 + rank
    steady = micro_batches - ranks
    return [
        *enter * (2 * inner - 1),
        *[back[0], *enter] * rank,
        *back * inner,
        *[*enter, *out, *back] * min(steady, micro_batches - entered),
        *[*out, *back] * max(steady - (micro_batches - entered), 0),
        *[out[0], back[1]] * rank,
        *out * inner,
        *[back[2]] * rank,
        *[out[1]] * rank,
    ]
