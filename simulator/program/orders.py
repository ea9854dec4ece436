"""What the pipeline ranks of a schedule run, as few different actions, and who hands on to whom."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.program.program import Ints
from simulator.schedules import Kind, PipelineOverlap, Posts, Schedule, posts
from simulator.schedules.action import KINDS
from simulator.schedules.posting import Operation
from simulator.schedules.table import BACKWARD, DGRAD, FORWARD, PAIR, WGRAD

MOST_SCHEDULES = 8
"""Schedules whose orders are kept, as many as `schedules` keeps: links and loads change none."""


class Key(NamedTuple):
    """What tells actions of a pipeline rank apart."""

    kind: Kind
    """F, B, I, W or the pair FB."""
    stage: int
    """Stage of the action, of a pair that of its forward half."""
    stage_b: int
    """Stage of a pair's backward half, -1 if the action is not a pair."""
    to: int = -1
    """Pipeline rank that takes the output of the forward half, -1 if none."""
    to_b: int = -1
    """Pipeline rank that takes the gradient of the backward half, -1 if none."""
    final: bool = False
    """Whether it is the last pass that makes gradients of its stage's parameters."""
    posts: int = -1
    """Which of the rank's different `Order.posts` stand behind it, -1 if none."""
    receives: bool = False
    """Whether compute waits for what another rank sends it, where receives are posted."""
    awaits: bool = False
    """Whether it waits for messages of an earlier slot, `Order.awaited`."""

    @property
    def forward(self) -> int:
        """Return the stage of the forward half, -1 if there is none."""
        return self.stage if self.kind in ("F", "FB") else -1

    @property
    def backward(self) -> int:
        """Return the stage of the half that makes an input gradient, -1 if there is none."""
        if self.kind == "FB":
            return self.stage_b
        return self.stage if self.kind in ("B", "I") else -1


@dataclass(frozen=True, slots=True)
class Order:
    """What one pipeline rank runs."""

    keys: tuple[Key, ...]
    """Its different actions."""
    code: Ints
    """Which of them it runs at each position [position]."""
    first: dict[int, int]
    """Stage -> position of its first forward pass, in the order of these positions."""
    final: dict[int, int]
    """Stage -> position of the last pass that makes its gradients."""
    awaited: Ints
    """Slot of the rank whose messages an action waits for, -1 if none [position]."""
    posts: tuple[Operations, ...]
    """What is posted before the first action, then what else is posted behind some."""


Operations: TypeAlias = tuple[tuple["Post", ...], ...]
"""Operations that a rank posts one after the other: the messages of each."""


class Post(NamedTuple):
    """An end of a message between two stages."""

    half: str
    """F for an output, B for a gradient."""
    sends: bool
    """Whether it is sent or received."""
    peer: int
    """Pipeline rank at the other end."""

    @property
    def label(self) -> str:
        """Return what traces call it."""
        return f"{'send' if self.sends else 'receive'} {self.half}"


class _Halves(NamedTuple):
    """All forward halves of a schedule, or all halves that make an input gradient."""

    row: Ints
    """Row of `Schedule.table` [half]."""
    micro_batch: Ints
    """Micro-batch [half]."""
    stage: Ints
    """Stage [half]."""


def rows_of(schedule: Schedule) -> tuple[Ints, Ints]:
    """Return the rows of `Schedule.table` that run each forward pass and that make each gradient.

    Both [micro-batch, stage], -1 where none.
    """
    rows, _ = schedule.table.rows(schedule.stages, schedule.micro_batches)
    # A full backward pass makes the input gradient, or the first half of a split one.
    full, split = rows[BACKWARD], rows[DGRAD]
    gradient = np.where(full >= 0, full, split)
    return rows[FORWARD], gradient


def _forward_halves(schedule: Schedule) -> _Halves:
    table = schedule.table
    runs_forward = np.isin(table.kind, (FORWARD, PAIR))
    row = np.flatnonzero(runs_forward)
    return _Halves(row, table.micro_batch[row], table.stage[row])


def _gradient_halves(schedule: Schedule) -> _Halves:
    table = schedule.table
    makes_gradient = np.isin(table.kind, (BACKWARD, DGRAD, PAIR))
    row = np.flatnonzero(makes_gradient)
    # A pair names its backward half in columns of its own.
    pair = table.kind[row] == PAIR  # [half]
    micro_batch = np.where(pair, table.micro_batch_b[row], table.micro_batch[row])
    stage = np.where(pair, table.stage_b[row], table.stage[row])
    return _Halves(row, micro_batch, stage)


@lru_cache(maxsize=2 * MOST_SCHEDULES)
def _neighbours(schedule: Schedule, *, takers: bool) -> Ints:
    """Return the rows of the neighbouring stages that a row's two halves depend on [row, 2].

    takers: the rows that take a half's output; else those that make its input. -1 where none.
    """
    forward_row, gradient_row = rows_of(schedule)
    # A forward pass hands on to the next stage, a gradient to the one before.
    ahead = 1 if takers else -1
    rows = len(schedule.table.kind)
    neighbours = np.full((rows, 2), -1, dtype=np.int64)
    forward = _forward_halves(schedule)
    neighbours[forward.row, 0] = _at_stage(forward_row, forward, ahead)
    gradient = _gradient_halves(schedule)
    neighbours[gradient.row, 1] = _at_stage(gradient_row, gradient, -ahead)
    neighbours.flags.writeable = False  # kept
    return neighbours


