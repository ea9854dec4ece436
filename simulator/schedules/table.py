"""A schedule as columns, one row per action: what can be looked up and checked for all actions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.schedules.action import KINDS, Action

Ids = NDArray[np.int64]

FORWARD, BACKWARD, DGRAD, WGRAD, PAIR = range(len(KINDS))
_CODE = {kind: code for code, kind in enumerate(KINDS)}
NONE = -1


class Halves(NamedTuple):
    """Single actions, and both halves of pairs, in the order of `Table`; the forward half comes first."""

    row: Ids
    """Row of its action [half]."""
    kind: Ids
    """FORWARD to WGRAD [half]."""
    stage: Ids
    """[half]."""


@dataclass(frozen=True)
class Table:
    """Actions in the order of ranks, then of positions; one row each."""

    kind: Ids
    """Index in KINDS [row]."""
    micro_batch: Ids
    """Of the action, or of the forward half of a pair [row]."""
    stage: Ids
    """Likewise [row]."""
    micro_batch_b: Ids
    """Of the backward half of a pair, -1 for other actions [row]."""
    stage_b: Ids
    """Likewise [row]."""
    rank: Ids
    """Pipeline rank [row]."""
    start: Ids
    """Row of each rank's first action, and the number of rows [rank + 1]."""

    @classmethod
    def of(cls, ranks: Sequence[Sequence[Action]]) -> Table:
        """Return the table of these orders."""
        lengths = [len(order) for order in ranks]  # [rank]
        # Turned over by `zip`: a column for each field of an action, five empty ones for no action.
        actions = chain.from_iterable(ranks)
        columns = list(zip(*actions, strict=True))
        kinds, *numbers = columns or [()] * 5
        codes = map(_CODE.__getitem__, kinds)
        fields = np.array(numbers, dtype=np.int64)  # [field, row]
        micro_batch, stage, micro_batch_b, stage_b = fields
        ends = np.cumsum(lengths)  # [rank]
        rank = np.arange(len(ranks))
        return cls(
            kind=np.fromiter(codes, np.int64, len(kinds)),
            micro_batch=micro_batch,
            stage=stage,
            micro_batch_b=micro_batch_b,
            stage_b=stage_b,
            rank=np.repeat(rank, lengths),
            start=np.concatenate([[0], ends]).astype(np.int64),
        )

    @cached_property
    def halves(self) -> Halves:
        """Return what rows run, one half behind another."""
        is_pair = self.kind == PAIR
        row = np.repeat(np.arange(len(self.kind)), 1 + is_pair)  # [half]
        second = np.zeros(len(row), dtype=bool)  # [half]
        second[1:] = row[1:] == row[:-1]
        kind = np.where(is_pair, FORWARD, self.kind)[row]
        return Halves(
            row=row,
            kind=np.where(second, BACKWARD, kind),
            stage=np.where(second, self.stage_b[row], self.stage[row]),
        )

    def fits(self, stages: int, micro_batches: int) -> bool:
        """Tell whether all numbers are below these."""
        # -1, for no second half, is below all of them.
        last_stage = _most(self.stage, self.stage_b)
        last_number = _most(self.micro_batch, self.micro_batch_b)
        return last_stage < stages and last_number < micro_batches

    def rows(self, stages: int, micro_batches: int) -> tuple[Ids, bool]:
        """Return the row that runs each half [kind F to W, micro-batch, stage], NONE where none; and if one repeats.

        Halves that do not fit these numbers are left out.
        """
        # Every action as its halves: a pair is a forward here, and a backward behind all others.
        is_pair = self.kind == PAIR
        pair = np.flatnonzero(is_pair)  # [pair] row
        first = np.where(is_pair, FORWARD, self.kind)  # [row]
        second = np.full(len(pair), BACKWARD)  # [pair]
        kind = np.concatenate([first, second])  # [half]
        micro_batch = np.concatenate([self.micro_batch, self.micro_batch_b[pair]])
        stage = np.concatenate([self.stage, self.stage_b[pair]])
        own = np.arange(len(self.kind))
        row = np.concatenate([own, pair])
        fit = (micro_batch < micro_batches) & (stage < stages)  # [half]
        shape = (PAIR, micro_batches, stages)
        where = (kind[fit], micro_batch[fit], stage[fit])
        rows = np.full(shape, NONE, dtype=np.int64)
        rows[where] = row[fit]
        # Of halves that repeat, one has overwritten the other.
        filled = np.count_nonzero(rows != NONE)
        return rows, bool(filled != np.count_nonzero(fit))

    def needs(self, rows: Ids) -> tuple[Ids, bool]:
        """Return the rows that each action waits for [action, 3], NONE where fewer; and whether an input has no row.

        rows: as `rows` returns them. The first is what the forward waits for, or the forward that a
        backward continues, or a weight gradient's input gradient; the second the gradient from the
        next stage.
        """
        producer = _Producers.of(rows)
        pair = self.kind == PAIR  # [row]
        forward = (self.kind == FORWARD) | pair
        backward = (self.kind == BACKWARD) | (self.kind == DGRAD)
        weight = self.kind == WGRAD
        # One column of `needed` after the other, for all rows of a kind at once.
        shape = (len(self.kind), 3)  # [row, input]
        needed = np.full(shape, NONE, dtype=np.int64)
        chunks = self._chunks(forward)
        needed[forward, 0] = producer.activation(chunks)
        chunks = self._chunks(backward)
        needed[backward, 0] = producer.forward(chunks)
        needed[backward, 1] = producer.gradient(chunks)
        chunks = self._chunks(weight)
        needed[weight, 0] = producer.dgrad(chunks)
        chunks = _Chunks(self.micro_batch_b[pair], self.stage_b[pair])
        needed[pair, 1] = producer.forward(chunks)
        needed[pair, 2] = producer.gradient(chunks)
        # The first stage needs no activation, the last one no gradient.
        last = rows.shape[2] - 1
        wanted = np.zeros(shape, dtype=bool)
        behind_first = self.stage > 0  # [row]
        before_last = self.stage < last
        pair_before_last = self.stage_b < last
        wanted[:, 0] = ~forward | behind_first
        wanted[:, 1] = pair | (backward & before_last)
        wanted[:, 2] = pair & pair_before_last
        absent = needed == NONE
        missing = bool((wanted & absent).any())
        # A pair may be what another needs twice.
        first, second, third = needed.T
        needed[second == first, 1] = NONE
        repeated = (third == first) | (third == second)
        needed[repeated, 2] = NONE
        return needed, missing

    def _chunks(self, which: NDArray[np.bool_]) -> _Chunks:
        """Return the chunks of some rows, of pairs their forward halves. which: mask [row]."""
        return _Chunks(self.micro_batch[which], self.stage[which])

    def order(self, needs: Ids) -> list[int]:
        """Return rows such that each follows its inputs and its rank's order; not all of them where ranks deadlock."""
        # Ranks in turn, each as far as its inputs allow, until none moves: a run without times.
        # Lists and bytes, because Python indexes them faster than arrays.
        first, second, third = needs.T.tolist()
        done = bytearray(len(self.kind) + 1)
        done[NONE] = 1  # the last byte: an input that is not needed is always there
        *at, _ = self.start.tolist()  # row that each rank is at [rank]
        _, *ends = self.start.tolist()  # [rank]
        order: list[int] = []
        run = order.append
        left = [rank for rank, row in enumerate(at) if row < ends[rank]]
        moved = True
        while moved and left:
            moved = False
            for rank in left:
                row = at[rank]
                end = ends[rank]
                while row < end:
                    if not (done[first[row]] and done[second[row]] and done[third[row]]):
                        break
                    done[row] = 1
                    run(row)
                    row += 1
                moved = moved or row > at[rank]
                at[rank] = row
            left = [rank for rank in left if at[rank] < ends[rank]]
        return order


