"""Pipeline sends: who hands on to whom, and the ways, all at once where there is one for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulator.collectives import CoflowKind, send
from simulator.collectives.kinds import SENDS
from simulator.collectives.paths import of_kind, ways
from simulator.layout import Layout
from simulator.program.orders import handed_to
from simulator.program.program import Floats, Ints
from simulator.program.ragged import flat, lengths, starts
from simulator.schedules import Schedule
from simulator.topology import LinkKind, Network, wired


class Edge(NamedTuple):
    """Between which pipeline ranks an output or a gradient is handed on."""

    kind: CoflowKind
    """FORWARD or BACKWARD."""
    source: int
    """Pipeline index of the sender."""
    target: int
    """Pipeline index of the receiver."""


class Routes(NamedTuple):
    """How sends travel."""

    first: Ints
    """Where the links of each send begin, and their number [send + 1]."""
    links: Ints
    """Links, of each send in the order in which it crosses them [entry]."""

    def part(self, begin: int, end: int) -> Routes:
        """Return the routes of some sends that follow each other."""
        first = self.first[begin : end + 1]
        return Routes(first - first[0], self.links[first[0] : first[-1]])

    def latency(self, delay: Floats) -> Floats:
        """Return the latency of each whole way [send] s. delay: [link] s."""
        owner = np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))
        # In the order of the way: latencies add up to other bits in another.
        return np.bincount(owner, delay[self.links], len(self.first) - 1).astype(np.float64)


def pipeline_edges(schedule: Schedule) -> list[Edge]:
    """Return the edges over which ranks hand on."""
    table = schedule.table
    taken = handed_to(schedule)  # [action, half] pipeline index
    edges: list[Edge] = []
    for half, kind in enumerate(SENDS):
        taker = taken[:, half]
        # A rank that holds both stages hands on within itself.
        crosses = (taker >= 0) & (taker != table.rank)
        # Both as one number, which sorts many times as fast as columns of two.
        count = len(schedule.ranks)
        pairs = np.unique(table.rank[crosses] * count + taker[crosses])
        edges += [Edge(kind, *divmod(pair, count)) for pair in pairs.tolist()]
    return sorted(edges)


def ends(layout: Layout, edges: Sequence[Edge], replicas: int) -> Ints:
    """Return who sends to whom in the first replicas [edge, replica, source and target]."""
    # Ranks of a stage, as `Layout.rank` numbers them: what is inside of pp varies fastest.
    inner = layout.inner()
    high, low = np.divmod(np.arange(replicas), inner)
    index = np.array([(edge.source, edge.target) for edge in edges])[:, None, :]
    pairs: Ints = low[:, None] + inner * (index + layout.pp * high[:, None])
    return pairs


def routes(network: Network, src: Ints, dst: Ints) -> Routes:
    """Return the ways of many sends as `send` does of each: all at once where there is one way.

    Not where PCIe links stand on it: `ways` names them in another order.
    """
    columns = [np.ascontiguousarray(ranks, dtype=np.int64).tobytes() for ranks in (src, dst)]
    return _routes(wired(network), *columns)


@lru_cache(maxsize=8)  # by value: points of a sweep share them
def _routes(network: Network, sources: bytes, targets: bytes) -> Routes:
    src, dst = (np.frombuffer(ranks, dtype=np.int64) for ranks in (sources, targets))
    crossed = ways(network, src, dst)
    if (crossed.share != 1.0).any() or (network.pcie >= 0).any():
        pairs = zip(src.tolist(), dst.tolist(), strict=True)
        each = [send(network, *pair)[0] for pair in pairs]
        return Routes(starts(lengths(each)), flat(each))
    # In the order of a send: to the NIC and over it (0), the fabric (1), the rest (2). What follows
    # the first NIC of its own way is the rest.
    count = np.bincount(crossed.pair, minlength=len(src))  # [pair]
    first = starts(count)
    is_nic = of_kind(network, LinkKind.NIC)[crossed.link]  # [entry]
    nics_before = starts(is_nic.astype(np.int64))  # [entry + 1], over all ways
    of_earlier = nics_before[first[:-1]]  # [pair]
    behind_nic = nics_before[:-1] > np.repeat(of_earlier, count)
    position = np.where(behind_nic, 2, 0)
    position[of_kind(network, LinkKind.FABRIC)[crossed.link]] = 1
    # Entries are sorted by pair; a stable sort of one small key is several times as fast as of two.
    order = np.argsort(3 * crossed.pair + position, kind="stable")
    return Routes(first, crossed.link[order])