def _at_stage(rows: Ints, halves: _Halves, step: int) -> Ints:
    """Return the rows that run the halves' micro-batches `step` stages on [half].

    rows: [micro-batch, stage]. -1 beyond the first and the last stage.
    """
    # A column of -1 at either end stands for the stages that do not exist.
    ends = ((0, 0), (1, 1))
    padded = np.pad(rows, ends, constant_values=-1)
    column = halves.stage + 1 + step
    neighbours: Ints = padded[halves.micro_batch, column]
    return neighbours


def handed_from(schedule: Schedule) -> Ints:
    """Return the rows of the table that make each row's forward input and its gradient [row, 2].

    -1 where none.
    """
    return _neighbours(schedule, takers=False)


def handed_to(schedule: Schedule) -> Ints:
    """Return the pipeline ranks that take each row's forward output and its gradient [row, 2].

    -1 where none.
    """
    taken = _neighbours(schedule, takers=True)
    return np.where(taken < 0, -1, schedule.table.rank[taken])


@lru_cache(maxsize=MOST_SCHEDULES)
def orders(schedule: Schedule, sends: PipelineOverlap, *, every_pass: bool) -> tuple[Order, ...]:
    """Return what each pipeline rank runs.

    sends: which of them overlap. every_pass: gradients are reduced after every pass, so that no
    pass is told apart as final.
    """
    table = schedule.table
    posted = posts(schedule, sends)
    taken = handed_to(schedule)
    # What tells actions apart [row, column], except whether they are final.
    columns = np.column_stack([table.kind, table.stage, table.stage_b, taken])
    starts = table.start.tolist()
    bounds = itertools.pairwise(starts)
    return tuple(
        _order(columns[begin:end], own, every_pass=every_pass)
        for (begin, end), own in zip(bounds, posted, strict=True)
    )


def _order(columns: Ints, posted: Posts, *, every_pass: bool) -> Order:
    """Return one pipeline rank's order.

    columns: the fields of `Key` up to `to_b` [position, field].
    """
    kind, stage, stage_b = columns.T[:3]
    runs_forward = np.isin(kind, (FORWARD, PAIR))
    makes_gradients = np.isin(kind, (BACKWARD, WGRAD, PAIR))
    # [position] stage whose gradients an action makes: of a pair, that of its backward half.
    trained = np.where(kind == PAIR, stage_b, stage)
    final = _last_positions(trained, makes_gradients)
    is_final = np.zeros(len(columns), dtype=np.int64)
    if not every_pass:
        is_final[list(final.values())] = 1
    # A rank runs each micro-batch in the same few ways: rows that are equal are one action.
    slots = _post_columns(posted)
    actions = np.column_stack([columns, is_final, slots.columns])  # [position, field of Key]
    _, row, code = np.unique(_numbers(actions), return_index=True, return_inverse=True)
    keys = tuple(_key(fields) for fields in actions[row].tolist())
    first = _first_positions(stage, runs_forward)
    awaited = np.array(posted.awaited, dtype=np.int64)
    return Order(keys, code.reshape(-1).astype(np.int64), first, final, awaited, slots.posts)


def _numbers(rows: Ints) -> Ints:
    """Return one number for each row, equal for equal rows and in their order; no value is below -1.

    np.unique sorts these many times faster than rows. rows: [row, column].
    """
    most = rows.max(axis=0, initial=-1).tolist()  # [column]
    numbers = np.zeros(len(rows), dtype=np.int64)
    for column, largest in zip(rows.T, most, strict=True):
        numbers = numbers * (largest + 2) + column + 1
    return numbers


class _PostColumns(NamedTuple):
    """What a rank posts behind its actions."""

    posts: tuple[Operations, ...]
    """As in `Order`."""
    columns: Ints
    """Fields `posts`, `receives` and `awaits` of `Key` [position, field]."""


def _post_columns(posted: Posts) -> _PostColumns:
    number: dict[Operations, int] = {}
    slots = [_operations(operations) if operations else () for operations in posted.posted]
    codes = [number.setdefault(operations, len(number)) for operations in slots]
    behind = [code if slots[slot] else -1 for slot, code in enumerate(codes)][1:]
    awaits = [slot >= 0 for slot in posted.awaited]
    columns = np.array([behind, posted.receives, awaits], dtype=np.int64).T
    return _PostColumns(tuple(number), columns.reshape(len(behind), 3))


def _operations(operations: Sequence[Operation]) -> Operations:
    """Return operations without the micro-batches of their messages, which all cost the same."""
    return tuple(
        tuple(Post(one.kind[1], one.kind[0] == "S", one.peer) for one in operation)
        for operation in operations
    )


def _key(row: list[int]) -> Key:
    kind, stage, stage_b, to, to_b, final, posts, receives, awaits = row
    return Key(
        kind=KINDS[kind],
        stage=stage,
        stage_b=stage_b,
        to=to,
        to_b=to_b,
        final=bool(final),
        posts=posts,
        receives=bool(receives),
        awaits=bool(awaits),
    )


def _first_positions(stage: Ints, counts: NDArray[np.bool_]) -> dict[int, int]:
    """Return stage -> first position that counts, in the order of these positions.

    stage, counts: [position].
    """
    position = np.flatnonzero(counts)
    stages, first = np.unique(stage[position], return_index=True)
    order = np.argsort(first, kind="stable")  # np.unique has sorted by stage
    in_order = stages[order].tolist()
    firsts = position[first[order]].tolist()
    return dict(zip(in_order, firsts, strict=True))


def _last_positions(stage: Ints, counts: NDArray[np.bool_]) -> dict[int, int]:
    """Return stage -> last position that counts, in the order of the first ones."""
    from_the_end = _first_positions(stage[::-1], counts[::-1])
    last = len(stage) - 1
    # In the order of the first passes: what is summed over stages is added up in it.
    in_order = _first_positions(stage, counts)
    return {held: last - from_the_end[held] for held in in_order}
