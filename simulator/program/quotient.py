"""Coflows and links of the whole cluster -> one coflow and one link per class."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from simulator.hardware import CommunicationModel
from simulator.program.coflows import EXCHANGES, KERNELS, SENDS, TRAFFIC, Coflows
from simulator.program.folding import Partition
from simulator.program.loads import Loads
from simulator.program.program import Coflow, Ints
from simulator.scenario import Scenario
from simulator.topology import Network


def fold_coflows(
    scenario: Scenario, net: Network, table: Coflows, parts: Partition, loads: Loads | None = None
) -> tuple[Ints, tuple[Coflow, ...]]:
    """Return the classes of links that are touched, and one coflow per class of coflows.

    In an equitable partition the link that stands for its class carries what every link of the class carries, so the
    bytes that all coflows of one class put on it are that class's demand.
    """
    stands = {link: number for number, link in enumerate(parts.first_link.tolist())}
    classes = parts.coflow.tolist()
    load_of: list[defaultdict[int, float]] = [defaultdict(float) for _ in parts.first_coflow]
    sent = [{"nic": 0.0, "nvlink": 0.0} for _ in parts.first_coflow]
    out = {**dict.fromkeys(net.nic_up.tolist(), "nic"), **dict.fromkeys(net.gpu_up.tolist(), "nvlink")}
    for flow, (links, sizes) in enumerate(zip(table.links, table.bytes, strict=True)):
        for link, size in zip(links, sizes, strict=True):
            if link in stands:
                load_of[classes[flow]][stands[link]] += size
            if link in out:
                sent[classes[flow]][out[link]] += size * _mean_share(table.label[flow], out[link], loads)
    touched = sorted({link for load in load_of for link in load})
    folding = _Folding(scenario, net, table, parts, {link: place for place, link in enumerate(touched)})
    flows = tuple(
        folding.coflow(first, load_of[number], sent[number]) for number, first in enumerate(parts.first_coflow.tolist())
    )
    return np.array(touched, dtype=np.int64), flows


def _mean_share(label: tuple[str, int], kind: str, loads: Loads | None) -> float:
    """Return what a mean GPU sends of an exchange over what the busiest link carries; 1 for all other coflows."""
    if loads is None or label[0] not in EXCHANGES:
        return 1.0
    load = loads.distinct[label[1]]
    if load.each:
        return 1.0
    mean, most = (load.mean_nic, load.over_nic) if kind == "nic" else (load.mean_nvlink, load.over_nvlink)
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
            beside_compute=self._slowdown(first, kernel, size / rate),
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

        Beside compute the kernel has too few resources to move more than it did where it was measured. Where the links
        are slower than that by themselves, it waits for them anyway.
        """
        if kernel.measured_on is None or not alone:
            return kernel.beside_compute
        measured = max(
            size / self._share(link, kernel)
            / (kernel.measured_on.nvlink if self.net.kind[link] == "nvlink" else kernel.measured_on.nic)
            for link, size in zip(self.table.links[first], self.table.bytes[first], strict=True)
            if self.net.kind[link] in ("nvlink", "nic")
        )
        return max(1.0, kernel.beside_compute * measured / alone)

    def _share(self, link: int, kernel: CommunicationModel) -> float:
        return kernel.nvlink if self.net.kind[link] == "nvlink" else kernel.nic
