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

from simulator.compiled import inner, outer
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


class _Colours(NamedTuple):
    """Room for the hashes of one round of refinement."""

    seed: Hashes
    """What each flow is by itself, 0 for a flow without bytes [flow]."""
    of_flow: Hashes
    """Of a flow with its links, written by `_sweep` [flow]."""
    of_link: Hashes
    """Sum over the flows of a link, written by `_sweep` [link]."""


@outer
def quotient(flows: Flows) -> tuple[Flows, Ids]:
    """Return one flow over one link of each class, and the class of each flow, -1 for a flow without bytes.

    Links of the quotient are those of finite capacity; a flow crosses each at most once, with
    weight > 0: what all flows of its class take together of one link of that class, at rate 1.
    """
    seed = _seeds(flows.size, flows.start, flows.cap)
    links = len(flows.capacity)
    room = _Colours(
        seed,
        of_flow=np.empty(len(seed), dtype=np.uint64),
        of_link=np.empty(links, dtype=np.uint64),
    )
    colour, stable = _refine(flows, room, _first_colours(flows.capacity))
    if not stable:
        # Every link on its own is equitable too; it still makes one of equal flows.
        for link in range(links):
            if colour[link] != _NONE:
                colour[link] = _mix(np.uint64(link)) | _ONE
        _sweep(flows, room, colour)
    flow_class, first_flow, flow_count = _classes(room.of_flow)
    link_class, first_link, link_count = _classes(colour)
    few = _fold(flows, link_class, first_flow, flow_count, first_link, link_count)
    return few, flow_class


@inner
def _first_colours(capacities: Floats) -> Hashes:
    """Return the colours of links by their capacity, 0 for links without limit, which do not count [link]."""
    colour = np.zeros(len(capacities), dtype=np.uint64)
    for link, capacity in enumerate(capacities):
        if capacity < np.inf:
            colour[link] = _mix(_bits(capacity)) | _ONE
    return colour


@inner
def _refine(flows: Flows, room: _Colours, colour: Hashes) -> tuple[Hashes, bool]:
    """Return the colours of links when they no longer part, and whether they came to that."""
    parts = len(np.unique(colour))
    for _ in range(_ROUNDS):
        _sweep(flows, room, colour)
        finer = np.where(colour == _NONE, _NONE, room.of_link)
        for link in range(len(colour)):
            if colour[link] != _NONE:
                finer[link] = _mix(colour[link] * _GOLDEN + room.of_link[link]) | _ONE
        before, parts = parts, len(np.unique(finer))
        if parts == before:
            return colour, True
        colour = finer
    return colour, False


@inner
def _mix(x: np.uint64) -> np.uint64:
    """Return a number whose bits all depend on all bits of another (splitmix64, Steele et al., OOPSLA 2014)."""
    x = (x ^ (x >> _S30)) * _M1
    x = (x ^ (x >> _S27)) * _M2
    return x ^ (x >> _S31)


@inner
def _bits(x: float) -> np.uint64:
    bits: np.uint64 = np.array([x + 0.0]).view(np.uint64)[0]  # + 0.0 makes -0.0 equal to 0.0
    return bits + _GOLDEN


@inner
def _seeds(size: Floats, start: Floats, cap: Floats) -> Hashes:
    """Return a hash of what each flow is by itself, 0 for a flow without bytes [flow]."""
    own, begin, top = size.view(np.uint64), start.view(np.uint64), cap.view(np.uint64)
    seed = np.empty(len(size), dtype=np.uint64)
    for f in range(len(size)):
        if size[f] == 0:
            seed[f] = _NONE
        else:
            timed = _mix(own[f]) + begin[f] + _GOLDEN
            seed[f] = _mix(_mix(timed) + top[f]) | _ONE
    return seed


@inner
def _sweep(flows: Flows, room: _Colours, colour: Hashes) -> None:
    """Write the colour of every flow, from its links, and the sum of flows' colours on every link."""
    room.of_link[:] = _NONE
    if len(flows.weight):
        bits = flows.weight.view(np.uint64)
        _sweep_weighted(flows, bits, room, colour)
    else:
        _sweep_plain(flows, room, colour)


@inner
def _sweep_plain(flows: Flows, room: _Colours, colour: Hashes) -> None:
    """Do so where every weight is 1."""
    ptr, links = flows.ptr, flows.link
    seed, of_flow, of_link = room.seed, room.of_flow, room.of_link
    for f in range(len(seed)):
        total = seed[f]
        if total != _NONE:
            for e in range(ptr[f], ptr[f + 1]):
                total += colour[links[e]]
            total = _mix(total) | _ONE
            for e in range(ptr[f], ptr[f + 1]):
                of_link[links[e]] += total
        of_flow[f] = total


@inner
def _sweep_weighted(flows: Flows, bits: Hashes, room: _Colours, colour: Hashes) -> None:
    """Do so with weights, whose bits are given. A link of weight 0 does not count."""
    ptr, links, weights = flows.ptr, flows.link, flows.weight
    seed, of_flow, of_link = room.seed, room.of_flow, room.of_link
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


@inner
def _classes(colour: Hashes) -> tuple[Ids, Ids, Ids]:
    """Return the class of each item, -1 for colour 0, and the first item and the number of items of each class.

    Classes are numbered in the order of their first items, by a hash table with open addresses.
    """
    width = 16
    while width < 2 * len(colour):
        width *= 2
    mask = np.uint64(width - 1)
    keys = np.zeros(width, dtype=np.uint64)  # colours [slot]
    values = np.empty(width, dtype=np.int64)  # their classes [slot]
    number = np.empty(len(colour), np.int64)  # class of each item
    first = np.empty(len(colour), np.int64)
    count = np.zeros(len(colour), np.int64)
    classes = 0
    for item, key in enumerate(colour):
        number[item] = -1
        if key != _NONE:
            slot = (key >> _S27) & mask
            while keys[slot] != key and keys[slot] != _NONE:
                slot = (slot + _ONE) & mask
            if keys[slot] == _NONE:
                keys[slot] = key
                values[slot] = classes
                first[classes] = item
                classes += 1
            number[item] = values[slot]
            count[values[slot]] += 1
    return number, first[:classes].copy(), count[:classes].copy()


@inner
def _fold(
    flows: Flows, of_link: Ids, first_flow: Ids, flow_count: Ids, first_link: Ids, link_count: Ids
) -> Flows:
    """Return one flow and one link of each class. of_link: class of each link, -1 for none.

    The flows of a class and the links of a class meet flow_count * (links per flow) times, as often
    as link_count * (flows per link); so the weights of one flow tell those on one link.
    """
    entries = 0
    for f in first_flow:
        entries += flows.ptr[f + 1] - flows.ptr[f]
    link = np.empty(entries, np.int64)  # class of a link [entry of the quotient]
    weight = np.empty(entries, np.float64)
    ptr = np.zeros(len(first_flow) + 1, np.int64)
    latest = np.full(len(first_link), -1, np.int64)  # entry that named this class last
    n = 0
    for c, f in enumerate(first_flow):
        for e in range(flows.ptr[f], flows.ptr[f + 1]):
            part = of_link[flows.link[e]]
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
            weight[e] *= flow_count[c] / link_count[link[e]]
    return Flows(
        flows.capacity[first_link],
        ptr,
        link[:n].copy(),
        weight[:n].copy(),
        flows.size[first_flow],
        flows.start[first_flow],
        flows.cap[first_flow],
    )
