"""Closed-form lower bounds on the step: no simulated step may be faster than any of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import with_callees
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
    # Each member of a call has a row of its own.
    used = program.coflow[program.coflow >= 0]
    rows = np.bincount(used, minlength=len(program.coflows))  # [coflow]
    return rows // np.maximum(_members(program), 1)


def _members(program: Program) -> NDArray[np.int64]:
    """Return the number of members of each class of coflows [coflow]."""
    members = [len(flow.members) for flow in program.coflows]
    return np.array(members, dtype=np.int64)


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


def critical_path(program: Program) -> float:
    """Return the end of the last op if no two ops ever shared a link or an SM [s]."""
    columns = _columns(program)
    if len(columns.waiting) >= _MANY:
        return float(with_callees(_longest)(*columns))
    return _longest(*(column.tolist() for column in columns))


def prepare() -> None:
    """Compile what finds the critical path of many rows, or see that it is on disk."""
    none = np.zeros(0, dtype=np.int64)
    columns = _Columns(none, none, none, none, none, np.zeros((2, 0)))
    with_callees(_longest)(*columns)


# Many rows: compiled it takes a hundredth of the time, and 3 s once to compile.
_MANY = 300_000


class _Columns(NamedTuple):
    """What the critical path follows from: arrays, or lists of the same."""

    waiting: Any
    """Rows that a row waits for [row]."""
    first: Any
    """Where a row's followers begin in `follower`, and where the last one's end [row + 1]."""
    follower: Any
    """Rows that wait for a row, by that row [wait]."""
    call: Any
    """Coflow that a row is a member of, -1 for a kernel [row]."""
    missing: Any
    """Members that have not arrived [call]."""
    times: Any
    """Latency, and time after it [2, row] s."""


def _columns(program: Program) -> _Columns:
    """Return what the critical path follows from, as arrays."""
    waits = np.diff(program.wait_ptr)  # [row]
    # The program lists what each row waits for; the path needs the reverse, sorted by what ends.
    rows = np.arange(len(waits))
    waiters = np.repeat(rows, waits)  # [wait]
    by_awaited = np.argsort(program.wait, kind="stable")  # [wait]
    followers = np.bincount(program.wait, minlength=len(waits))  # [row]
    ends = np.cumsum(followers)  # [row]
    call, missing = _calls_of_rows(program)
    return _Columns(
        waiting=waits,
        first=np.concatenate([[0], ends]),
        follower=waiters[by_awaited],
        call=call,
        missing=missing,
        times=_times(program),
    )


def _calls_of_rows(program: Program) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the call of each row, -1 for a kernel [row], and the number of members of each call [call]."""
    transfer = program.coflow >= 0  # [row]
    # Instances are numbered with gaps; calls count from 0.
    _, member, number = np.unique(
        program.instance[transfer], return_index=True, return_inverse=True
    )
    call = np.full(len(transfer), -1)
    call[transfer] = number
    kind = program.coflow[transfer][member]  # coflow that a call is of [call]
    return call, _members(program)[kind]


def _times(program: Program) -> NDArray[np.float64]:
    """Return the latency of each row and the time after it, alone on its links [2, row] s."""
    flows = program.coflows
    # A kernel has the number -1 for its coflow, which the last entry answers.
    latency = np.array([*(flow.latency for flow in flows), 0.0])  # [coflow + 1] s
    # A bound holds for any number of SMs, so that exchanges run with SMs enough.
    fastest = [flow.size * flow.sm_share / flow.rate for flow in flows]
    alone = np.array([*fastest, 0.0])  # [coflow + 1] s
    moving = alone[program.coflow]  # [row] s
    seconds = np.where(program.coflow >= 0, moving, program.seconds)  # [row] s
    return np.stack([latency[program.coflow], seconds])


def _longest(waiting: Any, first: Any, follower: Any, call: Any, missing: Any, times: Any) -> float:
    """Return the end of the last row [s]; arguments as in `_Columns`, of which `waiting` and `missing` change.

    Rows run in an order in which each follows all that it waits for. The members of a call end
    together, when the last one has arrived: each names the one that arrived before it, so that the
    last one can let go what waits for any of them.
    """
    ready = [0.0] * len(waiting)
    before = [-1] * len(waiting)  # the member of the same call that arrived before [row]
    arrived = [-1] * len(missing)  # the member that arrived last [call]
    latest = [0.0] * len(missing)  # when it did [call] s
    order = [row for row in range(len(waiting)) if waiting[row] == 0]
    done, last = 0, 0.0
    while done < len(order):
        row = order[done]
        done += 1
        end = ready[row]
        if call[row] >= 0:
            number = call[row]
            end = max(latest[number], end)
            latest[number] = end
            before[row] = arrived[number]
            arrived[number] = row
            missing[number] -= 1
            if missing[number] > 0:
                continue
        end = end + times[0][row] + times[1][row]
        last = max(last, end)
        member = row
        while member >= 0:
            for i in range(first[member], first[member + 1]):
                following = follower[i]
                ready[following] = max(ready[following], end)
                waiting[following] -= 1
                if waiting[following] == 0:
                    order.append(following)
            member = before[member]
    return last
