"""The rules of `reference`, compiled: the same events in the same order, and the same bits.

An event is a number: rank r ends its kernel, or call c of a coflow ends its latency or its bytes.
One of each kind is due at most, so that a new time replaces the old one in the heap where SimPy
would leave a wake-up to be ignored. Ties break by the order in which times were given.

Lists are chains of numbers that end with -1: a row stands in the queue of its rank or among the
members of its call, a crossing (a call on one of its links) among the users of that link, both in
the order in which they came. Sums are taken in the order of `reference` and of
`fairshare.max_min_few`, so that no bit differs.

Things of one kind are the records of one array: a call that takes forty arrays spends its time
counting references. Only the outermost function is cached, with the others in it; the cache notices
changes of this file alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import inner, outer
from simulator.engine.heap import HEAP, ORDER, schedule, take
from simulator.engine.state import NONE, Ids, Records, State, state_of
from simulator.errors import EngineError
from simulator.fairshare import TOGETHER, UNBOUNDED
from simulator.program import Program
from simulator.timeline import Timeline

_INF = np.inf
_DONE, _STAMP, _UNSETTLED, _FAILED = range(ORDER + 1, ORDER + 5)
"""places in State.counts: rows ended, searches begun, ranks to settle, whether a rate is unbounded"""


def run(program: Program) -> Timeline:
    """Execute one step. Rows that wait for each other keep the end -1. Errors: EngineError if a rate is unbounded."""
    state = state_of(program)
    _execute(state)
    if state.counts[_FAILED]:
        raise EngineError(UNBOUNDED)
    arrive, start, end = (
        np.ascontiguousarray(state.row[name][:-1]) for name in ("arrive", "start", "end")
    )
    return Timeline(program, arrive, start, end, "compiled", int(state.counts[_DONE]))


@outer
def _execute(s: State) -> None:
    """Run to the end, or until a rate is unbounded."""
    ranks, calls, events, heap, count = len(s.rank), s.call, s.event, s.heap, s.counts
    for row in range(len(s.row) - 1):
        if s.row[row].waiting == 0:
            _ready(s, row, 0.0)
    _settle(s, 0.0)
    while count[HEAP] and not count[_FAILED]:
        event = heap[0]
        now = events[event].at
        take(events, heap, count)
        if event < ranks:
            _computed(s, event, now)
        elif calls[event - ranks].open:
            _close(s, event - ranks, now)
        else:
            _begin(s, event - ranks, now)


@inner
def _ready(s: State, row: int, now: float) -> None:
    """Start a row whose waits are over, or queue it for its SMs or its peers."""
    rows = s.row
    rows[row].arrive = now
    rank = s.rank[rows[row].rank]
    if rows[row].call >= 0:
        _join(s, row, now)
    elif rank.sms < 0 and rank.queue < 0:
        _compute(s, row, now)
    else:
        if rank.queue < 0:
            rank.queue = row
        else:
            rows[rank.queued].following = row
        rank.queued = row


@inner
def _compute(s: State, row: int, now: float) -> None:
    rows = s.row
    rank = rows[row].rank
    rows[row].start = now
    s.rank[rank].sms = row
    _unsettle(s.unsettled, s.counts, rank)
    schedule(s.event, s.heap, s.counts, rank, now + rows[row].seconds)


@inner
def _unsettle(unsettled: Ids, count: NDArray[np.int64], rank: int) -> None:
    unsettled[count[_UNSETTLED]] = rank
    count[_UNSETTLED] += 1


@inner
def _computed(s: State, number: int, now: float) -> None:
    rank = s.rank[number]
    row = rank.sms
    rank.sms = NONE
    _unsettle(s.unsettled, s.counts, number)
    _finish(s, row, now)
    if rank.sms < 0 and rank.queue >= 0:  # what waited longest goes first
        row = rank.queue
        rank.queue = s.row[row].following
        _compute(s, row, now)
    _settle(s, now)


@inner
def _finish(s: State, row: int, now: float) -> None:
    """End a row and make ready what waited for it alone."""
    rows, followers = s.row, s.follower
    s.counts[_DONE] += 1
    rows[row].end = now
    for i in range(rows[row].first, rows[row + 1].first):
        follower = followers[i]
        rows[follower].waiting -= 1
        if rows[follower].waiting == 0:
            _ready(s, follower, now)


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
    if call.arrived == s.kind[call.kind].members:
        row = call.first
        while row >= 0:
            rows[row].start = now
            row = rows[row].following
        schedule(s.event, s.heap, s.counts, len(s.rank) + number, now + s.kind[call.kind].latency)


@inner
def _begin(s: State, number: int, now: float) -> None:
    """Begin to move bytes, after the latency."""
    call = s.call[number]
    kind = s.kind[call.kind]
    call.open, call.left, call.since = 1, kind.size, now
    _enter(s, number)
    if kind.begin == s.kind[call.kind + 1].begin:
        _close(s, number, now)
    else:
        s.counts[_STAMP] += 1
        call.mark = s.counts[_STAMP]
        s.found[0] = number
        _share(s, 1, now)


@inner
def _enter(s: State, number: int) -> None:
    """Put a coflow behind the others on its links, and at its ranks if what they compute slows it."""
    crossings, rows, call = s.crossing, s.row, s.call[number]
    kind = s.kind[call.kind]
    for i in range(s.kind[call.kind + 1].begin - kind.begin):
        link, at = s.link[s.part[kind.begin + i].link], call.begin + i
        crossings[at].before = link.last
        if link.last < 0:
            link.users = at
        else:
            crossings[link.last].after = at
        link.last = at
        link.on += 1
    row = call.first if kind.beside > 1.0 else NONE
    while row >= 0:
        rank = s.rank[rows[row].rank]
        rows[row].earlier = rank.last_slowed
        if rank.last_slowed < 0:
            rank.slowed = row
        else:
            rows[rank.last_slowed].later = row
        rank.last_slowed = row
        row = rows[row].following


@inner
def _close(s: State, number: int, now: float) -> None:
    """End a coflow for all its members and give its share of the links to the others."""
    touched = _leave(s, number)
    if touched:
        _share(s, touched, now)
    row = s.call[number].first
    while row >= 0:
        _finish(s, row, now)
        row = s.row[row].following
    _settle(s, now)


@inner
def _leave(s: State, number: int) -> int:
    """Take a coflow off its links and ranks. Return how many share links with it: they are in s.found."""
    crossings, rows, call, count = s.crossing, s.row, s.call[number], 0
    kind = s.kind[call.kind]
    s.counts[_STAMP] += 1
    for i in range(s.kind[call.kind + 1].begin - kind.begin):
        link, crossing = s.link[s.part[kind.begin + i].link], crossings[call.begin + i]
        if crossing.before < 0:
            link.users = crossing.after
        else:
            crossings[crossing.before].after = crossing.after
        if crossing.after < 0:
            link.last = crossing.before
        else:
            crossings[crossing.after].before = crossing.before
        link.on -= 1
        count = _meet(s.call, crossings, link.users, s.counts[_STAMP], s.found, count)
    at = call.first if kind.beside > 1.0 else NONE
    while at >= 0:
        row = rows[at]
        rank = s.rank[row.rank]
        if row.earlier < 0:
            rank.slowed = row.later
        else:
            rows[row.earlier].later = row.later
        if row.later < 0:
            rank.last_slowed = row.earlier
        else:
            rows[row.later].earlier = row.earlier
        at = row.following
    return count


@inner
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


@inner
def _settle(s: State, now: float) -> None:
    """Tell the coflows of ranks that began or stopped to compute, once an event's work is handed out."""
    rows, calls, slowed, ranks = s.row, s.call, 0, s.counts[_UNSETTLED]
    s.counts[_UNSETTLED] = 0
    s.counts[_STAMP] += 1
    for i in range(ranks):
        rank = s.rank[s.unsettled[i]]
        busy = 1 if rank.sms >= 0 else 0
        if busy != rank.computing:
            rank.computing = busy
            row = rank.slowed
            while row >= 0:
                number = rows[row].call
                if calls[number].mark != s.counts[_STAMP]:
                    calls[number].mark = s.counts[_STAMP]
                    s.found[slowed] = number
                    slowed += 1
                row = rows[row].later
    if slowed:
        _share(s, slowed, now)


