"""Coflows of the compiled executor: on their links and ranks from the end of their latency to their last byte."""

from __future__ import annotations

from typing import Any

from simulator.compiled import inner
from simulator.engine.records import NONE, STAMP, UNSETTLED, Records, State
from simulator.engine.rows import finish
from simulator.engine.sharing import meet, share


@inner
def begin(s: State, number: int, now: float) -> None:
    """Begin to move bytes, after the latency."""
    call = s.call[number]
    kind = s.kind[call.kind]
    call.open = 1
    call.left = kind.size
    call.since = now
    _enter_links(s, call)
    _enter_ranks(s.row, s.rank, call, kind)
    # Without links there are no bytes to move: the latency was all.
    if kind.begin == s.kind[call.kind + 1].begin:
        close(s, number, now)
    else:
        s.counts[STAMP] += 1
        call.mark = s.counts[STAMP]
        s.sharing[0] = number
        share(s, 1, now)


@inner
def close(s: State, number: int, now: float) -> None:
    """End a coflow for all its members and give its share of the links to the others."""
    call = s.call[number]
    # Off its links first, so that the others share what it leaves, then on to what waits for it: the
    # order of the reference.
    touched = _leave_links(s, call)
    _leave_ranks(s.row, s.rank, call, s.kind[call.kind])
    if touched:
        share(s, touched, now)
    row = call.first
    while row >= 0:
        finish(s, row, now)
        row = s.row[row].following
    settle(s, now)


@inner
def settle(s: State, now: float) -> None:
    """Tell the coflows of ranks that began or stopped to compute, once an event's work is handed out."""
    rows, calls, counts, sharing = s.row, s.call, s.counts, s.sharing
    ranks, counts[UNSETTLED] = counts[UNSETTLED], 0
    counts[STAMP] += 1
    slowed = 0
    for i in range(ranks):
        rank = s.rank[s.unsettled[i]]
        # A rank that ended one kernel and began another within an event has not changed.
        computing = 1 if rank.sms >= 0 else 0
        if computing != rank.computing:
            rank.computing = computing
            row = rank.slowed
            while row >= 0:
                call = rows[row].call
                if calls[call].mark != counts[STAMP]:
                    calls[call].mark = counts[STAMP]
                    sharing[slowed] = call
                    slowed += 1
                row = rows[row].later
    if slowed:
        share(s, slowed, now)


@inner
def _enter_links(s: State, call: Any) -> None:
    """Put a coflow behind the others on its links."""
    crossings, parts, links = s.crossing, s.part, s.link
    first_part, end = s.kind[call.kind].begin, s.kind[call.kind + 1].begin
    for i in range(end - first_part):
        link = links[parts[first_part + i].link]
        crossing = call.begin + i
        crossings[crossing].before = link.last
        if link.last < 0:
            link.first = crossing
        else:
            crossings[link.last].after = crossing
        link.last = crossing
        link.flows += 1


@inner
def _leave_links(s: State, call: Any) -> int:
    """Take a coflow off its links. Return how many share links with it; s.sharing holds them."""
    crossings, parts, links, stamp = s.crossing, s.part, s.link, s.counts
    stamp[STAMP] += 1
    met = 0
    first_part, end = s.kind[call.kind].begin, s.kind[call.kind + 1].begin
    for i in range(end - first_part):
        link = links[parts[first_part + i].link]
        crossing = crossings[call.begin + i]
        if crossing.before < 0:
            link.first = crossing.after
        else:
            crossings[crossing.before].after = crossing.after
        if crossing.after < 0:
            link.last = crossing.before
        else:
            crossings[crossing.after].before = crossing.before
        link.flows -= 1
        met = meet(s.call, crossings, link.first, stamp[STAMP], s.sharing, met)
    return met


@inner
def _enter_ranks(rows: Records, ranks: Records, call: Any, kind: Any) -> None:
    """Put a coflow that compute slows behind the others at its ranks."""
    row = call.first if kind.overlap_slowdown > 1.0 else NONE
    while row >= 0:
        rank = ranks[rows[row].rank]
        rows[row].earlier = rank.last_slowed
        if rank.last_slowed < 0:
            rank.slowed = row
        else:
            rows[rank.last_slowed].later = row
        rank.last_slowed = row
        row = rows[row].following


@inner
def _leave_ranks(rows: Records, ranks: Records, call: Any, kind: Any) -> None:
    """Take a coflow that compute slows off its ranks."""
    member = call.first if kind.overlap_slowdown > 1.0 else NONE
    while member >= 0:
        row = rows[member]
        rank = ranks[row.rank]
        if row.earlier < 0:
            rank.slowed = row.later
        else:
            rows[row.earlier].later = row.later
        if row.later < 0:
            rank.last_slowed = row.earlier
        else:
            rows[row.later].earlier = row.earlier
        member = row.following
