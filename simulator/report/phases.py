"""Where the time of a step went, by kind of chunk on the compute side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.report.parts import CHUNK_KINDS
from simulator.report.rows import Ints, RankRows, carries
from simulator.timeline import Intervals, Timeline, measure, subtract, union

Floats = NDArray[np.float64]

PHASES = (
    *(kind.name for kind in CHUNK_KINDS if kind.name != "update"),
    "data_parallel",
    "optimizer",
    "bubble",
)
"""Keys of `phases_s`."""


def phases(timeline: Timeline, of_ranks: Sequence[RankRows]) -> dict[str, float]:
    """Return time on the compute side by kind of chunk, mean over ranks; the sum is the step [s].

    of_ranks: what the rows of each class of ranks do [rank class].

    A chunk lasts from the start of its first op to the end of its last one, sends apart; what two
    chunks share counts for the earlier one. data_parallel: gradients and parameters outside of
    chunks. bubble: what is left.
    """
    program = timeline.program
    chunks = _chunks(timeline)
    outside = [
        _outside(timeline, rows.data, since, computing)
        for rows, since, computing in zip(
            of_ranks, chunks.reached.tolist(), timeline.computing, strict=True
        )
    ]
    seconds = {
        **chunks.seconds,
        "optimizer": _optimizer(timeline),
        "data_parallel": np.array(outside),
    }
    # Last, so that it is what the others leave of the step.
    nothing = np.zeros(program.ranks)
    seconds["bubble"] = timeline.step_time - sum(seconds.values(), start=nothing)
    return {kind: program.mean(seconds.get(kind, nothing)) for kind in PHASES}


class _Chunks(NamedTuple):
    """When each class of ranks runs chunks."""

    seconds: dict[str, Floats]
    """Kind of chunk -> time, in the order in which they come [rank class] s."""
    reached: Floats
    """End of the last chunk, the update apart [rank class] s."""


def _chunks(timeline: Timeline) -> _Chunks:
    """Return the time of each rank's chunks."""
    program = timeline.program
    names = [action.kind for action in program.actions]
    kinds = {name: code for code, name in enumerate(dict.fromkeys(names)) if name != "update"}
    rank = np.array([action.rank for action in program.actions])  # [action]
    kind = np.array([kinds.get(name, -1) for name in names])  # [action]
    first, last = _chunk_spans(timeline)
    lasts = np.zeros(len(names))  # [action] s
    reached = np.zeros(program.ranks)  # [rank class] s
    for number in range(program.ranks):
        # Actions are in the order in which their ranks run them. Each begins where the longest
        # before it ends.
        own = np.flatnonzero((rank == number) & (kind >= 0))
        ends = np.maximum.accumulate(np.append(0.0, last[own]))  # before and after each
        begin = np.maximum(first[own], ends[:-1])
        lasts[own] = np.maximum(0.0, last[own] - begin)
        reached[number] = ends[-1]
    seconds: dict[str, Floats] = {}
    for name, code in kinds.items():
        of_kind = kind == code
        seconds[name] = np.bincount(rank[of_kind], lasts[of_kind], program.ranks).astype(float)
    return _Chunks(seconds, reached)


def _optimizer(timeline: Timeline) -> Floats:
    """Return the time of the optimizer's kernels [rank class] s."""
    program = timeline.program
    number = program.labels.index("optimizer") if "optimizer" in program.labels else -1
    updates = np.flatnonzero(program.label == number)
    seconds = []
    for rank, alone in enumerate(program.class_seconds):
        own = updates[program.rank[updates] == rank]
        seconds.append(alone.get("optimizer", 0.0) + float(timeline.slowed[own].sum()))
    return np.array(seconds)


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


def _outside(timeline: Timeline, data: Ints, since: float, computing: Intervals) -> float:
    """Return how long one rank moves gradients or parameters while nothing computes [s].

    data: rows that do. since: end of the rank's last chunk [s]. computing: when its kernels run.
    """
    # What moves before the last chunk ends is part of some chunk or bubble: cut off at `since`.
    start = np.maximum(timeline.arrive[data], since)
    end = np.maximum(timeline.end[data], since)
    return measure(subtract(union(start, end), computing))
