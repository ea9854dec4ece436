"""Events in the order of their times: a heap in which each knows its place, so that it can be given another time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import inner
from simulator.engine.state import NONE, Ids, Records

HEAP, ORDER = range(2)
"""places in State.counts: events in the heap, times given"""


@inner
def schedule(events: Records, heap: Ids, count: NDArray[np.int64], number: int, at: float) -> None:
    """Let an event be due at a time, instead of at the one that it was given before."""
    event = events[number]
    event.at, event.order = at, count[ORDER]
    count[ORDER] += 1
    if event.place < 0:
        event.place = count[HEAP]
        count[HEAP] += 1
    _rise(events, heap, number)
    _sink(events, heap, count[HEAP], number)


@inner
def take(events: Records, heap: Ids, count: NDArray[np.int64]) -> None:
    """Take the first event out of the heap."""
    count[HEAP] -= 1
    events[heap[0]].place = NONE
    last = heap[count[HEAP]]
    if count[HEAP]:
        events[last].place = 0
        _sink(events, heap, count[HEAP], last)


@inner
def _before(one: Any, other: Any) -> bool:
    return bool(one.at < other.at or (one.at == other.at and one.order < other.order))


@inner
def _rise(events: Records, heap: Ids, number: int) -> None:
    at = events[number].place
    while at:
        above = (at - 1) // 2
        if not _before(events[number], events[heap[above]]):
            break
        heap[at] = heap[above]
        events[heap[at]].place = at
        at = above
    heap[at] = number
    events[number].place = at


@inner
def _sink(events: Records, heap: Ids, size: int, number: int) -> None:
    at = events[number].place
    while 2 * at + 1 < size:
        below = 2 * at + 1
        if below + 1 < size and _before(events[heap[below + 1]], events[heap[below]]):
            below += 1
        if not _before(events[heap[below]], events[number]):
            break
        heap[at] = heap[below]
        events[heap[at]].place = at
        at = below
    heap[at] = number
    events[number].place = at