def _most(column: Ids, column_b: Ids) -> int:
    """Return the largest number of two columns, 0 for empty ones."""
    most = max(column.max(initial=0), column_b.max(initial=0))
    return int(most)


class _Chunks(NamedTuple):
    """The micro-batches and stages of some halves."""

    micro_batch: Ids
    """Whose they are [half]."""
    stage: Ids
    """Where they run [half]."""


@dataclass(frozen=True)
class _Producers:
    """Which row makes what a half takes in, NONE where no row does."""

    rows: Ids
    """The row that runs each half [kind F to W, micro-batch, stage + 1]."""

    @classmethod
    def of(cls, rows: Ids) -> _Producers:
        """Return the producers among the rows that run halves [kind F to W, micro-batch, stage]."""
        # A stage of none at both ends: what comes before the first or behind the last.
        none, ends = (0, 0), (1, 1)
        padded = np.pad(rows, (none, none, ends), constant_values=NONE)
        return cls(padded)

    def activation(self, chunks: _Chunks) -> Ids:
        """Return who makes the activations that forwards of these chunks take in."""
        return self._of(FORWARD, chunks, -1)

    def forward(self, chunks: _Chunks) -> Ids:
        """Return who keeps the activations that backwards of these chunks take in."""
        return self._of(FORWARD, chunks, 0)

    def gradient(self, chunks: _Chunks) -> Ids:
        """Return who makes the gradients that backwards of these chunks take in: a full backward or an I."""
        full = self._of(BACKWARD, chunks, 1)
        alone = self._of(DGRAD, chunks, 1)
        return np.where(full != NONE, full, alone)

    def dgrad(self, chunks: _Chunks) -> Ids:
        """Return who runs the input gradients before the weight gradients of these chunks."""
        return self._of(DGRAD, chunks, 0)

    def _of(self, kind: int, chunks: _Chunks, offset: int) -> Ids:
        """Return who runs a kind so many stages further."""
        padded = chunks.stage + offset + 1
        row = self.rows[kind, chunks.micro_batch, padded]
        return np.asarray(row)
