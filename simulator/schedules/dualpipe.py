"""DualPipe (arXiv 2412.19437, figure 5; steps as in github.com/deepseek-ai/DualPipe, dualpipe/dualpipe.py, `step`).

Half of the micro-batches enters at each end. Direction 0, the first half, meets stage s on rank s; direction 1, the
second half, on rank P-1-s. Every rank holds two stages. A rank's *phase* 0 is the direction that enters at the nearer
end: 0 in the first half of the ranks, 1 in the second, so that both halves run the same order.
"""

from __future__ import annotations

from collections import deque
from itertools import count

from simulator.schedules.action import Action
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape, even_stages


def build(shape: Shape) -> Schedule:
    """Return the DualPipe schedule on as many ranks as stages.

    Errors: ScheduleError unless the stages are even and the micro-batches even and at least twice the stages.
    """
    even_stages(shape.ranks, shape.micro_batches, "DualPipe")
    ranks = tuple(_order(rank, shape.ranks, shape.micro_batches) for rank in range(shape.ranks))
    return Schedule("dualpipe", shape.ranks, shape.micro_batches, ranks)


class _Rank:
    """Write one rank's order: counts micro-batches per direction and queues weight gradients, first in first out."""

    def __init__(self, rank: int, stages: int, micro_batches: int) -> None:
        self.actions: list[Action] = []
        self._second_half = rank >= stages // 2
        self._stage = (rank, stages - 1 - rank)
        self._forwards = (count(0), count(micro_batches // 2))
        self._backwards = (count(0), count(micro_batches // 2))
        self._put_off: deque[Action] = deque()

    def forward(self, phase: int) -> None:
        self.actions.append(Action("F", *self._next(self._forwards, phase)))

    def backward(self, phase: int, split: bool = False) -> None:
        chunk = self._next(self._backwards, phase)
        self.actions.append(Action("I" if split else "B", *chunk))
        if split:
            self._put_off.append(Action("W", *chunk))

    def weight(self) -> None:
        self.actions.append(self._put_off.popleft())

    def pair(self, phase: int) -> None:
        """Overlap the forward of one phase with the backward of the other."""
        forward, backward = self._next(self._forwards, phase), self._next(self._backwards, 1 - phase)
        self.actions.append(Action("FB", *forward, *backward))

    def _next(self, counters: tuple[count[int], count[int]], phase: int) -> tuple[int, int]:
        """Return the next (micro-batch, stage) of a phase."""
        direction = phase ^ self._second_half
        return next(counters[direction]), self._stage[direction]


def _order(rank: int, stages: int, micro_batches: int) -> tuple[Action, ...]:
    depth = min(rank, stages - 1 - rank)
    inner = stages // 2 - 1 - depth
    line = _Rank(rank, stages, micro_batches)
    _warm_up(line, depth, inner)
    _steady(line, micro_batches // 2 - stages + depth + 1, inner)
    _cool_down(line, depth, inner)
    return tuple(line.actions)


def _warm_up(line: _Rank, depth: int, inner: int) -> None:
    """Add steps 1 to 3; depth: ranks between this one and the nearer end, inner: between it and the middle."""
    for _ in range(2 * inner):
        line.forward(0)
    for _ in range(depth + 1):
        line.forward(0)
        line.forward(1)
    for _ in range(inner):
        line.backward(1, split=True)
        line.weight()
        line.forward(1)


def _steady(line: _Rank, rounds: int, inner: int) -> None:
    """Add steps 4 and 5; rounds: of step 4, two pairs each."""
    for i in range(rounds):
        # The two middle ranks do not overlap their first two chunks: that makes the bubble smaller still.
        if i == 0 and inner == 0:
            line.forward(0)
            line.backward(1)
        else:
            line.pair(0)
        line.pair(1)
    for _ in range(inner):
        line.backward(1)
        line.pair(1)


def _cool_down(line: _Rank, depth: int, inner: int) -> None:
    """Add steps 6 to 8; the second half of step 6's 2 (depth + 1) backwards is split."""
    for i in range(2 * (depth + 1)):
        line.backward(1 - i % 2, split=i > depth)
    for _ in range(inner):
        line.weight()
        line.backward(0, split=True)
    for _ in range(depth + 1):
        line.weight()
