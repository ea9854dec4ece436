"""A schedule as people draw it in text: a line per rank, a column per slot, `.` where a rank waits; and back."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from simulator.errors import ScheduleError
from simulator.schedules.action import KINDS, Action
from simulator.schedules.schedule import Place, Schedule
from simulator.schedules.times import Times
from simulator.schedules.timing import spans

IDLE = "."
_SLOTS = Times(dict.fromkeys(KINDS, 1.0))
_PREFIX = re.compile(r"\s*(?:rank\s*)?[0-9]+\s*[:|]")


def grid(schedule: Schedule, marks: Collection[Place] = ()) -> list[str]:
    """Return one line per rank; each action fills one slot, the earliest that its inputs leave it.

    marks: places that are put between `>` and `<`. A schedule that cannot run is drawn by position
    instead.
    """
    try:
        lines = [[int(start) for start, _ in line] for line in spans(schedule, _SLOTS)]
    except ScheduleError:
        lines = [list(range(len(order))) for order in schedule.ranks]
    rows = [
        {
            slot: _cell(action, (rank, position) in marks)
            for position, (slot, action) in enumerate(zip(slots, schedule.ranks[rank], strict=True))
        }
        for rank, slots in enumerate(lines)
    ]
    width = max((len(cell) for row in rows for cell in row.values()), default=1)
    return [
        " ".join(
            row.get(slot, IDLE).ljust(width) for slot in range(max(row, default=-1) + 1)
        ).rstrip()
        for row in rows
    ]


def excerpt(schedule: Schedule, places: Sequence[Place], around: int = 4) -> list[str]:
    """Return the part of the grid around some places, a line per rank, each place between `>` and `<`."""
    lines = []
    for rank in sorted({rank for rank, _ in places}):
        order, marked = schedule.ranks[rank], {position for r, position in places if r == rank}
        first, last = max(min(marked) - around, 0), min(max(marked) + around + 1, len(order))
        cells = [_cell(order[position], position in marked) for position in range(first, last)]
        lines.append(
            " ".join(
                [f"rank {rank}:", *["..."] * (first > 0), *cells, *["..."] * (last < len(order))]
            )
        )
    return lines


def read(text: str, name: str = "custom") -> Schedule:
    """Return the schedule that a grid shows; stages and micro-batches are as many as it names.

    A line per rank, `rank 0:` or `0 |` before it if you like, on all of them or none: what stands
    around lines that have it, as `simulate schedule` prints, is no part of the grid. Cells by
    blanks, `.` for an idle slot, `#` for a remark. Errors: ScheduleError for a cell that is no
    action, or no line at all.
    """
    rows = [line.partition("#")[0] for line in text.splitlines()]
    marked = [row for row in rows if _PREFIX.match(row)]
    lines = [_PREFIX.sub("", row, count=1).split() for row in marked or rows]
    ranks = tuple(
        tuple(Action.parse(cell) for cell in line if cell != IDLE) for line in lines if line
    )
    halves = [half for order in ranks for action in order for half in action.halves()]
    if not halves:
        raise ScheduleError(
            "has no action",
            value=name,
            remedy="Write a line of actions, such as F0@0 B0@0, per rank.",
        )
    return Schedule(
        name, 1 + max(stage for _, _, stage in halves), 1 + max(m for _, m, _ in halves), ranks
    )


def _cell(action: Action, marked: bool) -> str:
    return f">{action}<" if marked else str(action)
