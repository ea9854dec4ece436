"""Rows that occur again and again, written down once: a program is a sequence of pieces.

What a rank does for one micro-batch it does for all, so that its actions are few different pieces.
Each is written row by row; `Places` lays them one after another, all columns of all rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from simulator.program.chunks import SEND, Mark
from simulator.program.program import Floats, Ints

FORWARD, GRADIENT = range(2)
"""what actions hand to each other"""
Far = tuple[int, int, int, int]
"""a row waits for one of another piece: (place, row in its piece, other place, row in its piece)"""


@dataclass(slots=True)
class Piece:
    """Rows as columns, numbered from 0.

    coflow: number in the whole cluster's table, or -1. action: which of the actions in `kinds`.
    waits: (row, row that it waits for). wanted: (row, FORWARD or GRADIENT). handed: rows that make
    these. reduced: rows that sum gradients. owed: gradients that are summed at the end of the step,
    with the rows that make them. base: first row of the chunk.
    """

    speed: float
    stream: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    coflow: list[int] = field(default_factory=list)
    action: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    waits: list[tuple[int, int]] = field(default_factory=list)
    wanted: list[tuple[int, int]] = field(default_factory=list)
    handed: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    reduced: list[int] = field(default_factory=list)
    owed: list[tuple[Mark, list[int]]] = field(default_factory=list)
    base: int = 0

    def row(self, stream: int, label: str, seconds: float, coflow: int = -1) -> int:
        """Add a row; return its number. seconds: on a healthy GPU [s]."""
        self.stream.append(stream)
        self.label.append(label)
        self.seconds.append(seconds / self.speed)
        self.coflow.append(coflow)
        self.action.append(len(self.kinds) - 1)
        return len(self.stream) - 1


@dataclass(frozen=True, slots=True)
class Places:
    """A sequence of pieces. which: piece at each place. base: first row of each place, and the number of all rows."""

    pieces: Sequence[Piece]
    which: Ints
    base: Ints

    @classmethod
    def of(cls, pieces: Sequence[Piece], which: Ints) -> Places:
        """Return the places of pieces in this order."""
        return cls(
            pieces,
            which,
            _ends(np.array([len(piece.stream) for piece in pieces], dtype=np.int64)[which]),
        )

    @property
    def rows(self) -> int:
        """Return the number of all rows."""
        return int(self.base[-1])

    def column(self, values: Sequence[Sequence[int]]) -> Ints:
        """Return a column of all rows. values: of each piece, one per row."""
        _, entry = self._spread(values)
        return _flat(values)[entry]

    def ints(self, name: str) -> Ints:
        """Return a column of all rows by its name."""
        return self.column([getattr(piece, name) for piece in self.pieces])

    def floats(self, name: str) -> Floats:
        """Return a column of all rows by its name."""
        columns = [getattr(piece, name) for piece in self.pieces]
        _, entry = self._spread(columns)
        return np.array([value for column in columns for value in column], dtype=np.float64)[entry]

    def action(self) -> tuple[Ints, Ints, list[str]]:
        """Return the action of each row, and of all actions the place and the kind."""
        kinds = [piece.kinds for piece in self.pieces]
        place, entry = self._spread(kinds)
        names = [kind for some in kinds for kind in some]
        counts = np.bincount(place, minlength=len(self.which))
        owner, _ = self._spread([piece.stream for piece in self.pieces])
        of_row = self.ints("action") + (np.cumsum(counts) - counts)[owner]
        return of_row, place, [names[number] for number in entry.tolist()]

    def waits(self) -> tuple[Ints, Ints]:
        """Return rows and what each waits for within its piece."""
        pairs = [piece.waits for piece in self.pieces]
        place, entry = self._spread(pairs)
        table = _pairs(pairs)[entry]
        return self.base[place] + table[:, 0], self.base[place] + table[:, 1]

    def inputs(self, sources: Ints) -> tuple[Ints, Ints]:
        """Return rows and what each waits for at other places. sources: places of what is handed over [place, 2]."""
        wanted = [piece.wanted for piece in self.pieces]
        place, entry = self._spread(wanted)
        table = _pairs(wanted)[entry]
        source = sources[place, table[:, 1]]
        handed = [rows for piece in self.pieces for rows in piece.handed]
        number, entry = spread(_lengths(handed), 2 * self.which[source] + table[:, 1])
        made = _flat(handed)[entry]
        return (self.base[place] + table[:, 0])[number], self.base[source][number] + made

    def reduced(self) -> tuple[Ints, Ints]:
        """Return the place and the number of every row that sums gradients."""
        columns = [piece.reduced for piece in self.pieces]
        place, entry = self._spread(columns)
        return place, self.base[place] + _flat(columns)[entry]

    def far(self, pairs: list[Far]) -> tuple[Ints, Ints]:
        """Return rows and what each waits for, given by place."""
        table = np.array(pairs, dtype=np.int64).reshape(-1, 4)
        return self.base[table[:, 0]] + table[:, 1], self.base[table[:, 2]] + table[:, 3]

    def _spread(self, columns: Sequence[Sequence[object]]) -> tuple[Ints, Ints]:
        return spread(_lengths(columns), self.which)


def spread(lengths: Ints, which: Ints) -> tuple[Ints, Ints]:
    """Return the entries of some of several lists that stand one behind another: whose they are, and their positions.

    lengths: of each list. which: lists, in the order wanted. Returns [entry] index into `which`,
    position.
    """
    counts = lengths[which]
    owner = np.repeat(np.arange(len(which)), counts)
    shift = (_ends(lengths)[:-1])[which] - (np.cumsum(counts) - counts)
    return owner, np.arange(len(owner)) + shift[owner]


def stream_order(rank: Ints, stream: Ints) -> tuple[Ints, Ints]:
    """Return rows and the row before each on its stream; sends are unordered, they only share links."""
    rows = np.flatnonzero(stream != SEND)
    line = rank[rows] * SEND * 2 + stream[rows]
    order = np.argsort(line, kind="stable")
    same = line[order][1:] == line[order][:-1]
    return rows[order[1:][same]], rows[order[:-1][same]]


def csr(rows: int, pairs: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Return (row, other) pairs as CSR by row, each pair once."""
    # As one number a pair is sorted and compared many times faster than as two; np.unique would
    # hash instead.
    both = np.sort(np.concatenate([row * rows + other for row, other in pairs]))
    row, other = np.divmod(both[np.diff(both, prepend=-1) > 0], max(rows, 1))
    return _ends(np.bincount(row, minlength=rows)), other


def _pairs(lists: Sequence[Sequence[tuple[int, int]]]) -> Ints:
    return np.array([pair for some in lists for pair in some], dtype=np.int64).reshape(-1, 2)


def _flat(lists: Sequence[Sequence[int]]) -> Ints:
    return np.array([value for one in lists for value in one], dtype=np.int64)


def _lengths(lists: Sequence[Sequence[object]]) -> Ints:
    return np.array([len(one) for one in lists], dtype=np.int64)


def _ends(lengths: Ints) -> Ints:
    """Return where each of some runs begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
