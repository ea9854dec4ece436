"""What a schedule is built for, and what a family of schedules says of itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from simulator.errors import ScheduleError
from simulator.schedules.schedule import Schedule
from simulator.schedules.times import EQUAL, Times

Placement = Literal["loop", "v", "both", "own"]
"""Which rank holds which stage. loop: stage s on rank s % P. v: s and 2P-1-s on one rank. both: s and P-1-s on
one rank, for half of the micro-batches each. own: as the schedule's text says."""


MOST_CHUNKS = 10_000_000
"""Micro-batches times stages up to which a schedule is built: some 10 GB of actions."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a schedule is built for. Not checked: see `check_shape`."""

    ranks: int
    """Pipeline ranks, P."""
    micro_batches: int
    """Micro-batches per step, M."""
    virtual: int = 1
    """Stages per rank, V, of schedules that leave it open."""
    group: int = 0
    """Of interleaved ones: micro-batches that run through one stage before the next of the same rank; 0: P."""
    overlap_moe_expert_parallel_comm: bool = False
    """Of 1F1B and interleaved: whether a forward and the backward behind it run as a pair."""
    times: Times = EQUAL
    """Of chunks."""
    limit: float = 0
    """Of searched ones: chunks that a rank may hold activations of; 0: the family's own."""
    kept: float = 1.0
    """Share of a chunk's activations that its weight gradient still needs after its input gradient, 0 to 1."""
    text: str = ""
    """Of a custom one: its grid."""


def check_shape(shape: Shape) -> None:
    """Refuse sizes and limits that no schedule can be built for. Errors: ScheduleError, with the field as its key."""
    for field in ("ranks", "micro_batches", "virtual"):
        number = getattr(shape, field)
        if number < 1:
            raise ScheduleError("must be at least 1", value=number, key=field)
    # Sizes before anything is built from them: compiled searches and columns trust what they get.
    check_size(shape.ranks * shape.virtual, shape.micro_batches)
    if shape.group < 0:
        rule = "is not a number of micro-batches"
        remedy = "Use at least 1, or 0 for as many as there are ranks."
        raise ScheduleError(rule, value=shape.group, key="group", remedy=remedy)
    # Written so that nan is refused: it compares as false with everything.
    allowed = shape.limit == 0 or 1 <= shape.limit < math.inf
    if not allowed:
        rule = "is not a number of chunks that a rank could work with"
        remedy = "Allow at least 1; 0 means the schedule's own limit."
        raise ScheduleError(rule, value=shape.limit, key="limit", remedy=remedy)
    if not 0 <= shape.kept <= 1:
        rule = "is not a share of a chunk"
        remedy = "Use a number from 0 to 1."
        raise ScheduleError(rule, value=shape.kept, key="kept", remedy=remedy)


def check_size(stages: int, micro_batches: int) -> None:
    """Refuse schedules that would fill the memory. Errors: ScheduleError."""
    if stages * micro_batches > MOST_CHUNKS:
        raise ScheduleError(
            f"stages x micro-batches are more than {MOST_CHUNKS:,}",
            value=stages * micro_batches,
            remedy="Use fewer of either.",
        )


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the table of schedules."""

    build: Callable[[Shape], Schedule]
    """Makes the schedule. Errors: ScheduleError for sizes that it cannot be built for."""
    about: str
    """One clause for people."""
    virtual: int = 1
    """Stages per rank, 0 where `Shape.virtual` says it."""
    placement: Placement = "loop"
    """Which rank holds which stage."""
    split: bool = False
    """Whether I and W run separately."""
    timed: bool = False
    """Whether the order depends on the times."""
    ranks_per_stage: float = 1
    """Pipeline ranks for each stage that `--stages` counts: P stages of DualPipeV are on P/2 ranks."""

    def stages(self, ranks: int, virtual: int = 1) -> int:
        """Return the model stages on so many ranks."""
        return ranks * (self.virtual or virtual)

    def ranks_of(self, stage: int, ranks: int) -> tuple[int, ...]:
        """Return the ranks that hold a stage. Errors: ScheduleError for a custom schedule, which has no rule."""
        if self.placement == "own":
            raise ScheduleError(
                "has no rule for which rank holds a stage",
                value="custom",
                remedy="Ask the schedule itself.",
            )
        if self.placement == "both":
            # One rank for each direction; the middle stage of an odd number would be on one.
            holders = {stage, ranks - 1 - stage}
            return tuple(sorted(holders))
        if self.placement == "loop":
            return (stage % ranks,)
        # Down the ranks, and back up from the turn of the V.
        mirrored = 2 * ranks - 1 - stage
        return (min(stage, mirrored),)

    def stages_of(self, rank: int, ranks: int, virtual: int = 1) -> tuple[int, ...]:
        """Return the stages that a rank holds. Errors: as `ranks_of`."""
        held = []
        for stage in range(self.stages(ranks, virtual)):
            if rank in self.ranks_of(stage, ranks):
                held.append(stage)
        return tuple(held)


def even_stages(ranks: int, micro_batches: int, name: str) -> None:
    """Refuse sizes that a bidirectional pipeline has no schedule for. Errors: ScheduleError."""
    if ranks % 2 or ranks < 2:
        remedy = f"Use {max(2, ranks + 1)} stages or another even number."
        rule = f"stages: {name} pairs rank r with rank P-1-r"
        raise ScheduleError(rule, value=ranks, remedy=remedy)
    if micro_batches % 2 or micro_batches < 2 * ranks:
        rule = f"micro-batches: {name} sends half from each end and needs two per stage or more"
        remedy = f"Use an even number of at least {2 * ranks} for {ranks} stages."
        raise ScheduleError(rule, value=micro_batches, remedy=remedy)
