"""Colour refinement: things that are alike and meet others alike get one colour.

A bipartite graph of flows and what they meet, links or ranks, is refined until the number of
colours stands still: every colour is replaced by a hash of itself and of the multiset of its
neighbours' colours. The classes are then equitable: each member of a class meets every other class
in the same way. Hashes have 64 bits; among c classes two are confused with a probability of about
c^2 / 4e19.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Colours: TypeAlias = NDArray[np.uint64]
Ids: TypeAlias = NDArray[np.int64]


def mix(values: Colours) -> Colours:
    """Return well-scrambled 64-bit values: splitmix64's finaliser (Steele, Lea, Flood 2014)."""
    # Sums of colours only tell multisets apart if the colours look random; products wrap at 2^64.
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def sums(at: Ids, colours: Colours, count: int) -> Colours:
    """Return the sum of the colours at each index: a hash of their multiset [count]."""
    total = np.zeros(count, dtype=np.uint64)
    np.add.at(total, at, colours)
    return total


@dataclass(frozen=True, slots=True)
class Incidence:
    """Which flow meets which other thing, and how, as one entry for each meeting."""

    flow: Ids
    """Index of the flow [meeting]."""
    other: Ids
    """Index of what it meets [meeting]."""
    how: Colours
    """Scrambled colour of the meeting, a weight or the part that the other plays [meeting]."""

    @classmethod
    def of(cls, flow: Ids, other: Ids, how: Colours) -> Incidence:
        """Return the meetings of flows and others. how: their colours, not scrambled."""
        return cls(flow, other, mix(how))

    def gather(self, colours: Colours, count: int) -> Colours:
        """Return a hash of the multiset of (how, neighbour's colour) per flow [count]."""
        neighbours = colours[self.other]  # [meeting]
        return self._sum(self.flow, neighbours, count)

    def scatter(self, colours: Colours, count: int) -> Colours:
        """Return a hash of the multiset of (how, flow's colour) per neighbour [count]."""
        neighbours = colours[self.flow]  # [meeting]
        return self._sum(self.other, neighbours, count)

    def _sum(self, at: Ids, colours: Colours, count: int) -> Colours:
        # Scrambled together: the same neighbour met in another way counts as another colour.
        met = mix(colours ^ self.how)
        return sums(at, met, count)


def numbers(values: Sequence[Hashable]) -> list[int]:
    """Return small integers, equal where the values are equal, numbered by first appearance."""
    seen: dict[Hashable, int] = {}
    return [seen.setdefault(value, len(seen)) for value in values]


def codes(values: Sequence[Hashable]) -> Colours:
    """Return `numbers` as colours."""
    return np.array(numbers(values), dtype=np.uint64)


def ranked(values: NDArray[Any]) -> Colours:
    """Return small integers, equal where the values are equal, in their order."""
    # Most collectives send one size everywhere, and a sort of millions of entries takes seconds.
    if len(values) and (values == values[0]).all():
        return np.zeros(len(values), dtype=np.uint64)
    _, index = np.unique(values, return_inverse=True)
    return index.astype(np.uint64)


def distinct(colours: Colours) -> int:
    """Return how many different colours there are."""
    return len(np.unique(colours))


class Classes(NamedTuple):
    """Classes of things of equal colour, numbered by their first member, not by a hash."""

    of: Ids
    """Class of each thing [thing]."""
    first: Ids
    """First member of each class [class]."""


def classes(colours: Colours) -> Classes:
    """Return the classes of things of equal colour."""
    _, first, inverse = np.unique(colours, return_index=True, return_inverse=True)
    # `np.unique` numbers them by hash. By their first member they stand in the order in which the
    # caller made them, whatever the hash is.
    order = np.argsort(first, kind="stable")
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return Classes(number[inverse], first[order])
