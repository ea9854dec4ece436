"""Coflows of the compiled executor: on their links and ranks from the end of their latency to their last byte."""

from __future__ import annotations

from typing import Any

from simulator.engine.pace import disturb, pace
from simulator.engine.records import (
    CHANGED,
    ENDED,
    MOVING,
    NONE,
    STAMP,
    UNSETTLED,
    State,
)
from simulator.engine.rows import finish, grant
from simulator.engine.sharing import share


def begin(s: State, number: int, now: float) -> None:
    """Begin to move bytes, after the latency."""
    call = s.call[number]
    kind = s.kind[call.kind]
    call.state = MOVING
    call.left = kind.size
    call.since = now
    _enter_links(s, call)
    _enter_ranks(s, call, kind)
    # Without links there are no bytes to move: the latency was all.
    if kind.begin == s.kind[call.kind + 1].begin:
        close(s, number, now)
    else:
        _change(s, number)


def close(s: State, number: int, now: float) -> None:
    """End a coflow for all its members, and note that others may have what it leaves of the links."""
    call = s.call[number]
    call.state = ENDED
    _leave_links(s, call)
    _leave_ranks(s, call, s.kind[call.kind])
    disturb(s, call)
    row = call.first
    while row >= 0:
        finish(s, row, now)
        row = s.following[row]


def settle(s: State, now: float) -> None:
    """Give out SMs and links, once all that an instant ends is ended."""
    settled = s.counts[UNSETTLED]
    grant(s, now)
    _tell(s)
    calls, counts = s.call, s.counts
    changed, counts[CHANGED] = counts[CHANGED], 0
    # Each with all that share links with it, so that one search meets no call twice.
    counts[STAMP] += 1
    for i in range(changed):
        call = calls[s.changed[i]]
        call.changed = 0
        if call.state == MOVING and call.mark != counts[STAMP]:
            call.mark = counts[STAMP]
            s.sharing[0] = s.changed[i]
            share(s, now)
    pace(s, settled, now)


def _tell(s: State) -> None:
    """Note the coflows of ranks that began or stopped to compute."""
    ranks, s.counts[UNSETTLED] = s.counts[UNSETTLED], 0
    for i in range(ranks):
        rank = s.rank[s.unsettled[i]]
        # A rank that ended one kernel and began another within an instant has not changed.
        computing = 1 if rank.sms >= 0 else 0
        if computing != rank.computing:
            rank.computing = computing
            row = rank.moving
            while row >= 0:
                call = s.member[row]
                if s.kind[s.call[call].kind].overlap_slowdown > 1.0:
                    _change(s, call)
                row = s.later[row]


def _change(s: State, number: int) -> None:
    """Note that a coflow may get another rate."""
    if not s.call[number].changed:
        s.call[number].changed = 1
        s.changed[s.counts[CHANGED]] = number
        s.counts[CHANGED] += 1


def _enter_links(s: State, call: Any) -> None:
    """Put a coflow behind the others on its links."""
    crossings, parts, links = s.crossing, s.part, s.link
    first_part = s.kind[call.kind].begin
    end = s.kind[call.kind + 1].begin
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


def _leave_links(s: State, call: Any) -> None:
    """Take a coflow off its links, and note those that share links with it."""
    crossings, parts, links = s.crossing, s.part, s.link
    first_part = s.kind[call.kind].begin
    end = s.kind[call.kind + 1].begin
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
        at = link.first
        while at >= 0:
            _change(s, crossings[at].call)
            at = crossings[at].after


def _meets_kernels(kind: Any) -> bool:
    """Tell whether kernels slow a coflow, or it slows them."""
    return bool(kind.overlap_slowdown > 1.0 or kind.sms != 0.0 or kind.hbm != 0.0)


def _enter_ranks(s: State, call: Any, kind: Any) -> None:
    """Put a coflow behind the others at its ranks."""
    row = call.first if _meets_kernels(kind) else NONE
    while row >= 0:
        rank = s.rank[s.owner[row]]
        s.earlier[row] = rank.last_moving
        if rank.last_moving < 0:
            rank.moving = row
        else:
            s.later[rank.last_moving] = row
        rank.last_moving = row
        row = s.following[row]


def _leave_ranks(s: State, call: Any, kind: Any) -> None:
    """Take a coflow off its ranks."""
    row = call.first if _meets_kernels(kind) else NONE
    while row >= 0:
        rank = s.rank[s.owner[row]]
        earlier, later = s.earlier[row], s.later[row]
        if earlier < 0:
            rank.moving = later
        else:
            s.later[earlier] = later
        if later < 0:
            rank.last_moving = earlier
        else:
            s.earlier[later] = earlier
        row = s.following[row]
