"""Flows and links that are alike, as one each: the coarsest equitable partition, by colour refinement.

Links start with the colour of their capacity. A flow's colour follows from its size, start and cap
and from the colours of its links with their weights; a link's next colour from its own and those of
its flows. When links no longer part, every member of a class meets every other class in the same
way, so all members of a class have the same rate at every time, and one flow and one link of each
class stand for all. Flows that are equal always share a class.

It does as `simulator.refinement`, but compiled, one pass over the entries for each round: every call
of `drain` begins with it, so that temporaries of millions of entries would cost more than what is
saved. And it gives up after some rounds, where the other goes on to the coarsest partition.

Colours are 64-bit hashes that do not depend on order (sums of mixed numbers): two classes among c
are confused with a probability of about c^2 / 4e19.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import MachineCode
from simulator.flows.problem import Flows

Hashes = NDArray[np.uint64]
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

# More rounds than this are for graphs where an odd flow is felt from far away; there is little to
# gain.
_ROUNDS = 16

_GOLDEN, _ONE, _NONE = np.uint64(0x9E3779B97F4A7C15), np.uint64(1), np.uint64(0)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_LEAST = 16
"""Slots of the smallest hash table."""


class Classes(NamedTuple):
    """Which items are alike."""

    number: Ids
    """Class of each item, -1 for one of colour 0 [item]."""
    first: Ids
    """First item of each class [up to item]."""
    size: Ids
    """How many items it has [up to item]."""
    classes: Ids
    """How many classes there are, alone in its array."""


class Bits(NamedTuple):
    """Floats of the problem as their bits."""

    capacity: Hashes
    size: Hashes
    start: Hashes
    cap: Hashes
    weight: Hashes


class Room(NamedTuple):
    """Room for the colours of one round of refinement, and for the table that counts them."""

    seed: Hashes
    """What each flow is by itself, 0 for a flow without bytes [flow]."""
    of_flow: Hashes
    """Of a flow with its links, written by `_sweep` [flow]."""
    of_link: Hashes
    """Sum over the flows of a link, written by `_sweep` [link]."""
    colour: Hashes
    """Of links, 0 for links without limit, which do not count [link]."""
    finer: Hashes
    """The next ones [link]."""
    key: Hashes
    """Colours in the table [slot]."""
    value: Ids
    """Their classes [slot]."""


class Work(NamedTuple):
    """All that the compiled code reads and writes: it makes no array itself."""

    flows: Flows
    """The problem."""
    bits: Bits
    """Its floats."""
    room: Room
    """Where it works."""
    of_flow: Classes
    """Classes of flows, written."""
    of_link: Classes
    """Classes of links, written."""
    ptr: Ids
    """The class of flows c crosses the classes of links link[ptr[c]:ptr[c + 1]], written [up to flow + 1]."""
    link: Ids
    """Written [up to entry]."""
    weight: Floats
    """What all its flows take together of one link of that class, at rate 1, written [up to entry]."""
    latest: Ids
    """Entry that named a class of links last [link]."""


def quotient(flows: Flows) -> tuple[Flows, Ids]:
    """Return one flow over one link of each class, and the class of each flow, -1 for a flow without bytes.

    Links of the quotient are those of finite capacity; a flow crosses each at most once, with
    weight > 0: what all flows of its class take together of one link of that class, at rate 1.
    """
    work = _work(flows)
    CODE.ready()(work)
    classes = int(work.of_flow.classes[0])
    first = work.of_flow.first[:classes]
    entries = int(work.ptr[classes])
    few = Flows(
        flows.capacity[work.of_link.first[: work.of_link.classes[0]]],
        work.ptr[: classes + 1].copy(),
        work.link[:entries].copy(),
        work.weight[:entries].copy(),
        flows.size[first],
        flows.start[first],
        flows.cap[first],
    )
    return few, work.of_flow.number


def _work(flows: Flows) -> Work:
    """Return a problem with room to work in."""
    count, links, entries = len(flows.size), len(flows.capacity), len(flows.link)
    slots = _slots(max(count, links))
    return Work(
        flows,
        Bits(
            capacity=(flows.capacity + 0.0).view(np.uint64),  # + 0.0 makes -0.0 equal to 0.0
            size=flows.size.view(np.uint64),
            start=flows.start.view(np.uint64),
            cap=flows.cap.view(np.uint64),
            weight=flows.weight.view(np.uint64),
        ),
        Room(
            seed=np.empty(count, np.uint64),
            of_flow=np.empty(count, np.uint64),
            of_link=np.empty(links, np.uint64),
            colour=np.empty(links, np.uint64),
            finer=np.empty(links, np.uint64),
            key=np.empty(slots, np.uint64),
            value=np.empty(slots, np.int64),
        ),
        _unknown(count),
        _unknown(links),
        ptr=np.zeros(count + 1, np.int64),
        link=np.empty(entries, np.int64),
        weight=np.empty(entries),
        latest=np.empty(links, np.int64),
    )


def _slots(items: int) -> int:
    """Return the slots of a hash table of so many items: a power of 2, half of it free."""
    slots = _LEAST
    while slots < 2 * items:
        slots *= 2
    return slots


def _unknown(items: int) -> Classes:
    """Return room for the classes of items."""
    number, first, size = np.empty((3, items), dtype=np.int64)
    return Classes(number, first, size, classes=np.zeros(1, np.int64))


def _find(w: Work) -> None:
    """Write the quotient of a problem."""
    room = w.room
    _seed(w)
    if not _refine(w):
        # Every link on its own is equitable too; it still makes one of equal flows.
        for link in range(len(room.colour)):
            if room.colour[link] != _NONE:
                room.colour[link] = _mix(np.uint64(link)) | _ONE
        _sweep(w)
    _classify(room.of_flow, w.of_flow, room)
    _classify(room.colour, w.of_link, room)
    _fold(w)


def _seed(w: Work) -> None:
    """Write the first colours of flows and of links: what each is by itself."""
    bits, seed, colour = w.bits, w.room.seed, w.room.colour
    for link in range(len(colour)):
        colour[link] = _NONE
        if w.flows.capacity[link] < np.inf:
            colour[link] = _mix(bits.capacity[link] + _GOLDEN) | _ONE
    for f in range(len(seed)):
        seed[f] = _NONE
        if w.flows.size[f] != 0:
            timed = _mix(bits.size[f]) + bits.start[f] + _GOLDEN
            seed[f] = _mix(_mix(timed) + bits.cap[f]) | _ONE


def _refine(w: Work) -> bool:
    """Write the colours of links when they no longer part; return whether they came to that."""
    room, colour, finer = w.room, w.room.colour, w.room.finer
    parts = _classify(colour, w.of_link, room)
    for _ in range(_ROUNDS):
        _sweep(w)
        for link in range(len(colour)):
            finer[link] = _NONE
            if colour[link] != _NONE:
                finer[link] = _mix(colour[link] * _GOLDEN + room.of_link[link]) | _ONE
        before, parts = parts, _classify(finer, w.of_link, room)
        if parts == before:
            return True
        for link in range(len(colour)):
            colour[link] = finer[link]
    return False


def _mix(x: np.uint64) -> np.uint64:
    """Return a number whose bits all depend on all bits of another (splitmix64, Steele et al., OOPSLA 2014)."""
    x = (x ^ (x >> _S30)) * _M1
    x = (x ^ (x >> _S27)) * _M2
    return x ^ (x >> _S31)


def _sweep(w: Work) -> None:
    """Write the colour of every flow, from its links, and the sum of flows' colours on every link."""
    of_link = w.room.of_link
    for link in range(len(of_link)):
        of_link[link] = _NONE
    if len(w.flows.weight):
        _sweep_weighted(w.flows, w.bits.weight, w.room)
    else:
        _sweep_plain(w.flows, w.room)


