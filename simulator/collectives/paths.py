"""The ways of many pairs at once: what `Network.spread` says of one pair, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.topology import LinkKind, Network, wired
from simulator.topology.routing import Paths

Links: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

SWITCH, FABRIC = -1, -2
"""In place of a rank: the NVSwitch of the other end's node, the switches beyond its NIC.

They add up and copy.
"""


@dataclass(frozen=True, slots=True)
class Ways:
    """Which pair crosses which link with which share of its bytes, in the order of the pairs."""

    pair: Links
    """Pair [entry]."""
    link: Links
    """Link that it crosses [entry]."""
    share: Floats
    """Of the pair's bytes [entry]."""

    def latencies(self, pairs: int, of_link: Floats) -> Floats:
        """Return the latency of each way [pair] s, a mean where a pair has several ways."""
        delays = of_link[self.link] * self.share  # [entry] s
        return np.bincount(self.pair, delays, minlength=pairs).astype(np.float64)

    def latency(self, pairs: int, of_link: Floats) -> float:
        """Return the latency of the longest way [s]."""
        return float(self.latencies(pairs, of_link).max(initial=0.0))


class _Pairs(NamedTuple):
    """Some of the pairs."""

    number: Links
    """Their positions among all [pair]."""
    src: Links
    """Ranks that send [pair]."""
    dst: Links
    """Ranks that receive [pair]."""


class _Entries(NamedTuple):
    """Links that some pairs cross, sorted by pair."""

    pair: Links
    """Position of the pair among all [entry]."""
    link: Links
    """Link [entry]."""
    share: Floats
    """Of the pair's bytes [entry]."""


def _whole(pair: Links, link: Links) -> _Entries:
    """Return entries of pairs that cross a link with all their bytes."""
    return _Entries(pair, link, np.ones(len(pair)))


def ways(network: Network, src: Links, dst: Links) -> Ways:
    """Return the ways of pairs. Errors: as `Network.route`.

    src, dst: [pair] ranks, or SWITCH or FABRIC at one end.
    """
    pairs = np.arange(len(src))
    # Each mask says which pairs take a piece of the way. A switch stands in for a rank at one end,
    # and takes the other end's node.
    near = np.where(src >= 0, src, dst)  # [pair] rank
    far = np.where(dst >= 0, dst, src)  # [pair] rank
    ranks = (src >= 0) & (dst >= 0)
    same_node = near // network.gpus_per_node == far // network.gpus_per_node
    within = ranks & same_node
    between_gpus = within & (src != dst)
    up = between_gpus | (dst == SWITCH)
    down = between_gpus | (src == SWITCH)
    out, home = dst == FABRIC, src == FABRIC
    parts = [
        _whole(pairs[up], network.gpu_up[near[up]]),
        _whole(pairs[down], network.gpu_down[far[down]]),
        _whole(pairs[out], network.nic_up[src[out]]),
        _whole(pairs[home], network.nic_down[dst[home]]),
        *_slots(network, pairs[out], src[out], 0),
        *_slots(network, pairs[home], dst[home], 1),
    ]
    # Between nodes nearly all pairs go by rule, as arrays; only those that a broken NIC or another
    # routing sends elsewhere are looked up one by one.
    across = np.flatnonzero(~within & ranks)
    if len(across):
        regular = _regular(network, src[across], dst[across])
        alike = across[regular]
        odd = across[~regular]
        by_rule = _Pairs(alike, src[alike], dst[alike])
        one_by_one = _Pairs(odd, src[odd], dst[odd])
        parts += _regular_entries(network, by_rule)
        parts.append(_odd_entries(network, one_by_one))
    return _in_order(len(src), parts)


def _slots(network: Network, pair: Links, gpu: Links, back: int) -> list[_Entries]:
    """Return the PCIe links that pairs cross between a GPU and its NIC.

    gpu: [pair] ranks. back: 0 from the GPU to the NIC, 1 from the NIC to the GPU.
    """
    if not len(gpu) or not _has_slots(network):
        return []
    node = gpu // network.gpus_per_node
    nic = node * network.nics_per_node + network.rail[gpu]
    at_gpu = network.pcie[gpu] + back
    at_nic = network.slot[nic] + back
    return [_whole(pair, at_gpu), _whole(pair, at_nic)]


