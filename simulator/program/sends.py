"""The ways of pipeline sends: all of an edge at once where there is one way for each."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.collectives import send
from simulator.collectives.paths import Floats, of_kind, ways
from simulator.topology import LinkKind, Network

Ranks: TypeAlias = NDArray[np.int64]


class Way(NamedTuple):
    """How a send travels."""

    links: Ranks
    """Links in the order in which it crosses them."""
    latency: float
    """Of the whole way [s]."""


def routes(network: Network, src: Ranks, dst: Ranks, delay: Floats) -> list[Way]:
    """Return the ways of many sends as `send` does of each: all at once where there is one way.

    Not where PCIe links stand on it: `ways` names them in another order. delay: [link] s.
    """
    crossed = ways(network, src, dst)
    if (crossed.share != 1.0).any() or (network.pcie >= 0).any():
        pairs = zip(src.tolist(), dst.tolist(), strict=True)
        return [_one_send(network, *pair, delay) for pair in pairs]
    # In the order of a send, for latencies add up to other bits in another: to the NIC and over it
    # (0), the fabric (1), the rest (2). What follows the first NIC of its own way is the rest.
    is_nic = of_kind(network, LinkKind.NIC)[crossed.link]  # [entry]
    nics_before: Ranks = np.cumsum(is_nic) - is_nic  # [entry], over all ways
    count = np.bincount(crossed.pair, minlength=len(src))  # [pair]
    ends = np.cumsum(count)
    if len(nics_before):
        first = np.minimum(ends - count, len(nics_before) - 1)
        behind_nic = nics_before > np.repeat(nics_before[first], count)
    else:
        behind_nic = np.zeros(0, dtype=bool)
    position = np.where(behind_nic, 2, 0)
    position[of_kind(network, LinkKind.FABRIC)[crossed.link]] = 1
    order = np.lexsort((position, crossed.pair))
    link = crossed.link[order]
    latency = np.bincount(crossed.pair, delay[link], len(src))
    columns = zip(ends.tolist(), count.tolist(), latency.tolist(), strict=True)
    return [Way(link[end - size : end], late) for end, size, late in columns]


def _one_send(network: Network, source: int, target: int, delay: Floats) -> Way:
    """Return the way of one send. delay: [link] s."""
    links, _ = send(network, source, target)
    return Way(np.array(links, dtype=np.int64), sum(float(delay[link]) for link in links))