def _sweep_plain(flows: Flows, room: Room) -> None:
    """Do so where every weight is 1."""
    ptr, links = flows.ptr, flows.link
    seed, of_flow, of_link, colour = room.seed, room.of_flow, room.of_link, room.colour
    for f in range(len(seed)):
        total = seed[f]
        if total != _NONE:
            for e in range(ptr[f], ptr[f + 1]):
                total += colour[links[e]]
            total = _mix(total) | _ONE
            for e in range(ptr[f], ptr[f + 1]):
                of_link[links[e]] += total
        of_flow[f] = total


def _sweep_weighted(flows: Flows, bits: Hashes, room: Room) -> None:
    """Do so with weights, whose bits are given. A link of weight 0 does not count."""
    ptr, links, weights = flows.ptr, flows.link, flows.weight
    seed, of_flow, of_link, colour = room.seed, room.of_flow, room.of_link, room.colour
    for f in range(len(seed)):
        total = seed[f]
        if total != _NONE:
            for e in range(ptr[f], ptr[f + 1]):
                if weights[e] > 0 and colour[links[e]] != _NONE:
                    total += _mix(colour[links[e]] + _mix(bits[e]))
            total = _mix(total) | _ONE
            for e in range(ptr[f], ptr[f + 1]):
                if weights[e] > 0:
                    of_link[links[e]] += _mix(total + _mix(bits[e]))
        of_flow[f] = total


