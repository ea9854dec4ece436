"""What the compiled executor of flows keeps from event to event."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.flows.problem import Flows

# Unsigned: compiled code then needs no check for indices that count from the end.
Ids = NDArray[np.uint32]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

INF = np.inf
BLOCK = 64
"""Flows whose earliest end is kept as one number."""


class State(NamedTuple):
    """What changes from event to event, and room to work in."""

    rate: Floats
    """Present rate, inf for one that has just started [flow] B/s."""
    left: Floats
    """Bytes left at the time `since` [flow] B."""
    since: Floats
    """When the rate changed last [flow] s."""
    due: Floats
    """When it ends at its present rate, inf unless it moves [flow, up to whole blocks] s."""
    earliest: Floats
    """The earliest of `due` [block] s."""
    stale: Flags
    """Whether `earliest` must be found anew [block]."""
    level: Floats
    """Rate of the fastest flows on a full link, inf unless full [link] B/s."""
    load: Floats
    """What its flows use, not exact where the link is not full [link] B/s."""
    first: Ids
    """Where its moving flows begin in on_flow, on_weight and on_entry [link + 1]."""
    on: Ids
    """How many they are [link]."""
    on_flow: Ids
    """The flow [slot]."""
    on_weight: Floats
    """Its weight on the link [slot]."""
    on_entry: Ids
    """Its entry in Flows.link [slot]."""
    slot: Ids
    """Where an entry is in these three [entry]."""
    dirty: Ids
    """Links to be filled anew [up to link]."""
    in_dirty: Flags
    """Whether a link is among them [link]."""
    room: Floats
    """What flows that have stopped rising leave of a dirty link [link] B/s."""
    share: Floats
    """Sum of the weights of its rising flows [link]."""
    rising: Ids
    """How many they are [link]."""
    moved: Ids
    """Flows whose rates are found anew [up to flow]."""
    in_moved: Flags
    """Whether a flow is among them and still rises [flow]."""
    halted: Ids
    """Moved flows in the order in which they stopped rising [up to flow]."""
    fresh: Floats
    """The rate at which they did [flow] B/s."""
    suspect: Flags
    """Whether a link is among those that may carry too much, which are in `item` [link]."""
    key: Floats
    """Heap of the rates at which links fill or flows reach their caps [up to link + flow] B/s."""
    item: Ids
    """Link l is item l; flow f is links + f [up to link + flow]."""


def state_of(p: Flows) -> State:
    """Return the state in which no flow moves."""
    flows, links, entries = len(p.size), len(p.capacity), len(p.link)
    blocks = -(-flows // BLOCK)
    on_link = np.bincount(p.link, minlength=links)  # entries [link]
    return State(
        rate=np.zeros(flows),
        left=p.size.copy(),
        since=np.zeros(flows),
        due=np.full(blocks * BLOCK, INF),
        earliest=np.full(blocks, INF),
        stale=np.zeros(blocks, np.bool_),
        level=np.full(links, INF),
        load=np.zeros(links),
        first=np.concatenate([[0], np.cumsum(on_link)]).astype(np.uint32),
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


def add(item: int, items: Ids, known: Flags, count: int) -> int:
    """Append an item unless it is known. Return how many there are."""
    if known[item]:
        return count
    known[item] = True
    items[count] = item
    return count + 1
