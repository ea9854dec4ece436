"""What a schedule takes by itself, in closed form: spans, idle time, chunks held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from simulator.schedules.schedule import Schedule, dependencies, execution_order
from simulator.schedules.times import Times

Durations = Times | Mapping[str, float | Sequence[float]]
"""Times, or the table that `Times.of` makes them from."""

_HELD = {"F": 1, "B": -1, "I": 0, "W": -1}


def spans(schedule: Schedule, times: Durations) -> list[list[tuple[float, float]]]:
    """Return (start, end) of each action [rank][position], each as early as its inputs and its rank allow.

    times: a table as `Times.of` takes it. Inputs from another rank travel for `comm`; a rank does not wait for what it
    sends. Errors: ScheduleError for a kind without a time, or a schedule that deadlocks.
    """
    table, needs = times if isinstance(times, Times) else Times.of(times), dependencies(schedule)
    result: list[list[tuple[float, float]]] = [[] for _ in schedule.ranks]
    for rank, position in execution_order(schedule):
        action = schedule.ranks[rank][position]
        start = result[rank][-1][1] if position else 0.0
        for r, p in needs[rank][position]:
            start = max(start, result[r][p][1] + (table.comm if r != rank else 0.0))
        result[rank].append((start, start + table.action(action)))
    return result


def makespan(schedule: Schedule, times: Durations) -> tuple[float, list[float]]:
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
