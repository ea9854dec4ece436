"""Coflows and links of the whole cluster -> one coflow and one link per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.collectives import sms_of
from simulator.collectives.kinds import EXCHANGES
from simulator.collectives.paths import of_kind
from simulator.collectives.tuner import constants
from simulator.experts import Loads
from simulator.hardware import CommunicationModel
from simulator.program.coflows import Coflows, Label
from simulator.program.folding import Partition
from simulator.program.program import Coflow, Floats, Ints, Sent
from simulator.program.ragged import joined
from simulator.program.tiles import UnevenError
from simulator.scenario import Scenario
from simulator.topology import LinkKind, Network


def fold_coflows(
    net: Network, table: Coflows, parts: Partition, loads: Loads | None = None
) -> tuple[Ints, tuple[Coflow, ...]]:
    """Return the classes of links that are touched, and one coflow per class of coflows.

    In an equitable partition the link that stands for its class carries what every link of the
    class carries, so the bytes that all coflows of one class put on it are that class's demand.
    """
    crossings = _crossings(table, parts)
    load = _load(crossings, parts, table)
    touched = np.unique(load.link)
    number = {link: index for index, link in enumerate(touched.tolist())}
    alike = np.zeros(len(parts.first_coflow), dtype=np.int64)
    np.add.at(alike, parts.coflow, table.copies())
    folding = _Folding(net, table, parts, number, alike)
    of_class: list[dict[int, float]] = [{} for _ in parts.first_coflow]
    columns = (load.coflow.tolist(), load.link.tolist(), load.bytes.tolist())
    for coflow, link, size in zip(*columns, strict=True):
        of_class[coflow][link] = size
    nic = _sent(crossings, _Ports(LinkKind.NIC, net.nic_up), table, parts, loads)
    nvlink = _sent(crossings, _Ports(LinkKind.NVLINK, net.gpu_up), table, parts, loads)
    flows = []
    for coflow, first in enumerate(parts.first_coflow.tolist()):
        sent = Sent(nic[coflow], nvlink[coflow])
        flows.append(folding.coflow(first, of_class[coflow], sent))
    return touched, tuple(flows)


class _Crossings(NamedTuple):
    """Every meeting of a coflow of the cluster with a link, in the order of the coflows."""

    coflow: Ints
    """Class of the coflow [crossing]."""
    link: Ints
    """Link itself [crossing]."""
    bytes: Floats
    """[crossing] B."""


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


def _crossings(table: Coflows, parts: Partition) -> _Crossings:
    counts = [len(links) for links in table.links]
    owner = np.repeat(np.arange(len(table.links)), counts)  # [crossing] coflow
    return _Crossings(
        coflow=parts.coflow[owner],
        link=joined(table.links),
        bytes=joined(table.bytes, np.float64),
    )


def _load(crossings: _Crossings, parts: Partition, table: Coflows) -> _Load:
    """Return the bytes on the link that represents each class. Errors: UnevenError.

    Sums go through the coflows in their order: what they give is as exact, and the same on every
    machine.
    """
    links = len(parts.first_link)
    represents = np.full(len(parts.link), -1, dtype=np.int64)  # [link] its class, or none
    represents[parts.first_link] = np.arange(links)
    link = represents[crossings.link]  # [crossing]
    used = link >= 0
    # A class of coflows and a class of links as one number: np.unique finds the pairs that meet.
    met = crossings.coflow[used] * links + link[used]
    pair, index = np.unique(met, return_inverse=True)
    tiles, first = table.tiles, parts.first_link[pair % links]
    times = tiles.count // tiles.copies[first]  # [pair] how many tiles share the link
    # All tiles that share a link load it, but what reaches over all of them is listed whole.
    spans = table.copies()[parts.first_coflow[pair // links]] == 1
    size = _summed(crossings.bytes[used], index, np.where(spans, 1, times))
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


def _sent(
    crossings: _Crossings, ports: _Ports, table: Coflows, parts: Partition, loads: Loads | None
) -> list[float]:
    """Return what all coflows of each class send over some ports [coflow class] B."""
    leaves = np.zeros(len(parts.link), dtype=bool)  # [link]
    leaves[ports.links[ports.links >= 0]] = True
    labels = [table.label[first] for first in parts.first_coflow.tolist()]
    share = np.array([_mean_share(label, ports.kind, loads) for label in labels])
    # Only what leaves a GPU counts as sent; switches pass the same bytes on.
    out = leaves[crossings.link]  # [crossing]
    owner = crossings.coflow[out]
    size = crossings.bytes[out] * share[owner]
    every = np.full(len(labels), table.tiles.count)
    sent: list[float] = _summed(size, owner, every).tolist()
    return sent


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
    """What it takes to describe one class of coflows."""

    net: Network
    """The cluster."""
    table: Coflows
    """All its coflows."""
    parts: Partition
    """Their classes."""
    number: dict[int, int]
    """Class of links -> its index among the touched ones."""
    alike: Ints
    """How many coflows of the cluster each class stands for [coflow class]."""

    def coflow(self, first: int, load: dict[int, float], sent: Sent) -> Coflow:
        """Return the class that coflow `first` represents.

        load: link class -> bytes. sent: over NICs and over NVLink by all of the class [B].
        """
        label = self.table.label[first]
        kernel = self.table.kernel[first]
        size, rate = self._slowest(first, kernel)
        links = []
        on_nvlink = of_kind(self.net, LinkKind.NVLINK)
        for link, total in load.items():
            share = kernel.nvlink if on_nvlink[self.parts.first_link[link]] else kernel.nic
            # A kernel that reaches a part of a link's rate holds it for longer.
            weight = total / share / size
            links.append((self.number[link], weight))
        members = self.table.members[first]
        if self.table.one_sided(label):
            members = members[:1]  # the target receives without making a call
        rank_classes = {int(self.parts.rank[rank]) for rank in members}
        return Coflow(
            label=label,
            traffic=label.kind.traffic,
            members=tuple(sorted(rank_classes)),
            links=tuple(sorted(links)),
            size=size,
            rate=rate,
            overlap_slowdown=self._slowdown(first, kernel, size / rate),
            latency=self.table.latency[first] + kernel.setup,
            sent=sent,
            sms=self._ctas(first, kernel) / self._scenario.gpu.sms,
            hbm=self._hbm(first, kernel, sent, size / rate),
            sm_share=self.table.sm_share[first],
        )

    @property
    def _scenario(self) -> Scenario:
        return self.table.communication.scenario

    def _ctas(self, first: int, kernel: CommunicationModel) -> int:
        """Return the SMs of each member that a kernel holds."""
        kind = self.table.label[first].kind
        if kind in EXCHANGES:
            return sms_of(self._scenario)
        if kind.one_sided:  # by the kernel of sends, whichever row has its rate
            kernel = self._scenario.kernels.communication["send_recv"]
        nodes = self.table.everyone(first) // self.net.gpus_per_node
        if not kernel.rail_ctas or (nodes == nodes[0]).all():
            return kernel.ctas
        # NCCL leaves a node by each NIC of the group's GPUs there.
        rails = int(np.count_nonzero(nodes == nodes[0]))
        return min(constants().channels_across, rails * kernel.rail_ctas)

    def _hbm(self, first: int, kernel: CommunicationModel, sent: Sent, alone: float) -> float:
        """Return the share of HBM's bandwidth that a coflow takes of each member, mean over these.

        sent: over NICs and over NVLink by all of its class [B]. alone: its time [s].
        """
        if not alone:
            return 0.0
        label = self.table.label[first]
        alike = self.alike[self.parts.coflow[first]]
        senders = 1 if label.kind.one_sided else len(self.table.everyone(first))
        moved = kernel.hbm * (sent.nic + sent.nvlink) / (alike * senders)  # [B]
        return float(moved / alone / self._scenario.gpu.memory.bandwidth)

    def _slowest(self, first: int, kernel: CommunicationModel) -> tuple[float, float]:
        """Return (bytes that it is busy for, bandwidth) of a coflow's own slowest link."""
        busy = self._busy(first, kernel)  # [link]
        if not len(busy):  # a coflow within one GPU
            return 0.0, 1.0
        rate = self.net.capacity[self.table.links[first]]
        slowest = int(np.argmax(busy / rate))
        return float(busy[slowest]), float(rate[slowest])

    def _busy(self, first: int, kernel: CommunicationModel) -> Floats:
        """Return the bytes that a coflow of the cluster keeps each of its links busy for [link] B."""
        inside = of_kind(self.net, LinkKind.NVLINK)[self.table.links[first]]
        busy: Floats = self.table.bytes[first] / np.where(inside, kernel.nvlink, kernel.nic)
        return busy

    def _slowdown(self, first: int, kernel: CommunicationModel, alone: float) -> float:
        """Return how much longer a coflow takes next to compute than alone on its own links.

        Next to compute the kernel has too few resources to move more than it did where it was
        measured. Where the links are slower than that by themselves, it waits for them anyway.
        """
        measured_on = kernel.measured_on
        if measured_on is None or not alone:
            return kernel.overlap_slowdown
        links, busy = self.table.links[first], self._busy(first, kernel)
        share = self.table.sm_share[first]
        measured = 0.0  # of PCIe alone nothing is known
        for kind, rate in ((LinkKind.NVLINK, measured_on.nvlink), (LinkKind.NIC, measured_on.nic)):
            of_this = of_kind(self.net, kind)[links]
            # SMs too few to fill a link fill more of a slower one.
            faster = np.maximum(1.0, self.net.capacity[links[of_this]] / rate)
            filled = np.minimum(1.0, share * faster)
            # Time on each link, were it as fast as where the kernel was measured [link] s.
            there = busy[of_this] * share / filled / rate
            measured = max(measured, float(there.max(initial=0.0)))
        return max(1.0, kernel.overlap_slowdown * measured / alone)