def _in_order(pairs: int, parts: list[_Entries]) -> Ways:
    """Return entries by pair, in the order of the parts. parts: each by pair already.

    Positions are counted, since a sort would take most of the time.
    """
    parts = [part for part in parts if len(part.pair)]
    counts = [np.bincount(part.pair, minlength=pairs) for part in parts]  # [part][pair]
    total = sum(counts, np.zeros(pairs, dtype=np.int64))  # [pair] entries
    free = np.cumsum(total) - total  # [pair] position that its next entry takes
    link = np.empty(total.sum(), dtype=np.int64)
    share = np.empty(total.sum())
    for part, count in zip(parts, counts, strict=True):
        first = np.cumsum(count) - count  # [pair] its first entry in the part
        position = np.arange(len(part.pair)) + (free - first)[part.pair]
        link[position], share[position] = part.link, part.share
        free += count
    return Ways(np.repeat(np.arange(pairs), total), link, share)


def _nics(network: Network, src: Links, dst: Links) -> tuple[Links, Links]:
    """Return the NICs that pairs of different nodes prefer, numbered over the cluster.

    See `Network.route`.
    """
    per_node, nics = network.gpus_per_node, network.nics_per_node
    home_rail = network.rail[dst]
    # NCCL's PXN: over NVLink to the neighbour on the receiver's rail first, so that no spine is
    # crossed. Others leave by their own NIC.
    rail = home_rail if network.paths.routing == "rail_local" else network.rail[src]
    out = src // per_node * nics + rail
    home = dst // per_node * nics + home_rail
    return out, home


@lru_cache(maxsize=4)  # thousands of groups ask for it
def _of_nics(network: Network) -> tuple[Links, Links, Links]:
    """Return switch, nic_links and part of the network as arrays."""
    switch = np.array(network.switch)
    nic_links = np.array(network.nic_links)
    part = np.array(network.part)
    return switch, nic_links, part


def _regular(network: Network, src: Links, dst: Links) -> NDArray[np.bool_]:
    """Tell which pairs go the preferred way [pair].

    GPUs and NICs are healthy, and all pairs of two switches go one way.
    """
    if not _by_rule(network):
        return np.zeros(len(src), dtype=bool)
    _, _, part = _of_nics(network)
    out, home = _nics(network, src, dst)
    works = part[out] >= 0
    joined = part[out] == part[home]  # by the fabric: planes are not
    healthy: NDArray[np.bool_] = works & joined
    return healthy


@lru_cache(maxsize=4)  # as above
def _has_slots(network: Network) -> bool:
    """Tell whether any GPU has a PCIe link."""
    return bool((network.pcie >= 0).any())


@lru_cache(maxsize=4)  # as above
def _by_rule(network: Network) -> bool:
    """Tell whether every GPU works and uses its own NIC, and all pairs of two switches go one way."""
    gpu = np.arange(len(network.gpu_up)) % network.gpus_per_node
    own = gpu * network.nics_per_node // network.gpus_per_node  # [rank] NIC of the node
    one_way = network.paths.routing in ("adaptive", "rail_local")
    broken = bool((network.gpu_up < 0).any())
    return one_way and not broken and np.array_equal(network.rail, own)


def _regular_entries(network: Network, pairs: _Pairs) -> list[_Entries]:
    """Return the entries of regular pairs of different nodes."""
    number, src, dst = pairs
    per_node = network.gpus_per_node
    out, home = _nics(network, src, dst)
    rail = out % network.nics_per_node
    # The GPU whose NIC is used: the sender, or its neighbour on the receiver's rail.
    neighbour = src // per_node * per_node + dst % per_node
    carrier = np.where(network.rail[src] == rail, src, neighbour)
    handed = carrier != src
    switch, nic, _ = _of_nics(network)
    return [
        _whole(number[handed], network.gpu_up[src[handed]]),
        _whole(number[handed], network.gpu_down[carrier[handed]]),
        *_slots(network, number, carrier, 0),
        _whole(number, nic[out]),
        _whole(number, nic[home] + 1),
        *_slots(network, number, dst, 1),
        _between(network, number, switch[out], switch[home]),
    ]


def _between(network: Network, pair: Links, here: Links, there: Links) -> _Entries:
    """Return the entries between switches."""
    runs, which = _switches(network).find(here, there)
    # Each pair takes the run of entries of its two switches: `shift` leads from the number of an
    # entry among those of all pairs to its number in the run.
    of_pair = runs.length[which]  # [pair] entries
    before = np.cumsum(of_pair) - of_pair
    shift = runs.start[which] - before
    entry = np.repeat(shift, of_pair) + np.arange(of_pair.sum())
    return _Entries(
        pair=np.repeat(pair, of_pair),
        link=runs.link[entry],
        share=runs.share[entry],
    )


