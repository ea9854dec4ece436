"""One collective in many groups at once: groups that lie alike on their nodes share one pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from simulator.collectives.algorithms import ALGORITHMS
from simulator.collectives.demand import (
    PAIRS_AT_ONCE,
    Demand,
    Pattern,
    Round,
    Rounds,
    latencies,
    summed,
)
from simulator.collectives.paths import Floats, Links, of_kind, ways
from simulator.collectives.units import latency_of, unit
from simulator.hardware import CommunicationModel
from simulator.topology import LinkKind, Network, wired


@dataclass(frozen=True, slots=True)
class Demands:
    """What a collective asks of the network in each of some groups, as columns.

    Hundreds of links carry two or three different amounts: what is done with bytes is done with
    these. Several sizes of one collective may stand side by side: amounts [size, amount].
    """

    first: Links
    """Where the links of each group begin, and their number [group + 1]."""
    links: Links
    """Links that each group crosses, each once [entry]."""
    which: Links
    """Which of the amounts crosses each [entry]."""
    amounts: Floats
    """Different numbers of bytes [amount] B."""
    latency: Floats
    """Of all rounds [group] s."""

    @classmethod
    def of(cls, each: Sequence[Demand]) -> Demands:
        """Return the demands of groups side by side."""
        sizes = [len(one.links) for one in each]
        return cls.listed(
            first=np.concatenate([[0], np.cumsum(sizes)]),
            links=np.concatenate([one.links for one in each]),
            sizes=np.concatenate([one.bytes for one in each]),
            latency=np.array([one.latency for one in each]),
        )

    @classmethod
    def listed(cls, first: Links, links: Links, sizes: Floats, latency: Floats) -> Demands:
        """Return demands of which the bytes on each link are given. sizes: [entry] B."""
        amounts, which = np.unique(sizes, return_inverse=True)
        return cls(first, links, which, amounts, latency)

    @property
    def bytes(self) -> Floats:
        """Return what crosses each link [entry], of several sizes [size, entry] B."""
        carried: Floats = self.amounts[..., self.which]
        return carried

    def scaled(self, factor: float) -> Demands:
        """Return the demands with every byte count multiplied."""
        return Demands(self.first, self.links, self.which, self.amounts * factor, self.latency)

    def beside(self) -> Demands:
        """Return the same as the only one of several sizes."""
        return Demands(self.first, self.links, self.which, self.amounts[None, :], self.latency)

    def of_size(self, size: int) -> Demands:
        """Return the demands of one of the sizes that stand side by side."""
        return Demands(self.first, self.links, self.which, self.amounts[size], self.latency)

    def seconds(self, network: Network, model: CommunicationModel) -> Floats:
        """Return how long each group takes alone: the latencies, then its slowest link.

        Returns [group] s, of several sizes [size, group] s.
        """
        share = np.where(
            of_kind(network, LinkKind.NVLINK)[self.links], model.nvlink, model.nic
        )  # [entry]
        busy = self.bytes / share / network.capacity[self.links]  # [..., entry] s
        slowest = np.zeros((*busy.shape[:-1], len(self.latency)))
        # A group that crosses no link has no entry to take the largest of.
        crosses = np.flatnonzero(np.diff(self.first))
        if len(crosses):
            slowest[..., crosses] = np.maximum.reduceat(busy, self.first[crosses], axis=-1)
        result: Floats = self.latency + slowest
        return result

    def each(self) -> list[Demand]:
        """Return the demand of each group."""
        latency, carried = self.latency.tolist(), self.bytes
        return [
            Demand(self.links[begin:end], carried[begin:end], late)
            for begin, end, late in zip(
                self.first[:-1].tolist(), self.first[1:].tolist(), latency, strict=True
            )
        ]


def units(
    network: Network, algorithm: str, op: str, groups: Links, kernel: CommunicationModel
) -> Demands:
    """Return the demands of one byte of a collective's whole buffer, as `unit` does of one group.

    groups: ranks [group, member]. Errors: as `unit`.
    """
    ranks = np.ascontiguousarray(groups, dtype=np.int64).tobytes()
    return _units(wired(network), algorithm, op, ranks, len(groups), latency_of(kernel))


def _alike(network: Network, groups: Links) -> bool:
    """Tell whether the n-th members of all groups are the n-th on the same of their nodes."""
    node = groups // network.gpus_per_node  # [group, member]
    begins = np.diff(node, axis=1) > 0  # [group, member but the first]
    in_order = (np.diff(groups, axis=1) > 0).all()
    return bool(in_order and (begins == begins[0]).all())


# By value: passes over a bucket, stages of equal ranks and points of a sweep share them.
@lru_cache(maxsize=128)
def _units(
    network: Network,
    algorithm: str,
    op: str,
    ranks: bytes,
    count: int,
    kernel: CommunicationModel | None,
) -> Demands:
    groups = np.frombuffer(ranks, dtype=np.int64).reshape(count, -1)  # [group, member]
    if count == 1 or not _alike(network, groups):
        return Demands.of([unit(network, algorithm, op, row, kernel) for row in groups.tolist()])
    return _patterned(network, ALGORITHMS[algorithm].ops[op], ranks, count, kernel)


# Ops of one pattern share it: the scatters and gathers of rings are alike.
@lru_cache(maxsize=128)
def _patterned(
    network: Network,
    pattern: Pattern,
    ranks: bytes,
    count: int,
    kernel: CommunicationModel | None,
) -> Demands:
    """Return the demands of groups that lie alike."""
    groups = np.frombuffer(ranks, dtype=np.int64).reshape(count, -1)  # [group, member]
    rounds = pattern(network, groups[0].tolist(), 1.0)
    # Groups know nothing of each other: some at a time work in memory that is at hand.
    pairs = sum(len(step.src) for step in rounds.rounds)
    block = max(1, PAIRS_AT_ONCE // max(pairs, 1))
    scratch = np.empty(len(network.capacity), dtype=np.int64)
    few = _Few(network, groups[0], rounds, latencies(network, kernel), scratch)
    blocks = [few.demands(groups[begin : begin + block]) for begin in range(0, count, block)]
    return blocks[0] if len(blocks) == 1 else _joined(blocks)


@dataclass(frozen=True, slots=True)
class _Few:
    """One pattern in some of the groups."""

    network: Network
    """The cluster."""
    first: Links
    """Ranks for which the pattern is written [member], rising."""
    rounds: Rounds
    """The pattern."""
    delay: Floats
    """What a link adds to a round [link] s."""
    scratch: Links
    """Room for a number of each link [link]."""

    def demands(self, groups: Links) -> Demands:
        """Return what groups ask of the network. groups: ranks [group, member], rising."""
        count = len(groups)
        owners = [np.zeros(0, np.int64)]
        links = [np.zeros(0, np.int64)]
        sizes = [np.zeros(0)]
        latency = np.zeros(count)
        # Rounds one behind another: on a link of a group their bytes add up in the order of `demand`.
        for step in self.rounds.rounds:
            src = self._of_groups(groups, step.src)
            dst = self._of_groups(groups, step.dst)
            pairs = src.shape[1]
            crossed = ways(self.network, src.ravel(), dst.ravel())
            group, pair = np.divmod(crossed.pair, pairs)  # [entry]
            owners.append(group)
            links.append(crossed.link)
            sizes.append(step.bytes[pair] * crossed.share * step.repeat)
            delays = crossed.latencies(src.size, self.delay).reshape(count, pairs)
            latency += step.repeat * _round_latency(step, delays)
        owner, link, size = np.concatenate(owners), np.concatenate(links), np.concatenate(sizes)
        used = size > 0  # links that carry nothing would make a coflow wait for them
        return self._merged(owner[used], link[used], size[used], latency)

    def _of_groups(self, groups: Links, ranks: Links) -> Links:
        """Return what stands in each group for ranks of the first, SWITCH and FABRIC as they are.

        ranks: [pair]. Returns [group, pair].
        """
        member = np.searchsorted(self.first, ranks)  # [pair]
        return np.where(ranks >= 0, groups[:, member], ranks)

    def _merged(self, owner: Links, link: Links, size: Floats, latency: Floats) -> Demands:
        """Return bytes on links with each link of a group once. owner: group [entry]."""
        ordered = np.sort(link)
        links = ordered[np.diff(ordered, prepend=-1) > 0]  # each once
        # A group and a link as one number, as small as can be: see `summed`.
        self.scratch[links] = np.arange(len(links))
        number = self.scratch[link]  # [entry]
        sums = summed(owner * len(links) + number, size)
        group, place = np.divmod(sums.key, max(len(links), 1))  # [entry] rising
        first = np.searchsorted(group, np.arange(len(latency) + 1))
        return Demands.listed(first, links[place], sums.total, latency)


def _round_latency(step: Round, delays: Floats) -> Floats:
    """Return the latency of a round, as `Round.latency`. delays: [group, pair] s. Returns [group] s."""
    if not delays.shape[1]:
        return np.zeros(len(delays))
    latency: Floats = delays.mean(axis=1) if step.chained else delays.max(axis=1)
    return latency


def _joined(blocks: Sequence[Demands]) -> Demands:
    """Return the demands of blocks of groups, one block behind another."""
    sizes = [np.diff(block.first) for block in blocks]
    return Demands.listed(
        first=np.concatenate([[0], np.cumsum(np.concatenate(sizes))]),
        links=np.concatenate([block.links for block in blocks]),
        sizes=np.concatenate([block.bytes for block in blocks]),
        latency=np.concatenate([block.latency for block in blocks]),
    )
