"""Flows that start and end: when the next one does, and on which links it is."""

from __future__ import annotations

from simulator.flows.problem import TOGETHER, Flows
from simulator.flows.state import BLOCK, INF, Floats, Ids, State, add


def next_end(s: State) -> float:
    """Return when the next flow ends at the present rates [s], inf if none moves."""
    due, earliest, stale = s.due, s.earliest, s.stale
    # Blocks, because few flows change at an event: the others keep the minimum they had.
    soonest = INF
    for b in range(len(earliest)):
        if stale[b]:
            first = INF
            for f in range(b * BLOCK, (b + 1) * BLOCK):
                first = min(first, due[f])
            earliest[b] = first
            stale[b] = False
        soonest = min(soonest, earliest[b])
    return soonest


def close(p: Flows, s: State, now: float, end: Floats) -> tuple[int, int, float]:
    """End what is due. Return its number, the number of full links that it leaves, and their lowest level."""
    count, dirty, level = 0, 0, INF
    for b in range(len(s.earliest)):
        if s.earliest[b] <= now * TOGETHER:
            s.stale[b] = True
            for f in range(b * BLOCK, (b + 1) * BLOCK):
                if s.due[f] <= now * TOGETHER:
                    end[f] = now
                    s.due[f] = INF
                    count += 1
                    dirty, level = _leave_links(p, s, f, dirty, level)
    return count, dirty, level


def _leave_links(p: Flows, s: State, f: int, dirty: int, level: float) -> tuple[int, float]:
    """Take a flow off its links. Return as `close` does, full links of flows before it included."""
    for e in range(p.ptr[f], p.ptr[f + 1]):
        link = p.link[e]
        _leave(s, e, link)
        # Only a full link held its flows back; what leaves any other changes no rate.
        s.load[link] -= p.weight[e] * s.rate[f]
        if s.level[link] < INF:
            level = min(level, s.level[link])
            dirty = add(link, s.dirty, s.in_dirty, dirty)
    return dirty, level


def _leave(s: State, e: int, link: int) -> None:
    """Take an entry off its link; the last one fills the gap."""
    s.on[link] -= 1
    last, gap = s.first[link] + s.on[link], s.slot[e]
    s.on_flow[gap] = s.on_flow[last]
    s.on_weight[gap] = s.on_weight[last]
    s.on_entry[gap] = s.on_entry[last]
    s.slot[s.on_entry[gap]] = gap


def open_flows(p: Flows, s: State, order: Ids, now: float) -> tuple[int, int, float]:
    """Put flows that start now on their links, at a rate as high as may be, until it is found.

    order: flows that have not started, by start. Return the number of those that do, the number of
    links that they may fill, and their lowest cap.
    """
    # At a rate of inf, or its cap, a flow shows which links it would overfill: these are filled anew.
    moved, suspects, low = 0, 0, INF
    for f in order:
        if p.start[f] > now:
            break
        s.rate[f] = INF
        s.since[f] = now
        moved = add(f, s.moved, s.in_moved, moved)
        low = min(low, p.cap[f])
        for e in range(p.ptr[f], p.ptr[f + 1]):
            link = p.link[e]
            _enter(s, f, e, link, p.weight[e])
            suspects = add(link, s.item, s.suspect, suspects)
    return moved, suspects, low


def _enter(s: State, f: int, e: int, link: int, weight: float) -> None:
    """Put a flow's entry on its link, behind the others."""
    slot = s.first[link] + s.on[link]
    s.on[link] += 1
    s.on_flow[slot] = f
    s.on_weight[slot] = weight
    s.on_entry[slot] = e
    s.slot[e] = slot
