"""Many flows, compiled: an event changes only the rates that it can change.

Each flow is bounded by a link that is full at its rate, the link's level, or by its cap. When flows
leave or join, progressive filling runs as before up to the lowest level at which one of these links
fills, or would have; flows that are slower keep their rates. Of the others, those change that hang
together with the event over full links. These are filled anew, from that level on (`_refill`). A
link that was not full and now overflows is taken in, and the filling goes on from the level at
which it fills (`_overflows`). In the end every flow is at its cap or on a full link on which none
is faster, and only max-min rates are so.

All in one file, because numba's cache of a compiled function notices changes of its own file only.
In loops arrays have names of their own: numba counts a reference for each field that is taken from
a tuple.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import outer
from simulator.flows.problem import TOGETHER, Flows
from simulator.flows.symmetry import quotient

# Unsigned: compiled code then needs no check for indices that count from the end.
Ids = NDArray[np.uint32]
Floats = NDArray[np.float64]

_INF = np.inf
_BLOCK = 64  # flows whose earliest end is kept as one number
# A link's load is summed anew when the running sum comes this near to its capacity.
_NEARLY = 1 - 1e-6


class _State(NamedTuple):
    """What changes from event to event, and room to work in.

    Per flow: rate [B/s], inf for one that has just started; left [B] at the time since [s]; due
    [s], inf unless moving. Per link: level [B/s], inf unless full; load [B/s], not exact where the
    link is not full; its moving flows, in on_flow[first[l]:first[l] + on[l]] with their weight and
    entry; slot: [entry] where they stand there. In a refill: dirty links, their room, share and
    number of rising flows; moved flows, halted ones, their fresh rate. in_dirty, in_moved (and
    still rising), suspect: membership. key, item: a heap of rates, with links and flows behind.
    """

    rate: Floats
    left: Floats
    since: Floats
    due: Floats
    earliest: Floats
    stale: NDArray[np.bool_]
    level: Floats
    load: Floats
    first: Ids
    on: Ids
    on_flow: Ids
    on_weight: Floats
    on_entry: Ids
    slot: Ids
    dirty: Ids
    in_dirty: NDArray[np.bool_]
    room: Floats
    share: Floats
    rising: Ids
    moved: Ids
    in_moved: NDArray[np.bool_]
    halted: Ids
    fresh: Floats
    suspect: NDArray[np.bool_]
    key: Floats
    item: Ids


def drain(flows: Flows) -> Floats:
    """Return when each flow ends, [flow] s."""
    few, which = quotient(flows)
    few = few._replace(ptr=few.ptr.astype(np.uint32), link=few.link.astype(np.uint32))
    if not len(few.size):
        return flows.start.copy()
    end = _ends(few, np.argsort(few.start, kind="stable").astype(np.uint32))[
        which
    ]  # any, where there are no bytes
    return end if which.min() >= 0 else np.where(which < 0, flows.start, end)


@outer
def _ends(p: Flows, order: Ids) -> Floats:
    """Return when each flow ends, [flow] s. order: the flows by start."""
    s = _state(p)
    end = np.zeros(len(p.size))
    opened, ended, moved = 0, 0, 0
    while ended < len(end):
        now = _next_end(s)
        opening = p.start[order[opened]] if opened < len(order) else _INF
        if now <= opening:
            count, dirty, level = _close(p, s, now, end)
            ended += count
        else:
            now = opening
            moved, suspects, low = _open(p, s, order[opened:], now)
            opened += moved
            dirty, level = _overflows(p, s, suspects)
            level = min(level, low)
        while dirty or moved:
            dirty, moved = _refill(p, s, dirty, moved, level)
            suspects = _settle(p, s, dirty, moved, now)
            dirty, level = _overflows(p, s, suspects)
            moved = 0
    return end


@outer
def _state(p: Flows) -> _State:
    """Return the state in which no flow moves."""
    flows, links, entries = len(p.size), len(p.capacity), len(p.link)
    blocks = -(-flows // _BLOCK)
    first = np.zeros(links + 1, np.uint32)
    for link in p.link:
        first[link + 1] += 1
    return _State(
        rate=np.zeros(flows),
        left=p.size.copy(),
        since=np.zeros(flows),
        due=np.full(blocks * _BLOCK, _INF),
        earliest=np.full(blocks, _INF),
        stale=np.zeros(blocks, np.bool_),
        level=np.full(links, _INF),
        load=np.zeros(links),
        first=np.cumsum(first).astype(np.uint32),
        on=np.zeros(links, np.uint32),
        on_flow=np.empty(entries, np.uint32),
        on_weight=np.empty(entries),
        on_entry=np.empty(entries, np.uint32),
        slot=np.empty(entries, np.uint32),
        dirty=np.empty(links, np.uint32),
        in_dirty=np.zeros(links, np.bool_),
        room=np.empty(links),
        share=np.empty(links),
        rising=np.empty(links, np.uint32),
        moved=np.empty(flows + 1, np.uint32),
        in_moved=np.zeros(flows, np.bool_),
        halted=np.empty(flows + 1, np.uint32),
        fresh=np.empty(flows),
        suspect=np.zeros(links, np.bool_),
        key=np.empty(links + flows),
        item=np.empty(links + flows, np.uint32),
    )


@outer
def _next_end(s: _State) -> float:
    """Return when the next flow ends at the present rates [s], inf if none moves."""
    due, earliest, stale = s.due, s.earliest, s.stale
    soonest = _INF
    for b in range(len(earliest)):
        if stale[b]:
            first = _INF
            for f in range(b * _BLOCK, (b + 1) * _BLOCK):
                first = min(first, due[f])
            earliest[b], stale[b] = first, False
        soonest = min(soonest, earliest[b])
    return soonest


@outer
def _close(p: Flows, s: _State, now: float, end: Floats) -> tuple[int, int, float]:
    """End what is due. Return its number, the number of full links that it leaves, and their lowest level."""
    count, dirty, level = 0, 0, _INF
    for b in range(len(s.earliest)):
        if s.earliest[b] <= now * TOGETHER:
            s.stale[b] = True
            for f in range(b * _BLOCK, (b + 1) * _BLOCK):
                if s.due[f] <= now * TOGETHER:
                    end[f], s.due[f] = now, _INF
                    count += 1
                    for e in range(p.ptr[f], p.ptr[f + 1]):
                        link = p.link[e]
                        _leave(s, e, link)
                        s.load[link] -= p.weight[e] * s.rate[f]
                        if s.level[link] < _INF:
                            level = min(level, s.level[link])
                            dirty = _add(link, s.dirty, s.in_dirty, dirty)
    return count, dirty, level


@outer
def _leave(s: _State, e: int, link: int) -> None:
    """Take an entry off its link; the last one fills the gap."""
    s.on[link] -= 1
    last, gap = s.first[link] + s.on[link], s.slot[e]
    s.on_flow[gap], s.on_weight[gap], s.on_entry[gap] = (
        s.on_flow[last],
        s.on_weight[last],
        s.on_entry[last],
    )
    s.slot[s.on_entry[gap]] = gap


@outer
def _open(p: Flows, s: _State, order: Ids, now: float) -> tuple[int, int, float]:
    """Put flows that start now on their links, at a rate as high as may be, until it is found.

    Return their number, the number of links that they may fill, and their lowest cap.
    """
    moved, suspects, low = 0, 0, _INF
    for f in order:
        if p.start[f] > now:
            break
        s.rate[f], s.since[f] = _INF, now
        moved = _add(f, s.moved, s.in_moved, moved)
        low = min(low, p.cap[f])
        for e in range(p.ptr[f], p.ptr[f + 1]):
            link = p.link[e]
            at = s.first[link] + s.on[link]
            s.on[link] += 1
            s.on_flow[at], s.on_weight[at], s.on_entry[at], s.slot[e] = f, p.weight[e], e, at
            suspects = _add(link, s.item, s.suspect, suspects)
    return moved, suspects, low


@outer
def _add(item: int, items: Ids, known: NDArray[np.bool_], count: int) -> int:
    """Append an item unless it is known. Return how many there are."""
    if known[item]:
        return count
    known[item] = True
    items[count] = item
    return count + 1


@outer
def _refill(p: Flows, s: _State, dirty: int, moved: int, level: float) -> tuple[int, int]:
    """Fill dirty links, and all that hang together with them, from a level on. Return how many are dirty and moved."""
    dirty, moved = _gather(p, s, dirty, moved, level)
    count, stopped = _heap(p, s, dirty, moved), 0
    ptr, links, weights, caps, fresh, halted = p.ptr, p.link, p.weight, p.cap, s.fresh, s.halted
    room, share, rising, in_moved, keys, items = (
        s.room,
        s.share,
        s.rising,
        s.in_moved,
        s.key,
        s.item,
    )
    while stopped < moved:
        before, item, fill = stopped, items[0], keys[0]
        if item >= len(room):  # a flow at its cap
            halted[stopped] = item - len(room)
            stopped += in_moved[item - len(room)]
        elif rising[item]:
            fill = room[item] / share[item]
            if fill > max(keys[0], level * TOGETHER):  # flows on it have stopped since: later
                keys[0] = fill
                _sift(keys, items, 0, count)
                continue
            stopped = _list(
                s.on_flow, s.first[item], s.first[item] + s.on[item], in_moved, halted, stopped
            )
        if stopped > before:
            level = fill if fill > level * TOGETHER else level
            if item < len(room):
                s.level[item] = level
            for i in range(before, stopped):
                f = halted[i]
                rate = min(level, caps[f])
                fresh[f], in_moved[f] = rate, False
                for e in range(
                    ptr[f], ptr[f + 1]
                ):  # what this makes of links that are not dirty is never read
                    room[links[e]] -= weights[e] * rate
                    share[links[e]] -= weights[e]
                    rising[links[e]] -= 1
        count -= 1
        keys[0], items[0] = keys[count], items[count]
        _sift(keys, items, 0, count)
    return dirty, moved


@outer
def _list(
    flows: Ids, begin: int, end: int, wanted: NDArray[np.bool_], into: Ids, count: int
) -> int:
    """Append those of some flows that are wanted. Return how many there are."""
    for at in range(begin, end):
        into[count] = flows[
            at
        ]  # without a branch, which processors would guess wrong half of the time
        count += wanted[flows[at]]
    return count


@outer
def _gather(p: Flows, s: _State, dirty: int, moved: int, level: float) -> tuple[int, int]:
    """Gather the flows at or above a level that hang together over full links, and those links with their room."""
    ptr, links, rates, levels = p.ptr, p.link, s.rate, s.level
    on_flow, on_weight, in_dirty, in_moved, gathered = (
        s.on_flow,
        s.on_weight,
        s.in_dirty,
        s.in_moved,
        s.moved,
    )
    done = 0
    while done < dirty:
        link = s.dirty[done]
        done += 1
        room, share, rising, before = p.capacity[link], 0.0, 0, moved
        for at in range(s.first[link], s.first[link] + s.on[link]):
            f, weight, rate = on_flow[at], on_weight[at], rates[on_flow[at]]
            high = rate >= level
            room -= 0.0 if high else weight * rate
            share += weight if high else 0.0
            rising += high
            gathered[moved] = f
            moved += high > in_moved[f]
            in_moved[f] |= high
        s.room[link], s.share[link], s.rising[link], levels[link] = room, share, rising, _INF
        for i in range(before, moved):
            for e in range(ptr[gathered[i]], ptr[gathered[i] + 1]):
                if (levels[links[e]] < _INF) > in_dirty[links[e]]:
                    dirty = _add(links[e], s.dirty, in_dirty, dirty)
    return dirty, moved


@outer
def _heap(p: Flows, s: _State, dirty: int, moved: int) -> int:
    """Order dirty links by the rate at which they fill, and moved flows by their caps. Return how many."""
    count = 0
    for i in range(dirty):
        link = s.dirty[i]
        if s.rising[link]:
            s.key[count], s.item[count] = s.room[link] / s.share[link], link
            count += 1
    for i in range(moved):
        f = s.moved[i]
        if s.in_moved[f] and p.cap[f] < _INF:
            s.key[count], s.item[count] = p.cap[f], len(p.capacity) + f
            count += 1
    for place in range(count // 2 - 1, -1, -1):
        _sift(s.key, s.item, place, count)
    return count


@outer
def _sift(keys: Floats, items: Ids, place: int, count: int) -> None:
    """Let an item of a heap sink to its place."""
    key, item = keys[place], items[place]
    while True:
        child = 2 * place + 1
        if child + 1 < count and keys[child + 1] < keys[child]:
            child += 1
        if child >= count or keys[child] >= key:
            break
        keys[place], items[place] = keys[child], items[child]
        place = child
    keys[place], items[place] = key, item


@outer
def _settle(p: Flows, s: _State, dirty: int, moved: int, now: float) -> int:
    """Give moved flows their rates from now on, and links their loads. Return how many links may carry too much."""
    ptr, links, weights, rates, left, since = p.ptr, p.link, p.weight, s.rate, s.left, s.since
    capacity, load, level, in_dirty, suspects = p.capacity, s.load, s.level, s.in_dirty, 0
    for i in range(moved):
        f = s.moved[i]
        old, new = rates[f], s.fresh[f]
        if new == old:
            continue
        old = 0.0 if old == _INF else old
        left[f] = max(left[f] - old * (now - since[f]), 0.0)
        since[f], rates[f] = now, new
        s.due[f] = now + left[f] / new
        s.stale[f // _BLOCK] = True
        for e in range(ptr[f], ptr[f + 1]):
            link = links[e]
            load[link] += weights[e] * (new - old)
            # A link that is full, or could have been, was filled with these flows in mind.
            if (load[link] > capacity[link] * _NEARLY) & (level[link] == _INF) > in_dirty[link]:
                suspects = _add(link, s.item, s.suspect, suspects)
    for i in range(dirty):
        link = s.dirty[i]
        load[link], in_dirty[link] = capacity[link] - s.room[link], False
    return suspects


@outer
def _overflows(p: Flows, s: _State, suspects: int) -> tuple[int, float]:
    """Gather the links that carry too much. Return their number and the lowest level at which one is full."""
    dirty, level = 0, _INF
    for i in range(suspects):
        link = s.item[i]
        s.suspect[link] = False
        begin, end = s.first[link], s.first[link] + s.on[link]
        s.load[link], fill = _fill(
            p.capacity[link], begin, end, s.on_flow, s.on_weight, s.rate, p.cap
        )
        if fill < _INF:
            level = min(level, fill)
            dirty = _add(link, s.dirty, s.in_dirty, dirty)
    return dirty, level


@outer
def _fill(
    capacity: float,
    begin: int,
    end: int,
    on_flow: Ids,
    on_weight: Floats,
    rates: Floats,
    caps: Floats,
) -> tuple[float, float]:
    """Return what flows load on their link, and the rate above which they must not go, inf if there is room."""
    level, last = 0.0, -1.0
    while level > last:
        load, room, share = 0.0, capacity, 0.0
        for at in range(begin, end):
            weight, rate = on_weight[at], min(rates[on_flow[at]], caps[on_flow[at]])
            load += weight * rate
            if rate <= level:
                room -= weight * rate
            else:
                share += weight
        if load <= capacity * TOGETHER or share == 0.0:
            return load, _INF
        last, level = level, room / share
    return load, last
