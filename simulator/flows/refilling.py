"""Progressive filling of some links, from a level on: who takes part, and in which order rates stop rising."""

from __future__ import annotations

from simulator.flows.problem import TOGETHER, Flows
from simulator.flows.state import INF, Flags, Floats, Ids, State, add


def refill(p: Flows, s: State, dirty: int, moved: int, level: float) -> tuple[int, int]:
    """Fill dirty links, and all that hang together with them, from a level on. Return how many are dirty and moved.

    Rates rise together. The heap says which link fills next, or which flow reaches its cap; the
    flows that this stops leave their links to the others. Keys of links are too low where flows
    have stopped since they were made: such a link goes back into the heap with a new one.
    """
    dirty, moved = _gather(p, s, dirty, moved, level)
    count, stopped = _heap(p, s, dirty, moved), 0
    ptr, links, weights, caps, fresh = p.ptr, p.link, p.weight, p.cap, s.fresh
    room, share, rising, in_moved = s.room, s.share, s.rising, s.in_moved
    keys, items, halted = s.key, s.item, s.halted
    first, on, on_flow, levels = s.first, s.on, s.on_flow, s.level
    while stopped < moved:
        before, item, fill = stopped, items[0], keys[0]
        if item >= len(room):  # a flow at its cap
            halted[stopped] = item - len(room)
            stopped += in_moved[item - len(room)]
        elif rising[item]:
            fill = room[item] / share[item]
            if fill > max(keys[0], level * TOGETHER):
                keys[0] = fill
                _sift(keys, items, 0, count)
                continue
            begin, end = first[item], first[item] + on[item]
            stopped = _list(on_flow, begin, end, in_moved, halted, stopped)
        if stopped > before:
            if fill > level * TOGETHER:
                level = fill
            if item < len(room):
                levels[item] = level
            for i in range(before, stopped):
                f = halted[i]
                rate = min(level, caps[f])
                fresh[f] = rate
                in_moved[f] = False
                # What this makes of links that are not dirty is never read.
                for e in range(ptr[f], ptr[f + 1]):
                    link = links[e]
                    room[link] -= weights[e] * rate
                    share[link] -= weights[e]
                    rising[link] -= 1
        count = _drop_first(keys, items, count)
    return dirty, moved


def _drop_first(keys: Floats, items: Ids, count: int) -> int:
    """Take the first item out of a heap. Return how many are left."""
    count -= 1
    keys[0] = keys[count]
    items[0] = items[count]
    _sift(keys, items, 0, count)
    return count


def _list(flows: Ids, begin: int, end: int, wanted: Flags, into: Ids, count: int) -> int:
    """Append those of some flows that are wanted. Return how many there are."""
    for slot in range(begin, end):
        f = flows[slot]
        # Without a branch, which processors would guess wrong half of the time.
        into[count] = f
        count += wanted[f]
    return count


def _gather(p: Flows, s: State, dirty: int, moved: int, level: float) -> tuple[int, int]:
    """Gather the flows at or above a level that hang together over full links, and those links with their room."""
    ptr, links, levels, in_dirty = p.ptr, p.link, s.level, s.in_dirty
    done = 0
    while done < dirty:
        link = s.dirty[done]
        done += 1
        before = moved
        moved = _gather_link(p, s, link, moved, level)
        levels[link] = INF
        for f in s.moved[before:moved]:
            for e in range(ptr[f], ptr[f + 1]):
                other = links[e]
                if (levels[other] < INF) > in_dirty[other]:
                    dirty = add(other, s.dirty, in_dirty, dirty)
    return dirty, moved


def _gather_link(p: Flows, s: State, link: int, moved: int, level: float) -> int:
    """Gather the flows of a link that go at a level or above; give the others theirs of its room. Return how many."""
    on_flow, on_weight, rates = s.on_flow, s.on_weight, s.rate
    gathered, in_moved = s.moved, s.in_moved
    room, share, rising = p.capacity[link], 0.0, 0
    for slot in range(s.first[link], s.first[link] + s.on[link]):
        f, weight = on_flow[slot], on_weight[slot]
        rate = rates[f]
        high = rate >= level
        room -= 0.0 if high else weight * rate
        share += weight if high else 0.0
        rising += high
        gathered[moved] = f
        moved += high > in_moved[f]
        in_moved[f] |= high
    s.room[link] = room
    s.share[link] = share
    s.rising[link] = rising
    return moved


def _heap(p: Flows, s: State, dirty: int, moved: int) -> int:
    """Order dirty links by the rate at which they fill, and moved flows by their caps. Return how many."""
    keys, items, links = s.key, s.item, len(p.capacity)
    count = 0
    for link in s.dirty[:dirty]:
        if s.rising[link]:
            keys[count] = s.room[link] / s.share[link]
            items[count] = link
            count += 1
    for f in s.moved[:moved]:
        if s.in_moved[f] and p.cap[f] < INF:
            keys[count] = p.cap[f]
            items[count] = links + f
            count += 1
    for slot in range(count // 2 - 1, -1, -1):
        _sift(keys, items, slot, count)
    return count


def _sift(keys: Floats, items: Ids, slot: int, count: int) -> None:
    """Let an item of a heap sink to where it belongs."""
    key, item = keys[slot], items[slot]
    while True:
        child = 2 * slot + 1
        if child + 1 < count and keys[child + 1] < keys[child]:
            child += 1
        if child >= count or keys[child] >= key:
            break
        keys[slot] = keys[child]
        items[slot] = items[child]
        slot = child
    keys[slot] = key
    items[slot] = item
