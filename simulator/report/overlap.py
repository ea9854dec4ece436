"""How much of a rank's communication is overlapped with its own compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.report.rows import Ints
from simulator.timeline import Timeline, covered, measure, union


@dataclass(frozen=True, slots=True)
class Overlap:
    """Communication of one class of ranks."""

    rank: int
    """First rank of the class."""
    pipeline_index: int
    """Where its ranks are in the pipeline."""
    ranks: int
    """How many ranks it represents."""
    communication: float
    """Time with some transfer on its way [s]."""
    hidden: float
    """The part of that time in which the rank computes [s]."""

    @property
    def share(self) -> float | None:
        """Return the hidden share of communication; None where nothing communicates."""
        return self.hidden / self.communication if self.communication else None


def overlap(timeline: Timeline) -> tuple[Overlap, ...]:
    """Return the overlap of each class of ranks.

    As HolisticTraceAnalysis defines it (hta/analyzers/communication_analysis.py): both kinds of
    kernels merged into disjoint intervals, the length of their intersection over that of
    communication. A transfer runs from when its last member arrived; while the others wait, nothing
    communicates.
    """
    by_rank = timeline.program.rows_by_rank
    return tuple(_of_rank(timeline, rank, rows) for rank, rows in enumerate(by_rank))


def _of_rank(timeline: Timeline, rank: int, rows: Ints) -> Overlap:
    program = timeline.program
    is_transfer = program.coflow[rows] >= 0  # [row]; kernels have no coflow
    transfers = rows[is_transfer]
    moving = union(timeline.start[transfers], timeline.end[transfers])
    return Overlap(
        rank=int(program.first_rank[rank]),
        pipeline_index=program.pipeline_index(rank),
        ranks=int(program.multiplicity[rank]),
        communication=measure(moving),
        hidden=covered(moving, timeline.computing[rank]),
    )


def mean_share(overlaps: Sequence[Overlap]) -> float | None:
    """Return the hidden share of all ranks' communication; None where nothing communicates."""
    # Times are added up before they are divided: a rank that hardly communicates counts little.
    communication = [overlap.ranks * overlap.communication for overlap in overlaps]
    hidden = [overlap.ranks * overlap.hidden for overlap in overlaps]
    total = sum(communication)
    return sum(hidden) / total if total else None
