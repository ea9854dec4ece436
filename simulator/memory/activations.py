"""The activations of a rank over its actions: what each takes, what it frees, what it needs besides."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

from simulator.costs import BlockMemory, Costs
from simulator.schedules import Action


class Change(NamedTuple):
    """What one half of an action does to the kept activations."""

    position: int
    """Of the action in its rank's order."""
    taken: float
    """Bytes that stay when it has run, below 0 where it frees some [B]."""
    extra: float
    """Bytes on top of what was kept before, at most, while it runs [B]."""


class Held(NamedTuple):
    """What a micro-batch's activations on a stage come to, pass by pass; see `Change`."""

    taken: float
    """[B]."""
    extra: float
    """[B]."""


def peak(costs: Costs, order: tuple[Action, ...]) -> float:
    """Return the largest sum of activations in the order of a rank's actions [B].

    A micro-batch's activations are freed block by block by its full backward pass. Where that is
    split, its input gradient leaves what the weight gradients read, and those free it.
    """
    # What is there only while an action runs is no more when the next one begins.
    now = largest = 0.0
    for change in changes(costs, order):
        while_it_runs = now + change.extra
        now += change.taken
        largest = max(largest, while_it_runs, now)
    return largest


def changes(costs: Costs, order: tuple[Action, ...]) -> list[Change]:
    """Return what each half of each action does, in order."""
    stages = {stage for action in order for _, _, stage in action.halves()}
    blocks = {stage: costs.memories(stage) for stage in stages}
    kinds = {kind for action in order for kind, _, _ in action.halves()}
    held = {(kind, stage): _PASSES[kind](blocks[stage]) for kind in kinds for stage in stages}
    return [
        Change(position, *held[kind, stage])
        for position, action in enumerate(order)
        for kind, _, stage in action.halves()
    ]


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


_PASSES = {"F": _forward, "B": _backward, "I": _input_gradient, "W": _weight_gradient}
"""Kind of half an action -> what it does to the activations of a stage."""
