"""What waits for what: pairs of rows, and their compressed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simulator.ops.streams import Stream
from simulator.program.numbering import stable_order
from simulator.program.program import Ints
from simulator.program.ragged import starts

_HALF = 32
"""Bits of an int64 that the number of a row takes."""
_LOWER = (1 << _HALF) - 1
"""Those."""


class Waits(NamedTuple):
    """Pairs of rows of a program."""

    row: Ints
    """Row that waits [pair]."""
    on: Ints
    """Row that it waits for [pair]."""


class Csr(NamedTuple):
    """What each row waits for, as compressed sparse rows."""

    pointer: Ints
    """Where each row's waits begin, and their number [row + 1]."""
    on: Ints
    """Rows that are waited for, in rising order within a row [wait]."""


def stream_order(rank: Ints, stream: Ints) -> Waits:
    """Return rows and the row before each on its stream.

    rank, stream: of each row [row]. Sends are unordered, they only share links.
    """
    rows = np.flatnonzero(stream != Stream.SEND)
    queue = rank[rows] * len(Stream) + stream[rows]
    # A stable sort brings the rows of a queue together without changing their order.
    order = stable_order(queue)
    queue = queue[order]
    rows = rows[order]
    follows = queue[1:] == queue[:-1]
    later, earlier = rows[1:], rows[:-1]
    return Waits(later[follows], earlier[follows])


def csr(rows: int, waits: Sequence[Waits]) -> Csr:
    """Return pairs as compressed sparse rows, each pair once. rows: of the whole program."""
    # As one number a pair is sorted and compared many times faster than as two; np.unique would
    # hash instead.
    pairs = np.empty(sum(len(row) for row, _ in waits), dtype=np.int64)
    end = 0
    for (
        row,
        on,
    ) in waits:  # each into its place: fresh memory of millions of pairs takes as long as the sort
        begin, end = end, end + len(row)
        np.left_shift(row, _HALF, out=pairs[begin:end])
        pairs[begin:end] |= on
    pairs.sort()
    first = np.ones(len(pairs), dtype=bool)
    np.not_equal(pairs[1:], pairs[:-1], out=first[1:])
    distinct = pairs[first]
    pointer = starts(np.bincount(distinct >> _HALF, minlength=rows))
    distinct &= _LOWER
    return Csr(pointer, distinct)
