"""Where rows lie in memory while they run: of many ranks, those at the same place of each side by side.

A program lists rank after rank. Thousands of ranks, each at some place of its own list, are thousands
of places in each of two dozen columns, more than a processor keeps at hand. Ranks of a stage run the
same at about the same time: side by side, what one of them fetches the next ones find.

No result depends on it. Numbers of rows are compared within a rank alone, whose rows keep their order;
what is done in an order, followers and rows that wait for nothing, is listed in that of the program.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.engine.hosts import NO_GATE
from simulator.engine.records import Floats, Ids, State
from simulator.program import Program
from simulator.program.program import Ints

MANY = 1_000_000
"""Rows from which it pays: 3 million of 2,048 ranks run in half of the time, putting them there included."""


class Places(NamedTuple):
    """Where each row of a program lies; empty where they lie in its order."""

    row: Ints
    """Row of the program at a place [place]."""
    place: Ints
    """Where it lies [row]."""

    def listed(self, column: Floats) -> Floats:
        """Return a column in the order of the program. column: [place]."""
        return column[self.place] if len(self.place) else column


def places_of(program: Program, many: int) -> Places:
    """Return the places of a program's rows. many: rows from which they leave their order."""
    none = np.zeros(0, dtype=np.int64)
    if len(program.rank) < many:
        return Places(none, none)
    by_rank = np.concatenate(program.rows_by_rank)
    counts = np.bincount(program.rank, minlength=program.ranks)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    position = np.empty(len(by_rank), dtype=np.uint16 if counts.max() < 1 << 16 else np.int32)
    position[by_rank] = np.arange(len(by_rank)) - first  # in its rank's order [row]
    row = np.argsort(position, kind="stable")  # short numbers are sorted by digits
    place = np.empty_like(row)
    place[row] = np.arange(len(row))
    return Places(row, place)


def placed(s: State, places: Places) -> State:
    """Return a state before anything has begun with its rows at their places."""
    row, place = places
    if not len(row):
        return s
    begin, follower = _followers(s, places)
    rank = s.rank.copy()
    rank["gate"] = _moved(s.rank["gate"], place)
    given = ("seconds", "lead", "lag", "sms", "hbm", "both", "before", "owner", "member", "waiting")
    return s._replace(
        **{name: getattr(s, name)[row] for name in given},
        since=_moved(s.since[row], place),
        gate=_moved(s.gate[row], place),
        begin=begin,
        follower=follower,
        initial=place[s.initial].astype(np.int32),
        rank=rank,
    )


def _followers(s: State, places: Places) -> tuple[Ids, Ids]:
    """Return the followers of each place, every list in the order of the program."""
    counts = np.diff(s.begin)[places.row]  # [place]
    begin = np.zeros(len(s.begin), dtype=np.int32)
    np.cumsum(counts, out=begin[1:])
    # A list moves as a whole: all its entries by as much.
    shift = s.begin[places.row] - begin[:-1]  # [place]
    entry = np.arange(len(s.follower), dtype=np.int32) + np.repeat(shift, counts)
    return begin, places.place[s.follower[entry]].astype(np.int32)


def _moved(rows: Ids, place: Ints) -> Ids:
    """Return where some rows lie, as they are where they stand for none."""
    some = (rows >= 0) & (rows < NO_GATE)
    moved = rows.copy()
    moved[some] = place[rows[some]]
    return moved
