"""Ranks that are alike are simulated once: the coarsest equitable partition of ranks, links and coflows.

In an equitable partition each member of a class meets every other class in the same way, so all
members do the same at the same time and one of each represents all. It is found by colour
refinement (`simulator.refinement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from simulator.layout import Layout
from simulator.program.coflows import Coflows
from simulator.refinement import (
    Colours,
    Incidence,
    classes,
    codes,
    distinct,
    mix,
    numbers,
    ranked,
    sums,
)
from simulator.schedules import Schedule
from simulator.topology import Network


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
    programs = codes(program_colours(schedule))
    index = (
        np.arange(layout.gpus) // layout.inner() % layout.pp
    )  # Layout.pipeline_index of every rank
    programs = programs[index]
    if loads:
        place = np.array([layout.local_rank(rank) for rank in range(layout.gpus)])
        programs = programs * np.uint64(layout.ep) + np.array(loads, dtype=np.uint64)[place]
    ranks = mix(programs * np.uint64(1 << 20) + codes(network.speed.tolist()))
    alike = zip(network.capacity.tolist(), network.latency.tolist(), network.kind, strict=True)
    links = mix(codes(list(alike)))
    flows = mix(codes(list(zip(table.label, table.latency, _kernels(table), strict=True))))
    lengths = np.array([len(ids) for ids in table.links], dtype=np.int64)
    on_link = Incidence.of(
        np.repeat(np.arange(len(lengths)), lengths),
        flat(table.links),
        ranked(flat(table.bytes, np.float64)),
    )
    lengths = np.array([len(ids) for ids in table.members], dtype=np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    # A send's source and target play different parts; the members of a collective do not.
    sends = np.array([label.kind.one_sided for label in table.label], dtype=bool)[owner]
    role = np.where(sends, np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner], 0).astype(
        np.uint64
    )
    on_rank = Incidence.of(owner, flat(table.members), role)
    counts: tuple[int, ...] = ()
    while counts != (counts := tuple(map(distinct, (ranks, links, flows)))):
        flows = mix(flows + on_link.gather(links, len(flows)) + on_rank.gather(ranks, len(flows)))
        links = mix(links + on_link.scatter(flows, len(links)))
        ranks = mix(ranks + on_rank.scatter(flows, len(ranks)))
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
    halves = mix(mix(table.kind.astype(np.uint64)) + table.stage.astype(np.uint64))
    halves = mix(halves + table.stage_b.astype(np.uint64))
    waits, which = np.nonzero(needs >= 0)
    source = needs[waits, which]
    at = mix(position[source].astype(np.uint64))
    place = mix(position.astype(np.uint64))
    # What a rank runs is a set of (position, action, set of (rank, position) that it waits for).
    colours = mix(sums(table.rank, mix(halves ^ place), len(schedule.ranks)))
    counts = 0
    while counts != (counts := len(set(colours.tolist()))):
        met = sums(waits, mix(at + colours[table.rank[source]]), len(position))
        colours = mix(colours + sums(table.rank, mix(mix(met) ^ place), len(schedule.ranks)))
    return numbers(colours.tolist())


def _kernels(table: Coflows) -> list[int]:
    """Return a number for the kernel of each coflow, equal where the kernels are equal [coflow]."""
    # A few dozen objects serve all coflows: only these are compared by their fields.
    different = {id(kernel): kernel for kernel in table.kernel}
    number = dict(zip(different, numbers(list(different.values())), strict=True))
    return [number[id(kernel)] for kernel in table.kernel]


@overload
def flat(rows: Sequence[Sequence[float]], kind: type[np.float64]) -> NDArray[np.float64]: ...


@overload
def flat(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]: ...


def flat(rows: Sequence[Sequence[float]], kind: type[np.generic] = np.int64) -> NDArray[Any]:
    """Return all values of some rows, one row behind another."""
    total = sum(map(len, rows))
    return np.fromiter(chain.from_iterable(rows), dtype=kind, count=total)


def _partition(ranks: Colours, links: Colours, flows: Colours) -> Partition:
    rank, link, flow = classes(ranks), classes(links), classes(flows)
    return Partition(rank.of, link.of, flow.of, rank.first, link.first, flow.first)