@inner
def _share(s: State, changed: int, now: float) -> None:
    """Give new rates to the coflows in s.found, which are marked, and to all that share links with them."""
    found = s.found
    flows = _component(s, changed)
    first = s.call[found[0]]
    if flows == 1 and s.kind[first.kind].lone:
        first.fresh = _cap(s, first)
    elif not _fill(s, flows):
        s.counts[_FAILED] = 1
        return
    for i in range(flows):
        call = s.call[found[i]]
        if call.fresh != call.rate:
            call.left -= call.rate * (now - call.since)
            call.since, call.rate = now, call.fresh
            due = now + max(0.0, call.left) / call.rate
            schedule(s.event, s.heap, s.counts, len(s.rank) + found[i], due)


@inner
def _component(s: State, count: int) -> int:
    """Complete s.found by all coflows that hang together with those in it over links. Return how many there are."""
    calls, kinds, parts, links, found, todo = s.call, s.kind, s.part, s.link, s.found, s.todo
    todo[:count] = found[:count]
    left = count
    while left:
        left -= 1
        kind = calls[todo[left]].kind
        for i in range(kinds[kind].begin, kinds[kind + 1].begin):
            link = links[parts[i].link]
            if link.on > 1:
                more = _meet(calls, s.crossing, link.users, s.counts[_STAMP], found, count)
                todo[left : left + more - count] = found[count:more]
                left += more - count
                count = more
    return count


