"""A schedule that somebody wrote: the text of its grid."""

from __future__ import annotations

from simulator.errors import ScheduleError
from simulator.schedules.grid import excerpt, read
from simulator.schedules.schedule import Schedule, check
from simulator.schedules.shape import Shape, check_size


def build(shape: Shape) -> Schedule:
    """Return the schedule of `shape.text`, checked.

    Errors: ScheduleError for a text that is not a schedule, with the fault marked, or one of other
    sizes than the shape's.
    """
    if not shape.text:
        remedy = "Give the file of a grid, as `simulate schedule` prints it."
        raise ScheduleError("has no text", value="custom", remedy=remedy)
    schedule = read(shape.text)
    check_size(schedule.stages, schedule.micro_batches)
    _check_fits("ranks", wanted=shape.ranks, written=len(schedule.ranks))
    _check_fits("micro-batches", wanted=shape.micro_batches, written=schedule.micro_batches)
    checked(schedule)
    return schedule


def _check_fits(what: str, *, wanted: int, written: int) -> None:
    """Refuse another number than the text has; 0 leaves it to the text. Errors: ScheduleError."""
    if wanted not in (0, written):
        raise ScheduleError(
            f"{what} do not fit the text, which has {written}",
            value=wanted,
            remedy=f"Use {written}.",
        )


def checked(schedule: Schedule) -> None:
    """Run `check`; add the part of the grid around a fault to its message. Errors: ScheduleError."""
    try:
        check(schedule)
    except ScheduleError as error:
        # A chunk that no rank runs has no place to mark.
        if error.places:
            lines = " | ".join(excerpt(schedule, error.places))
            error.remedy = f"{error.remedy} Marked here: {lines}"
        raise
