"""ZB-V (arXiv 2405.15362, V-ZB; drawn in arXiv 2401.10241, figure 8): no bubble in the memory of 1F1B.

Two stages per rank in the shape of a V: stage s goes down the ranks, stage 2P-1-s comes back. A micro-batch ends where
it began, so its backward starts at once and no rank holds more than 2P chunks of half the size. No bubble where
F = I = W.
"""

from __future__ import annotations

from itertools import count

from simulator.errors import ScheduleError
from simulator.schedules.action import Action, Kind
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape

_KINDS: tuple[Kind, ...] = ("F", "I", "W")


def build(shape: Shape) -> Schedule:
    """Return the ZB-V schedule of 2P stages on P ranks. Errors: ScheduleError for fewer than 2P micro-batches."""
    least = 2 * shape.ranks
    if shape.micro_batches < least:
        rule = f"micro-batches are too few: zb-v fills {shape.ranks} ranks with {least} before it runs steadily"
        raise ScheduleError(rule, value=shape.micro_batches, remedy=f"Use at least {least}.")
    ranks = tuple(tuple(_order(rank, shape.ranks, shape.micro_batches)) for rank in range(shape.ranks))
    return Schedule("zb-v", 2 * shape.ranks, shape.micro_batches, ranks)


class _Rank:
    """Write one rank's order: counts the micro-batches of each kind on each of its two stages."""

    def __init__(self, stages: tuple[int, int]) -> None:
        self.actions: list[Action] = []
        self._stages = stages
        self._next = {(kind, leg): count() for kind in _KINDS for leg in (0, 1)}

    def run(self, leg: int, *kinds: Kind) -> None:
        """Add the next of each kind; leg: 0 down the V, 1 up."""
        self.actions += [Action(kind, next(self._next[kind, leg]), self._stages[leg]) for kind in kinds]


def _order(rank: int, ranks: int, micro_batches: int) -> list[Action]:
    line = _Rank((rank, 2 * ranks - 1 - rank))
    inner = ranks - rank  # this rank and those between it and the turn of the V
    for _ in range(2 * inner - 1):
        line.run(0, "F")
    for _ in range(rank):
        line.run(1, "F")
        line.run(0, "F")
    for _ in range(inner):
        line.run(1, "F", "I", "W")
    entered = 2 * inner - 1 + rank
    for m in range(micro_batches - ranks):
        if m + entered < micro_batches:
            line.run(0, "F")
        line.run(0, "I", "W")
        line.run(1, "F", "I", "W")
    for _ in range(rank):
        line.run(0, "I")
        line.run(1, "I")
    for _ in range(inner):
        line.run(0, "I", "W")
    for leg in (1, 0):
        for _ in range(rank):
            line.run(leg, "W")
    return line.actions
