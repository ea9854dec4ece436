"""A schedule as columns, one row per action: what can be looked up and checked for all actions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from simulator.schedules.action import KINDS, Action

Ids = NDArray[np.int64]

FORWARD, BACKWARD, DGRAD, WGRAD, PAIR = range(len(KINDS))
_CODE = dict(zip(KINDS, range(len(KINDS)), strict=True))
NONE = -1


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
        lengths = [len(order) for order in ranks]
        columns = list(zip(*chain.from_iterable(ranks), strict=True)) or [()] * 5
        kind = np.fromiter(map(_CODE.__getitem__, columns[0]), np.int64, len(columns[0]))
        m, s, m_b, s_b = (np.array(column, dtype=np.int64) for column in columns[1:])
        start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(kind, m, s, m_b, s_b, np.repeat(np.arange(len(ranks)), lengths), start)

    def fits(self, stages: int, micro_batches: int) -> bool:
        """Tell whether all numbers are below these."""
        return bool(
            max(self.stage.max(initial=0), self.stage_b.max(initial=0)) < stages
            and max(self.micro_batch.max(initial=0), self.micro_batch_b.max(initial=0))
            < micro_batches
        )

    def rows(self, stages: int, micro_batches: int) -> tuple[Ids, bool]:
        """Return the row that runs each half [kind F to W, micro-batch, stage], NONE where none; and if one repeats.

        Halves that do not fit these numbers are left out.
        """
        # Every action as its halves: a pair is a forward here, and a backward behind all others.
        pair = np.flatnonzero(self.kind == PAIR)
        first = np.where(self.kind == PAIR, FORWARD, self.kind)
        kind = np.concatenate([first, np.full(len(pair), BACKWARD)])  # [half]
        micro_batch = np.concatenate([self.micro_batch, self.micro_batch_b[pair]])
        stage = np.concatenate([self.stage, self.stage_b[pair]])
        row = np.concatenate([np.arange(len(self.kind)), pair])
        fit = (micro_batch < micro_batches) & (stage < stages)
        rows = np.full((PAIR, micro_batches, stages), NONE, dtype=np.int64)
        rows[kind[fit], micro_batch[fit], stage[fit]] = row[fit]
        # Of halves that repeat, one has overwritten the other.
        repeated = np.count_nonzero(rows != NONE) != np.count_nonzero(fit)
        return rows, bool(repeated)

    def needs(self, rows: Ids) -> tuple[Ids, bool]:
        """Return the rows that each action waits for [action, 3], NONE where fewer; and whether an input has no row.

        rows: as `rows` returns them. The first is what the forward waits for, or the forward that a
        backward continues, or a weight gradient's input gradient; the second the gradient from the
        next stage.
        """
        producer = _Producers.of(rows)
        stages = rows.shape[2]
        forward = (self.kind == FORWARD) | (self.kind == PAIR)
        backward = (self.kind == BACKWARD) | (self.kind == DGRAD)
        weight, pair = self.kind == WGRAD, self.kind == PAIR
        m, s, m_b, s_b = self.micro_batch, self.stage, self.micro_batch_b, self.stage_b
        needed = np.full((len(self.kind), 3), NONE, dtype=np.int64)
        needed[forward, 0] = producer.forward(m[forward], s[forward] - 1)
        needed[backward, 0] = producer.forward(m[backward], s[backward])
        needed[backward, 1] = producer.gradient(m[backward], s[backward] + 1)
        needed[weight, 0] = producer.dgrad(m[weight], s[weight])
        needed[pair, 1] = producer.forward(m_b[pair], s_b[pair])
        needed[pair, 2] = producer.gradient(m_b[pair], s_b[pair] + 1)
        # The first stage needs no activation, the last one no gradient.
        wanted = np.zeros((len(self.kind), 3), dtype=bool)
        wanted[:, 0] = ~forward | (s > 0)
        wanted[:, 1] = pair | (backward & (s < stages - 1))
        wanted[:, 2] = pair & (s_b < stages - 1)
        missing = bool((wanted & (needed == NONE)).any())
        # A pair may be what another needs twice.
        first, second, third = needed.T
        needed[second == first, 1] = NONE
        needed[(third == first) | (third == second), 2] = NONE
        return needed, missing

    def order(self, needs: Ids) -> list[int]:
        """Return rows such that each follows its inputs and its rank's order; not all of them where ranks deadlock."""
        first, second, third = (column.tolist() for column in needs.T)
        done = bytearray(len(self.kind) + 1)
        done[NONE] = 1
        at, ends = self.start[:-1].tolist(), self.start[1:].tolist()
        order: list[int] = []
        run = order.append
        left = [rank for rank, row in enumerate(at) if row < ends[rank]]
        moved = True
        while moved and left:
            moved = False
            for rank in left:
                row, end = at[rank], ends[rank]
                while row < end and done[first[row]] and done[second[row]] and done[third[row]]:
                    done[row] = 1
                    run(row)
                    row += 1
                moved = moved or row > at[rank]
                at[rank] = row
            left = [rank for rank in left if at[rank] < ends[rank]]
        return order


@dataclass(frozen=True)
class _Producers:
    """Which row makes an output, for stages from -1 to one behind the last, which have none."""

    rows: Ids
    """The row that runs each half [kind F to W, micro-batch, stage + 1]."""

    @classmethod
    def of(cls, rows: Ids) -> _Producers:
        """Return the producers among the rows that run halves [kind F to W, micro-batch, stage]."""
        return cls(np.pad(rows, ((0, 0), (0, 0), (1, 1)), constant_values=NONE))

    def forward(self, micro_batch: Ids, stage: Ids) -> Ids:
        """Return who makes activations."""
        return np.asarray(self.rows[FORWARD, micro_batch, stage + 1])

    def dgrad(self, micro_batch: Ids, stage: Ids) -> Ids:
        """Return who makes input gradients before their weight gradients."""
        return np.asarray(self.rows[DGRAD, micro_batch, stage + 1])

    def gradient(self, micro_batch: Ids, stage: Ids) -> Ids:
        """Return who makes input gradients, by itself or with the weight gradients."""
        full = self.rows[BACKWARD, micro_batch, stage + 1]
        return np.where(full != NONE, full, self.dgrad(micro_batch, stage))
