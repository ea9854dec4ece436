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
    for have, want, what in (
        (len(schedule.ranks), shape.ranks, "ranks"),
        (schedule.micro_batches, shape.micro_batches, "micro-batches"),
    ):
        if want not in (0, have):
            raise ScheduleError(
                f"{what} do not fit the text, which has {have}", value=want, remedy=f"Use {have}."
            )
    checked(schedule)
    return schedule


def checked(schedule: Schedule) -> None:
    """Run `check`; add the part of the grid around a fault to its message. Errors: ScheduleError."""
    try:
        check(schedule)
    except ScheduleError as error:
        if error.places:
            error.remedy = (
                f"{error.remedy} Marked here: {' | '.join(excerpt(schedule, error.places))}"
            )
        raise
