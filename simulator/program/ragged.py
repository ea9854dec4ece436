"""Lists of different lengths, one behind another, and some of them in another order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from itertools import chain
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from simulator.program.program import Ints


class Entries(NamedTuple):
    """The entries of a sequence of lists, where every list may occur any number of times."""

    owner: Ints
    """Position in the sequence of the list that an entry belongs to [entry]."""
    entry: Ints
    """Where it stands among the entries of all lists, one list behind another [entry]."""


def lengths(lists: Iterable[Sized]) -> Ints:
    """Return the length of each list."""
    return np.array([len(entries) for entries in lists], dtype=np.int64)


def starts(sizes: Ints) -> Ints:
    """Return where each of some runs begins, and where the last one ends [run + 1]."""
    begins = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=begins[1:])
    return begins


@overload
def flat(lists: Sequence[Sequence[float]], kind: type[np.float64]) -> NDArray[np.float64]: ...


@overload
def flat(lists: Sequence[Sequence[int]]) -> NDArray[np.int64]: ...


def flat(lists: Sequence[Sequence[float]], kind: type[np.generic] = np.int64) -> NDArray[Any]:
    """Return all entries, one list behind another."""
    total = sum(map(len, lists))
    return np.fromiter(chain.from_iterable(lists), dtype=kind, count=total)


@overload
def joined(
    arrays: Sequence[NDArray[np.float64]], kind: type[np.float64]
) -> NDArray[np.float64]: ...


@overload
def joined(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]: ...


def joined(arrays: Sequence[NDArray[Any]], kind: type[np.generic] = np.int64) -> NDArray[Any]:
    """Return arrays one behind another, of their type where there is none too."""
    return np.concatenate([np.zeros(0, dtype=kind), *arrays])


def spread(sizes: Ints, sequence: Ints) -> Entries:
    """Return the entries of a sequence of lists.

    sizes: length of each list [list]. sequence: lists, in the order wanted [position].
    """
    counts = sizes[sequence]  # [position]
    owner = np.repeat(np.arange(len(sequence)), counts)
    # An entry's number among the wanted ones, less where its list begins there, plus where the list
    # begins among all: the two last as one shift per position.
    begins = starts(sizes)[sequence]  # [position] among all entries
    shift = begins - starts(counts)[:-1]
    return Entries(owner, np.arange(len(owner)) + shift[owner])
