"""What a collective sends, as rounds of pairs, and what that asks of the links: a demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.collectives.paths import Floats, Links, Ways, by_kind, of_kind, ways
from simulator.errors import LayoutError
from simulator.hardware import CommunicationModel
from simulator.topology import LinkKind, Network, wired

PAIRS_AT_ONCE = 1 << 14
"""Pairs whose ways are worked out together: arrays of theirs are at most some MB.

Rounds of a million GPUs have half a million pairs. Together they took three times as long, most of
it in the system, for fresh pages.
"""


@dataclass(frozen=True, slots=True)
class Round:
    """Pairs that send at the same time."""

    src: Links
    """Ranks that send, or SWITCH or FABRIC [pair]."""
    dst: Links
    """Ranks that receive, or SWITCH or FABRIC [pair]."""
    bytes: Floats
    """[pair] B."""
    repeat: int = 1
    """How often the round runs, one after another."""
    chained: bool = False
    """Whether every byte takes all of its ways in turn, round by round, as in a ring."""

    def latency(self, crossed: Ways, delay: Floats) -> float:
        """Return the latency of one round [s]. crossed: its ways. delay: [link] s."""
        return self.slowest(crossed.latencies(len(self.src), delay))

    def slowest(self, each: Floats) -> float:
        """Return the latency of one round of that of each way. each: [pair] s."""
        if not len(each):
            return 0.0
        # Round a ring a byte meets the long hops between nodes as seldom as there are of them.
        return float(each.mean() if self.chained else each.max())


@dataclass(frozen=True, slots=True)
class Rounds:
    """A collective, pair by pair."""

    rounds: tuple[Round, ...]
    """In order."""
    pipelined: bool = False
    """Whether chunks of the buffer are in all rounds at once, so that the rounds share the links.

    Otherwise a round starts when the one before it has ended everywhere.
    """


Pattern: TypeAlias = Callable[[Network, Sequence[int], float], Rounds]
"""(network, members, size [B]) -> rounds. Size as nccl-tests counts it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a collective asks of the network."""

    links: Links
    """Links that it crosses, each once [link]."""
    bytes: Floats
    """That cross each [link] B."""
    latency: float
    """Of all its rounds [s]."""

    def scaled(self, factor: float) -> Demand:
        """Return the demand with every byte count multiplied."""
        return Demand(self.links, self.bytes * factor, self.latency)

    def occupied(self, network: Network, model: CommunicationModel) -> Floats:
        """Return what each link is busy for: bytes over the share that the kernel reaches [B]."""
        # Only the links that are crossed: a network has thousands, and a step asks this often.
        share = np.where(of_kind(network, LinkKind.NVLINK)[self.links], model.nvlink, model.nic)
        result: Floats = self.bytes / share
        return result

    def seconds(self, network: Network, model: CommunicationModel) -> float:
        """Return how long it takes alone: the latencies, then its slowest link [s]."""
        busy = self.occupied(network, model) / network.capacity[self.links]  # [link] s
        return self.latency + float(busy.max(initial=0.0))

    def binds(self, network: Network, model: CommunicationModel) -> str:
        """Return the kind of its slowest link, see `Network.kind`; '' if it crosses none."""
        if not len(self.links):
            return ""
        busy = self.occupied(network, model) / network.capacity[self.links]  # [link] s
        slowest = int(self.links[np.argmax(busy)])
        return network.kind[slowest]


class Sums(NamedTuple):
    """Different keys and what is summed over each."""

    key: Links
    """Rising [key]."""
    total: Floats
    """[key]."""


def summed(keys: Links, terms: Floats) -> Sums:
    """Return the sums of the terms of each key, added in their order. keys: 0 or more [term]."""
    top = int(keys.max(initial=-1)) + 1
    # On a million GPUs a collective has millions of terms, which take seconds to sort: where a sum
    # for every number up to the largest key takes little room, nothing is sorted (5 times as fast).
    if top <= 8 * len(keys):
        every = np.bincount(keys, terms, top).astype(np.float64)
        different = np.flatnonzero(np.bincount(keys, minlength=top))
        return Sums(different, every[different])
    different, index = np.unique(keys, return_inverse=True)
    return Sums(different, np.bincount(index, terms, len(different)).astype(np.float64))


def merged(links: Links, sizes: Floats, latency: float) -> Demand:
    """Return bytes on links as a demand that names each link once. links, sizes: [entry]."""
    used = sizes > 0  # links that carry nothing would make a coflow wait for them
    sums = summed(links[used], sizes[used])
    return Demand(sums.key, sums.total, latency)


def demand(network: Network, rounds: Rounds, model: CommunicationModel | None = None) -> Demand:
    """Return the coflow of a collective: bytes per link, and the latency of all its rounds.

    model: whose latencies count, relative to the topology's; without one, the topology's own.
    """
    # All rounds as one list of (link, bytes) entries, which `merged` adds up link by link. The empty
    # arrays in front give a collective without rounds its types.
    links, sizes = [np.zeros(0, np.int64)], [np.zeros(0)]
    latency = 0.0
    delay = latencies(network, model)  # [link] s
    for step in rounds.rounds:
        delays = [np.zeros(0)]
        for begin in range(0, len(step.src), PAIRS_AT_ONCE):
            some = slice(begin, begin + PAIRS_AT_ONCE)
            crossed = ways(network, step.src[some], step.dst[some])
            sent = step.bytes[some][crossed.pair]  # [entry] B
            links.append(crossed.link)
            sizes.append(sent * crossed.share * step.repeat)
            delays.append(crossed.latencies(len(step.src[some]), delay))
        latency += step.repeat * step.slowest(np.concatenate(delays))
    return merged(np.concatenate(links), np.concatenate(sizes), latency)


def latencies(network: Network, model: CommunicationModel | None) -> Floats:
    """Return what a link adds to a round of this kernel, [link] s."""
    if model is None:
        return network.latency
    # Only latencies count: of a sweep over bandwidths no network is kept for them but the first.
    return _delays(wired(network), model.nvlink_latency, model.nic_overhead)


@lru_cache(maxsize=16)  # thousands of groups ask for it
def _delays(network: Network, nvlink: float, overhead: float) -> Floats:
    delay: Floats = network.latency * by_kind(network, nvlink, 1.0)
    # A way between nodes crosses two NICs.
    nic = of_kind(network, LinkKind.NIC)
    delay = np.where(nic, delay + overhead / 2, delay)
    delay.flags.writeable = False  # all of them share it
    return delay


def send(network: Network, source: int, target: int) -> tuple[tuple[int, ...], float]:
    """Return the links that a send crosses, and its latency [s]."""
    return network.route(source, target)


class OnNodes(NamedTuple):
    """Members by the nodes that hold some."""

    ranks: Links
    """Rising [member]."""
    begin: Links
    """Where the members on each node begin, and their number [node + 1]."""

    @classmethod
    def of(cls, network: Network, members: Sequence[int]) -> OnNodes:
        """Return the members by node."""
        ranks = np.sort(np.asarray(members, dtype=np.int64))
        node = ranks // network.gpus_per_node  # [member] rising
        begins = np.flatnonzero(np.diff(node, prepend=-1))
        return cls(ranks, np.append(begins, len(ranks)))


def by_node(network: Network, members: Sequence[int]) -> list[list[int]]:
    """Return the members on each node that holds some, in order."""
    on_nodes = OnNodes.of(network, members)
    begins = on_nodes.begin.tolist()
    in_order = on_nodes.ranks.tolist()
    return [in_order[begin:end] for begin, end in pairwise(begins)]


def even_nodes(network: Network, members: Sequence[int]) -> NDArray[np.int64]:
    """Return the members [node, member]. Errors: LayoutError if nodes hold unlike numbers."""
    on_nodes = OnNodes.of(network, members)
    sizes = np.diff(on_nodes.begin)  # [node]
    if (sizes != sizes[:1]).any():
        raise LayoutError(
            f"spreads a group of {len(members)} GPUs unevenly over {len(sizes)} nodes",
            key="layout.pp",
        )
    return on_nodes.ranks.reshape(len(sizes), -1)


def single_node(network: Network, members: Sequence[int], name: str) -> NDArray[np.int64]:
    """Return the members of one node. Errors: LayoutError if there are more nodes than one."""
    groups = by_node(network, members)
    if len(groups) > 1:
        raise LayoutError(
            f"stays inside one node; these are {len(groups)}",
            value=name,
            key="--algorithm",
            remedy="Choose nvls_tree or sharp, or fewer ranks.",
        )
    return np.array(groups[0], dtype=np.int64)


def a_round(src: Links, dst: Links, size: float, repeat: int = 1) -> Round:
    """Return a round in which every pair sends the same. src, dst: of any equal shape."""
    src, dst = np.broadcast_arrays(src, dst)
    sources = src.ravel().astype(np.int64)
    targets = dst.ravel().astype(np.int64)
    sizes = np.full(len(sources), size)
    return Round(sources, targets, sizes, repeat)


def kept(*rounds: Round) -> tuple[Round, ...]:
    """Return the rounds in which anybody sends."""
    return tuple(step for step in rounds if step.repeat and len(step.src))
