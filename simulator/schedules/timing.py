"""What a schedule takes by itself, in closed form: spans, idle time, chunks held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from simulator.schedules.schedule import Schedule
from simulator.schedules.times import Times

Duration = float | Sequence[float]
"""Of a kind: on every stage, or on each of them [stage]."""

Durations = Times | Mapping[str, Duration]
"""Times, or the table that `Times.of` makes them from."""

# What an action adds to the chunks that are held. An input gradient frees none: its weight gradient
# still reads the activations.
_HELD = {"F": 1, "B": -1, "I": 0, "W": -1}


Span = tuple[float, float]
"""Start and end of an action. Plain: schedules have hundreds of thousands of them."""


def spans(schedule: Schedule, times: Durations) -> list[list[Span]]:
    """Return (start, end) of each action [rank][position], each as early as its inputs and its rank allow.

    times: a table as `Times.of` takes it. Inputs from another rank travel for `comm`; a rank does
    not wait for what it sends. Errors: ScheduleError for a kind without a time, or a schedule that
    deadlocks.
    """
    if not isinstance(times, Times):
        times = Times.of(times)
    durations = _seconds(schedule, times)  # [row]
    comm = times.comm
    table = schedule.table
    # Columns as lists, which Python indexes faster than arrays. In the schedule's order, whatever
    # a row waits for already has its end.
    first, second, third = schedule.needs.T.tolist()
    rank = table.rank.tolist()
    ends = [0.0] * (len(durations) + 1)  # [row]; the last one, row -1, is of no action
    starts = [0.0] * len(durations)  # [row]
    free = [0.0] * len(schedule.ranks)  # [rank]
    for row in schedule.order:
        here = rank[row]
        start = free[here]
        for source in (first[row], second[row], third[row]):
            if source >= 0:
                arrival = ends[source]
                if rank[source] != here:
                    arrival += comm
                start = arrival if arrival > start else start  # max() takes three times as long
        end = start + durations[row]
        starts[row] = start
        ends[row] = end
        free[here] = end
    pairs = list(zip(starts, ends, strict=False))
    bounds = pairwise(table.start.tolist())  # rows of each rank
    return [pairs[begin:end] for begin, end in bounds]


def _seconds(schedule: Schedule, times: Times) -> list[float]:
    """Return how long each action takes, in the order of ranks and positions."""
    # Micro-batches are alike: looked up once for each kind and stage.
    known: dict[tuple[str, int, int], float] = {}
    result = []
    for order in schedule.ranks:
        for action in order:
            kind, _, stage, _, stage_b = action
            key = (kind, stage, stage_b)
            seconds = known.get(key)
            if seconds is None:
                seconds = known[key] = times.action(action)
            result.append(seconds)
    return result


def makespan(schedule: Schedule, times: Durations) -> tuple[float, list[float]]:
    """Return the end of the last action and the idle time of each rank until then, in the unit of `times`.

    times and errors: as in `spans`.
    """
    lines = spans(schedule, times)
    ends = [line[-1][1] for line in lines if line]
    end = max(ends, default=0.0)
    idle = []
    for line in lines:
        busy = sum(stop - start for start, stop in line)
        idle.append(end - busy)
    return end, idle


def peak_in_flight(schedule: Schedule) -> list[int]:
    """Return the most chunks that each rank holds activations of at once [rank].

    A chunk is held from its F to its B, or to its W where the backward is split; a pair counts as
    F, then B.
    """
    peaks = []
    for order in schedule.ranks:
        changes = []
        for action in order:
            for kind, _, _ in action.halves():
                changes.append(_HELD[kind])
        held = accumulate(changes)
        peaks.append(max(held, default=0))
    return peaks
