"""What a collective sends, as rounds of pairs, and what that asks of the links: a demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.collectives.paths import Floats, Links, by_kind, ways
from simulator.errors import LayoutError
from simulator.hardware import CommunicationModel
from simulator.topology import Network

Loads: TypeAlias = list[tuple[Links, float]]


@dataclass(frozen=True, slots=True)
class Round:
    """Pairs that send at the same time.

    src, dst: [pair] ranks, or SWITCH or FABRIC at one end. bytes: [pair] B. repeat: how often the
    same round follows.
    """

    src: Links
    dst: Links
    bytes: Floats
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class Rounds:
    """A collective, pair by pair.

    rounds: in order. pipelined: chunks of the buffer are in all rounds at once, so that the rounds
    share the links; otherwise a round starts when the one before it has ended everywhere.
    """

    rounds: tuple[Round, ...]
    pipelined: bool = False


Pattern: TypeAlias = Callable[[Network, Sequence[int], float], Rounds]
"""(network, members, size [B]) -> rounds. Size as nccl-tests counts it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a collective asks of the network.

    links: link indices, each once. bytes: that cross each [B]. latency: of all its rounds [s].
    """

    links: Links
    bytes: Floats
    latency: float

    def scaled(self, factor: float) -> Demand:
        """Return the demand with every byte count multiplied."""
        return Demand(self.links, self.bytes * factor, self.latency)

    def occupied(self, network: Network, model: CommunicationModel) -> Floats:
        """Return what each link is busy for [B]: its bytes over the share that the kernel reaches on that link."""
        share = [
            model.nvlink if network.kind[link] == "nvlink" else model.nic
            for link in self.links.tolist()
        ]
        result: Floats = self.bytes / np.array(share)
        return result

    def seconds(self, network: Network, model: CommunicationModel) -> float:
        """Return how long it takes where nothing else runs: the latencies, then its slowest link [s]."""
        return self.latency + float(
            (self.occupied(network, model) / network.capacity[self.links]).max(initial=0.0)
        )

    def binds(self, network: Network, model: CommunicationModel) -> str:
        """Return the kind of its slowest link: `nvlink`, `pcie`, `nic` or `fabric`; nothing if it crosses none."""
        if not len(self.links):
            return ""
        slowest = int(np.argmax(self.occupied(network, model) / network.capacity[self.links]))
        return network.kind[int(self.links[slowest])]


def total(loads: Loads, latency: float) -> Demand:
    """Return loads (links, bytes on each) as a demand that names every link once."""
    links = np.concatenate([ids for ids, _ in loads]) if loads else np.zeros(0, np.int64)
    each = (
        np.concatenate([np.full(len(ids), count) for ids, count in loads]) if loads else np.zeros(0)
    )
    return _merged(links, each, latency)


def _merged(links: Links, each: Floats, latency: float) -> Demand:
    used = each > 0
    unique, place = np.unique(links[used], return_inverse=True)
    count: Floats = np.bincount(place, weights=each[used], minlength=len(unique)).astype(np.float64)
    return Demand(unique, count, latency)


def demand(network: Network, rounds: Rounds, model: CommunicationModel | None = None) -> Demand:
    """Return the coflow of a collective: bytes per link, and the latency of all its rounds.

    model: whose latencies count, relative to the topology's; without one, the topology's own.
    """
    links, each, latency = [np.zeros(0, np.int64)], [np.zeros(0)], 0.0
    for step in rounds.rounds:
        way = ways(network, step.src, step.dst)
        links.append(way.link)
        each.append(step.bytes[way.pair] * way.share * step.repeat)
        latency += step.repeat * way.latency(len(step.src), latencies(network, model))
    return _merged(np.concatenate(links), np.concatenate(each), latency)


def latencies(network: Network, model: CommunicationModel | None) -> Floats:
    """Return what a link adds to a round of this kernel, [link] s."""
    if model is None:
        return network.latency
    relative: Floats = network.latency * by_kind(network, model.nvlink_latency, model.nic_latency)
    return relative


def send(network: Network, source: int, target: int) -> tuple[tuple[int, ...], float]:
    """Return the links that a send crosses, and its latency [s]."""
    return network.route(source, target)


def by_node(network: Network, members: Sequence[int]) -> list[list[int]]:
    """Return the members on each node that holds some, in order."""
    nodes: dict[int, list[int]] = {}
    for rank in sorted(members):
        nodes.setdefault(network.node_of(rank), []).append(rank)
    return list(nodes.values())


def even_nodes(network: Network, members: Sequence[int]) -> NDArray[np.int64]:
    """Return the members as [node, place]. Errors: LayoutError if nodes hold different numbers of them."""
    groups = by_node(network, members)
    if len({len(group) for group in groups}) > 1:
        raise LayoutError(
            f"spreads a group of {len(members)} GPUs unevenly over {len(groups)} nodes",
            key="layout.pp",
        )
    return np.array(groups, dtype=np.int64)


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


def a_round(src: NDArray[np.int64], dst: NDArray[np.int64], size: float, repeat: int = 1) -> Round:
    """Return a round in which every pair sends the same. src, dst: of any equal shape."""
    src, dst = np.broadcast_arrays(src, dst)
    src, dst = src.ravel().astype(np.int64), dst.ravel().astype(np.int64)
    return Round(src, dst, np.full(len(src), size), repeat)


def kept(*rounds: Round) -> tuple[Round, ...]:
    """Return the rounds in which anybody sends."""
    return tuple(step for step in rounds if step.repeat and len(step.src))
