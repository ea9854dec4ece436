"""Speeds of the compiled executor's kernels, which transfers next to them slow down."""

from __future__ import annotations

from typing import Any

from simulator.compute.contention import Sensitivity, speed_within
from simulator.engine.heap import schedule
from simulator.engine.instants import INSTANT
from simulator.engine.records import DISTURBED, State


def disturb(s: State, call: Any) -> None:
    """Note that the kernels next to a transfer may get another speed."""
    kind = s.kind[call.kind]
    row = call.first if kind.sms != 0.0 or kind.hbm != 0.0 else -1
    while row >= 0:
        number = s.owner[row]
        if not s.rank[number].disturbed:
            s.rank[number].disturbed = 1
            s.disturbed[s.counts[DISTURBED]] = number
            s.counts[DISTURBED] += 1
        row = s.following[row]


def pace(s: State, settled: int, now: float) -> None:
    """Let kernels run at the speed that transfers leave. settled: how many of s.unsettled there were."""
    for i in range(settled):
        _pace(s, s.unsettled[i], now)
    disturbed, s.counts[DISTURBED] = s.counts[DISTURBED], 0
    for i in range(disturbed):
        number = s.disturbed[i]
        s.rank[number].disturbed = 0
        _pace(s, number, now)


def _pace(s: State, number: int, now: float) -> None:
    """Let what a rank computes run at the speed that its transfers leave."""
    rank = s.rank[number]
    if rank.sms < 0:
        return
    fresh = _next_to_transfers(s, rank)
    if fresh == rank.speed:
        return
    left = rank.left - rank.speed * (now - rank.since)
    # What only waits for its host has nothing left that could run slower.
    if left <= 0.0 and rank.versions:
        return
    rank.left = left
    rank.since = now
    rank.speed = fresh
    end = now + left / fresh
    rank.done = end
    rank.versions += 1
    # Its later kernels may have to wait for the host.
    late = s.issue[rank.sms] + s.lag[rank.sms]
    if late > end + INSTANT:
        end = late
    schedule(s.event, s.heap, s.counts, number, end)


def _next_to_transfers(s: State, rank: Any) -> float:
    """Return the speed of what a rank computes next to its transfers, relative to that alone."""
    held = 0.0
    taken = 0.0
    row = rank.moving
    while row >= 0:
        call = s.call[s.member[row]]
        kind = s.kind[call.kind]
        held += kind.sms
        taken += kind.hbm * (call.rate / kind.rate)
        row = s.later[row]
    row = rank.sms
    kernels = Sensitivity(s.sms[row], s.hbm[row], s.both[row])
    return float(speed_within(kernels, held, taken, s.most[0]))
