"""Rounds -> seconds, pair by pair: the pairs of a round share the links max-min fairly until the last has ended.

Held against the coflow view (`Demand.seconds`). Where nothing else runs both are equal if every
round keeps the same links busy to its end: rings, pairwise exchanges, halving inside a node, trees
and NVLS (whose rounds overlap). The coflow view is faster where rounds follow one another on
different links, since it lets them overlap: hierarchical collectives, halving across nodes. It is
never slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator import flows
from simulator.collectives.demand import Rounds, latencies
from simulator.collectives.paths import Floats, Links, Ways, by_kind, ways
from simulator.hardware import CommunicationModel
from simulator.topology import Network

Words: TypeAlias = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a collective takes: before and between bytes, and for them [s]."""

    latency: float
    transfer: float

    @property
    def seconds(self) -> float:
        """Return both together [s]."""
        return self.latency + self.transfer


def resolve(network: Network, rounds: Rounds, model: CommunicationModel) -> float:
    """Return the seconds of a collective that runs alone, kernel setup included."""
    return cost(network, rounds, model).seconds


def cost(network: Network, rounds: Rounds, model: CommunicationModel) -> Cost:
    """Return latency and transfer time apart: the first does not depend on the size, the second is proportional."""
    capacity = network.capacity * by_kind(network, model.nvlink, model.nic)
    delay = latencies(network, model)
    latency, transfer = model.setup if rounds.rounds else 0.0, 0.0
    together: list[tuple[Ways, Floats]] = []
    for step in rounds.rounds:
        way = ways(network, step.src, step.dst)
        latency += step.repeat * way.latency(len(step.src), delay)
        if rounds.pipelined:
            together.append((way, step.bytes * step.repeat))
        else:
            transfer += step.repeat * drain(capacity, way, step.bytes)
    return Cost(latency, drain(capacity, *_joined(together)) if together else transfer)


def _joined(parts: list[tuple[Ways, Floats]]) -> tuple[Ways, Floats]:
    """Return the pairs of several rounds as those of one."""
    starts = np.cumsum([0, *[len(size) for _, size in parts[:-1]]])
    pair = np.concatenate([way.pair + start for (way, _), start in zip(parts, starts, strict=True)])
    link, share = (
        np.concatenate([getattr(way, name) for way, _ in parts]) for name in ("link", "share")
    )
    return Ways(pair, link, share), np.concatenate([size for _, size in parts])


def drain(capacity: Floats, way: Ways, size: Floats) -> float:
    """Return when the last of some flows that start together ends [s].

    capacity: [link] B/s. way: which flow crosses which link; every flow at least one. size: [flow]
    B. Flows and links that are alike are merged first, exactly (colour refinement, as a step is
    folded).
    """
    used = np.flatnonzero(_present(way.link, len(capacity)))
    link = _numbers(used, len(capacity))[way.link]
    flow, line = _classes(size, capacity[used], way, link)
    line_first, flow_first = _first(line), _first(flow)
    # Of each class one link stands for all: what a class of flows has on it is that class's weight
    # there.
    mine = _present(line_first, len(used))[link]
    pairs, which = np.unique(
        flow[way.pair[mine]] * len(line_first) + line[link[mine]], return_inverse=True
    )
    weight: Floats = np.bincount(which, way.share[mine], len(pairs)).astype(np.float64)
    of, lines = np.divmod(pairs, len(line_first))
    ptr = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=len(flow_first)))])
    ends = flows.drain(capacity[used][line_first], ptr, lines, size[flow_first], weight=weight)
    return float(ends.max(initial=0.0))


def _first(colour: Links) -> Links:
    return np.unique(colour, return_index=True)[1]


def _classes(size: Floats, capacity: Floats, way: Ways, link: Links) -> tuple[Links, Links]:
    """Return classes of flows and of links such that each flow of a class meets each class of links alike."""
    flow, line, share = _alike(size), _alike(capacity), _alike(way.share)
    short = link.astype(np.uint16) if len(capacity) < 2**16 else link  # which numpy sorts by radix
    by_link = np.argsort(short, kind="stable")
    flow_starts, line_starts = _starts(way.pair), _starts(link[by_link])
    random = np.random.default_rng(
        0
    )  # sums of random words tell multisets apart, whatever their order
    factor = random.integers(0, 2**63, share.max() + 1, dtype=np.uint64)[share] * np.uint64(
        2
    ) + np.uint64(1)
    while True:
        counts = (flow.max(), line.max())
        words = random.integers(0, 2**63, counts[1] + 1, dtype=np.uint64)
        flow = _split(flow, np.add.reduceat(words[line][link] * factor, flow_starts), random)
        words = random.integers(0, 2**63, flow.max() + 1, dtype=np.uint64)
        line = _split(
            line, np.add.reduceat((words[flow][way.pair] * factor)[by_link], line_starts), random
        )
        if (flow.max(), line.max()) == counts:
            return flow, line


def _split(colour: Links, mark: Words, random: np.random.Generator) -> Links:
    """Return finer classes: alike before, and with the same mark."""
    return _alike(random.integers(0, 2**63, colour.max() + 1, dtype=np.uint64)[colour] + mark)


def _alike(values: Floats | Words) -> Links:
    """Return a number for each different value."""
    if (values == values[0]).all():
        return np.zeros(len(values), dtype=np.int64)
    return np.unique(values, return_inverse=True)[1]


def _starts(sorted_ids: Links) -> NDArray[np.intp]:
    return np.flatnonzero(np.diff(sorted_ids, prepend=-1))


def _present(ids: Links, count: int) -> NDArray[np.bool_]:
    found = np.zeros(count, dtype=bool)
    found[ids] = True
    return found


def _numbers(ids: Links, count: int) -> Links:
    """Return the position of each id in `ids`."""
    place = np.zeros(count, dtype=np.int64)
    place[ids] = np.arange(len(ids))
    return place
