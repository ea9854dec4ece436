"""Events in the order of their times: a heap in which each knows its slot, so that it can be given another time.

Of each rank's and each call's events one is due at most, so a new time replaces the old one, where
SimPy would leave a wake-up to be ignored. Ties break by the order in which times were given.
"""

from __future__ import annotations

from typing import Any

from simulator.engine.records import HEAP, NONE, ORDER, Counts, Ids, Records


def schedule(events: Records, heap: Ids, counts: Counts, number: int, at: float) -> None:
    """Let an event be due at a time, instead of at the one that it was given before."""
    event = events[number]
    event.at = at
    event.order = counts[ORDER]
    counts[ORDER] += 1
    if event.slot < 0:
        event.slot = counts[HEAP]
        counts[HEAP] += 1
    _rise(events, heap, number)
    _sink(events, heap, counts[HEAP], number)


def take(events: Records, heap: Ids, counts: Counts) -> None:
    """Take the first event out of the heap."""
    counts[HEAP] -= 1
    events[heap[0]].slot = NONE
    last = heap[counts[HEAP]]
    if counts[HEAP]:
        events[last].slot = 0
        _sink(events, heap, counts[HEAP], last)


def _before(event: Any, other: Any) -> bool:
    if event.at == other.at:
        return bool(event.order < other.order)
    return bool(event.at < other.at)


def _rise(events: Records, heap: Ids, number: int) -> None:
    """Move an event towards the first slot, past those that are due later."""
    slot = events[number].slot
    while slot:
        above = (slot - 1) // 2
        if not _before(events[number], events[heap[above]]):
            break
        _put(events, heap, heap[above], slot)
        slot = above
    _put(events, heap, number, slot)


def _sink(events: Records, heap: Ids, size: int, number: int) -> None:
    """Move an event away from the first slot, past those that are due earlier."""
    slot = events[number].slot
    while 2 * slot + 1 < size:
        below = 2 * slot + 1
        right = below + 1
        if right < size and _before(events[heap[right]], events[heap[below]]):
            below = right
        if not _before(events[heap[below]], events[number]):
            break
        _put(events, heap, heap[below], slot)
        slot = below
    _put(events, heap, number, slot)


def _put(events: Records, heap: Ids, number: int, slot: int) -> None:
    heap[slot] = number
    events[number].slot = slot
