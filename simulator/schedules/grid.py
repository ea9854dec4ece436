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
    # All cells first: a column is as wide as the widest of any rank, so that slots line up.
    lines = []
    width = 1
    for rank, slots in enumerate(_slots(schedule)):
        cells: dict[int, str] = {}  # slot -> text
        order = schedule.ranks[rank]
        for position, action in enumerate(order):
            text = _cell(action, (rank, position) in marks)
            cells[slots[position]] = text
            width = max(width, len(text))
        lines.append(cells)
    return [_line(cells, width) for cells in lines]


def _slots(schedule: Schedule) -> list[list[int]]:
    """Return the slot of each action [rank][position], its position where the schedule cannot run."""
    try:
        lines = spans(schedule, _SLOTS)
    except ScheduleError:
        return [list(range(len(order))) for order in schedule.ranks]
    slots = []
    for line in lines:
        slots.append([int(start) for start, _ in line])
    return slots


def _line(cells: dict[int, str], width: int) -> str:
    """Return one rank's cells in columns of one width."""
    last = max(cells, default=-1)
    columns = []
    for slot in range(last + 1):
        text = cells.get(slot, IDLE)
        columns.append(text.ljust(width))
    return " ".join(columns).rstrip()


def excerpt(schedule: Schedule, places: Sequence[Place], around: int = 4) -> list[str]:
    """Return the part of the grid around some places, a line per rank, each place between `>` and `<`."""
    lines = []
    for rank in sorted({rank for rank, _ in places}):
        order = schedule.ranks[rank]
        marked = {position for marked_rank, position in places if marked_rank == rank}
        behind = max(marked) + around + 1
        first = max(min(marked) - around, 0)
        end = min(behind, len(order))
        # Dots where the line goes on, so that nobody takes a part for the whole.
        words = [f"rank {rank}:"]
        if first > 0:
            words.append("...")
        for position in range(first, end):
            cell = _cell(order[position], position in marked)
            words.append(cell)
        if end < len(order):
            words.append("...")
        lines.append(" ".join(words))
    return lines


def read(text: str, name: str = "custom") -> Schedule:
    """Return the schedule that a grid shows; stages and micro-batches are as many as it names.

    A line per rank, `rank 0:` or `0 |` before it if you like, on all of them or none: what is
    around lines that have it, as `simulate schedule` prints, is not part of the grid. Cells by
    blanks, `.` for an idle slot, `#` for a remark. Errors: ScheduleError for a cell that is not
    an action, or no line at all.
    """
    ranks = tuple(_order(line) for line in _cells(text) if line)
    # A grid does not say its sizes. Numbers count from 0, so the largest ones do.
    stages = micro_batches = 0
    for order in ranks:
        for action in order:
            for _, micro_batch, stage in action.halves():
                stages = max(stages, stage + 1)
                micro_batches = max(micro_batches, micro_batch + 1)
    if not stages:
        raise ScheduleError(
            "has no action",
            value=name,
            remedy="Write a line of actions, such as F0@0 B0@0, per rank.",
        )
    return Schedule(name, stages, micro_batches, ranks)


def _cells(text: str) -> list[list[str]]:
    """Return the cells of each line of a grid, without remarks and without what names its rank."""
    rows = []
    for line in text.splitlines():
        row, _, _ = line.partition("#")
        rows.append(row)
    # Where some lines name a rank, the others are not part of the grid.
    named = [row for row in rows if _PREFIX.match(row)]
    lines = []
    for row in named or rows:
        bare = _PREFIX.sub("", row, count=1)
        lines.append(bare.split())
    return lines


def _order(cells: Sequence[str]) -> tuple[Action, ...]:
    """Return the actions of one line. Errors: ScheduleError."""
    busy = [cell for cell in cells if cell != IDLE]
    return tuple(Action.parse(cell) for cell in busy)


def _cell(action: Action, marked: bool) -> str:
    text = str(action)
    return f">{text}<" if marked else text
