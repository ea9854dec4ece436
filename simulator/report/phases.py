"""Where the time of a step went, by kind of chunk on the compute side."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from simulator.ops.streams import Stream
from simulator.report.parts import CHUNK_KINDS
from simulator.report.rows import Ints, carries
from simulator.timeline import Timeline, measure, subtract, union

Floats = NDArray[np.float64]

PHASES = (
    *(kind.name for kind in CHUNK_KINDS if kind.name != "update"),
    "data_parallel",
    "optimizer",
    "bubble",
)
"""Keys of `phases_s`."""


def phases(timeline: Timeline) -> dict[str, float]:
    """Return time on the compute side by kind of chunk, mean over ranks; the sum is the step [s].

    A chunk lasts from the start of its first op to the end of its last one, sends apart; what two
    chunks share counts for the earlier one. data_parallel: gradients and parameters outside of
    chunks. bubble: what is left.
    """
    program = timeline.program
    ranks = program.ranks
    seconds: defaultdict[str, Floats]  # kind -> [rank class] s
    seconds = defaultdict(lambda: np.zeros(ranks))
    reached = _chunks(timeline, seconds)
    optimizer = program.labels.index("optimizer") if "optimizer" in program.labels else -1
    for rank, rows in enumerate(program.rows_by_rank):
        classes = program.class_seconds[rank]
        updates = rows[program.label[rows] == optimizer]
        slowed = float(timeline.slowed[updates].sum())
        seconds["optimizer"][rank] = classes.get("optimizer", 0.0) + slowed
        seconds["data_parallel"][rank] = _outside(timeline, rows, reached[rank])
        # Last, so that it is what the others leave of the step.
        counted = sum(values[rank] for values in seconds.values())
        seconds["bubble"][rank] += timeline.step_time - counted
    return {kind: program.mean(seconds[kind]) for kind in PHASES}


def _chunks(timeline: Timeline, seconds: defaultdict[str, Floats]) -> Floats:
    """Add the time of each rank's chunks; return the end of its last one [rank class] s."""
    program = timeline.program
    first, last = _chunk_spans(timeline)
    reached = np.zeros(program.ranks)
    # Actions are in the order in which their ranks run them, so that `reached` never goes back.
    spans = zip(program.actions, first.tolist(), last.tolist(), strict=True)
    for action, start, end in spans:
        rank, _, kind = action
        if kind == "update":
            continue
        begin = max(start, reached[rank])
        seconds[kind][rank] += max(0.0, end - begin)
        reached[rank] = max(reached[rank], end)
    return reached


def _chunk_spans(timeline: Timeline) -> tuple[Floats, Floats]:
    """Return the start of the first and the end of the last op of each action [action] s."""
    program = timeline.program
    counted = ~carries(program, "pipeline")  # [op]
    count = len(program.actions)
    first = np.full(count, np.inf)
    last = np.zeros(count)
    # `.at` takes every row of an action into account; plain indexing would keep the last one.
    action = program.action[counted]  # [counted op]
    np.minimum.at(first, action, timeline.start[counted])
    np.maximum.at(last, action, timeline.end[counted])
    return first, last


def _outside(timeline: Timeline, rows: Ints, since: float) -> float:
    """Return how long one rank moves gradients or parameters while nothing computes [s].

    rows: of that rank. since: end of its last chunk [s].
    """
    program = timeline.program
    of_data = np.isin(program.stream[rows], (Stream.DATA, Stream.GRADIENT))
    data = rows[of_data]
    kernels = rows[program.coflow[rows] < 0]
    # What moves before the last chunk ends is part of some chunk or bubble: cut off at `since`.
    start = np.maximum(timeline.arrive[data], since)
    end = np.maximum(timeline.end[data], since)
    moving = union(start, end)
    computing = union(timeline.start[kernels], timeline.end[kernels])
    exposed = subtract(moving, computing)
    return measure(exposed)