@inner
def _cap(s: State, call: Any) -> float:
    """Return the fastest that a coflow's kernel may go [B/s]."""
    kind, rows, ranks = s.kind[call.kind], s.row, s.rank
    if kind.beside > 1.0:
        row = call.first
        while row >= 0:
            if ranks[rows[row].rank].computing:
                return float(kind.rate / kind.beside)
            row = rows[row].following
    return float(kind.rate)


@inner
def _fill(s: State, flows: int) -> bool:
    """Find the max-min fair rate of the coflows in s.found: `fresh`. Return whether all are bounded.

    As `fairshare.max_min_few`, operation by operation.
    """
    calls, kinds, parts, links, found, rising = s.call, s.kind, s.part, s.link, s.found, s.rising
    touched = s.touched[: _list_links(s, flows)]
    for i in range(flows):
        rising[i] = found[i]
        calls[found[i]].cap = _cap(s, calls[found[i]])
    level, left = 0.0, flows
    while left:
        lowest = _INF
        for number in rising[:left]:
            lowest = min(lowest, calls[number].cap)
            _add(kinds, parts, links, calls[number].kind)
        for at in touched:
            if links[at].share > 0:
                lowest = min(lowest, links[at].room / links[at].share)
        level = max(level, lowest)
        if level == _INF:
            return False
        _mark_full(links, touched, level)
        stay = 0
        for number in rising[:left]:
            if calls[number].cap <= level * TOGETHER or _stopped(
                kinds, parts, links, calls[number].kind
            ):
                calls[number].fresh = level
                _add(kinds, parts, links, calls[number].kind)
            else:
                rising[stay] = number
                stay += 1
        left = stay
        for at in touched:
            links[at].room -= level * links[at].share
            links[at].share = 0.0
    return True


@inner
def _mark_full(links: Records, touched: Ids, level: float) -> None:
    """Mark the links that are full when all rates have risen to a level, and begin to sum shares anew."""
    for at in touched:
        link = links[at]
        link.full = 1 if link.share > 0 and link.room / link.share <= level * TOGETHER else 0
        link.share = 0.0


@inner
def _list_links(s: State, flows: int) -> int:
    """List the links of the coflows in s.found in s.touched, with all their room. Return how many there are."""
    kinds, parts, links, touched, count, stamp = (
        s.kind,
        s.part,
        s.link,
        s.touched,
        0,
        s.counts[_STAMP],
    )
    for i in range(flows):
        kind = s.call[s.found[i]].kind
        for e in range(kinds[kind].begin, kinds[kind + 1].begin):
            at = parts[e].link
            if links[at].seen != stamp:
                links[at].seen, links[at].room, links[at].share = stamp, links[at].capacity, 0.0
                touched[count] = at
                count += 1
    return count


@inner
def _add(kinds: Records, parts: Records, links: Records, kind: int) -> None:
    """Add the weights of a coflow to the shares of its links."""
    for i in range(kinds[kind].begin, kinds[kind + 1].begin):
        links[parts[i].link].share += parts[i].weight


@inner
def _stopped(kinds: Records, parts: Records, links: Records, kind: int) -> bool:
    """Tell whether a coflow crosses a full link."""
    for i in range(kinds[kind].begin, kinds[kind + 1].begin):
        if links[parts[i].link].full and parts[i].weight > 0:
            return True
    return False
