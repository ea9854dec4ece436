"""DualPipe (arXiv 2412.19437, figure 5; steps as in github.com/deepseek-ai/DualPipe, dualpipe/dualpipe.py, `step`).

Half of the micro-batches enters at each end. Direction 0, the first half, meets stage s on rank s;
direction 1, the second half, on rank P-1-s. Every rank holds two stages. A rank's *phase* 0 is the
direction that enters at the nearer end: 0 in the first half of the ranks, 1 in the second, so that
both halves run the same order.
"""

from __future__ import annotations

from collections import deque
from itertools import count

from simulator.schedules.action import Action, Chunk
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape, even_stages


def build(shape: Shape) -> Schedule:
    """Return the DualPipe schedule on as many ranks as stages.

    Errors: ScheduleError unless the stages are even and the micro-batches even and at least twice
    the stages.
    """
    even_stages(shape.ranks, shape.micro_batches, "DualPipe")
    ranks = [_order(rank, shape) for rank in range(shape.ranks)]
    return Schedule("dualpipe", shape.ranks, shape.micro_batches, tuple(ranks))


class Phase:
    """One of a rank's two directions: its stage, and the micro-batches that come next."""

    def __init__(self, stage: int, first: int) -> None:
        """Begin with micro-batch `first`."""
        self.stage = stage
        self._forwards = count(first)
        self._backwards = count(first)

    def forward(self) -> Chunk:
        """Return the next micro-batch to go forward, with the stage."""
        return next(self._forwards), self.stage

    def backward(self) -> Chunk:
        """Return the next micro-batch to go backward, with the stage."""
        return next(self._backwards), self.stage


class BothWays:
    """Write one rank's order: counts micro-batches per phase and queues weight gradients, first in first out."""

    def __init__(self, near: Phase, far: Phase) -> None:
        """Begin with no action; near: phase 0, far: phase 1."""
        self.actions: list[Action] = []
        self._phases = (near, far)
        self._put_off: deque[Action] = deque()

    def forward(self, phase: int) -> None:
        """Run the next forward of a phase."""
        chunk = self._phases[phase].forward()
        self.actions.append(Action("F", *chunk))

    def backward(self, phase: int, split: bool = False) -> None:
        """Run the next backward of a phase. split: put its weight gradient off."""
        chunk = self._phases[phase].backward()
        if split:
            self.actions.append(Action("I", *chunk))
            self._put_off.append(Action("W", *chunk))
        else:
            self.actions.append(Action("B", *chunk))

    def weight(self) -> None:
        """Run the weight gradient that was put off first."""
        self.actions.append(self._put_off.popleft())

    def pair(self, phase: int) -> None:
        """Overlap the forward of one phase with the backward of the other."""
        # The halves are of different micro-batches, so that neither waits for the other.
        forward = self._phases[phase].forward()
        backward = self._phases[1 - phase].backward()
        self.actions.append(Action("FB", *forward, *backward))

    def run(self, each: int, depth: int, inner: int) -> tuple[Action, ...]:
        """Add all of DualPipe's steps and return the order.

        each: micro-batches per phase. depth: ranks between this one and the end where phase 0
        enters. inner: ranks between it and where the phases turn into each other.
        """
        _warm_up(self, depth, inner)
        # Step 4 takes what the other steps leave of a phase: 2 (depth + inner + 1) - (depth + 1).
        around = 2 * (depth + inner + 1) - (depth + 1)
        _steady(self, each - around, inner)
        _cool_down(self, depth, inner)
        return tuple(self.actions)


def _order(rank: int, shape: Shape) -> tuple[Action, ...]:
    """Return one rank's order."""
    mirrored = shape.ranks - 1 - rank  # the stage that direction 1 meets here
    half = shape.micro_batches // 2
    down = Phase(rank, 0)
    up = Phase(mirrored, half)
    line = BothWays(near=down, far=up)
    if rank >= shape.ranks // 2:
        line = BothWays(near=up, far=down)
    depth = min(rank, mirrored)
    inner = shape.ranks // 2 - 1 - depth
    return line.run(half, depth, inner)


def _warm_up(line: BothWays, depth: int, inner: int) -> None:
    """Add steps 1 to 3; depth: ranks between this one and the nearer end, inner: between it and the middle."""
    # The far direction's first micro-batch arrives 2 inner + 1 chunks after the near one's.
    for _ in range(2 * inner):
        line.forward(0)
    for _ in range(depth + 1):
        line.forward(0)
        line.forward(1)
    for _ in range(inner):
        line.backward(1, split=True)
        line.weight()
        line.forward(1)


def _steady(line: BothWays, rounds: int, inner: int) -> None:
    """Add steps 4 and 5; rounds: of step 4, two pairs each."""
    for i in range(rounds):
        # The two middle ranks do not overlap their first two chunks: that makes the bubble smaller
        # still.
        if i == 0 and inner == 0:
            line.forward(0)
            line.backward(1)
        else:
            line.pair(0)
        line.pair(1)
    for _ in range(inner):
        line.backward(1)
        line.pair(1)


def _cool_down(line: BothWays, depth: int, inner: int) -> None:
    """Add steps 6 to 8; the second half of step 6's 2 (depth + 1) backwards is split."""
    for i in range(2 * (depth + 1)):
        # Both phases in turn; later weight gradients wait for the gaps of steps 7 and 8.
        line.backward(1 - i % 2, split=i > depth)
    for _ in range(inner):
        line.weight()
        line.backward(0, split=True)
    for _ in range(depth + 1):
        line.weight()
