"""The ways of pipeline sends: all at once where there is one way for each."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulator.collectives import send
from simulator.collectives.paths import of_kind, ways
from simulator.program.program import Floats, Ints
from simulator.program.ragged import flat, lengths, starts
from simulator.topology import LinkKind, Network, wired


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
