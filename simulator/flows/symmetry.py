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

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import outer
from simulator.flows.problem import Flows

Hashes = NDArray[np.uint64]
Ids = NDArray[np.int64]

# More rounds than this are for graphs where an odd flow is felt from far away; there is little to
# gain.
_ROUNDS = 16

_GOLDEN, _ONE, _NONE = np.uint64(0x9E3779B97F4A7C15), np.uint64(1), np.uint64(0)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@outer
def quotient(flows: Flows) -> tuple[Flows, Ids]:
    """Return one flow over one link of each class, and the class of each flow, -1 for a flow without bytes.

    Links of the quotient are those of finite capacity; a flow crosses each at most once, with
    weight > 0: what all flows of its class take together of one link of that class, at rate 1.
    """
    seed = _seeds(flows.size, flows.start, flows.cap)
    bits = flows.weight.view(np.uint64)
    colour = np.zeros(len(flows.capacity), dtype=np.uint64)
    for link, capacity in enumerate(flows.capacity):
        if capacity < np.inf:
            colour[link] = _mix(_bits(capacity)) | _ONE
    of_flow = np.empty(len(seed), dtype=np.uint64)
    of_link = np.empty(len(colour), dtype=np.uint64)
    parts, stable = len(np.unique(colour)), False
    for _ in range(_ROUNDS):
        _sweep(flows, bits, seed, colour, of_flow, of_link)
        finer = np.where(colour == _NONE, _NONE, of_link)
        for link in range(len(colour)):
            if colour[link] != _NONE:
                finer[link] = _mix(colour[link] * _GOLDEN + of_link[link]) | _ONE
        found = len(np.unique(finer))
        stable = found == parts
        if stable:
            break
        parts, colour = found, finer
    if not stable:  # every link on its own is equitable too; it still makes one of equal flows
        for link in range(len(colour)):
            if colour[link] != _NONE:
                colour[link] = _mix(np.uint64(link)) | _ONE
        _sweep(flows, bits, seed, colour, of_flow, of_link)
    of_flow_class, first_flow, flow_count = _classes(of_flow)
    of_link_class, first_link, link_count = _classes(colour)
    return _fold(
        flows, of_link_class, first_flow, flow_count, first_link, link_count
    ), of_flow_class


@outer
def _mix(x: np.uint64) -> np.uint64:
    """Return a number whose bits all depend on all bits of another (splitmix64, Steele et al., OOPSLA 2014)."""
    x = (x ^ (x >> _S30)) * _M1
    x = (x ^ (x >> _S27)) * _M2
    return x ^ (x >> _S31)


@outer
def _bits(x: float) -> np.uint64:
    bits: np.uint64 = np.array([x + 0.0]).view(np.uint64)[0]  # + 0.0 makes -0.0 equal to 0.0
    return bits + _GOLDEN


@outer
def _seeds(
    size: NDArray[np.float64], start: NDArray[np.float64], cap: NDArray[np.float64]
) -> Hashes:
    """Return a hash of what each flow is by itself, 0 for a flow without bytes."""
    own, begin, top = size.view(np.uint64), start.view(np.uint64), cap.view(np.uint64)
    seed = np.empty(len(size), dtype=np.uint64)
    for f in range(len(size)):
        seed[f] = (
            _NONE if size[f] == 0 else _mix(_mix(_mix(own[f]) + begin[f] + _GOLDEN) + top[f]) | _ONE
        )
    return seed


@outer
def _sweep(
    flows: Flows, bits: Hashes, seed: Hashes, colour: Hashes, of_flow: Hashes, of_link: Hashes
) -> None:
    """Write the colour of every flow, from its links, and the sum of flows' colours on every link."""
    ptr, link, plain = flows.ptr, flows.link, len(flows.weight) == 0
    of_link[:] = _NONE
    for f in range(len(seed)):
        if seed[f] == _NONE:
            of_flow[f] = _NONE
        elif plain:
            total = seed[f]
            for e in range(ptr[f], ptr[f + 1]):
                total += colour[link[e]]
            total = _mix(total) | _ONE
            of_flow[f] = total
            for e in range(ptr[f], ptr[f + 1]):
                of_link[link[e]] += total
        else:
            total = seed[f]
            for e in range(ptr[f], ptr[f + 1]):
                if flows.weight[e] > 0 and colour[link[e]] != _NONE:
                    total += _mix(colour[link[e]] + _mix(bits[e]))
            total = _mix(total) | _ONE
            of_flow[f] = total
            for e in range(ptr[f], ptr[f + 1]):
                if flows.weight[e] > 0:
                    of_link[link[e]] += _mix(total + _mix(bits[e]))


@outer
def _classes(colour: Hashes) -> tuple[Ids, Ids, Ids]:
    """Return the class of each item, -1 for colour 0, and the first item and the number of items of each class."""
    width = 16
    while width < 2 * len(colour):
        width *= 2
    mask = np.uint64(width - 1)
    keys, values = np.zeros(width, dtype=np.uint64), np.empty(width, dtype=np.int64)
    of, first, count = (
        np.empty(len(colour), np.int64),
        np.empty(len(colour), np.int64),
        np.zeros(len(colour), np.int64),
    )
    classes = 0
    for item, key in enumerate(colour):
        of[item] = -1
        if key != _NONE:
            slot = (key >> _S27) & mask
            while keys[slot] != key and keys[slot] != _NONE:
                slot = (slot + _ONE) & mask
            if keys[slot] == _NONE:
                keys[slot], values[slot] = key, classes
                first[classes] = item
                classes += 1
            of[item] = values[slot]
            count[values[slot]] += 1
    return of, first[:classes].copy(), count[:classes].copy()


@outer
def _fold(
    flows: Flows, of_link: Ids, first_flow: Ids, flow_count: Ids, first_link: Ids, link_count: Ids
) -> Flows:
    """Return one flow and one link of each class.

    The flows of a class and the links of a class meet flow_count * (links per flow) times, as often
    as link_count * (flows per link); so the weights of one flow tell those on one link.
    """
    entries = 0
    for f in first_flow:
        entries += flows.ptr[f + 1] - flows.ptr[f]
    link, weight = np.empty(entries, np.int64), np.empty(entries, np.float64)
    ptr = np.zeros(len(first_flow) + 1, np.int64)
    place = np.full(len(first_link), -1, np.int64)
    n = 0
    for c, f in enumerate(first_flow):
        for e in range(flows.ptr[f], flows.ptr[f + 1]):
            part = of_link[flows.link[e]]
            share = flows.weight[e] if len(flows.weight) else 1.0
            if part >= 0 and share > 0:
                if place[part] < ptr[c]:
                    place[part], link[n], weight[n] = n, part, 0.0
                    n += 1
                weight[place[part]] += share
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
