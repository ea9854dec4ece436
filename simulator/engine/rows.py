"""Rows of the compiled executor: what becomes ready, has the SMs, arrives at its coflow, and ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.engine.heap import schedule
from simulator.engine.instants import INSTANT
from simulator.engine.records import DONE, NONE, UNSETTLED, State


def ready(s: State, row: int, now: float) -> None:
    """Let a row whose waits are over wait for its launch."""
    s.due[row] = now
    rank = s.rank[s.owner[row]]
    _hold(s, rank, row)
    while rank.held >= 0 and rank.held <= rank.gate:
        row = rank.held
        rank.held = s.following[row]
        s.following[row] = NONE
        _launch(s, row, now)


def _hold(s: State, rank: Any, row: int) -> None:
    """Put a row among those of its rank that wait for nothing but the host, in the order of the program."""
    before, after = NONE, rank.held
    while 0 <= after < row:
        before, after = after, s.following[after]
    s.following[row] = after
    if before < 0:
        rank.held = row
    else:
        s.following[before] = row


def _launch(s: State, row: int, now: float) -> None:
    """Let the host launch a row, at once where it has come so far."""
    rank = s.rank[s.owner[row]]
    begun = s.issue[s.since[row]] if s.since[row] >= 0 else rank.host
    issue = begun + s.before[row]
    if row == rank.gate:
        issue = max(issue, now)
        rank.gate = s.gate[row]
    s.issue[row] = issue
    at = issue + s.lead[row]
    if at > now + INSTANT:
        # Launches are numbered behind the kernels of ranks and the coflows, of which one is spare.
        number: Any = np.int32(len(s.rank) + len(s.call) - 1 + row)
        schedule(s.event, s.heap, s.counts, number, at)
    else:
        arrived(s, row, now)


def arrived(s: State, row: int, now: float) -> None:
    """Let a row that is launched wait for its peers or for the SMs of its rank."""
    s.arrive[row] = now
    if s.member[row] >= 0:
        _join(s, row, now)
    else:
        _queue(s, s.rank[s.owner[row]], row)
        _unsettle(s, s.owner[row])


def _queue(s: State, rank: Any, row: int) -> None:
    """Queue a row for the SMs of its rank, behind those that were ready before.

    Among those that became ready together it stands in the order of the program.
    """
    before, after = NONE, rank.queue
    while after >= 0 and (s.arrive[after] < s.arrive[row] or after < row):
        before, after = after, s.following[after]
    s.following[row] = after
    if before < 0:
        rank.queue = row
    else:
        s.following[before] = row


def grant(s: State, now: float) -> None:
    """Give the SMs of ranks that have them free to what has waited longest."""
    for i in range(s.counts[UNSETTLED]):
        rank = s.rank[s.unsettled[i]]
        if rank.sms < 0 and rank.queue >= 0:
            row = rank.queue
            rank.queue = s.following[row]
            rank.sms = row
            s.start[row] = now
            # Its speed is found once transfers have theirs, see `pace`.
            rank.left = s.seconds[row]
            rank.since = now
            rank.speed = 0.0
            rank.versions = 0


def computed(s: State, number: int, now: float) -> None:
    """End the kernel that has the SMs of a rank."""
    rank = s.rank[number]
    row = rank.sms
    rank.sms = NONE
    _unsettle(s, number)
    # Of what no transfer has slowed, nothing may be left but rounding.
    if rank.versions > 1 or rank.speed != 1.0:
        s.slowed[row] = max(0.0, rank.done - s.start[row] - s.seconds[row])
    finish(s, row, now)


def _unsettle(s: State, rank: int) -> None:
    """Note that coflows must be told whether a rank computes."""
    counts = s.counts
    s.unsettled[counts[UNSETTLED]] = rank
    counts[UNSETTLED] += 1


def finish(s: State, row: int, now: float) -> None:
    """End a row and make ready what waited for it alone."""
    s.counts[DONE] += 1
    s.end[row] = now
    for i in range(s.begin[row], s.begin[row + 1]):
        follower = s.follower[i]
        s.waiting[follower] -= 1
        if s.waiting[follower] == 0:
            ready(s, follower, now)


def _join(s: State, row: int, now: float) -> None:
    """Arrive at a coflow; the last member starts it."""
    number = s.member[row]
    call = s.call[number]
    if call.first < 0:
        call.first = row
    else:
        s.following[call.last] = row
    call.last = row
    call.arrived += 1
    kind = s.kind[call.kind]
    if call.arrived == kind.members:
        row = call.first
        while row >= 0:
            s.start[row] = now
            row = s.following[row]
        opening: Any = np.int32(len(s.rank) + number)  # see `_launch`
        schedule(s.event, s.heap, s.counts, opening, now + kind.latency)
