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
    """Actions in the order of ranks, then of positions.

    kind: index in KINDS; micro_batch, stage, micro_batch_b, stage_b: as in `Action`; rank: of each.
    start: row of each rank's first action [rank + 1].
    """

    kind: Ids
    micro_batch: Ids
    stage: Ids
    micro_batch_b: Ids
    stage_b: Ids
    rank: Ids
    start: Ids

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
        found = np.full((PAIR, micro_batches, stages), NONE, dtype=np.int64)
        pair = np.flatnonzero(self.kind == PAIR)
        kind = np.concatenate(
            [np.where(self.kind == PAIR, FORWARD, self.kind), np.full(len(pair), BACKWARD)]
        )
        micro_batch = np.concatenate([self.micro_batch, self.micro_batch_b[pair]])
        stage = np.concatenate([self.stage, self.stage_b[pair]])
        row = np.concatenate([np.arange(len(self.kind)), pair])
        fit = (micro_batch < micro_batches) & (stage < stages)
        found[kind[fit], micro_batch[fit], stage[fit]] = row[fit]
        return found, bool(np.count_nonzero(found != NONE) != np.count_nonzero(fit))

    def needs(self, rows: Ids) -> tuple[Ids, bool]:
        """Return the rows that each action waits for [action, 3], NONE where fewer; and whether an input has no row.

        rows: as `rows` returns them. The first is what the forward waits for, or the forward that a
        backward continues, or a weight gradient's input gradient; the second the gradient from the
        next stage.
        """
        _, micro_batches, stages = rows.shape
        padded = np.full(
            (PAIR, micro_batches, stages + 2), NONE, dtype=np.int64
        )  # stage s at s + 1
        padded[:, :, 1:-1] = rows
        gradient = np.where(padded[BACKWARD] != NONE, padded[BACKWARD], padded[DGRAD])
        found = np.full((len(self.kind), 3), NONE, dtype=np.int64)
        wanted = np.zeros((len(self.kind), 3), dtype=bool)
        forward = (self.kind == FORWARD) | (self.kind == PAIR)
        backward = (self.kind == BACKWARD) | (self.kind == DGRAD)
        weight, pair = self.kind == WGRAD, self.kind == PAIR
        m, s = self.micro_batch, self.stage
        found[forward, 0] = padded[FORWARD, m[forward], s[forward]]
        found[backward, 0] = padded[FORWARD, m[backward], s[backward] + 1]
        found[backward, 1] = gradient[m[backward], s[backward] + 2]
        found[weight, 0] = padded[DGRAD, m[weight], s[weight] + 1]
        found[pair, 1] = padded[FORWARD, self.micro_batch_b[pair], self.stage_b[pair] + 1]
        found[pair, 2] = gradient[self.micro_batch_b[pair], self.stage_b[pair] + 2]
        wanted[:, 0] = ~forward | (s > 0)
        wanted[:, 1] = pair | (backward & (s < stages - 1))
        wanted[:, 2] = pair & (self.stage_b < stages - 1)
        missing = bool((wanted & (found == NONE)).any())
        found[found[:, 1] == found[:, 0], 1] = NONE
        found[(found[:, 2] == found[:, 0]) | (found[:, 2] == found[:, 1]), 2] = NONE
        return found, missing

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
