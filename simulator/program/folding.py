"""The coarsest equitable partition of ranks, links and coflows: what is alike is simulated once.

In an equitable partition each member of a class meets every other class in the same way, so all
members do the same at the same time and one of each represents all. It is found by colour
refinement (`simulator.refinement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.layout import Layout
from simulator.program.coflows import Coflows
from simulator.program.ragged import spread
from simulator.program.refined import Graph, Refined, refined
from simulator.program.transfers import Columns
from simulator.progress import doing
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
    """Classes of ranks, links and coflows, numbered by their first members."""

    rank: NDArray[np.int64]
    """Class of each rank [rank]."""
    link: NDArray[np.int64]
    """Class of each link [link]."""
    coflow: NDArray[np.int64]
    """Class of each coflow [coflow]."""
    first_rank: NDArray[np.int64]
    """The first rank of each class, which represents it [rank class]."""
    first_link: NDArray[np.int64]
    """The first link of each class [link class]."""
    first_coflow: NDArray[np.int64]
    """The first coflow of each class [coflow class]."""


def members(layout: Layout) -> Sequence[int]:
    """Return which member of its expert group each rank of a stage is [local rank]."""
    groups = layout.groups("expert")
    member = np.empty(layout.per_stage, dtype=np.int64)
    member[groups] = np.arange(groups.shape[1])
    return tuple(member.tolist())


@doing("finding which GPUs are alike")
def fold(
    network: Network, schedule: Schedule, table: Coflows, layout: Layout, loads: Sequence[int] = ()
) -> Partition:
    """Return the coarsest equitable partition.

    loads: number of the load of each rank of a stage, none where all share one [local rank].
    """
    listed = _Listed.of(table)
    columns = table.columns
    ranks = _rank_colours(network, schedule, layout, loads)
    if table.meets:
        # Both ends of a send are calls of their own: two ranks that send to each other are two
        # classes, even where they run the same.
        rank = np.arange(layout.gpus)
        ranks = mix(ranks + codes((rank // layout.inner() % layout.pp).tolist()))
    ranks = ranks[listed.ranks]
    links = _link_colours(network, listed.links)
    flows = _flow_colours(table)
    on_link = _links_of_rows(columns, listed)
    on_rank = _ranks_of_rows(columns, listed)
    found = refined(
        Graph(ranks, links, flows, columns.row, on_link, on_rank, int(columns.first_row[-1]))
    )
    parts = _numbered(found)
    return parts if table.tiles.count == 1 else _everywhere(parts, listed, layout)


class _Listed(NamedTuple):
    """The ranks and links of the first tile, by which its coflows are folded; all where it is all."""

    ranks: NDArray[np.int64]
    """Ranks [listed rank]."""
    links: NDArray[np.int64]
    """Links that coflows cross [listed link]."""
    rank_number: NDArray[np.int64]
    """Number of each rank among those [rank], -1 of others."""
    link_number: NDArray[np.int64]
    """Number of each link among those [link], -1 of others."""

    @classmethod
    def of(cls, table: Coflows) -> _Listed:
        """Return what a table lists."""
        tiles = table.tiles
        links = np.arange(len(tiles.image))
        if tiles.count > 1:
            links = np.unique(table.columns.links)
        ranks = tiles.ranks
        numbers = [np.full(len(things), -1) for things in (tiles.of_rank, tiles.image)]
        for number, things in zip(numbers, (ranks, links), strict=True):
            number[things] = np.arange(len(things))
        return cls(ranks, links, *numbers)


def _everywhere(parts: Partition, listed: _Listed, layout: Layout) -> Partition:
    """Return the classes of the first tile as those of all ranks; links elsewhere get none."""
    size = len(listed.ranks) // layout.pp
    inner = layout.inner()
    every = np.arange(layout.gpus)
    high, low = np.divmod(every, inner * layout.pp)
    local_rank = (low % inner + inner * high) % size
    index = low // inner  # [rank] pipeline index
    first = local_rank % inner + inner * (index + layout.pp * (local_rank // inner))
    link = np.full(len(listed.link_number), -1)
    link[listed.links] = parts.link
    return Partition(
        rank=parts.rank[listed.rank_number[first]],
        link=link,
        coflow=parts.coflow,
        first_rank=listed.ranks[parts.first_rank],
        first_link=listed.links[parts.first_link],
        first_coflow=parts.first_coflow,
    )


def _rank_colours(
    network: Network, schedule: Schedule, layout: Layout, loads: Sequence[int]
) -> Colours:
    """Return a colour per rank: what it runs, its speed, and the load of its experts [rank]."""
    rank = np.arange(layout.gpus)
    pipeline_index = rank // layout.inner() % layout.pp  # Layout.pipeline_index of every rank
    colours = codes(program_colours(schedule))[pipeline_index]
    if loads:
        inner = layout.inner()
        local_rank = rank % inner + inner * (rank // (inner * layout.pp))
        load = np.array(loads, dtype=np.uint64)[local_rank]
        colours = colours * np.uint64(layout.ep) + load
    speed = ranked(network.speed)
    return mix(colours * np.uint64(1 << 20) + speed)


def _link_colours(network: Network, links: NDArray[np.int64]) -> Colours:
    """Return a colour per link: what it can carry, not where it lies [link]."""
    looks = np.stack(
        [
            ranked(network.capacity[links]),
            ranked(network.latency[links]),
            network.kind_code[links].astype(np.uint64),
        ]
    )
    # Three small numbers in one.
    return mix((looks[0] << np.uint64(40)) + (looks[1] << np.uint64(8)) + looks[2])


def _flow_colours(table: Coflows) -> Colours:
    """Return a colour per coflow: what it does and how, not where [coflow]."""
    blocks, columns = table.columns.blocks, table.columns
    # Few kernels serve all blocks: only different objects are compared by their fields.
    kernels = {id(block.kernel): block.kernel for block in blocks}
    kernel = dict(zip(kernels, numbers(list(kernels.values())), strict=True))
    label = mix(columns.label_code.astype(np.uint64))  # [block]
    runs = mix(np.array([kernel[id(block.kernel)] for block in blocks], dtype=np.uint64))
    looks = mix(label + mix(runs))  # [block]
    return mix(looks[columns.block] + mix(ranked(columns.latency)))


def _links_of_rows(columns: Columns, listed: _Listed) -> Incidence:
    """Return which row crosses which link; each of its coflows meets it with a number of bytes."""
    sizes = np.diff(columns.first_link)
    row = np.repeat(np.arange(len(sizes)), sizes)  # [entry]
    return Incidence.of(row, listed.link_number[columns.links], _sizes(columns))


def _sizes(columns: Columns) -> Colours:
    """Return a colour per link of a row: which coflows put how many bytes on it [entry]."""
    counts = np.diff(columns.first_of_reach)  # [reach]
    block, at_reach = spread(counts, columns.reach)  # [amount]
    labels = mix(columns.label_code.astype(np.uint64))  # [block]
    seen = mix(labels[block] ^ columns.amounts.view(np.uint64))  # [amount]
    # Blocks of a reach have its amounts in one order: what they put on a link is added up.
    return sums(at_reach, seen, int(counts.sum()))[columns.which]


def _ranks_of_rows(columns: Columns, listed: _Listed) -> Incidence:
    """Return which rank takes part in which row.

    A send's source and target play different parts; the members of a collective do not.
    """
    sizes = np.diff(columns.first_member)
    row = np.repeat(np.arange(len(sizes)), sizes)  # [member]
    position = np.arange(len(row)) - columns.first_member[row]  # [member] within its row
    directed = np.array([reach.directed for reach in columns.reaches], dtype=bool)
    is_send = np.repeat(directed, np.diff(columns.first_row))  # [row]
    role = np.where(is_send[row], position, 0).astype(np.uint64)
    return Incidence.of(row, listed.rank_number[columns.members], role)


def unfolded(network: Network, table: Coflows, ranks: int) -> Partition:
    """Return the partition in which everything stands for itself alone: the oracle of `fold`."""
    counts = (ranks, len(network.capacity), table.count)
    # A colour each.
    alone = [classes(np.arange(count, dtype=np.uint64)) for count in counts]
    return _numbered(Refined(*alone))


def program_colours(schedule: Schedule) -> list[int]:
    """Return a colour per pipeline rank.

    Ranks are alike that run the same stages in the same order for the same peers. Micro-batches are
    not compared: they cost the same, and what waits for what is compared by position.
    """
    table = schedule.table
    ranks = len(schedule.ranks)
    position = np.arange(len(table.rank)) - table.start[table.rank]  # [action] in its rank's order
    position_colour = mix(position.astype(np.uint64))
    action = mix(table.kind.astype(np.uint64))  # [action] kind and stages
    action = mix(action + table.stage.astype(np.uint64))
    action = mix(action + table.stage_b.astype(np.uint64))
    # Every wait of an action for another one, its source [wait].
    waiting, which = np.nonzero(schedule.needs >= 0)
    source = schedule.needs[waiting, which]
    # What a rank runs is a set of (position, action, set of (rank, position) that it waits for):
    # first without the waits, then with the colours that the ranks have got so far.
    placed = mix(action ^ position_colour)
    colours = mix(sums(table.rank, placed, ranks))
    count = 0
    while count != (count := distinct(colours)):
        met = mix(position_colour[source] + colours[table.rank[source]])  # [wait]
        needs = mix(sums(waiting, met, len(position)))  # [action]
        placed = mix(needs ^ position_colour)
        colours = mix(colours + sums(table.rank, placed, ranks))
    return numbers(colours.tolist())


def _numbered(found: Refined) -> Partition:
    return Partition(
        rank=found.ranks.of,
        link=found.links.of,
        coflow=found.flows.of,
        first_rank=found.ranks.first,
        first_link=found.links.first,
        first_coflow=found.flows.first,
    )
