"""Rows of the compiled executor: what becomes ready, has the SMs, arrives at its coflow, and ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.engine.heap import schedule
from simulator.engine.instants import INSTANT
from simulator.engine.records import DONE, NONE, UNSETTLED, Records, State


def ready(s: State, row: int, now: float) -> None:
    """Let a row whose waits are over wait for its launch."""
    rows = s.row
    rows[row].due = now
    rank = s.rank[rows[row].rank]
    _hold(rows, rank, row)
    while rank.held >= 0 and rank.held <= rank.gate:
        row = rank.held
        rank.held = rows[row].following
        rows[row].following = NONE
        _launch(s, row, now)


def _hold(rows: Records, rank: Any, row: int) -> None:
    """Put a row among those of its rank that wait for nothing but the host, in the order of the program."""
    before, after = NONE, rank.held
    while 0 <= after < row:
        before, after = after, rows[after].following
    rows[row].following = after
    if before < 0:
        rank.held = row
    else:
        rows[before].following = row


def _launch(s: State, row: int, now: float) -> None:
    """Let the host launch a row, at once where it has come so far."""
    line = s.row[row]
    rank = s.rank[line.rank]
    begun = s.row[line.since].issue if line.since >= 0 else rank.host
    issue = begun + line.before
    if row == rank.gate:
        issue = max(issue, now)
        rank.gate = line.gate
    line.issue = issue
    at = issue + line.lead
    if at > now + INSTANT:
        # Launches are numbered behind the kernels of ranks and the coflows, of which one is spare.
        number: Any = np.int32(len(s.rank) + len(s.call) - 1 + row)
        schedule(s.event, s.heap, s.counts, number, at)
    else:
        arrived(s, row, now)


def arrived(s: State, row: int, now: float) -> None:
    """Let a row that is launched wait for its peers or for the SMs of its rank."""
    rows = s.row
    rows[row].arrive = now
    if rows[row].call >= 0:
        _join(s, row, now)
    else:
        _queue(rows, s.rank[rows[row].rank], row)
        _unsettle(s, rows[row].rank)


def _queue(rows: Records, rank: Any, row: int) -> None:
    """Queue a row for the SMs of its rank, behind those that were ready before.

    Among those that became ready together it stands in the order of the program.
    """
    before, after = NONE, rank.queue
    while after >= 0 and (rows[after].arrive < rows[row].arrive or after < row):
        before, after = after, rows[after].following
    rows[row].following = after
    if before < 0:
        rank.queue = row
    else:
        rows[before].following = row


def grant(s: State, now: float) -> None:
    """Give the SMs of ranks that have them free to what has waited longest."""
    rows, ranks = s.row, s.rank
    for i in range(s.counts[UNSETTLED]):
        number = s.unsettled[i]
        rank = ranks[number]
        if rank.sms < 0 and rank.queue >= 0:
            row = rank.queue
            rank.queue = rows[row].following
            rank.sms = row
            rows[row].start = now
            # Its speed is found once transfers have theirs, see `pace`.
            rank.left = rows[row].seconds
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
        line = s.row[row]
        line.slowed = max(0.0, rank.done - line.start - line.seconds)
    finish(s, row, now)


def _unsettle(s: State, rank: int) -> None:
    """Note that coflows must be told whether a rank computes."""
    counts = s.counts
    s.unsettled[counts[UNSETTLED]] = rank
    counts[UNSETTLED] += 1


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
        opening: Any = np.int32(len(s.rank) + number)  # see `_launch`
        schedule(s.event, s.heap, s.counts, opening, now + kind.latency)
