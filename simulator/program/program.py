"""A schedule lowered with costs and groups: columns of ops and what they wait for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.costs import Costs
from simulator.scenario import Scenario
from simulator.schedules import Schedule
from simulator.topology import LinkKind

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Numbers = NDArray[np.int32]


_HALF = 32
"""Bits of an int64 that a number of an op takes."""
_LOWER = (1 << _HALF) - 1
"""Those."""


class Sent(NamedTuple):
    """What the members of a class of coflows send [B]."""

    nic: float
    """Over their NICs."""
    nvlink: float
    """Over NVLink."""


@dataclass(frozen=True, slots=True)
class Coflow:
    """A class of transfers that do the same at the same time."""

    label: tuple[str, int]
    """Kind, as `program.coflows` names it, and which of that kind."""
    traffic: str
    """Kind of traffic in the report."""
    members: tuple[int, ...]
    """Classes of ranks that take part and wait for each other; of a send, its source alone."""
    links: tuple[tuple[int, float], ...]
    """(Link class, weight): the share of its own slowest link's bytes that all coflows of the class
    ask of one link of that class, kernel efficiency included."""
    size: float
    """What its own slowest link is busy for [B]."""
    rate: float
    """Of that link [B/s]."""
    overlap_slowdown: float
    """How much longer its kernel takes while a member computes; 1: not at all."""
    latency: float
    """Before the first byte [s]."""
    sent: Sent
    """Over NICs and over NVLink by all coflows of the class together [B]."""
    sms: float = 0.0
    """Share of a member's SMs that its kernel holds."""
    hbm: float = 0.0
    """Share of a member's HBM bandwidth that it takes at its rate."""
    sm_share: float = 1.0
    """Share of its rate with SMs enough: below 1 SMs hold an exchange up, not its links."""


class RankAction(NamedTuple):
    """An action as one class of ranks runs it."""

    rank: int
    """Class of ranks."""
    position: int
    """In the rank's order of the schedule; the update is one behind the last action, and gathers of
    parameters, which have no position of their own, are at -1."""
    kind: str
    """Of chunk: F, B, I, W, FB; or update."""


class Followers(NamedTuple):
    """What waits for each op: the waits turned round."""

    begin: Numbers
    """Where each op's followers begin in `rows`, and their number [op + 1]."""
    rows: Numbers
    """Ops that wait for an op, by that op and in rising order [wait]."""


class Calls(NamedTuple):
    """Executions of coflows, counted from 0 in the order of their instances."""

    of_row: Numbers
    """That an op is a member of, -1 of kernels [op]."""
    kind: Numbers
    """Index into coflows [call]."""


@dataclass(frozen=True)
class Program:
    """Ops per stream and class of ranks, as columns; the rows of a stream run in their order."""

    scenario: Scenario
    """What is simulated."""
    costs: Costs
    """What its blocks cost."""
    schedule: Schedule
    """Order of the actions of each pipeline rank."""
    labels: tuple[str, ...]
    """Names of ops, in the order in which they appear."""
    rank: Ints
    """Class of ranks that runs it [op]."""
    stream: Ints
    """A Stream [op]."""
    label: Ints
    """Index into labels [op]."""
    seconds: Floats
    """Of kernels at the speed of their rank; 0 of transfers [op] s."""
    sms: Floats
    """How sensitive kernels are to SMs that transfers hold, see `compute.Sensitivity` [op]."""
    hbm: Floats
    """The same, to HBM bandwidth that transfers take [op]."""
    both: Floats
    """The mean product of both [op]."""
    host: Floats
    """How long the host is busy with it; hosts launch the rows of their rank in order [op] s."""
    lead: Floats
    """How long until its first kernel, or its transfer, is launched [op] s."""
    lag: Floats
    """When its last kernel ends were the GPU free, from when the host begins [op] s."""
    drains: NDArray[np.bool_]
    """Whether the host waits for what the row waits for before it launches it [op]."""
    coflow: Ints
    """Index into coflows, -1 of kernels [op]."""
    instance: Ints
    """Which execution of its coflow, the same for all members; -1 of kernels [op]."""
    action: Ints
    """Index into actions [op]."""
    wait_ptr: Ints
    """Where each op's waits begin in `wait` (CSR), and their number [op + 1]."""
    wait: Ints
    """Ops that an op waits for, the one before it on its stream included [wait]."""
    actions: tuple[RankAction, ...]
    """Every action of every class of ranks."""
    coflows: tuple[Coflow, ...]
    """Classes of transfers [coflow class]."""
    capacity: Floats
    """Of one link of each class of links that is touched [link class] B/s."""
    link_names: tuple[str, ...]
    """Of that link [link class]."""
    link_kinds: tuple[LinkKind, ...]
    """Of that link, as `topology.Network.kind` names kinds [link class]."""
    first_rank: Ints
    """The rank of the cluster that represents the class [rank class]."""
    multiplicity: Ints
    """How many ranks of the cluster are alike [rank class]."""
    class_seconds: tuple[dict[str, float], ...]
    """Class of op -> busy compute [rank class] s."""
    flops: tuple[dict[str, float], ...]
    """Dtype -> executed FLOPs [rank class]."""
    recomputed: tuple[float, ...]
    """Of those FLOPs, what the forward pass ran before [rank class]."""

    @cached_property  # turned round once: executor and critical path both go this way
    def followers(self) -> Followers:
        """Return what waits for each op."""
        waits = np.diff(self.wait_ptr)  # [op]
        waiters = np.repeat(np.arange(len(waits)), waits)  # [wait]
        # One number per pair of op and follower, since these sort faster than pairs.
        pairs = np.sort((self.wait << _HALF) | waiters)
        followers = np.bincount(self.wait, minlength=len(waits))  # [op]
        return Followers(
            begin=np.concatenate([[0], np.cumsum(followers)]).astype(np.int32),
            rows=(pairs & _LOWER).astype(np.int32),
        )

    @cached_property
    def calls(self) -> Calls:
        """Return the calls of coflows."""
        transfer = self.coflow >= 0  # [op]
        # Instances are numbered with gaps; calls count from 0.
        _, member, number = np.unique(
            self.instance[transfer], return_index=True, return_inverse=True
        )
        of_row = np.full(len(transfer), -1, dtype=np.int32)
        of_row[transfer] = number
        return Calls(of_row, self.coflow[transfer][member].astype(np.int32))

    @property
    def ranks(self) -> int:
        """Return the number of classes of ranks."""
        return len(self.first_rank)

    @cached_property
    def rows_by_rank(self) -> list[Ints]:
        """Return the rows of each class of ranks, in their order [rank class][row]."""
        # Sorted once: a mask per class would take as long as all rows together, and where nothing
        # folds there are thousands of classes with millions of rows.
        order = np.argsort(self.rank, kind="stable")
        counts = np.bincount(self.rank, minlength=self.ranks)
        return np.split(order, np.cumsum(counts)[:-1])

    def pipeline_index(self, rank_class: int) -> int:
        """Return the pipeline index of a class of ranks."""
        return self.scenario.layout.pipeline_index(int(self.first_rank[rank_class]))

    def mean(self, values: NDArray[np.float64]) -> float:
        """Return the mean over all ranks of a value per class. values: [rank class]."""
        return float(np.average(values, weights=self.multiplicity))
