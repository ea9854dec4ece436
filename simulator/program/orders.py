"""What the pipeline ranks of a schedule run, as few different actions, and who hands what to whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.program.program import Ints
from simulator.schedules import Kind, Schedule
from simulator.schedules.action import KINDS
from simulator.schedules.table import BACKWARD, DGRAD, FORWARD, PAIR, WGRAD


class Key(NamedTuple):
    """What tells actions of a pipeline rank apart.

    to, to_b: ranks that take the output of the forward and of the backward half, -1 if none. final:
    whether it is the last pass that makes gradients of its stage.
    """

    kind: Kind
    stage: int
    stage_b: int
    to: int = -1
    to_b: int = -1
    final: bool = False

    @property
    def forward(self) -> int:
        """Return the stage of the forward half, -1 if there is none."""
        return self.stage if self.kind in ("F", "FB") else -1

    @property
    def backward(self) -> int:
        """Return the stage of the half that makes an input gradient, -1 if there is none."""
        return self.stage_b if self.kind == "FB" else self.stage if self.kind in ("B", "I") else -1


@dataclass(frozen=True, slots=True)
class Order:
    """What one pipeline rank runs. keys: different actions. code: which of them each is [position].

    first: stage -> position of its first forward pass; final: of the last pass that makes its
    gradients. Both in the order in which stages come first.
    """

    keys: tuple[Key, ...]
    code: Ints
    first: dict[int, int]
    final: dict[int, int]


def rows_of(schedule: Schedule) -> tuple[Ints, Ints]:
    """Return the rows of `Schedule.table` that run each forward pass and that make each gradient, -1 where none.

    Both [micro-batch, stage].
    """
    found, _ = schedule.table.rows(schedule.stages, schedule.micro_batches)
    return found[FORWARD], np.where(found[BACKWARD] >= 0, found[BACKWARD], found[DGRAD])


def _halves(schedule: Schedule) -> tuple[tuple[Ints, Ints, Ints], tuple[Ints, Ints, Ints]]:
    """Return rows of the table, micro-batch and stage of all forward halves and of all halves that make a gradient."""
    table = schedule.table
    ahead = np.flatnonzero((table.kind == FORWARD) | (table.kind == PAIR))
    back = np.flatnonzero((table.kind == BACKWARD) | (table.kind == DGRAD) | (table.kind == PAIR))
    pair = table.kind[back] == PAIR
    return (ahead, table.micro_batch[ahead], table.stage[ahead]), (
        back,
        np.where(pair, table.micro_batch_b[back], table.micro_batch[back]),
        np.where(pair, table.stage_b[back], table.stage[back]),
    )


def _neighbours(schedule: Schedule, *, ahead: bool) -> Ints:
    """Return the rows that run the same micro-batch on the next stage, or that of before, for both halves [row, 2].

    ahead: those that take a half's output, not those that make its input. -1 where none.
    """
    found = np.full((len(schedule.table.kind), 2), -1, dtype=np.int64)
    for half, (rows, (row, micro_batch, stage)) in enumerate(
        zip(rows_of(schedule), _halves(schedule), strict=True)
    ):
        padded = np.full(
            (schedule.micro_batches, schedule.stages + 2), -1, dtype=np.int64
        )  # stage s at s + 1
        padded[:, 1:-1] = rows
        step = 1 if ahead == (half == 0) else -1
        found[row, half] = padded[micro_batch, stage + 1 + step]
    return found


def handed_from(schedule: Schedule) -> Ints:
    """Return the rows of the table that make what each takes: forward input, gradient; -1 where none [row, 2]."""
    return _neighbours(schedule, ahead=False)


def handed_to(schedule: Schedule) -> Ints:
    """Return the pipeline ranks that take each row's forward output and its gradient; -1 where none [row, 2]."""
    taken = _neighbours(schedule, ahead=True)
    return np.where(taken < 0, -1, schedule.table.rank[taken])


def orders(schedule: Schedule, *, every_pass: bool) -> list[Order]:
    """Return what each pipeline rank runs. every_pass: no pass is the final one, each is treated alike."""
    table, taken = schedule.table, handed_to(schedule)
    trains = (table.kind == BACKWARD) | (table.kind == WGRAD) | (table.kind == PAIR)
    runs = (table.kind == FORWARD) | (table.kind == PAIR)
    stage_b = np.where(table.kind == PAIR, table.stage_b, table.stage)
    result = []
    for begin, end in zip(table.start[:-1].tolist(), table.start[1:].tolist(), strict=True):
        own = slice(begin, end)
        first = _firsts(table.stage[own], runs[own])
        final = {
            stage: end - begin - 1 - _firsts(stage_b[own][::-1], trains[own][::-1])[stage]
            for stage in _firsts(stage_b[own], trains[own])
        }
        last = np.zeros(end - begin, dtype=np.int64)
        if not every_pass:
            last[list(final.values())] = 1
        columns = np.stack(
            [table.kind[own], table.stage[own], table.stage_b[own], *taken[own].T, last], axis=1
        )
        unique, code = np.unique(columns, axis=0, return_inverse=True)
        keys = tuple(
            Key(KINDS[kind], stage, other, to, to_b, bool(is_last))
            for kind, stage, other, to, to_b, is_last in unique.tolist()
        )
        result.append(Order(keys, code.reshape(-1).astype(np.int64), first, final))
    return result


def _firsts(stage: Ints, some: Ints) -> dict[int, int]:
    """Return stage -> first position among some actions, in the order of these positions."""
    at = np.flatnonzero(some)
    stages, first = np.unique(stage[at], return_index=True)
    order = np.argsort(first, kind="stable")
    return dict(zip(stages[order].tolist(), at[first[order]].tolist(), strict=True))
