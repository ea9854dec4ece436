"""Where the time of a step went: by class of op and by kind of chunk, each summing to the step."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from simulator.program import STREAMS, Program
from simulator.timeline import Timeline, measure, subtract, union

COMPUTE, SIDE, COMMUNICATION, DATA, SEND, TENSOR, GRADIENT = range(len(STREAMS))
Floats = NDArray[np.float64]
Intervals = tuple[Floats, Floats]

EXPOSED = ("expert_waiting", "expert_exposed", "tensor_exposed", "context_exposed", "pipeline_exposed", "data_exposed",
           "bubble")
CHUNKS = ("F", "B", "I", "W", "FB", "data_parallel", "optimizer", "bubble")


def breakdown(timeline: Timeline) -> dict[str, float]:
    """Return exposed time by name, mean over ranks; the sum is the step [s].

    Compute by class of op: gemm, attention, memory_bound, kernel_gaps, optimizer. The rest is time in which a rank's
    SMs idle: expert_exposed moves tokens, expert_waiting waits for the slowest member of an exchange, pipeline_exposed
    waits for a stage's output on its way, tensor_exposed and context_exposed for the groups that share a layer or a
    sequence, data_exposed for gradients or parameters, bubble for anything else.
    """
    program = timeline.program
    rows: defaultdict[str, Floats] = defaultdict(lambda: np.zeros(program.ranks))
    for rank in range(program.ranks):
        for name, seconds in program.class_seconds[rank].items():
            rows[name][rank] = seconds
        for name, seconds in _idle(timeline, rank).items():
            rows[name][rank] += seconds  # unequal experts made some of it part of the kernels
    names = ["gemm", "attention", "memory_bound", "kernel_gaps", "optimizer", *EXPOSED]
    return {name: program.mean(rows[name]) for name in names if name in rows}


def _idle(timeline: Timeline, rank: int) -> dict[str, float]:
    program = timeline.program
    own = program.rank == rank
    kernels = own & (program.coflow < 0)
    left: Intervals = (np.array([0.0]), np.array([timeline.step_time]))
    left = subtract(*left, union(timeline.start[kernels], timeline.end[kernels]))
    sends = _carries(program, "pipeline")
    exchanges = own & (program.stream == COMMUNICATION) & ~sends
    data = own & np.isin(program.stream, (DATA, GRADIENT))
    inside = own & (program.stream == TENSOR)
    context = inside & _carries(program, "context")
    tensor = inside & ~context
    inbound = np.zeros(len(program.rank), dtype=bool)
    inbound[program.wait[np.repeat(own, np.diff(program.wait_ptr))]] = True
    inbound &= sends
    causes = {
        "expert_exposed": (timeline.start[exchanges], timeline.end[exchanges]),
        "expert_waiting": (timeline.arrive[exchanges], timeline.start[exchanges]),
        "tensor_exposed": (timeline.arrive[tensor], timeline.end[tensor]),
        "context_exposed": (timeline.arrive[context], timeline.end[context]),
        "pipeline_exposed": (timeline.start[inbound], timeline.end[inbound]),
        "data_exposed": (timeline.arrive[data], timeline.end[data]),
    }
    result = {}
    for name, cause in causes.items():
        rest = subtract(*left, union(*cause))
        result[name] = measure(*left) - measure(*rest)
        left = rest
    return {**result, "bubble": measure(*left)}


def _carries(program: Program, traffic: str) -> NDArray[np.bool_]:
    """Tell which rows are transfers of a kind of traffic [op]."""
    kinds = np.array([flow.traffic == traffic for flow in program.coflows] + [False])
    found: NDArray[np.bool_] = kinds[program.coflow]
    return found


def phases(timeline: Timeline) -> dict[str, float]:
    """Return time on the compute side by kind of chunk, mean over ranks; the sum is the step [s].

    A chunk lasts from the start of its first op to the end of its last one, sends apart; what two chunks share counts
    for the earlier one. data_parallel: gradients and parameters outside of chunks. bubble: what is left.
    """
    program = timeline.program
    first, last = _chunk_spans(timeline)
    rows: defaultdict[str, Floats] = defaultdict(lambda: np.zeros(program.ranks))
    reached = np.zeros(program.ranks)
    for (rank, _, kind), start, end in zip(program.actions, first.tolist(), last.tolist(), strict=True):
        if kind == "update":
            continue
        rows[kind][rank] += max(0.0, end - max(start, reached[rank]))
        reached[rank] = max(reached[rank], end)
    for rank in range(program.ranks):
        rows["optimizer"][rank] = program.class_seconds[rank].get("optimizer", 0.0)
        rows["data_parallel"][rank] = _outside(timeline, rank, reached[rank])
        counted = sum(values[rank] for values in rows.values())
        rows["bubble"][rank] += timeline.step_time - counted
    return {kind: program.mean(rows[kind]) for kind in CHUNKS}


def _chunk_spans(timeline: Timeline) -> Intervals:
    program = timeline.program
    counted = ~_carries(program, "pipeline")
    first = np.full(len(program.actions), np.inf)
    last = np.zeros(len(program.actions))
    np.minimum.at(first, program.action[counted], timeline.start[counted])
    np.maximum.at(last, program.action[counted], timeline.end[counted])
    return first, last


def _outside(timeline: Timeline, rank: int, since: float) -> float:
    """Return the time after the last chunk in which gradients or parameters travel and nothing computes [s]."""
    program = timeline.program
    own = program.rank == rank
    data = own & np.isin(program.stream, (DATA, GRADIENT))
    kernels = own & (program.coflow < 0)
    spans = union(np.maximum(timeline.arrive[data], since), np.maximum(timeline.end[data], since))
    return measure(*subtract(*spans, union(timeline.start[kernels], timeline.end[kernels])))
