"""How much of a rank's communication runs beside its own compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.timeline import Intervals, Timeline, covered, measure, union


@dataclass(frozen=True, slots=True)
class Overlap:
    """Communication of one class of ranks.

    communication: time with some transfer on its way [s]. hidden: that part of it in which the rank
    computes [s]. rank: the first of the class. ranks: that it stands for.
    """

    rank: int
    pipeline_index: int
    ranks: int
    communication: float
    hidden: float

    @property
    def share(self) -> float | None:
        """Return the hidden share of communication; None where nothing communicates."""
        return self.hidden / self.communication if self.communication else None


def overlap(timeline: Timeline) -> tuple[Overlap, ...]:
    """Return the overlap of each class of ranks.

    As HolisticTraceAnalysis defines it (hta/analyzers/communication_analysis.py): both kinds of
    kernels merged into disjoint intervals, the length of their intersection over that of
    communication. A transfer runs from when its last member arrived; what the others wait is no
    communication.
    """
    program = timeline.program
    found = []
    for rank in range(program.ranks):
        moving, kernels = (
            _spans(timeline, rank, transfers=True),
            _spans(timeline, rank, transfers=False),
        )
        found.append(
            Overlap(
                int(program.first_rank[rank]),
                program.pipeline_index(rank),
                int(program.multiplicity[rank]),
                measure(*moving),
                covered(moving, kernels),
            )
        )
    return tuple(found)


def mean_share(overlaps: Sequence[Overlap]) -> float | None:
    """Return the hidden share of all ranks' communication; None where nothing communicates."""
    total = sum(one.ranks * one.communication for one in overlaps)
    return sum(one.ranks * one.hidden for one in overlaps) / total if total else None


def _spans(timeline: Timeline, rank: int, *, transfers: bool) -> Intervals:
    program = timeline.program
    rows = np.flatnonzero((program.rank == rank) & ((program.coflow >= 0) == transfers))
    return union(timeline.start[rows], timeline.end[rows])
