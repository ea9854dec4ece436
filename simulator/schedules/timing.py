"""What a schedule takes by itself, in closed form: spans, idle time, chunks held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from simulator.schedules.schedule import Schedule
from simulator.schedules.times import Times

Durations = Times | Mapping[str, float | Sequence[float]]
"""Times, or the table that `Times.of` makes them from."""

_HELD = {"F": 1, "B": -1, "I": 0, "W": -1}


def spans(schedule: Schedule, times: Durations) -> list[list[tuple[float, float]]]:
    """Return (start, end) of each action [rank][position], each as early as its inputs and its rank allow.

    times: a table as `Times.of` takes it. Inputs from another rank travel for `comm`; a rank does
    not wait for what it sends. Errors: ScheduleError for a kind without a time, or a schedule that
    deadlocks.
    """
    given = times if isinstance(times, Times) else Times.of(times)
    durations, comm = _seconds(schedule, given), given.comm
    table = schedule.table
    # Columns as lists, which Python indexes faster than arrays.
    first, second, third = (column.tolist() for column in schedule.needs.T)
    ends = [0.0] * (len(durations) + 1)  # the last one, row -1, is of no action
    starts = [0.0] * len(durations)
    free = [0.0] * len(schedule.ranks)
    rank = table.rank.tolist()
    for row in schedule.order:
        here = rank[row]
        start = free[here]
        for source in (first[row], second[row], third[row]):
            if source >= 0:
                arrival = ends[source] if rank[source] == here else ends[source] + comm
                start = arrival if arrival > start else start
        starts[row] = start
        free[here] = ends[row] = start + durations[row]
    pairs = list(zip(starts, ends, strict=False))
    return [pairs[begin:end] for begin, end in pairwise(table.start.tolist())]


def _seconds(schedule: Schedule, times: Times) -> list[float]:
    """Return how long each action takes, in the order of ranks and positions."""
    shapes: dict[tuple[str, int, int], float] = {}
    result = []
    for order in schedule.ranks:
        for action in order:
            shape = (action[0], action[2], action[4])
            if shape not in shapes:
                shapes[shape] = times.action(action)
            result.append(shapes[shape])
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

    A chunk is held from its F to its B, or to its W where the backward is split; a pair counts as
    F, then B.
    """
    peaks = []
    for order in schedule.ranks:
        changes = [_HELD[kind] for action in order for kind, _, _ in action.halves()]
        peaks.append(max(accumulate(changes), default=0))
    return peaks
