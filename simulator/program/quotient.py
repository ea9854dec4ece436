"""Coflows and links of the whole cluster -> one coflow and one link per class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.collectives.kinds import EXCHANGES
from simulator.experts import Loads
from simulator.hardware import CommunicationModel
from simulator.program.coflows import Coflows, Label
from simulator.program.folding import Partition
from simulator.program.program import Coflow, Floats, Ints
from simulator.program.ragged import flat
from simulator.topology import Network


def fold_coflows(
    net: Network, table: Coflows, parts: Partition, loads: Loads | None = None
) -> tuple[Ints, tuple[Coflow, ...]]:
    """Return the classes of links that are touched, and one coflow per class of coflows.

    In an equitable partition the link that stands for its class carries what every link of the
    class carries, so the bytes that all coflows of one class put on it are that class's demand.
    """
    crossings = _crossings(table, parts)
    load = _load(crossings, parts)
    touched = np.unique(load.link)
    number = {link: index for index, link in enumerate(touched.tolist())}
    folding = _Folding(net, table, parts, number)
    of_class: list[dict[int, float]] = [{} for _ in parts.first_coflow]
    columns = (column.tolist() for column in load)
    for coflow, link, size in zip(*columns, strict=True):
        of_class[coflow][link] = size
    nic = _sent(crossings, _Ports("nic", net.nic_up), table, parts, loads)
    nvlink = _sent(crossings, _Ports("nvlink", net.gpu_up), table, parts, loads)
    flows = []
    for coflow, first in enumerate(parts.first_coflow.tolist()):
        sent = (nic[coflow], nvlink[coflow])
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

    kind: str
    """`nic` or `nvlink`."""
    links: Ints
    """Their links, -1 where one is broken."""


def _crossings(table: Coflows, parts: Partition) -> _Crossings:
    counts = [len(links) for links in table.links]
    owner = np.repeat(np.arange(len(table.links)), counts)  # [crossing] coflow
    return _Crossings(
        coflow=parts.coflow[owner],
        link=flat(table.links),
        bytes=flat(table.bytes, np.float64),
    )


def _load(crossings: _Crossings, parts: Partition) -> _Load:
    """Return the bytes on the link that represents each class.

    Sums go through the coflows in their order: what they give is as exact, and the same on every
    machine.
    """
    links = len(parts.first_link)
    represents = np.full(len(parts.link), -1, dtype=np.int64)  # [link] its class, or none
    represents[parts.first_link] = np.arange(links)
    link_class = represents[crossings.link]  # [crossing]
    used = link_class >= 0
    # A pair of classes is one integer, so that equal pairs merge.
    met = crossings.coflow[used] * links + link_class[used]
    pair, index = np.unique(met, return_inverse=True)
    total = np.bincount(index, crossings.bytes[used], minlength=len(pair))
    size: Floats = total.astype(np.float64)
    coflow, link = np.divmod(pair, links)
    return _Load(coflow, link, size)


def _sent(
    crossings: _Crossings, ports: _Ports, table: Coflows, parts: Partition, loads: Loads | None
) -> list[float]:
    """Return what all coflows of each class send over some ports [coflow class] B."""
    leaves = np.zeros(len(parts.link), dtype=bool)  # [link]
    working = ports.links[ports.links >= 0]
    leaves[working] = True
    # Links carry what the busiest of the group does. What was sent is a sum over all GPUs, which
    # the mean gives.
    labels = [table.label[first] for first in parts.first_coflow.tolist()]
    share = np.array([_mean_share(label, ports.kind, loads) for label in labels])
    out = leaves[crossings.link]  # [crossing]
    of = crossings.coflow[out]
    size = crossings.bytes[out] * share[of]
    total = np.bincount(of, size, minlength=len(labels))
    sent: list[float] = total.tolist()
    return sent


def _mean_share(label: Label, kind: str, loads: Loads | None) -> float:
    """Return what a mean GPU sends over what the busiest link carries, 1 but for exchanges."""
    if loads is None or label.kind not in EXCHANGES:
        return 1.0
    load = loads.distinct[label.what]
    if load.per_gpu:
        return 1.0
    if kind == "nic":
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

    def coflow(self, first: int, load: dict[int, float], sent: tuple[float, float]) -> Coflow:
        """Return the class that coflow `first` represents.

        load: link class -> bytes. sent: over NICs and over NVLink by all of the class [B].
        """
        label = self.table.label[first]
        kernel = self.table.kernel[first]
        size, rate = self._slowest(first, kernel)
        # Weights are relative to the coflow's own slowest link: at rate r that link moves r, and
        # every other one its weight times r.
        representative = self.parts.first_link
        links = []
        for link, total in load.items():
            busy = total / self._share(int(representative[link]), kernel)
            links.append((self.number[link], busy / size))
        members = self.table.members[first]
        if label.kind.one_sided:
            members = members[:1]
        classes = {int(self.parts.rank[rank]) for rank in members}
        return Coflow(
            label=label,
            traffic=label.kind.traffic,
            members=tuple(sorted(classes)),
            links=tuple(sorted(links)),
            size=size,
            rate=rate,
            overlap_slowdown=self._slowdown(first, kernel, size / rate),
            latency=self.table.latency[first] + kernel.setup,
            sent=sent,
        )

    def _slowest(self, first: int, kernel: CommunicationModel) -> tuple[float, float]:
        """Return (bytes that it is busy for, bandwidth) of a coflow's own slowest link."""
        crossed = self._crossed(first)
        slowest, longest = (0.0, 1.0), -1.0
        for link, size in crossed:
            busy = size / self._share(link, kernel)
            rate = float(self.net.capacity[link])
            if busy / rate > longest:  # the first of equals
                slowest, longest = (busy, rate), busy / rate
        return slowest

    def _slowdown(self, first: int, kernel: CommunicationModel, alone: float) -> float:
        """Return how much longer a coflow takes next to compute than alone on its own links.

        Next to compute the kernel has too few resources to move more than it did where it was
        measured. Where the links are slower than that by themselves, it waits for them anyway.
        """
        measured_on = kernel.measured_on
        if measured_on is None or not alone:
            return kernel.overlap_slowdown
        rates = {"nvlink": measured_on.nvlink, "nic": measured_on.nic}
        # What the slowest of its links would take on the cluster of the measurement.
        measured = []
        for link, size in self._crossed(first):
            kind = self.net.kind[link]
            if kind in rates:
                busy = size / self._share(link, kernel)
                measured.append(busy / rates[kind])
        return max(1.0, kernel.overlap_slowdown * max(measured) / alone)

    def _crossed(self, coflow: int) -> Iterator[tuple[int, float]]:
        """Return the links that a coflow of the cluster crosses, with its bytes on each."""
        links, sizes = self.table.links[coflow], self.table.bytes[coflow]
        return zip(links, sizes, strict=True)

    def _share(self, link: int, kernel: CommunicationModel) -> float:
        return kernel.nvlink if self.net.kind[link] == "nvlink" else kernel.nic
