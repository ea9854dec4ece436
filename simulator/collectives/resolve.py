"""Rounds -> seconds, pair by pair: those of a round share links max-min fairly until the last ends.

Held against the coflow view (`Demand.seconds`). Where nothing else runs both are equal if every
round keeps the same links busy to its end: rings, pairwise exchanges, halving inside a node, trees
and NVLS (whose rounds overlap). The coflow view is faster where rounds follow one another on
different links, since it lets them overlap: hierarchical collectives, halving across nodes. It is
never slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator import flows
from simulator.collectives.demand import Rounds, latencies
from simulator.collectives.paths import Floats, Ways, by_kind, ways
from simulator.hardware import CommunicationModel
from simulator.refinement import Classes, Incidence, classes, distinct, mix, ranked
from simulator.topology import Network


@dataclass(frozen=True, slots=True)
class Cost:
    """What a collective takes."""

    rounds: float
    """Latencies between bytes, the kernel's setup left out [s]."""
    transfer: float
    """For the bytes [s]."""


def resolve(network: Network, rounds: Rounds, model: CommunicationModel) -> float:
    """Return the seconds of a collective that runs alone, kernel setup included."""
    found = cost(network, rounds, model)
    setup = model.setup if rounds.rounds else 0.0
    return setup + model.waiting(found.rounds, found.transfer) + found.transfer


def cost(network: Network, rounds: Rounds, model: CommunicationModel) -> Cost:
    """Return latency, which does not depend on sizes, and transfer time, which is proportional."""
    capacity = network.capacity * by_kind(network, model.nvlink, model.nic)
    delay = latencies(network, model)
    latency = 0.0
    transfer = 0.0
    # Rounds that are pipelined share the links from beginning to end: they are drained as one set
    # of flows. Others follow each other, and each takes its own time.
    together: list[Flows] = []
    for step in rounds.rounds:
        way = ways(network, step.src, step.dst)
        latency += step.repeat * step.latency(way, delay)
        if rounds.pipelined:
            together.append(Flows(way, step.bytes * step.repeat))
        else:
            transfer += step.repeat * drain(capacity, way, step.bytes)
    if together:
        transfer = drain(capacity, *_joined(together))
    return Cost(latency, transfer)


class Flows(NamedTuple):
    """Flows that start together."""

    way: Ways
    """Which flow crosses which link with which share of its bytes."""
    size: Floats
    """[flow] B."""


def _joined(parts: list[Flows]) -> Flows:
    """Return the flows of several rounds as those of one."""
    # Flows keep their order: those of a round are numbered after those of the rounds before it.
    pairs, start = [], 0
    for part in parts:
        pairs.append(part.way.pair + start)
        start += len(part.size)
    together = Ways(
        pair=np.concatenate(pairs),
        link=np.concatenate([part.way.link for part in parts]),
        share=np.concatenate([part.way.share for part in parts]),
    )
    size = np.concatenate([part.size for part in parts])
    return Flows(together, size)


def drain(capacity: Floats, way: Ways, size: Floats) -> float:
    """Return when the last of some flows that start together ends [s].

    capacity: [link] B/s. way: which flow crosses which link; every flow at least one. size: [flow]
    B. Flows and links that are alike are merged first, exactly (colour refinement, as a step is
    folded).
    """
    # Only links that are crossed count: they get numbers of their own.
    crossings = np.bincount(way.link, minlength=len(capacity))  # [link]
    used = np.flatnonzero(crossings)
    number = np.zeros(len(capacity), dtype=np.int64)
    number[used] = np.arange(len(used))
    link = number[way.link]  # [entry] index into `used`
    renumbered = Flows(Ways(way.pair, link, way.share), size)
    flow, line = _classes(renumbered, capacity[used])
    # Of each class one link represents all: what a class of flows puts on it is that class's
    # weight there.
    represents = np.zeros(len(used), dtype=bool)
    represents[line.first] = True
    entry = np.flatnonzero(represents[link])
    # A meeting of a class of flows with a class of links is one integer, so that equal ones merge.
    of_flow = flow.of[way.pair[entry]]  # [entry] class
    of_link = line.of[link[entry]]  # [entry] class
    met = of_flow * len(line.first) + of_link
    pairs, which = np.unique(met, return_inverse=True)  # [meeting of classes]; [entry] index
    total = np.bincount(which, way.share[entry], minlength=len(pairs))
    weight: Floats = total.astype(np.float64)  # [meeting]
    # Sorted by class of flows: `ptr` says where the meetings of each begin, as `flows` reads them.
    of, lines = np.divmod(pairs, len(line.first))
    lengths = np.bincount(of, minlength=len(flow.first))
    ptr = np.concatenate([[0], np.cumsum(lengths)])
    rates = capacity[used][line.first]
    ends = flows.drain(rates, ptr, lines, size[flow.first], weight=weight)
    return float(ends.max(initial=0.0))


def _classes(of: Flows, capacity: Floats) -> tuple[Classes, Classes]:
    """Return classes such that each flow of a class meets each class of links alike.

    capacity: [link] B/s.
    """
    meetings = Incidence.of(of.way.pair, of.way.link, how=ranked(of.way.share))
    flow = mix(ranked(of.size))
    line = mix(ranked(capacity))
    before = (0, 0)
    counts = (distinct(flow), distinct(line))
    # Colours only ever split. When a pass splits none on either side, no later one would.
    while counts != before:
        flow = mix(flow + meetings.gather(line, len(flow)))
        line = mix(line + meetings.scatter(flow, len(line)))
        before, counts = counts, (distinct(flow), distinct(line))
    return classes(flow), classes(line)
