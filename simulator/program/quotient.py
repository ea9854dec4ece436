"""Coflows and links of the whole cluster -> one coflow and one link per class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.experts import Loads
from simulator.hardware import CommunicationModel
from simulator.program.coflows import EXCHANGES, KERNELS, SENDS, TRAFFIC, Coflows
from simulator.program.folding import Partition, flat
from simulator.program.program import Coflow, Ints
from simulator.scenario import Scenario
from simulator.topology import Network


def fold_coflows(
    scenario: Scenario, net: Network, table: Coflows, parts: Partition, loads: Loads | None = None
) -> tuple[Ints, tuple[Coflow, ...]]:
    """Return the classes of links that are touched, and one coflow per class of coflows.

    In an equitable partition the link that stands for its class carries what every link of the
    class carries, so the bytes that all coflows of one class put on it are that class's demand.
    """
    classes, links = len(parts.first_coflow), len(parts.first_link)
    stands = np.full(len(parts.link), -1, dtype=np.int64)
    stands[parts.first_link] = np.arange(links)
    of = parts.coflow[np.repeat(np.arange(len(table.links)), [len(one) for one in table.links])]
    at, size = flat(table.links), flat(table.bytes, np.float64)
    # Sums go through the coflows in their order: what they give is as exact, and the same on every
    # machine.
    used = stands[at] >= 0
    pair, place = np.unique(of[used] * links + stands[at[used]], return_inverse=True)
    load = np.bincount(place, size[used], len(pair))
    sent = {}
    for kind, ports in (("nic", net.nic_up), ("nvlink", net.gpu_up)):
        out = np.zeros(len(parts.link), dtype=bool)
        out[ports[ports >= 0]] = True
        share = np.array(
            [_mean_share(table.label[first], kind, loads) for first in parts.first_coflow.tolist()]
        )
        out = out[at]
        sent[kind] = np.bincount(of[out], size[out] * share[of[out]], classes).tolist()
    touched = np.unique(pair % links)
    folding = _Folding(
        scenario, net, table, parts, {link: place for place, link in enumerate(touched.tolist())}
    )
    of_class: list[dict[int, float]] = [{} for _ in range(classes)]
    for number, link, total in zip(
        (pair // links).tolist(), (pair % links).tolist(), load.tolist(), strict=True
    ):
        of_class[number][link] = total
    flows = tuple(
        folding.coflow(first, of_class[number], {kind: each[number] for kind, each in sent.items()})
        for number, first in enumerate(parts.first_coflow.tolist())
    )
    return touched, flows


def _mean_share(label: tuple[str, int], kind: str, loads: Loads | None) -> float:
    """Return what a mean GPU sends of an exchange over what the busiest link carries; 1 for all other coflows."""
    if loads is None or label[0] not in EXCHANGES:
        return 1.0
    load = loads.distinct[label[1]]
    if load.per_gpu:
        return 1.0
    mean, most = (
        (load.mean_nic, load.over_nic) if kind == "nic" else (load.mean_nvlink, load.over_nvlink)
    )
    return mean / most if most else 1.0


@dataclass(frozen=True, slots=True)
class _Folding:
    """What it takes to describe one class of coflows. place: link class -> index among the touched ones."""

    scenario: Scenario
    net: Network
    table: Coflows
    parts: Partition
    place: dict[int, int]

    def coflow(self, first: int, load: dict[int, float], sent: dict[str, float]) -> Coflow:
        """Return the class that coflow `first` stands for. load: link class -> bytes. sent: by all of the class."""
        label = self.table.label[first]
        kernel = self.scenario.kernels.communication[KERNELS.get(label[0], label[0])]
        size, rate = self._slowest(first, kernel)
        stand = self.parts.first_link
        members = self.table.members[first]
        if label[0] in SENDS:
            members = members[:1]
        return Coflow(
            label=label,
            traffic=TRAFFIC.get(label[0], "expert"),
            members=tuple(sorted({int(self.parts.rank[rank]) for rank in members})),
            links=tuple(
                sorted(
                    (self.place[link], total / self._share(int(stand[link]), kernel) / size)
                    for link, total in load.items()
                )
            ),
            size=size,
            rate=rate,
            overlap_slowdown=self._slowdown(first, kernel, size / rate),
            latency=self.table.latency[first] + kernel.setup,
            sent=(sent["nic"], sent["nvlink"]),
        )

    def _slowest(self, first: int, kernel: CommunicationModel) -> tuple[float, float]:
        """Return (bytes that it is busy for, bandwidth) of a coflow's own slowest link."""
        own = (
            (size / self._share(link, kernel), float(self.net.capacity[link]))
            for link, size in zip(self.table.links[first], self.table.bytes[first], strict=True)
        )
        return max(own, key=lambda pair: pair[0] / pair[1], default=(0.0, 1.0))

    def _slowdown(self, first: int, kernel: CommunicationModel, alone: float) -> float:
        """Return how much longer a coflow takes beside compute than alone on its own links.

        Beside compute the kernel has too few resources to move more than it did where it was
        measured. Where the links are slower than that by themselves, it waits for them anyway.
        """
        if kernel.measured_on is None or not alone:
            return kernel.overlap_slowdown
        measured = max(
            size
            / self._share(link, kernel)
            / (
                kernel.measured_on.nvlink
                if self.net.kind[link] == "nvlink"
                else kernel.measured_on.nic
            )
            for link, size in zip(self.table.links[first], self.table.bytes[first], strict=True)
            if self.net.kind[link] in ("nvlink", "nic")
        )
        return max(1.0, kernel.overlap_slowdown * measured / alone)

    def _share(self, link: int, kernel: CommunicationModel) -> float:
        return kernel.nvlink if self.net.kind[link] == "nvlink" else kernel.nic
