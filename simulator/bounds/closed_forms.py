"""Lower bounds that follow from sums, and what these are made of: calls, bytes, the time that links are held."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.bounds.critical_path import critical_path
from simulator.precision import PEAK
from simulator.program import Program
from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound on the time of a step."""

    name: str
    """What bounds it."""
    seconds: float
    """No step is shorter [s]."""
    formula: str
    """How it is computed, in words."""


def bounds(program: Program) -> tuple[Bound, ...]:
    """Return the lower bounds of a step."""
    return (
        _compute_at_peak(program),
        _compute_as_profiled(program),
        _nic(program),
        _link(program),
        _hosts(program),
        Bound(
            name="critical path",
            seconds=critical_path(program),
            formula="longest chain of ops, every transfer alone on its links, with SMs enough",
        ),
    )


def _compute_at_peak(program: Program) -> Bound:
    executed = [_at_peak(flops, program.scenario) for flops in program.flops]  # [rank class] s
    # The mean, not the largest: the last rank ends no earlier than the average one.
    return Bound(
        name="compute at peak",
        seconds=program.mean(np.array(executed)),
        formula="FLOPs that run / dense peak of their dtype, mean",
    )


def _compute_as_profiled(program: Program) -> Bound:
    # A rank's kernels share its SMs, so they never run at the same time.
    ranks = [sum(seconds.values()) for seconds in program.class_seconds]  # [rank class] s
    return Bound(
        name="compute as profiled",
        seconds=max(ranks),
        formula="sum of kernel times on the busiest rank",
    )


def _hosts(program: Program) -> Bound:
    # A host launches the rows of its rank one after another; what makes it wait only adds to that.
    # It has launched the first kernel when the step begins.
    ends = []  # [rank class] s
    for own in program.rows_by_rank:
        if len(own):
            host = program.host[own]  # [row] s
            begins = np.cumsum(host) - host - program.lead[own[0]]
            ends.append(float((begins + program.lag[own]).max()))
    return Bound(
        name="hosts",
        seconds=max([0.0, *ends]),
        formula="launches of a rank one after another, and the kernel behind the last, the busiest host",
    )


def _nic(program: Program) -> Bound:
    sent = sum(nic for nic, _ in traffic(program).values())
    return Bound(
        name="NIC",
        seconds=sent / _nic_rate(program.scenario),
        formula="bytes that a GPU sends over its NIC, mean / NIC bandwidth",
    )


def _link(program: Program) -> Bound:
    name, occupied = busiest_link(program)
    return Bound(
        name="busiest link",
        seconds=occupied,
        formula=f"sum of bytes / (bandwidth x kernel efficiency, with SMs enough) on {name}",
    )


def _at_peak(flops: Mapping[str, float], scenario: Scenario) -> float:
    """Return how long FLOPs take at the dense peak of their dtype [s]. flops: dtype of a GEMM -> FLOP."""
    datasheet = {str(dtype): peak for dtype, peak in PEAK.items()}  # what bounds a GEMM's dtype
    seconds = []
    for dtype, count in flops.items():
        peak = scenario.gpu.peak[datasheet[dtype]]
        seconds.append(count / peak)
    return sum(seconds)


def _nic_rate(scenario: Scenario) -> float:
    """Return what the NICs carry in one direction for each GPU, mean over GPUs, as the cluster graph has them [B/s]."""
    net = scenario.network
    # GPUs may share a NIC, or have none: the sum over NICs, divided among all GPUs.
    has_nic = net.nic_up >= 0  # [GPU]
    nics = np.unique(net.nic_up[has_nic])  # [NIC] link
    if not len(nics):
        return np.inf
    total = float(net.capacity[nics].sum())
    return total / len(net.nic_up)


def model_flops(program: Program) -> float:
    """Return the model's own FLOPs of a step: causal, output head included, no recompute."""
    scenario = program.scenario
    per_token = scenario.model.flops_per_token(scenario.workload.training.seq_length)
    return per_token * scenario.tokens_per_step


def calls(program: Program) -> NDArray[np.int64]:
    """Return how often each class of coflows runs in a step. [coflow]."""
    return np.bincount(program.calls.kind, minlength=len(program.coflows))


def traffic(program: Program) -> dict[str, tuple[float, float]]:
    """Return kind of traffic -> bytes that one GPU sends per step over its NIC and over NVLink, mean over GPUs."""
    nic: defaultdict[str, float] = defaultdict(float)  # bytes of all GPUs
    nvlink: defaultdict[str, float] = defaultdict(float)
    counts = calls(program).tolist()
    for flow, count in zip(program.coflows, counts, strict=True):
        sent_nic, sent_nvlink = flow.sent
        nic[flow.traffic] += count * sent_nic
        nvlink[flow.traffic] += count * sent_nvlink
    gpus = program.scenario.topology.gpus
    return {kind: (nic[kind] / gpus, nvlink[kind] / gpus) for kind in nic}


def link_seconds(program: Program) -> NDArray[np.float64]:
    """Return how long each link is held in a step, kernel efficiency included. [link class] s."""
    return _held(program, [1.0] * len(program.coflows))


def _held(program: Program, shares: Sequence[float]) -> NDArray[np.float64]:
    """Return how long each link is held. shares: part of its time that each coflow takes [coflow]."""
    busy = np.zeros(len(program.capacity))  # [link class] B
    counts = calls(program).tolist()
    for flow, count, share in zip(program.coflows, counts, shares, strict=True):
        for link, weight in flow.links:
            busy[link] += count * weight * flow.size * share
    return busy / program.capacity


def busiest_link(program: Program) -> tuple[str, float]:
    """Return the name of the busiest link and its time with the best number of SMs [s]."""
    # With fewer an exchange holds its links for longer than it needs them.
    busy = _held(program, [flow.sm_share for flow in program.coflows])
    if not len(busy):
        return "no link", 0.0
    worst = int(np.argmax(busy))
    return program.link_names[worst], float(busy[worst])
