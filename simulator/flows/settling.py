"""New rates take effect: what flows have left, when they end, and which links now carry too much."""

from __future__ import annotations

from simulator.flows.problem import TOGETHER, Flows
from simulator.flows.state import BLOCK, INF, State, add

# A link's load is summed anew when the running sum comes this near to its capacity.
_NEARLY = 1 - 1e-6


def settle(p: Flows, s: State, dirty: int, moved: int, now: float) -> int:
    """Give moved flows their rates from now on, and links their loads. Return how many links may carry too much."""
    ptr, links, weights, capacity = p.ptr, p.link, p.weight, p.capacity
    rates, fresh, left, since, due, stale = s.rate, s.fresh, s.left, s.since, s.due, s.stale
    load, level, in_dirty = s.load, s.level, s.in_dirty
    suspects = 0
    for f in s.moved[:moved]:
        old, new = rates[f], fresh[f]
        if new == old:
            continue
        if old == INF:  # it has just started, and moved nothing
            old = 0.0
        left[f] = max(left[f] - old * (now - since[f]), 0.0)
        since[f] = now
        rates[f] = new
        due[f] = now + left[f] / new
        stale[f // BLOCK] = True
        for e in range(ptr[f], ptr[f + 1]):
            link = links[e]
            load[link] += weights[e] * (new - old)
            # A link that is full, or could have been, was filled with these flows in mind.
            if (load[link] > capacity[link] * _NEARLY) & (level[link] == INF) > in_dirty[link]:
                suspects = add(link, s.item, s.suspect, suspects)
    for link in s.dirty[:dirty]:
        load[link] = capacity[link] - s.room[link]
        in_dirty[link] = False
    return suspects


def overflows(p: Flows, s: State, suspects: int) -> tuple[int, float]:
    """Gather the links that carry too much. Return their number and the lowest level at which one is full."""
    dirty, level = 0, INF
    for link in s.item[:suspects]:
        s.suspect[link] = False
        s.load[link], fill = _fill(p, s, link)
        if fill < INF:
            level = min(level, fill)
            dirty = add(link, s.dirty, s.in_dirty, dirty)
    return dirty, level


def _fill(p: Flows, s: State, link: int) -> tuple[float, float]:
    """Return what a link's flows load on it, and the rate above which they must not go, inf if there is room.

    That rate rises from 0: flows below it keep theirs, the others share what these leave, which is
    more each time.
    """
    flows, weights, rates, caps, capacity = s.on_flow, s.on_weight, s.rate, p.cap, p.capacity[link]
    begin, end = s.first[link], s.first[link] + s.on[link]
    level, last = 0.0, -1.0
    while level > last:
        load, room, share = 0.0, capacity, 0.0
        for slot in range(begin, end):
            weight, rate = weights[slot], min(rates[flows[slot]], caps[flows[slot]])
            load += weight * rate
            if rate <= level:
                room -= weight * rate
            else:
                share += weight
        if load <= capacity * TOGETHER or share == 0.0:
            return load, INF
        last, level = level, room / share
    return load, last
