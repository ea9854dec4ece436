"""Where the time of a step went, by part: compute by class of op, and why SMs idle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.engine.instants import INSTANT
from simulator.report.parts import PARTS
from simulator.report.rows import Ints, RankRows
from simulator.timeline import Intervals, Timeline, measure, subtract, union

Floats = NDArray[np.float64]


def breakdown(timeline: Timeline, of_ranks: Sequence[RankRows]) -> dict[str, float]:
    """Return exposed time by part of the step, mean over ranks; the sum is the step [s].

    of_ranks: what the rows of each class of ranks do [rank class]. See `report.parts` for what each
    part means.
    """
    program = timeline.program
    ranks = program.ranks
    seconds: defaultdict[str, Floats]  # part -> [rank class] s
    seconds = defaultdict(lambda: np.zeros(ranks))
    for rank, rows in enumerate(of_ranks):
        for name, busy in program.class_seconds[rank].items():
            seconds[name][rank] = busy
        for name, idle in _idle(timeline, rows, timeline.computing[rank]).items():
            # Unequal experts made some of the waiting part of the kernels.
            seconds[name][rank] += idle
        seconds["host_exposed"][rank] += _between_kernels(timeline, rows)
        seconds["interference"][rank] = timeline.slowed[rows.kernels].sum()
    present = [part.name for part in PARTS if part.name in seconds]
    return {name: program.mean(seconds[name]) for name in present}


def _idle(timeline: Timeline, rows: RankRows, computing: Intervals) -> dict[str, float]:
    """Return why one rank's SMs idle [s]. computing: when they do not.

    Causes are asked in this order, and time that one explains is not there for the next: bytes
    that move come before waiting, what is inside layers before what is between stages.
    """
    arrive = timeline.arrive  # [op] s
    start = timeline.start  # [op] s
    end = timeline.end  # [op] s
    causes = {
        "host_exposed": _unlaunched(timeline, rows.kernels),
        "expert_exposed": (start[rows.exchanges], end[rows.exchanges]),
        "expert_waiting": (arrive[rows.exchanges], start[rows.exchanges]),
        "tensor_exposed": (arrive[rows.tensor], end[rows.tensor]),
        "context_exposed": (arrive[rows.context], end[rows.context]),
        "pipeline_exposed": (start[rows.inbound], end[rows.inbound]),
        "data_exposed": (arrive[rows.data], end[rows.data]),
        "transfers": _unlaunched(timeline, rows.inside),
    }
    step = Intervals(np.array([0.0]), np.array([timeline.step_time]))
    left = subtract(step, computing)
    idle = measure(left)
    seconds = dict.fromkeys(causes, 0.0)
    for name, cause in causes.items():
        if not len(cause[0]):
            continue
        left = subtract(left, union(*cause))
        rest = measure(left)
        seconds[name] = idle - rest
        idle = rest
    seconds["host_exposed"] += seconds.pop("transfers")
    return {**seconds, "bubble": idle}


def _unlaunched(timeline: Timeline, rows: Ints) -> tuple[Floats, Floats]:
    """Return from when to when some rows wait for nothing but their host."""
    due = timeline.due[rows]
    launched = timeline.arrive[rows]
    waits = launched > due
    return due[waits], launched[waits]


def _between_kernels(timeline: Timeline, rows: RankRows) -> float:
    """Return how much longer one rank's rows take than their kernels, which wait for the host [s]."""
    kernels = rows.kernels
    lasts = timeline.end[kernels] - timeline.start[kernels]
    late = lasts - timeline.program.seconds[kernels] - timeline.slowed[kernels]
    # Less is the rounding of an instant.
    return float(late[late > INSTANT].sum())
