"""Where the time of a step went: by class of op and by kind of chunk, each summing to the step."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from simulator.program import STREAMS, Program
from simulator.report.parts import CHUNK_KINDS, PARTS
from simulator.timeline import Timeline, measure, subtract, union

COMPUTE, SIDE, COMMUNICATION, DATA, SEND, TENSOR, GRADIENT = range(len(STREAMS))
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Intervals = tuple[Floats, Floats]

PHASES = (
    *(kind.name for kind in CHUNK_KINDS if kind.name != "update"),
    "data_parallel",
    "optimizer",
    "bubble",
)
"""Keys of `phases_s`."""


def breakdown(timeline: Timeline) -> dict[str, float]:
    """Return exposed time by name, mean over ranks; the sum is the step [s].

    Compute by class of op: gemm, attention, memory_bound, kernel_gaps, optimizer. The rest is time
    in which a rank's SMs idle: expert_exposed moves tokens, expert_waiting waits for the slowest
    member of an exchange, pipeline_exposed waits for a stage's output on its way, tensor_exposed
    and context_exposed for the groups that share a layer or a sequence, data_exposed for gradients
    or parameters, bubble for anything else.
    """
    program = timeline.program
    rows: defaultdict[str, Floats] = defaultdict(lambda: np.zeros(program.ranks))
    sends, context = _carries(program, "pipeline"), _carries(program, "context")
    for rank, (own, inbound) in enumerate(
        zip(_rows(program), _inbound(program, sends), strict=True)
    ):
        for name, seconds in program.class_seconds[rank].items():
            rows[name][rank] = seconds
        stream = program.stream[own]
        parts = {
            "kernels": own[program.coflow[own] < 0],
            "inbound": inbound,
            "data": own[np.isin(stream, (DATA, GRADIENT))],
            "exchanges": own[(stream == COMMUNICATION) & ~sends[own]],
            "tensor": own[(stream == TENSOR) & ~context[own]],
            "context": own[(stream == TENSOR) & context[own]],
        }
        for name, seconds in _idle(timeline, parts).items():
            rows[name][rank] += seconds  # unequal experts made some of it part of the kernels
    return {part.name: program.mean(rows[part.name]) for part in PARTS if part.name in rows}


def _rows(program: Program) -> list[Ints]:
    """Return the rows of each class of ranks: sorted once, for a mask per class takes as long as all rows together."""
    order = np.argsort(program.rank, kind="stable")
    return np.split(order, np.cumsum(np.bincount(program.rank, minlength=program.ranks))[:-1])


def _inbound(program: Program, sends: NDArray[np.bool_]) -> list[Ints]:
    """Return the sends that rows of each class of ranks wait for, each once."""
    waiter = np.repeat(program.rank, np.diff(program.wait_ptr))
    some = sends[program.wait]
    rank, row = np.divmod(
        np.unique(waiter[some] * len(sends) + program.wait[some]), max(1, len(sends))
    )
    return np.split(row, np.cumsum(np.bincount(rank, minlength=program.ranks))[:-1])


def _idle(timeline: Timeline, parts: dict[str, Ints]) -> dict[str, float]:
    """Return why one rank's SMs idle. parts: its rows by kind, and the sends that it waits for."""
    kernels, exchanges, inbound = parts["kernels"], parts["exchanges"], parts["inbound"]
    tensor, context, data = parts["tensor"], parts["context"], parts["data"]
    left: Intervals = (np.array([0.0]), np.array([timeline.step_time]))
    left = subtract(*left, union(timeline.start[kernels], timeline.end[kernels]))
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

    A chunk lasts from the start of its first op to the end of its last one, sends apart; what two
    chunks share counts for the earlier one. data_parallel: gradients and parameters outside of
    chunks. bubble: what is left.
    """
    program = timeline.program
    first, last = _chunk_spans(timeline)
    rows: defaultdict[str, Floats] = defaultdict(lambda: np.zeros(program.ranks))
    reached = np.zeros(program.ranks)
    for (rank, _, kind), start, end in zip(
        program.actions, first.tolist(), last.tolist(), strict=True
    ):
        if kind == "update":
            continue
        rows[kind][rank] += max(0.0, end - max(start, reached[rank]))
        reached[rank] = max(reached[rank], end)
    for rank, own in enumerate(_rows(program)):
        rows["optimizer"][rank] = program.class_seconds[rank].get("optimizer", 0.0)
        rows["data_parallel"][rank] = _outside(timeline, own, reached[rank])
        counted = sum(values[rank] for values in rows.values())
        rows["bubble"][rank] += timeline.step_time - counted
    return {kind: program.mean(rows[kind]) for kind in PHASES}


def _chunk_spans(timeline: Timeline) -> Intervals:
    program = timeline.program
    counted = ~_carries(program, "pipeline")
    first = np.full(len(program.actions), np.inf)
    last = np.zeros(len(program.actions))
    np.minimum.at(first, program.action[counted], timeline.start[counted])
    np.maximum.at(last, program.action[counted], timeline.end[counted])
    return first, last


def _outside(timeline: Timeline, own: Ints, since: float) -> float:
    """Return the time after the last chunk in which gradients or parameters travel and nothing computes [s].

    own: rows of one rank.
    """
    program = timeline.program
    data = own[np.isin(program.stream[own], (DATA, GRADIENT))]
    kernels = own[program.coflow[own] < 0]
    spans = union(np.maximum(timeline.arrive[data], since), np.maximum(timeline.end[data], since))
    return measure(*subtract(*spans, union(timeline.start[kernels], timeline.end[kernels])))
