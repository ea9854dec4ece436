"""The activations of a rank over its actions: what each takes, what it frees, what it needs besides."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.costs import BlockMemory, Costs
from simulator.schedules import Schedule

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


class Changes(NamedTuple):
    """What the halves of a rank's actions do to the kept activations, in order."""

    position: Ids
    """Of the action in its rank's order [half]."""
    taken: Floats
    """Bytes that stay when it has run, below 0 where it frees some [half] B."""
    extra: Floats
    """Bytes on top of what was kept before, at most, while it runs [half] B."""

    @property
    def peak(self) -> float:
        """Return the largest sum of activations [B].

        A micro-batch's activations are freed block by block by its full backward pass. Where that
        is split, its input gradient leaves what the weight gradients read, and those free it.
        """
        # What is there only while an action runs is no more when the next one begins.
        kept = np.cumsum(self.taken)  # [half] B
        before = np.concatenate([[0.0], kept[:-1]])
        while_it_runs = before + self.extra
        return float(max(kept.max(initial=0.0), while_it_runs.max(initial=0.0)))


class Held(NamedTuple):
    """What a micro-batch's activations on a stage come to, pass by pass; see `Changes`."""

    taken: float
    """[B]."""
    extra: float
    """[B]."""


def changes(costs: Costs, schedule: Schedule) -> list[Changes]:
    """Return what the actions of each pipeline index do [pipeline index]."""
    held = _passes(costs, schedule)  # [pass, kind of half, stage] B
    table = schedule.table
    halves = table.halves
    taken, extra = held[:, halves.kind, halves.stage]  # [half] B
    position = halves.row - table.start[table.rank[halves.row]]  # [half]
    ends = np.searchsorted(halves.row, table.start).tolist()  # [pipeline index + 1]
    return [
        Changes(position[begin:end], taken[begin:end], extra[begin:end])
        for begin, end in pairwise(ends)
    ]


def _passes(costs: Costs, schedule: Schedule) -> Floats:
    """Return `Held` of every kind of half on every stage [field of Held, kind, stage] B."""
    blocks = [costs.memories(stage) for stage in range(schedule.stages)]
    held = [[run(one) for one in blocks] for run in _PASSES]
    return np.moveaxis(np.array(held), -1, 0)


def _forward(blocks: list[BlockMemory]) -> Held:
    """Return what a forward pass does: each block adds what it keeps."""
    kept = accumulate(block.saved for block in blocks)  # [block] up to and with it
    most = [
        so_far + block.forward + crossing
        for so_far, block, crossing in zip(kept, blocks, _crossing(blocks), strict=True)
    ]
    return Held(sum(block.saved for block in blocks), max(most, default=0.0))


def _backward(blocks: list[BlockMemory]) -> Held:
    """Return what a full backward pass does: each block frees what it has kept."""
    return _back(blocks, [-block.saved for block in blocks])


def _input_gradient(blocks: list[BlockMemory]) -> Held:
    """Return what an input gradient does: of each block what its weight gradients read stays."""
    return _back(blocks, [block.weights - block.saved for block in blocks])


def _weight_gradient(blocks: list[BlockMemory]) -> Held:
    return Held(-sum(block.weights for block in blocks), 0.0)


def _back(blocks: list[BlockMemory], left: list[float]) -> Held:
    """Return what a pass from the last block to the first does.

    left: what each block adds to what is kept when it has run [block] B.
    """
    now = most = 0.0
    backwards = zip(reversed(blocks), reversed(_crossing(blocks)), reversed(left), strict=True)
    for block, crossing, change in backwards:
        most = max(most, now + block.transient + crossing)
        now += change
    return Held(sum(left), max(most, now))


def _crossing(blocks: list[BlockMemory]) -> list[float]:
    """Return what is on the GPU while each block runs, although it waits on the host [block] B.

    That is its own part, and that of the block before it: ahead that one is still on its way out,
    and on the way back it comes one block early.
    """
    away = [0.0, *(block.away for block in blocks)]
    return [before + own for before, own in pairwise(away)]


_PASSES = (_forward, _backward, _input_gradient, _weight_gradient)
"""What each kind of half an action does to the activations of a stage, in the order of `schedules.KINDS`."""
