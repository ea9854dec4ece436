"""Closed-form lower bounds on the step: no simulated step may be faster than any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import with_callees
from simulator.precision import PEAK
from simulator.program import Program
from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound. seconds: no step is shorter [s]. formula: where it comes from."""

    name: str
    seconds: float
    formula: str


def bounds(program: Program) -> tuple[Bound, ...]:
    """Return the lower bounds of a step."""
    scenario = program.scenario
    executed = [
        sum(n / scenario.gpu.peak[_peak(dtype)] for dtype, n in flops.items())
        for flops in program.flops
    ]
    busiest = max(sum(seconds.values()) for seconds in program.class_seconds)
    sent = sum(nic for nic, _ in traffic(program).values())
    line = _nic_rate(scenario)
    name, occupied = busiest_link(program)
    return (
        Bound(
            "compute at peak",
            program.mean(np.array(executed)),
            "FLOPs that run / dense peak of their dtype, mean",
        ),
        Bound("compute as profiled", busiest, "sum of kernel times on the busiest rank"),
        Bound("NIC", sent / line, "bytes that a GPU sends over its NIC, mean / NIC bandwidth"),
        Bound(
            "busiest link", occupied, f"sum of bytes / (bandwidth x kernel efficiency) on {name}"
        ),
        Bound(
            "critical path",
            critical_path(program),
            "longest chain of ops, every transfer alone on its links",
        ),
    )


def _peak(dtype: str) -> str:
    """Return the datasheet's dtype that bounds a GEMM's."""
    return {str(name): peak for name, peak in PEAK.items()}[dtype]


def _nic_rate(scenario: Scenario) -> float:
    """Return what the NICs carry in one direction for each GPU, mean over GPUs, as the cluster graph has them [B/s]."""
    net = scenario.network
    nics = np.unique(net.nic_up[net.nic_up >= 0])
    return float(net.capacity[nics].sum()) / len(net.nic_up) if len(nics) else np.inf


def model_flops(program: Program) -> float:
    """Return the model's own FLOPs of a step: causal, output head included, no recompute."""
    scenario = program.scenario
    return (
        scenario.model.flops_per_token(scenario.workload.training.seq_length)
        * scenario.tokens_per_step
    )


def calls(program: Program) -> NDArray[np.int64]:
    """Return how often each class of coflows runs in a step. [coflow]."""
    used = program.coflow[program.coflow >= 0]
    rows = np.bincount(used, minlength=len(program.coflows))
    members = np.array([len(flow.members) for flow in program.coflows], dtype=np.int64)
    return rows // np.maximum(members, 1)


def traffic(program: Program) -> dict[str, tuple[float, float]]:
    """Return kind of traffic -> bytes that one GPU sends per step over its NIC and over NVLink, mean over GPUs."""
    total: dict[str, tuple[float, float]] = {}
    for flow, count in zip(program.coflows, calls(program).tolist(), strict=True):
        nic, nvlink = total.get(flow.traffic, (0.0, 0.0))
        total[flow.traffic] = (nic + count * flow.sent[0], nvlink + count * flow.sent[1])
    gpus = program.scenario.topology.gpus
    return {kind: (nic / gpus, nvlink / gpus) for kind, (nic, nvlink) in total.items()}


def link_seconds(program: Program) -> NDArray[np.float64]:
    """Return how long each link would be busy alone in a step, kernel efficiency included. [link class] s."""
    busy = np.zeros(len(program.capacity))
    for flow, count in zip(program.coflows, calls(program).tolist(), strict=True):
        for link, weight in flow.links:
            busy[link] += count * weight * flow.size
    return busy / program.capacity


def busiest_link(program: Program) -> tuple[str, float]:
    """Return the name of the busiest link and its busy time [s]."""
    busy = link_seconds(program)
    if not len(busy):
        return "no link", 0.0
    worst = int(np.argmax(busy))
    return program.link_names[worst], float(busy[worst])


def critical_path(program: Program) -> float:
    """Return the end of the last op if no two ops ever shared a link or an SM [s]."""
    waits = np.diff(program.wait_ptr)
    waiters = np.repeat(np.arange(len(waits)), waits)[np.argsort(program.wait, kind="stable")]
    first = np.concatenate([[0], np.cumsum(np.bincount(program.wait, minlength=len(waits)))])
    transfer = program.coflow >= 0
    call = np.full(len(waits), -1)
    _, one, call[transfer] = np.unique(
        program.instance[transfer], return_index=True, return_inverse=True
    )
    flows = program.coflows
    members = np.array([len(flow.members) for flow in flows], dtype=np.int64)[
        program.coflow[transfer][one]
    ]
    latency = np.array([flow.latency for flow in flows] + [0.0])[program.coflow]
    moving = np.array([flow.size / flow.rate for flow in flows] + [0.0])[program.coflow]
    times = np.stack([latency, np.where(transfer, moving, program.seconds)])
    columns = (waits, first, waiters, call, members, times)
    if len(waits) >= _MANY:
        return float(with_callees(_longest)(*columns))
    return _longest(*(column.tolist() for column in columns))


# Many rows: compiled it takes a hundredth of the time, and 3 s once to compile.
_MANY = 300_000


def _longest(waiting: Any, first: Any, follower: Any, call: Any, missing: Any, times: Any) -> float:
    """Return the end of the last row [s]; for lists, and compiled for arrays, of which `waiting` and `missing` change.

    waiting: rows that a row waits for. Its followers: follower[first[row]:first[row + 1]]. call: of
    a coflow, or -1. missing: members of each call that have not arrived. times: latency, and time
    after it [2, row] s.
    """
    ready = [0.0] * len(waiting)
    before = [-1] * len(waiting)  # the member of the same call that arrived before
    arrived, latest = [-1] * len(missing), [0.0] * len(missing)
    todo = [row for row in range(len(waiting)) if waiting[row] == 0]
    at, last = 0, 0.0
    while at < len(todo):
        member = row = todo[at]
        at += 1
        end = ready[row]
        if call[row] >= 0:
            number = call[row]
            latest[number] = end = max(latest[number], end)
            before[row], arrived[number] = arrived[number], row
            missing[number] -= 1
            if missing[number] > 0:
                continue
        end = end + times[0][row] + times[1][row]
        last = max(last, end)
        while member >= 0:
            for place in range(first[member], first[member + 1]):
                following = follower[place]
                ready[following] = max(ready[following], end)
                waiting[following] -= 1
                if waiting[following] == 0:
                    todo.append(following)
            member = before[member]
    return last
