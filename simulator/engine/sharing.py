"""Rates of the compiled executor's coflows: who shares links with whom, and what is fair among them.

As `fairshare.max_min_few`, operation by operation, so that no bit differs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.engine.heap import schedule
from simulator.engine.pace import disturb
from simulator.engine.records import FAILED, STAMP, Ids, Records, State
from simulator.fairshare import TOGETHER

_INF = np.inf


def share(s: State, now: float) -> None:
    """Give new rates to the first coflow in s.sharing, which is marked, and to all that share links with it."""
    sharing = s.sharing
    flows = _component(s)
    # Alone on links that allow its kernel's rate, a coflow needs no filling.
    first = s.call[sharing[0]]
    if flows == 1 and s.kind[first.kind].unhindered:
        first.fresh = _cap(s, first)
    elif not _fill(s, flows):
        s.counts[FAILED] = 1
        return
    for i in range(flows):
        call = s.call[sharing[i]]
        if call.fresh != call.rate:
            call.left -= call.rate * (now - call.since)
            call.since = now
            call.rate = call.fresh
            disturb(s, call)
            end = now + max(0.0, call.left) / call.rate
            event: Any = np.int32(len(s.rank) + sharing[i])
            schedule(s.event, s.heap, s.counts, event, end)


def _meet(calls: Records, crossings: Records, at: int, stamp: int, met: Ids, count: int) -> int:
    """Append the users of a link that this search has not met. at: the first crossing. Return how many are met."""
    while at >= 0:
        other = crossings[at].call
        if calls[other].mark != stamp:
            calls[other].mark = stamp
            met[count] = other
            count += 1
        at = crossings[at].after
    return count


def _component(s: State) -> int:
    """Complete s.sharing by all coflows that hang together with the first one over links. Return how many there are."""
    calls, kinds, parts, links = s.call, s.kind, s.part, s.link
    sharing, frontier = s.sharing, s.frontier
    # A depth-first search, last in first out as in the reference: the order of flows is the order of
    # sums, and so decides their bits.
    frontier[0] = sharing[0]
    count: Any = np.int64(1)  # not a literal, for which all would be compiled once more
    left = count
    while left:
        left -= 1
        kind = calls[frontier[left]].kind
        for i in range(kinds[kind].begin, kinds[kind + 1].begin):
            link = links[parts[i].link]
            if link.flows > 1:
                more = _meet(calls, s.crossing, link.first, s.counts[STAMP], sharing, count)
                while count < more:
                    frontier[left] = sharing[count]
                    left += 1
                    count += 1
    return int(count)


def _cap(s: State, call: Any) -> float:
    """Return the fastest that a coflow's kernel may go [B/s]."""
    kind = s.kind[call.kind]
    if kind.overlap_slowdown > 1.0:
        row = call.first
        while row >= 0:
            if s.rank[s.owner[row]].computing:
                return float(kind.rate / kind.overlap_slowdown)
            row = s.following[row]
    return float(kind.rate)


def _fill(s: State, flows: int) -> bool:
    """Find the max-min fair rate of the coflows in s.sharing: `fresh`. Return whether all are bounded.

    All rates rise together, to the level at which the next cap or link holds some of them back.
    """
    calls, kinds, parts, links = s.call, s.kind, s.part, s.link
    sharing, rising = s.sharing, s.rising
    touched = s.touched[: _list_links(s, flows)]
    for i in range(flows):
        rising[i] = sharing[i]
        calls[sharing[i]].cap = _cap(s, calls[sharing[i]])
    level, left = 0.0, flows
    while left:
        level = max(level, _next_level(calls, kinds, parts, links, rising[:left], touched))
        if level == _INF:
            return False
        _mark_full(links, touched, level)
        left = _stop(calls, kinds, parts, links, rising[:left], level)
        _take_room(links, touched, level)
    return True


def _list_links(s: State, flows: int) -> int:
    """List the links of the coflows in s.sharing in s.touched, with all their room. Return how many there are."""
    kinds, parts, links = s.kind, s.part, s.link
    touched, stamp, count = s.touched, s.counts[STAMP], 0
    for i in range(flows):
        kind = s.call[s.sharing[i]].kind
        for e in range(kinds[kind].begin, kinds[kind + 1].begin):
            number = parts[e].link
            link = links[number]
            if link.seen != stamp:
                link.seen = stamp
                link.room = link.capacity
                link.share = 0.0
                touched[count] = number
                count += 1
    return count


def _next_level(
    calls: Records, kinds: Records, parts: Records, links: Records, rising: Ids, touched: Ids
) -> float:
    """Return the lowest level at which a coflow reaches its cap or a link fills; leave shares summed."""
    level = _INF
    for number in rising:
        level = min(level, calls[number].cap)
        _add_shares(kinds, parts, links, calls[number].kind)
    for number in touched:
        link = links[number]
        if link.share > 0:
            level = min(level, link.room / link.share)
    return level


def _mark_full(links: Records, touched: Ids, level: float) -> None:
    """Mark the links that are full when all rates have risen to a level, and begin to sum shares anew."""
    for number in touched:
        link = links[number]
        link.full = 1 if link.share > 0 and link.room / link.share <= level * TOGETHER else 0
        link.share = 0.0


def _stop(
    calls: Records, kinds: Records, parts: Records, links: Records, rising: Ids, level: float
) -> int:
    """Give a level to coflows at their cap or on a full link, and sum their shares. Return how many rise on."""
    # Flows that rise on move up in the list, in their order.
    stay = 0
    for number in rising:
        call = calls[number]
        if call.cap <= level * TOGETHER or _crosses_full(kinds, parts, links, call.kind):
            call.fresh = level
            _add_shares(kinds, parts, links, call.kind)
        else:
            rising[stay] = number
            stay += 1
    return stay


def _take_room(links: Records, touched: Ids, level: float) -> None:
    """Take what stopped coflows use off the room of their links, and begin to sum shares anew."""
    for number in touched:
        link = links[number]
        link.room -= level * link.share
        link.share = 0.0


def _add_shares(kinds: Records, parts: Records, links: Records, kind: int) -> None:
    """Add the weights of a coflow to the shares of its links."""
    for i in range(kinds[kind].begin, kinds[kind + 1].begin):
        links[parts[i].link].share += parts[i].weight


def _crosses_full(kinds: Records, parts: Records, links: Records, kind: int) -> bool:
    """Tell whether a coflow crosses a full link."""
    for i in range(kinds[kind].begin, kinds[kind + 1].begin):
        if links[parts[i].link].full and parts[i].weight > 0:
            return True
    return False
