"""Kinds and names of links, by their numbers: made when asked for, since clusters have millions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from simulator.topology.link_kind import LinkKind

Label = TypeVar("Label", bound=str)
KINDS = tuple(LinkKind)
"""Kinds by their codes."""


@dataclass(frozen=True, slots=True)
class Run(Generic[Label]):
    """Links that are numbered one behind another."""

    count: int
    """How many."""
    of: Callable[[int], Label]
    """Position among them -> label."""


@dataclass(frozen=True, eq=False)
class Labels(Sequence[Label]):
    """A sequence of labels that are made one by one. It equals any other of the same labels."""

    runs: tuple[Run[Label], ...]
    """One behind another."""

    def __post_init__(self) -> None:
        ends = tuple(accumulate(run.count for run in self.runs))
        object.__setattr__(self, "_ends", ends)

    def __len__(self) -> int:
        return sum(run.count for run in self.runs)

    @overload
    def __getitem__(self, index: int) -> Label: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Label, ...]: ...

    def __getitem__(self, index: int | slice) -> Label | tuple[Label, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        number = int(index)
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(index)
        ends: tuple[int, ...] = self._ends  # type: ignore[attr-defined]  # set above
        which = bisect_right(ends, number)
        return self.runs[which].of(number - (ends[which - 1] if which else 0))

    def __iter__(self) -> Iterator[Label]:
        for run in self.runs:
            yield from map(run.of, range(run.count))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(len(self))

    def __reduce__(self) -> tuple[type[tuple[Label, ...]], tuple[tuple[Label, ...]]]:
        # Functions do not travel to other processes; what they make does.
        return tuple, (tuple(self),)


def kind_codes(counts: dict[LinkKind, int]) -> NDArray[np.int8]:
    """Return the place in KINDS of the kind of each link [link]. counts: kind -> links, in order."""
    codes = [KINDS.index(kind) for kind in counts]
    return np.repeat(np.array(codes, dtype=np.int8), list(counts.values()))
