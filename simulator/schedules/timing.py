"""What a schedule takes by itself, in closed form: spans without communication, idle time, chunks held."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from simulator.errors import ScheduleError
from simulator.schedules.action import KINDS
from simulator.schedules.schedule import Schedule, dependencies, execution_order

_HELD = {"F": 1, "B": -1, "I": 0, "W": -1}


def durations(times: Mapping[str, float]) -> dict[str, float]:
    """Return the time of each kind of action: B is I + W and FB is F + B where not given.

    times: F, I, W, B, FB -> duration, any unit. Errors: ScheduleError for an unknown kind or a negative time.
    """
    for kind, time in times.items():
        if kind not in KINDS:
            raise ScheduleError("is no kind of action", value=kind, remedy=f"Use one of {', '.join(KINDS)}.")
        if not time >= 0:
            raise ScheduleError(f"is no time for {kind}", value=time, remedy="Give a number that is not negative.")
    result = dict(times)
    for whole, parts in (("B", ("I", "W")), ("FB", ("F", "B"))):
        if whole not in result and all(part in result for part in parts):
            result[whole] = sum(result[part] for part in parts)
    return result


def spans(schedule: Schedule, times: Mapping[str, float]) -> list[list[tuple[float, float]]]:
    """Return (start, end) of each action [rank][position], each as early as its inputs and its rank allow.

    times: as in `durations`, the same for every stage and micro-batch. Inputs travel in no time.
    Errors: ScheduleError for a kind without a time, or a schedule that deadlocks.
    """
    table, needs = durations(times), dependencies(schedule)
    result: list[list[tuple[float, float]]] = [[] for _ in schedule.ranks]
    for rank, position in execution_order(schedule):
        action = schedule.ranks[rank][position]
        if action.kind not in table:
            raise ScheduleError(f"has no time for {action}", value=dict(times), remedy=f"Add {action.kind}.")
        before = result[rank][-1][1] if position else 0.0
        start = max((result[r][p][1] for r, p in needs[rank][position]), default=0.0)
        start = max(start, before)
        result[rank].append((start, start + table[action.kind]))
    return result


def makespan(schedule: Schedule, times: Mapping[str, float]) -> tuple[float, list[float]]:
    """Return the end of the last action and the idle time of each rank until then, in the unit of `times`.

    times and errors: as in `spans`.
    """
    lines = spans(schedule, times)
    end = max((line[-1][1] for line in lines if line), default=0.0)
    return end, [end - sum(stop - start for start, stop in line) for line in lines]


def peak_in_flight(schedule: Schedule) -> list[int]:
    """Return the most chunks that each rank holds activations of at once [rank].

    A chunk is held from its F to its B, or to its W where the backward is split; a pair counts as F, then B.
    """
    return [
        max(accumulate(_HELD[kind] for action in order for kind, _, _ in action.halves()), default=0)
        for order in schedule.ranks
    ]
