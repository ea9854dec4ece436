"""Ranks that are alike are simulated once: the coarsest equitable partition of ranks, links and coflows.

In an equitable partition each member of a class meets every other class in the same way, so all
members do the same at the same time and one of each stands for all. It is found by colour
refinement: every colour is replaced by a hash of itself and of the multiset of its neighbours'
colours until the number of colours stands still.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from simulator.layout import Layout
from simulator.program.coflows import Coflows
from simulator.schedules import Schedule
from simulator.topology import Network

Colours = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Partition:
    """Classes of ranks, links and coflows: the class of each, and the first member of each class."""

    rank: NDArray[np.int64]
    link: NDArray[np.int64]
    coflow: NDArray[np.int64]
    first_rank: NDArray[np.int64]
    first_link: NDArray[np.int64]
    first_coflow: NDArray[np.int64]


def members(layout: Layout) -> Sequence[int]:
    """Return which member of its expert group each place is [place]."""
    groups = layout.groups("expert")
    found = np.empty(layout.per_stage, dtype=np.int64)
    found[groups] = np.arange(groups.shape[1])
    return tuple(found.tolist())


def fold(
    network: Network, schedule: Schedule, table: Coflows, layout: Layout, loads: Sequence[int] = ()
) -> Partition:
    """Return the coarsest equitable partition. loads: number of each place's own load [place], none where all share."""
    programs = _codes(program_colours(schedule))
    index = (
        np.arange(layout.gpus) // layout.inner() % layout.pp
    )  # Layout.pipeline_index of every rank
    programs = programs[index]
    if loads:
        place = np.array([layout.local_rank(rank) for rank in range(layout.gpus)])
        programs = programs * np.uint64(layout.ep) + np.array(loads, dtype=np.uint64)[place]
    ranks = _mix(programs * np.uint64(1 << 20) + _codes(network.speed.tolist()))
    alike = zip(network.capacity.tolist(), network.latency.tolist(), network.kind, strict=True)
    links = _mix(_codes(list(alike)))
    flows = _mix(_codes(list(zip(table.label, table.latency, _kernels(table), strict=True))))
    lengths = np.array([len(ids) for ids in table.links], dtype=np.int64)
    on_link = _Incidence(
        np.repeat(np.arange(len(lengths)), lengths),
        flat(table.links),
        _ranked(flat(table.bytes, np.float64)),
    )
    lengths = np.array([len(ids) for ids in table.members], dtype=np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    # A send's source and target play different parts; the members of a collective do not.
    sends = np.array([label.kind.one_sided for label in table.label], dtype=bool)[owner]
    role = np.where(sends, np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner], 0).astype(
        np.uint64
    )
    on_rank = _Incidence(owner, flat(table.members), role)
    counts: tuple[int, ...] = ()
    while counts != (counts := tuple(len(np.unique(c)) for c in (ranks, links, flows))):
        flows = _mix(flows + on_link.gather(links, len(flows)) + on_rank.gather(ranks, len(flows)))
        links = _mix(links + on_link.scatter(flows, len(links)))
        ranks = _mix(ranks + on_rank.scatter(flows, len(ranks)))
    return _partition(ranks, links, flows)


def unfolded(network: Network, table: Coflows, ranks: int) -> Partition:
    """Return the partition in which everything stands for itself alone: the oracle of `fold`."""
    counts = (ranks, len(network.capacity), len(table.label))
    return _partition(*(np.arange(count, dtype=np.uint64) for count in counts))


def program_colours(schedule: Schedule) -> list[int]:
    """Return a colour per pipeline rank; alike where ranks run the same stages in the same order for the same peers.

    Micro-batches are not compared: they cost the same, and what waits for what is compared by
    position.
    """
    table, needs = schedule.table, schedule.needs
    position = np.arange(len(table.rank)) - table.start[table.rank]
    halves = _mix(_mix(table.kind.astype(np.uint64)) + table.stage.astype(np.uint64))
    halves = _mix(halves + table.stage_b.astype(np.uint64))
    waits, which = np.nonzero(needs >= 0)
    source = needs[waits, which]
    at = _mix(position[source].astype(np.uint64))
    place = _mix(position.astype(np.uint64))
    # What a rank runs is a set of (position, action, set of (rank, position) that it waits for).
    colours = _mix(_sums(table.rank, _mix(halves ^ place), len(schedule.ranks)))
    counts = 0
    while counts != (counts := len(set(colours.tolist()))):
        met = _sums(waits, _mix(at + colours[table.rank[source]]), len(position))
        colours = _mix(colours + _sums(table.rank, _mix(_mix(met) ^ place), len(schedule.ranks)))
    return _small(colours.tolist())


def _sums(at: NDArray[np.int64], colours: Colours, count: int) -> Colours:
    """Return the sum of the colours at each place: a hash of their multiset."""
    total = np.zeros(count, dtype=np.uint64)
    np.add.at(total, at, colours)
    return total


@dataclass(frozen=True, slots=True)
class _Incidence:
    """Which coflow meets which other thing, and how. flow/other: indices; how: colour of the meeting."""

    flow: NDArray[np.int64]
    other: NDArray[np.int64]
    how: Colours

    def gather(self, colours: Colours, count: int) -> Colours:
        """Return a hash of the multiset of (how, neighbour's colour) per coflow."""
        return self._sum(self.flow, colours[self.other], count)

    def scatter(self, colours: Colours, count: int) -> Colours:
        """Return a hash of the multiset of (how, coflow's colour) per neighbour."""
        return self._sum(self.other, colours[self.flow], count)

    def _sum(self, at: NDArray[np.int64], colours: Colours, count: int) -> Colours:
        return _sums(at, _mix(colours ^ _mix(self.how)), count)


def _mix(values: Colours) -> Colours:
    """Return well-scrambled 64-bit values: the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _kernels(table: Coflows) -> list[int]:
    """Return a number for the kernel of each coflow, equal where the kernels are equal [coflow]."""
    # A few dozen objects serve all coflows: only these are compared by their fields.
    different = {id(kernel): kernel for kernel in table.kernel}
    number = dict(zip(different, _small(list(different.values())), strict=True))
    return [number[id(kernel)] for kernel in table.kernel]


def _codes(values: Sequence[Hashable]) -> Colours:
    return np.array(_small(values), dtype=np.uint64)


def _small(values: Sequence[Hashable]) -> list[int]:
    """Return small integers, equal where the values are equal, numbered by first appearance."""
    seen: dict[Hashable, int] = {}
    return [seen.setdefault(value, len(seen)) for value in values]


def _ranked(values: NDArray[np.float64]) -> Colours:
    """Return small integers, equal where the values are equal."""
    return np.unique(values, return_inverse=True)[1].astype(np.uint64)


@overload
def flat(rows: Sequence[Sequence[float]], kind: type[np.float64]) -> NDArray[np.float64]: ...


@overload
def flat(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]: ...


def flat(rows: Sequence[Sequence[float]], kind: type[np.generic] = np.int64) -> NDArray[Any]:
    """Return all values of some rows, one row behind another."""
    total = sum(map(len, rows))
    return np.fromiter(chain.from_iterable(rows), dtype=kind, count=total)


def _partition(*colours: Colours) -> Partition:
    classes = []
    for colour in colours:
        _, first, inverse = np.unique(colour, return_index=True, return_inverse=True)
        order = np.argsort(
            first, kind="stable"
        )  # number classes by their first member, not by hash
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        classes.append((position[inverse], first[order]))
    (rank, first_rank), (link, first_link), (flow, first_flow) = classes
    return Partition(rank, link, flow, first_rank, first_link, first_flow)
