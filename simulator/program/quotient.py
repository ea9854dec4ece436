"""Coflows and links of the whole cluster -> one coflow and one link per class."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np

from simulator.collectives import sms_of
from simulator.collectives.kinds import EXCHANGES
from simulator.collectives.paths import of_kind
from simulator.collectives.tuner import constants
from simulator.experts import Loads
from simulator.program.coflows import Coflows
from simulator.program.firsts import Firsts
from simulator.program.folding import Partition
from simulator.program.program import Coflow, Floats, Ints, Sent
from simulator.program.ragged import spread, starts
from simulator.program.tiles import UnevenError
from simulator.program.transfers import Block, Label
from simulator.scenario import Scenario
from simulator.topology import LinkKind, Network


def fold_coflows(
    net: Network, table: Coflows, parts: Partition, loads: Loads | None = None
) -> tuple[Ints, tuple[Coflow, ...]]:
    """Return the classes of links that are touched, and one coflow per class of coflows.

    In an equitable partition the link that stands for its class carries what every link of the
    class carries, so the bytes that all coflows of one class put on it are that class's demand.
    """
    load = _load(parts, table)
    touched, number = np.unique(load.link, return_inverse=True)
    nic = _sent(_Ports(LinkKind.NIC, net.nic_up), table, parts, loads)
    nvlink = _sent(_Ports(LinkKind.NVLINK, net.gpu_up), table, parts, loads)
    folding = _Folding(net, table, parts, Firsts.of(net, table, parts.first_coflow))
    links = folding.links(load, number)
    return touched, folding.coflows(links, nic, nvlink)


_Weights: TypeAlias = tuple[tuple[int, float], ...]


class _Load(NamedTuple):
    """What each class of coflows puts on one link of each class that it crosses."""

    coflow: Ints
    """Class of coflows [pair]."""
    link: Ints
    """Class of links [pair]."""
    bytes: Floats
    """[pair] B."""


class _Ports(NamedTuple):
    """Where GPUs send."""

    kind: LinkKind
    """`nic` or `nvlink`."""
    links: Ints
    """Their links, -1 where one is broken."""


def _load(parts: Partition, table: Coflows) -> _Load:
    """Return the bytes on the link that represents each class. Errors: UnevenError.

    Sums go through the coflows in their order: what they give is as exact, and the same on every
    machine.
    """
    links = len(parts.first_link)
    represents = np.full(len(parts.link), -1, dtype=np.int64)  # [link] its class, or none
    represents[parts.first_link] = np.arange(links)
    crossings = table.columns.crossings(represents >= 0)
    # A class of coflows and a class of links as one number: np.unique finds the pairs that meet.
    met = parts.coflow[crossings.coflow] * links + represents[crossings.link]
    pair, index = np.unique(met, return_inverse=True)
    tiles, first = table.tiles, parts.first_link[pair % links]
    times = tiles.count // tiles.copies[first]  # [pair] how many tiles share the link
    # All tiles that share a link load it, but what reaches over all of them is listed whole.
    spans = table.columns.spans[parts.first_coflow[pair // links]]
    size = _summed(crossings.bytes, index, np.where(spans, 1, times))
    return _Load(pair // links, pair % links, size)


def _summed(terms: Floats, owner: Ints, times: Ints) -> Floats:
    """Return sums of terms, one by one, as if each stood there several times [sum]. Errors: UnevenError.

    owner: sum that each adds to [term]. times: [sum].
    """
    count = len(times)
    once = np.bincount(owner, terms, count).astype(np.float64)  # of nothing it gives integers
    repeated = np.flatnonzero(times > 1)
    if not len(repeated):
        return once
    # In whatever order equal terms are added, rounding is the same.
    term = np.zeros(count)
    term[owner] = terms
    if (term[owner] != terms)[times[owner] > 1].any():
        raise UnevenError
    number = np.bincount(owner, minlength=count) * times
    for one in repeated.tolist():
        if number[one]:
            once[one] = np.add.accumulate(np.full(number[one], term[one]))[-1]
    return once


def _sent(ports: _Ports, table: Coflows, parts: Partition, loads: Loads | None) -> Floats:
    """Return what all coflows of each class send over some ports [coflow class] B."""
    leaves = np.zeros(len(parts.link), dtype=bool)  # [link]
    leaves[ports.links[ports.links >= 0]] = True
    labels = [table.columns.label(first) for first in parts.first_coflow.tolist()]
    share = np.array([_mean_share(label, ports.kind, loads) for label in labels])
    # Only what leaves a GPU counts as sent; switches pass the same bytes on.
    out = table.columns.crossings(leaves)
    owner = parts.coflow[out.coflow]  # [crossing]
    size = out.bytes * share[owner]
    every = np.full(len(labels), table.tiles.count)
    return _summed(size, owner, every)


def _mean_share(label: Label, kind: LinkKind, loads: Loads | None) -> float:
    """Return what a mean GPU sends over what the busiest link carries, 1 but for exchanges."""
    if loads is None or label.kind not in EXCHANGES:
        return 1.0
    load = loads.distinct[label.what]
    # Where every GPU has a load of its own, links carry what it sends, not the busiest one's bytes.
    if load.per_gpu:
        return 1.0
    if kind == LinkKind.NIC:
        mean, most = load.mean_nic, load.over_nic
    else:
        mean, most = load.mean_nvlink, load.over_nvlink
    return mean / most if most else 1.0


@dataclass(frozen=True, slots=True)
class _Folding:
    """What it takes to describe classes of coflows."""

    net: Network
    """The cluster."""
    table: Coflows
    """All its coflows."""
    parts: Partition
    """Their classes."""
    firsts: Firsts
    """What stands for each class."""

    def coflows(self, links: list[_Weights], nic: Floats, nvlink: Floats) -> tuple[Coflow, ...]:
        """Return the classes.

        links: (link class, weight) of each [class]. nic, nvlink: sent by all of each [class] B.
        """
        slowest = self.firsts.slowest
        alone = slowest.bytes / slowest.rate  # [class] s
        columns = zip(
            [block.label for block in self.firsts.blocks],
            [block.label.kind.traffic for block in self.firsts.blocks],
            self._members(),
            links,
            slowest.bytes.tolist(),
            slowest.rate.tolist(),
            self.firsts.slowdown(alone).tolist(),
            self._latency().tolist(),
            map(Sent, nic.tolist(), nvlink.tolist()),
            self._sms(),
            self._hbm(nic + nvlink, alone).tolist(),
            [block.sm_share for block in self.firsts.blocks],
            strict=True,
        )
        return tuple(Coflow(*values) for values in columns)

    def links(self, load: _Load, number: Ints) -> list[_Weights]:
        """Return the links of each class and what it asks of them [class].

        number: of the link of each pair among those that are touched [pair].
        """
        nvlink = of_kind(self.net, LinkKind.NVLINK)[self.parts.first_link[load.link]]  # [pair]
        inside = self.firsts.kernels(lambda kernel: kernel.nvlink)[load.coflow]
        beyond = self.firsts.kernels(lambda kernel: kernel.nic)[load.coflow]
        share = np.where(nvlink, inside, beyond)
        # A kernel that reaches a part of a link's rate holds it for longer.
        weight = load.bytes / share / self.firsts.slowest.bytes[load.coflow]
        pairs = list(zip(number.tolist(), weight.tolist(), strict=True))
        return [tuple(pairs[begin:end]) for begin, end in _runs(load.coflow, self._count)]

    @property
    def _count(self) -> int:
        return len(self.parts.first_coflow)

    def _members(self) -> list[tuple[int, ...]]:
        """Return the classes of ranks that call each class, rising."""
        columns = self.table.columns
        sizes = np.diff(columns.first_member)
        owner, entry = spread(sizes, columns.row[self.parts.first_coflow])
        one_sided = [self.table.one_sided(block.label) for block in self.firsts.blocks]
        # The target of a send receives without making a call.
        first = np.diff(owner, prepend=-1) > 0
        calls = first | ~np.array(one_sided, dtype=bool)[owner]
        ranks = len(self.parts.first_rank)
        met = owner * ranks + self.parts.rank[columns.members[entry]]
        owner, rank = np.divmod(np.unique(met[calls]), ranks)
        listed = rank.tolist()
        return [tuple(listed[begin:end]) for begin, end in _runs(owner, self._count)]

    def _latency(self) -> Floats:
        """Return what passes before the first byte [class] s."""
        setup = self.firsts.kernels(lambda kernel: kernel.setup)
        latency: Floats = self.table.columns.latency[self.parts.first_coflow] + setup
        return latency

    @property
    def _scenario(self) -> Scenario:
        return self.table.communication.scenario

    def _sms(self) -> list[float]:
        """Return the share of each member's SMs that a class holds [class]."""
        firsts = self.parts.first_coflow.tolist()
        of_exchanges = sms_of(self._scenario)
        return [
            (of_exchanges if block.label.kind in EXCHANGES else self._ctas(first, block))
            / self._scenario.gpu.sms
            for first, block in zip(firsts, self.firsts.blocks, strict=True)
        ]

    def _ctas(self, first: int, block: Block) -> int:
        """Return the SMs of each member that a kernel holds."""
        kernel = block.kernel
        if block.label.kind.one_sided:  # by the kernel of sends, whichever row has its rate
            kernel = self._scenario.kernels.communication["send_recv"]
        if not kernel.rail_ctas:
            return kernel.ctas
        nodes = self.table.columns.everyone(first) // self.net.gpus_per_node
        if (nodes == nodes[0]).all():
            return kernel.ctas
        # NCCL leaves a node by each NIC of the group's GPUs there.
        rails = int(np.count_nonzero(nodes == nodes[0]))
        return min(constants().channels_across, rails * kernel.rail_ctas)

    def _hbm(self, sent: Floats, alone: Floats) -> Floats:
        """Return the share of HBM's bandwidth that a coflow takes of each member, mean over these.

        sent: by all of its class [class] B. alone: its time [class] s.
        """
        alike = np.zeros(self._count, dtype=np.int64)  # coflows that each class stands for [class]
        np.add.at(alike, self.parts.coflow, self.table.copies())
        columns = self.table.columns
        takes_part = [
            columns.reaches[block.reach].everyone.shape[1] for block in self.firsts.blocks
        ]
        one_sided = [block.label.kind.one_sided for block in self.firsts.blocks]
        senders = np.where(one_sided, 1, takes_part)
        hbm = self.firsts.kernels(lambda kernel: kernel.hbm)
        moved = hbm * sent / (alike * senders)  # [class] B
        seconds = np.where(alone > 0, alone, np.inf)
        share: Floats = moved / seconds / self._scenario.gpu.memory.bandwidth
        return share


def _runs(owner: Ints, count: int) -> list[tuple[int, int]]:
    """Return where the entries of each owner begin and end. owner: rising [entry]."""
    first = starts(np.bincount(owner, minlength=count)).tolist()
    return list(pairwise(first))