class _Runs(NamedTuple):
    """Links between switches, those of each two switches one behind another."""

    two: Links
    """Both switches of each run as one number, rising [run]; the first one is none."""
    start: Links
    """Where the entries of each begin [run]."""
    length: Links
    """Their number [run]."""
    link: Links
    """Link [entry]."""
    share: Floats
    """Of the traffic between the two switches [entry]."""

    def place(self, wanted: Links) -> Links:
        """Return where each stands or would stand, the last one where that is beyond [pair]."""
        place: Links = np.searchsorted(self.two, wanted)
        return np.minimum(place, len(self.two) - 1)

    def missing(self, wanted: Links) -> Links:
        """Return what has no run yet, each once and rising. wanted: as `two` [pair]."""
        return np.unique(wanted[self.two[self.place(wanted)] != wanted])

    def added(self, new: Links, paths: Paths) -> _Runs:
        """Return the runs with those between more switches. new: rising [run]."""
        links: list[int] = []
        shares: list[float] = []
        lengths: list[int] = []
        for source, target in zip(*np.divmod(new, len(paths.ahead)), strict=True):
            spread = paths.spread(int(source), int(target)) if source != target else {}
            links += spread
            shares += spread.values()
            lengths.append(len(spread))
        length = np.array(lengths, dtype=np.int64)
        start = len(self.link) + np.cumsum(length) - length
        place = np.searchsorted(self.two, new)
        return _Runs(
            two=np.insert(self.two, place, new),
            start=np.insert(self.start, place, start),
            length=np.insert(self.length, place, length),
            link=np.concatenate([self.link, np.array(links, dtype=np.int64)]),
            share=np.concatenate([self.share, np.array(shares, dtype=np.float64)]),
        )


_NOTHING = np.zeros(0, dtype=np.int64)
_NO_RUNS = _Runs(
    np.array([-1]), np.zeros(1, np.int64), np.zeros(1, np.int64), _NOTHING, np.zeros(0)
)


class _Found(NamedTuple):
    """Runs that hold all that was looked for."""

    runs: _Runs
    """They and others."""
    which: Links
    """The run of each two switches [pair]."""


@dataclass(slots=True)
class _Switches:
    """Links between switches, looked up once for each two of them, as long as the network is in use."""

    paths: Paths
    """Of the network."""
    runs: _Runs = _NO_RUNS
    """As far as they have been asked for. Replaced as a whole, since another thread may read them."""

    def find(self, here: Links, there: Links) -> _Found:
        """Return the run of each two switches [pair]."""
        wanted = here * len(self.paths.ahead) + there
        runs = self.runs
        missing = runs.missing(wanted)
        if len(missing):
            runs = self.runs = runs.added(missing, self.paths)
        return _Found(runs, runs.place(wanted))


@lru_cache(maxsize=4)  # as above
def _switches(network: Network) -> _Switches:
    """Return what is known of the ways between the switches of a network."""
    return _Switches(network.paths)


def _odd_entries(network: Network, pairs: _Pairs) -> _Entries:
    """Return the entries of other pairs, looked up one by one."""
    number: list[int] = []
    link: list[int] = []
    share: list[float] = []
    columns = (column.tolist() for column in pairs)
    for pair, src, dst in zip(*columns, strict=True):
        shares = network.spread(src, dst)[0]
        number += [pair] * len(shares)
        link += shares
        share += shares.values()
    return _Entries(
        pair=np.array(number, dtype=np.int64),
        link=np.array(link, dtype=np.int64),
        share=np.array(share, dtype=np.float64),
    )


def by_kind(network: Network, nvlink: float, nic: float) -> Floats:
    """Return one value for NVLink and another for everything beyond the NIC, [link]."""
    return np.where(of_kind(network, LinkKind.NVLINK), nvlink, nic)


def of_kind(network: Network, kind: LinkKind) -> NDArray[np.bool_]:
    """Tell which links are of a kind [link]."""
    return _of_kind(wired(network), kind)


@lru_cache(maxsize=16)  # as above, for each kind
def _of_kind(network: Network, kind: LinkKind) -> NDArray[np.bool_]:
    such = network.is_kind(kind)  # [link]
    such.flags.writeable = False
    return such


def all_pairs(ranks: Sequence[int]) -> tuple[Links, Links]:
    """Return everybody to everybody else."""
    members = np.asarray(ranks, dtype=np.int64)
    src = np.repeat(members, len(members))
    dst = np.tile(members, len(members))
    others = src != dst
    return src[others], dst[others]
