"""A schedule lowered with costs and groups: columns of ops and what they wait for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.costs import Costs
from simulator.scenario import Scenario
from simulator.schedules import Schedule

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Coflow:
    """A class of transfers that do the same at the same time.

    label: (kind, stage and part), kind as `program.coflows` names it. traffic: kind of traffic in
    the report. members: classes of ranks that take part and wait for each other; of a send, its
    source alone. links: (link class, weight): the share of its own slowest link's bytes that all
    coflows of the class ask of one link of that class, kernel efficiency included. size: what its
    own slowest link is busy for [B]. rate: of that link [B/s]. overlap_slowdown: how much longer the
    kernel takes while a member computes. latency: before the first byte [s]. sent: over NICs and
    over NVLink by all coflows of the class together [B].
    """

    label: tuple[str, int]
    traffic: str
    members: tuple[int, ...]
    links: tuple[tuple[int, float], ...]
    size: float
    rate: float
    overlap_slowdown: float
    latency: float
    sent: tuple[float, float]


@dataclass(frozen=True)
class Program:
    """Ops per stream and class of ranks, as columns; rows of one rank and stream run in the order of the rows.

    rank: class [op]. stream: a Stream [op]. label: index into labels [op].
    seconds: of compute ops [s], 0 for transfers. coflow: class, or -1 [op]. instance: of a coflow,
    alike for all its members, or -1 [op]. action: index into actions [op]. wait_ptr/wait: CSR of
    the rows that each row waits for, stream order included. actions: (class of ranks, position in
    the schedule, kind of chunk). first_rank/multiplicity: of each class of ranks. capacity: of one
    link of each touched class [B/s]. link_names: of that link. class_seconds: [rank class] -> class
    of op -> busy compute [s]. flops: [rank class] -> dtype -> executed FLOPs. recomputed: FLOPs of
    those that the forward pass ran before [rank class].
    """

    scenario: Scenario
    costs: Costs
    schedule: Schedule
    labels: tuple[str, ...]
    rank: Ints
    stream: Ints
    label: Ints
    seconds: Floats
    coflow: Ints
    instance: Ints
    action: Ints
    wait_ptr: Ints
    wait: Ints
    actions: tuple[tuple[int, int, str], ...]
    coflows: tuple[Coflow, ...]
    capacity: Floats
    link_names: tuple[str, ...]
    link_kinds: tuple[str, ...]
    first_rank: Ints
    multiplicity: Ints
    class_seconds: tuple[dict[str, float], ...]
    flops: tuple[dict[str, float], ...]
    recomputed: tuple[float, ...]

    @property
    def ranks(self) -> int:
        """Return the number of classes of ranks."""
        return len(self.first_rank)

    def pipeline_index(self, rank_class: int) -> int:
        """Return the pipeline index of a class of ranks."""
        return self.scenario.layout.pipeline_index(int(self.first_rank[rank_class]))

    def mean(self, values: NDArray[np.float64]) -> float:
        """Return the mean over all ranks of a value per class. values: [rank class]."""
        return float(np.average(values, weights=self.multiplicity))