def _classify(colour: Hashes, into: Classes, room: Room) -> int:
    """Write the classes of items by their colours; return how many there are, colour 0 apart.

    Classes are numbered in the order of their first items, by a hash table with open addresses.
    """
    slots = _slots(len(colour))
    mask = np.uint64(slots - 1)
    keys, values = room.key, room.value
    for slot in range(slots):
        keys[slot] = _NONE
    classes = 0
    for item in range(len(colour)):
        key = colour[item]
        into.number[item] = -1
        if key != _NONE:
            at = (key >> _S27) & mask
            while keys[at] != key and keys[at] != _NONE:
                at = (at + _ONE) & mask
            if keys[at] == _NONE:
                keys[at] = key
                values[at] = classes
                into.first[classes] = item
                into.size[classes] = 0
                classes += 1
            into.number[item] = values[at]
            into.size[values[at]] += 1
    into.classes[0] = classes
    return classes


def _fold(w: Work) -> None:
    """Write one flow over one link of each class.

    The flows of a class and the links of a class meet as often as its flows have links of that
    class, and as often as these have such flows; so the weights of one flow tell those on one link.
    """
    flows, ptr, link, weight, latest = w.flows, w.ptr, w.link, w.weight, w.latest
    for part in range(w.of_link.classes[0]):
        latest[part] = -1  # no flow yet
    n = 0
    for c in range(w.of_flow.classes[0]):
        f = w.of_flow.first[c]
        for e in range(flows.ptr[f], flows.ptr[f + 1]):
            part = w.of_link.number[flows.link[e]]
            share = flows.weight[e] if len(flows.weight) else 1.0
            if part >= 0 and share > 0:
                if latest[part] < ptr[c]:  # not yet by this flow
                    latest[part] = n
                    link[n] = part
                    weight[n] = 0.0
                    n += 1
                weight[latest[part]] += share
        ptr[c + 1] = n
        for e in range(ptr[c], n):
            weight[e] *= w.of_flow.size[c] / w.of_link.size[link[e]]


def _sample() -> Work:
    """Return the arrays of one flow over one link."""
    one = np.ones(1)
    return _work(Flows(one, np.array([0, 1]), np.array([0]), one, one, np.zeros(1), one))


CODE = MachineCode(_find, _sample())
"""The machine code that finds classes."""
