"""The longest chain of ops in a step, if no two ops ever shared a link or an SM."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import MachineCode
from simulator.program import Program

# In plain Python so many rows take as long as compiling does, once.
_MANY = 300_000


class Paths(NamedTuple):
    """What the critical path follows from, and room to find it: arrays, or lists of the same."""

    waiting: Any
    """Rows that a row still waits for [row]."""
    begin: Any
    """Where a row's followers begin in `follower`, and where the last one's end [row + 1]."""
    follower: Any
    """Rows that wait for a row, by that row [wait]."""
    call: Any
    """Call of a coflow that a row is a member of, -1 for a kernel [row]."""
    missing: Any
    """Members that have not arrived [call]."""
    latency: Any
    """Before the first byte, 0 of a kernel [row] s."""
    seconds: Any
    """After that, alone on its links and SMs [row] s."""
    ready: Any
    """When the last of what a row waits for has ended, of those that have [row] s."""
    before: Any
    """The member of the same call that arrived before a row, or -1 [row]."""
    arrived: Any
    """The member that arrived last, or -1 [call]."""
    latest: Any
    """When it did [call] s."""
    order: Any
    """Rows in an order in which each follows all that it waits for [row]."""
    last: Any
    """End of the last row, one number [s]."""


def critical_path(program: Program) -> float:
    """Return the end of the last op if no two ops ever shared a link or an SM [s]."""
    paths = _paths(program)
    if CODE.on_disk() or len(program.rank) >= _MANY:
        CODE.ready()(paths)
    else:
        # Python is four times as fast on lists as on arrays.
        paths = Paths(*(column.tolist() for column in paths))
        _longest(paths)
    return float(paths.last[0])


def _paths(program: Program) -> Paths:
    """Return what the critical path follows from, as arrays."""
    rows = len(program.rank)
    calls = program.calls
    members = np.array([len(flow.members) for flow in program.coflows], dtype=np.int32)
    latency, seconds = _times(program)
    return Paths(
        waiting=np.diff(program.wait_ptr).astype(np.int32),
        begin=program.followers.begin,
        follower=program.followers.rows,
        call=calls.of_row,
        missing=members[calls.kind],
        latency=latency,
        seconds=seconds,
        ready=np.zeros(rows),
        before=np.full(rows, -1, dtype=np.int32),
        arrived=np.full(len(calls.kind), -1, dtype=np.int32),
        latest=np.zeros(len(calls.kind)),
        order=np.zeros(rows, dtype=np.int32),
        last=np.zeros(1),
    )


def _times(program: Program) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the latency of each row and the time after it, alone on its links [row] s."""
    flows = program.coflows
    # A kernel has the number -1 for its coflow, which the last entry answers.
    latency = np.array([*(flow.latency for flow in flows), 0.0])  # [coflow + 1] s
    # A bound holds for any number of SMs, so that exchanges run with SMs enough.
    fastest = [flow.size * flow.sm_share / flow.rate for flow in flows]
    alone = np.array([*fastest, 0.0])  # [coflow + 1] s
    moving = alone[program.coflow]  # [row] s
    return latency[program.coflow], np.where(program.coflow >= 0, moving, program.seconds)


def _longest(paths: Any) -> None:
    """Find the end of the last row.

    The members of a call end together, when the last one has arrived: each names the one that
    arrived before it, so that the last one can let go what waits for any of them.
    """
    known = _begin(paths.waiting, paths.order)
    done, last = 0, 0.0
    while done < known:
        row = paths.order[done]
        done += 1
        end = paths.ready[row]
        if paths.call[row] >= 0:
            end = _arrive(paths, row, end)
            if paths.missing[paths.call[row]] > 0:
                continue
        end = end + paths.latency[row] + paths.seconds[row]
        last = max(last, end)
        member = row
        while member >= 0:
            known = _let_go(paths, member, end, known)
            member = paths.before[member]
    paths.last[0] = last


def _begin(waiting: Any, order: Any) -> int:
    """List the rows that wait for nothing. Return how many there are."""
    known = 0
    for row in range(len(waiting)):
        if waiting[row] == 0:
            order[known] = row
            known += 1
    return known


def _arrive(paths: Any, row: int, at: float) -> float:
    """Let a member arrive at its call. Return when the latest of those that have did [s]."""
    call = paths.call[row]
    latest = float(max(paths.latest[call], at))
    paths.latest[call] = latest
    paths.before[row] = paths.arrived[call]
    paths.arrived[call] = row
    paths.missing[call] -= 1
    return latest


def _let_go(paths: Any, row: int, end: float, known: int) -> int:
    """Let what waits for a row go on. known: rows in `order` so far; return how many there are now."""
    for i in range(paths.begin[row], paths.begin[row + 1]):
        follower = paths.follower[i]
        paths.ready[follower] = max(paths.ready[follower], end)
        paths.waiting[follower] -= 1
        if paths.waiting[follower] == 0:
            paths.order[known] = follower
            known += 1
    return known


def _nothing() -> Paths:
    """Return what the path of no rows follows from, which has the types of any other."""
    numbers, times = np.zeros(0, dtype=np.int32), np.zeros(0)
    floats = {"latency", "seconds", "ready", "latest", "last"}
    return Paths(*(times if name in floats else numbers for name in Paths._fields))


CODE = MachineCode(_longest, _nothing())
"""Machine code that finds the critical path."""
