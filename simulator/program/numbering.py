"""Numbers for what appears in a column, and from them the instances of coflows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.program.program import Ints
from simulator.program.ragged import starts


class Numbering(NamedTuple):
    """The different values of a column, numbered in the order in which they appear."""

    values: Ints
    """Each different value once [number]."""
    number: Ints
    """Number of each value of the column [row]."""


def by_appearance(column: Ints) -> Numbering:
    """Return numbers for a column's values, all 0 or more, in the order in which they appear."""
    rows = np.arange(len(column))
    # Where a value first appears [value], or len(column) if never. Written from the end, so that
    # of several rows with the same value the first one stays.
    size = column.max(initial=-1) + 1
    first = np.full(size, len(column), dtype=np.int64)
    first[column[::-1]] = rows[::-1]
    appear = np.count_nonzero(first < len(column))
    values = np.argsort(first, kind="stable")[:appear]
    number = np.empty(len(first), dtype=np.int64)
    number[values] = np.arange(appear)
    return Numbering(values, number[column])


def stable_order(keys: Ints) -> Ints:
    """Return the order that sorts keys, all 0 or more, and leaves equal ones as they stand [key]."""
    # Numbers of 16 bits numpy sorts by digits, several times faster than longer ones.
    short = keys.max(initial=0) <= np.iinfo(np.uint16).max
    return np.argsort(keys.astype(np.uint16) if short else keys, kind="stable")


def occurrence(column: Ints) -> Ints:
    """Return how many equal values stand above each value of a column [row]; all are 0 or more."""
    rows = np.arange(len(column))
    # A stable sort brings equal values together without changing their order: how far a value is
    # from the begin of its run is how many stood above it.
    order = stable_order(column)
    begins = np.diff(column[order], prepend=-1) != 0
    begin_of_run = np.maximum.accumulate(np.where(begins, rows, 0))
    above = np.empty(len(column), dtype=np.int64)
    above[order] = rows - begin_of_run
    return above


def instances(rank: Ints, coflow: Ints, is_send: NDArray[np.bool_]) -> Ints:
    """Return the instance of each row in the order in which they appear, -1 of kernels [row].

    rank: class of ranks [row]. coflow: class of coflows, -1 of kernels [row]. is_send: whether a
    class is one of pipeline sends [coflow]. The n-th calls of all members of a coflow are one
    instance; of a send, whose target makes no call, every call is one.
    """
    rows = np.flatnonzero(coflow >= 0)
    called = coflow[rows]  # [call]
    # How often the same rank called the same coflow before [call].
    nth = occurrence(rank[rows] * len(is_send) + called)
    # Each coflow gets a range of numbers, one for every call of the member that calls it most; the
    # sends come behind all of these, one number for each call.
    calls = np.zeros(len(is_send), dtype=np.int64)
    np.maximum.at(calls, called, nth + 1)
    first = starts(calls)
    as_send = first[-1] + np.arange(len(rows))
    as_collective = first[called] + nth
    number = np.where(is_send[called], as_send, as_collective)
    instance = np.full(len(rank), -1, dtype=np.int64)
    instance[rows] = by_appearance(number).number
    return instance
