"""Rows of the compiled executor: what becomes ready, has the SMs, arrives at its coflow, and ends."""

from __future__ import annotations

from typing import Any

from simulator.compiled import inner
from simulator.engine.heap import schedule
from simulator.engine.records import DONE, NONE, UNSETTLED, Records, State


@inner
def ready(s: State, row: int, now: float) -> None:
    """Start a row whose waits are over, or queue it for its SMs or its peers."""
    rows = s.row
    rows[row].arrive = now
    rank = s.rank[rows[row].rank]
    if rows[row].call >= 0:
        _join(s, row, now)
    elif rank.sms < 0 and rank.queue < 0:
        _compute(s, row, now)
    else:
        _queue(rows, rank, row)


@inner
def _queue(rows: Records, rank: Any, row: int) -> None:
    """Put a row behind those that wait for the SMs of its rank."""
    if rank.queue < 0:
        rank.queue = row
    else:
        rows[rank.queued].following = row
    rank.queued = row


@inner
def _compute(s: State, row: int, now: float) -> None:
    """Give a row the SMs of its rank."""
    rows = s.row
    rank = rows[row].rank
    rows[row].start = now
    s.rank[rank].sms = row
    _unsettle(s, rank)
    schedule(s.event, s.heap, s.counts, rank, now + rows[row].seconds)


@inner
def computed(s: State, number: int, now: float) -> None:
    """End the kernel that has the SMs of a rank, and give them to what has waited longest."""
    rank = s.rank[number]
    row = rank.sms
    rank.sms = NONE
    _unsettle(s, number)
    finish(s, row, now)
    # A row that `finish` made ready may have taken them.
    if rank.sms < 0 and rank.queue >= 0:
        row = rank.queue
        rank.queue = s.row[row].following
        _compute(s, row, now)


@inner
def _unsettle(s: State, rank: int) -> None:
    """Note that coflows must be told whether a rank computes."""
    counts = s.counts
    s.unsettled[counts[UNSETTLED]] = rank
    counts[UNSETTLED] += 1


@inner
def finish(s: State, row: int, now: float) -> None:
    """End a row and make ready what waited for it alone."""
    rows, followers = s.row, s.follower
    s.counts[DONE] += 1
    rows[row].end = now
    for i in range(rows[row].begin, rows[row + 1].begin):
        follower = followers[i]
        rows[follower].waiting -= 1
        if rows[follower].waiting == 0:
            ready(s, follower, now)


@inner
def _join(s: State, row: int, now: float) -> None:
    """Arrive at a coflow; the last member starts it."""
    rows = s.row
    number = rows[row].call
    call = s.call[number]
    if call.first < 0:
        call.first = row
    else:
        rows[call.last].following = row
    call.last = row
    call.arrived += 1
    kind = s.kind[call.kind]
    if call.arrived == kind.members:
        row = call.first
        while row >= 0:
            rows[row].start = now
            row = rows[row].following
        schedule(s.event, s.heap, s.counts, len(s.rank) + number, now + kind.latency)
