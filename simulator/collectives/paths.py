"""The ways of many pairs at once: what `Network.spread` says of one pair, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.topology import Network

Links: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Entries: TypeAlias = tuple[Links, Links, Floats]
"""[entry] pair, link, share"""

SWITCH, FABRIC = -1, -2
"""In the place of a rank: the NVSwitch of the other end's node, the switches beyond its NIC. They add up and copy."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Which pair crosses which link with which share of its bytes, [entry], in the order of the pairs."""

    pair: Links
    link: Links
    share: Floats

    def latency(self, pairs: int, of_link: Floats) -> float:
        """Return the latency of the longest way [s], a mean over the ways where a pair has several."""
        return float(
            np.bincount(self.pair, of_link[self.link] * self.share, pairs).max(initial=0.0)
        )


def ways(network: Network, src: Links, dst: Links) -> Ways:
    """Return the ways of pairs. src, dst: [pair] ranks, or SWITCH or FABRIC at one end. Errors: as `Network.route`."""
    pairs = np.arange(len(src))
    near, far = np.where(src >= 0, src, dst), np.where(dst >= 0, dst, src)
    within = (
        (near // network.gpus_per_node == far // network.gpus_per_node) & (src >= 0) & (dst >= 0)
    )
    up = (within & (src != dst)) | (dst == SWITCH)
    down = (within & (src != dst)) | (src == SWITCH)
    across = np.flatnonzero(~within & (src >= 0) & (dst >= 0))
    parts = [
        (pairs[up], network.gpu_up[near[up]]),
        (pairs[down], network.gpu_down[far[down]]),
        (pairs[dst == FABRIC], network.nic_up[src[dst == FABRIC]]),
        (pairs[src == FABRIC], network.nic_down[dst[src == FABRIC]]),
        *_slots(network, pairs[dst == FABRIC], src[dst == FABRIC], 0),
        *_slots(network, pairs[src == FABRIC], dst[src == FABRIC], 1),
    ]
    whole = [(some, links, np.ones(len(some))) for some, links in parts]
    if len(across):
        regular = _regular(network, src[across], dst[across])
        whole += _all(network, across[regular], src[across[regular]], dst[across[regular]])
        whole += _each(network, across[~regular], src[across[~regular]], dst[across[~regular]])
    return _in_order(len(src), whole)


def _slots(network: Network, pair: Links, gpu: Links, back: int) -> list[tuple[Links, Links]]:
    """Return the PCIe links that pairs cross between a GPU and its NIC: there (0) or back (1). gpu: [pair] ranks."""
    if not len(gpu) or (network.pcie < 0).all():
        return []
    nic = gpu // network.gpus_per_node * network.nics_per_node + network.rail[gpu]
    return [(pair, network.pcie[gpu] + back), (pair, network.slot[nic] + back)]


def _in_order(pairs: int, parts: list[Entries]) -> Ways:
    """Return entries by pair. parts: each by pair already. Places are counted, since a sort takes most of the time."""
    total = sum(
        (np.bincount(pair, minlength=pairs) for pair, _, _ in parts),
        np.zeros(pairs, dtype=np.int64),
    )
    free = np.cumsum(total) - total
    link, share = np.empty(total.sum(), dtype=np.int64), np.empty(total.sum())
    for pair, links, shares in parts:
        number = np.arange(len(pair))
        begins = np.diff(pair, prepend=-1) > 0
        place = free[pair] + number - np.maximum.accumulate(np.where(begins, number, 0))
        link[place], share[place] = links, shares
        free += np.bincount(pair, minlength=pairs)
    return Ways(np.repeat(np.arange(pairs), total), link, share)


def _nics(network: Network, src: Links, dst: Links) -> tuple[Links, Links]:
    """Return the NICs that pairs of different nodes prefer, counted over the cluster: see `Network.route`."""
    g, nics = network.gpus_per_node, network.nics_per_node
    rail = network.rail[dst] if network.paths.routing == "rail_local" else network.rail[src]
    return src // g * nics + rail, dst // g * nics + network.rail[dst]


@lru_cache(maxsize=4)  # thousands of groups ask for it
def _of_nics(network: Network) -> tuple[Links, Links, Links]:
    """Return switch, nic_links and part of the network as arrays."""
    return np.array(network.switch), np.array(network.nic_links), np.array(network.part)


def _regular(network: Network, src: Links, dst: Links) -> NDArray[np.bool_]:
    """Tell which pairs go the preferred way: GPUs and NICs healthy, one way for all pairs of two switches."""
    g = np.arange(len(network.gpu_up)) % network.gpus_per_node
    own = g * network.nics_per_node // network.gpus_per_node
    if network.paths.routing not in ("adaptive", "rail_local") or not np.array_equal(
        network.rail, own
    ):
        return np.zeros(len(src), dtype=bool)
    if (network.gpu_up < 0).any():
        return np.zeros(len(src), dtype=bool)
    _, _, part = _of_nics(network)
    out, home = _nics(network, src, dst)
    healthy: NDArray[np.bool_] = (part[out] >= 0) & (part[out] == part[home])
    return healthy


def _all(network: Network, pair: Links, src: Links, dst: Links) -> list[Entries]:
    """Return the entries of regular pairs of different nodes."""
    g = network.gpus_per_node
    out, home = _nics(network, src, dst)
    rail = out % network.nics_per_node
    carrier = np.where(network.rail[src] == rail, src, src // g * g + dst % g)
    handed = carrier != src
    number, nic, _ = _of_nics(network)
    entries = [
        (pair[handed], network.gpu_up[src[handed]]),
        (pair[handed], network.gpu_down[carrier[handed]]),
        *_slots(network, pair, carrier, 0),
        (pair, nic[out]),
        (pair, nic[home] + 1),
        *_slots(network, pair, dst, 1),
    ]
    return [
        *((some, links, np.ones(len(some))) for some, links in entries),
        _between(network, pair, number[out], number[home]),
    ]


def _between(network: Network, pair: Links, here: Links, there: Links) -> Entries:
    """Return the entries between switches: looked up once for each two of them."""
    count = len(network.paths.ahead)
    unique, which = np.unique(here * count + there, return_inverse=True)
    known = [
        network.paths.spread(*divmod(int(two), count)) if two // count != two % count else {}
        for two in unique
    ]
    length = np.array([len(shares) for shares in known], dtype=np.int64)
    links = np.array([link for shares in known for link in shares], dtype=np.int64)
    share = np.array([part for shares in known for part in shares.values()], dtype=np.float64)
    starts = np.cumsum(length) - length
    each = length[which]
    place = np.repeat(starts[which] - (np.cumsum(each) - each), each) + np.arange(each.sum())
    return np.repeat(pair, each), links[place], share[place]


def _each(network: Network, pair: Links, src: Links, dst: Links) -> list[Entries]:
    """Return the entries of other pairs, asked for one by one."""
    number: list[int] = []
    link: list[int] = []
    share: list[float] = []
    for which, one, other in zip(pair.tolist(), src.tolist(), dst.tolist(), strict=True):
        shares = network.spread(one, other)[0]
        number += [which] * len(shares)
        link += shares
        share += shares.values()
    return [(np.array(number, np.int64), np.array(link, np.int64), np.array(share, np.float64))]


def by_kind(network: Network, nvlink: float, nic: float) -> Floats:
    """Return one value for NVLink and another for everything beyond the NIC, [link]."""
    return np.where(np.array(network.kind) == "nvlink", nvlink, nic)


def all_pairs(ranks: Sequence[int]) -> tuple[Links, Links]:
    """Return everybody to everybody else."""
    one = np.asarray(ranks, dtype=np.int64)
    src, dst = np.repeat(one, len(one)), np.tile(one, len(one))
    return src[src != dst], dst[src != dst]
