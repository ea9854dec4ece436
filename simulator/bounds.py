"""Closed-form lower bounds on the step: no simulated step may be faster than any of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.precision import PEAK
from simulator.program import Program
from simulator.scenario import Scenario
from simulator.topology import network


@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound. seconds: no step is shorter [s]. formula: where it comes from."""

    name: str
    seconds: float
    formula: str


def bounds(program: Program) -> tuple[Bound, ...]:
    """Return the lower bounds of a step."""
    scenario = program.scenario
    executed = [sum(n / scenario.gpu.peak[_peak(dtype)] for dtype, n in flops.items()) for flops in program.flops]
    busiest = max(sum(seconds.values()) for seconds in program.class_seconds)
    sent = sum(nic for nic, _ in traffic(program).values())
    line = _nic_rate(scenario)
    name, occupied = busiest_link(program)
    return (
        Bound("compute at peak", program.mean(np.array(executed)), "FLOPs that run / dense peak of their dtype, mean"),
        Bound("compute as profiled", busiest, "sum of kernel times on the busiest rank"),
        Bound("NIC", sent / line, "bytes that a GPU sends over its NIC, mean / NIC bandwidth"),
        Bound("busiest link", occupied, f"sum of bytes / (bandwidth x kernel efficiency) on {name}"),
        Bound("critical path", critical_path(program), "longest chain of ops, every transfer alone on its links"),
    )


def _peak(dtype: str) -> str:
    """Return the datasheet's dtype that bounds a GEMM's."""
    return {str(name): peak for name, peak in PEAK.items()}[dtype]


def _nic_rate(scenario: Scenario) -> float:
    """Return what the NICs carry in one direction for each GPU, mean over GPUs, as the cluster graph has them [B/s]."""
    net = network(scenario.topology)
    nics = np.unique(net.nic_up[net.nic_up >= 0])
    return float(net.capacity[nics].sum()) / len(net.nic_up) if len(nics) else np.inf


def model_flops(program: Program) -> float:
    """Return the model's own FLOPs of a step: causal, output head included, no recompute."""
    scenario = program.scenario
    return scenario.model.flops_per_token(scenario.workload.training.seq_length) * scenario.tokens_per_step


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
    waiting = np.diff(program.wait_ptr).tolist()
    rows = np.repeat(np.arange(len(program.rank)), np.diff(program.wait_ptr))
    order = np.argsort(program.wait, kind="stable")
    followers = np.split(rows[order], np.cumsum(np.bincount(program.wait, minlength=len(program.rank)))[:-1])
    seconds, coflow, instance = program.seconds.tolist(), program.coflow.tolist(), program.instance.tolist()
    ready = [0.0] * len(waiting)
    todo = deque(row for row, count in enumerate(waiting) if not count)
    arrived: dict[int, list[int]] = {}
    last = 0.0
    while todo:
        row = todo.popleft()
        ended = [row]
        if coflow[row] >= 0:
            flow = program.coflows[coflow[row]]
            ended = arrived.setdefault(instance[row], [])
            ended.append(row)
            if len(ended) < len(flow.members):
                continue
            end = max(ready[member] for member in ended) + flow.latency + flow.size / flow.rate
        else:
            end = ready[row] + seconds[row]
        last = max(last, end)
        for member in ended:
            for follower in followers[member].tolist():
                ready[follower] = max(ready[follower], end)
                waiting[follower] -= 1
                if not waiting[follower]:
                    todo.append(follower)
    return last
