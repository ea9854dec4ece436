"""Pipeline schedules as data: per rank, a list of actions. To add one, write its file and its row in `SCHEDULES`."""

from __future__ import annotations

from collections.abc import Callable

from simulator.errors import ScheduleError
from simulator.schedules import dualpipe, one_f_one_b
from simulator.schedules.action import Action, Half, Kind
from simulator.schedules.schedule import Dependencies, Place, Schedule, check, dependencies, execution_order
from simulator.schedules.timing import durations, makespan, peak_in_flight, spans

__all__ = [
    "SCHEDULES",
    "Action",
    "Dependencies",
    "Half",
    "Kind",
    "Place",
    "Schedule",
    "build",
    "check",
    "dependencies",
    "durations",
    "execution_order",
    "makespan",
    "peak_in_flight",
    "spans",
]

SCHEDULES: dict[str, Callable[[int, int], Schedule]] = {
    "1f1b": one_f_one_b.build,
    "dualpipe": dualpipe.build,
}
"""name -> builder from (stages, micro-batches)."""


def build(name: str, stages: int, micro_batches: int) -> Schedule:
    """Return the named schedule. Errors: ScheduleError for an unknown name, or sizes that it cannot be built for."""
    if name not in SCHEDULES:
        raise ScheduleError("is not a schedule", value=name, remedy=f"Use one of {', '.join(SCHEDULES)}.")
    for number, what in ((stages, "stages"), (micro_batches, "micro-batches")):
        if number < 1:
            raise ScheduleError(f"{what} are too few", value=number, remedy=f"Use at least 1 of the {what}.")
    return SCHEDULES[name](stages, micro_batches)
