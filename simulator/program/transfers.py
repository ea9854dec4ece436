"""Coflows as columns: blocks of them that do the same, one in each of some groups of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.collectives import CoflowKind
from simulator.collectives.replicas import Demands
from simulator.hardware import CommunicationModel
from simulator.program.program import Floats, Ints
from simulator.program.ragged import joined, lengths, spread, starts
from simulator.refinement import numbers


class Label(NamedTuple):
    """What a coflow does, alike in all replicas."""

    kind: CoflowKind
    """Which transfer of the step."""
    what: int
    """Load of an exchange, bucket of data parallelism, bytes inside a layer; 0 of a send."""


class CoflowKey(NamedTuple):
    """How ranks name the coflows of which each of them takes part in one."""

    kind: str
    """A `CoflowKind`."""
    what: int
    """As in `Label`; of sends the number of the pipeline edge."""


class Reach(NamedTuple):
    """Ranks of some groups and the links between them, which transfers of several sizes share.

    Where the cluster is cut into tiles, what of them lies in the first one.
    """

    members: Ints
    """Ranks of the first tile that take part [group, member]."""
    everyone: Ints
    """All ranks that take part [group, member]."""
    first: Ints
    """Where the links of each group begin, and their number [group + 1]."""
    links: Ints
    """Links that each group crosses, each once [entry]."""
    which: Ints
    """Which of the amounts of a block crosses each [entry]."""
    amounts: int
    """How many different amounts a block has."""
    directed: bool
    """Whether these are the sources and targets of sends, which play different parts."""

    @classmethod
    def of(
        cls, members: Ints, everyone: Ints, demands: Demands, *, directed: bool = False
    ) -> Reach:
        """Return what some demands reach."""
        first, links, which = demands.first, demands.links, demands.which
        return cls(members, everyone, first, links, which, demands.amounts.shape[-1], directed)

    def equals(self, other: Reach) -> bool:
        """Tell whether another one has the same ranks and links."""
        mine, theirs = (
            (one.members, one.everyone, one.first, one.links, one.which) for one in (self, other)
        )
        return self[5:] == other[5:] and all(
            one is another or np.array_equal(one, another)
            for one, another in zip(mine, theirs, strict=True)
        )


class Block(NamedTuple):
    """Coflows of one label and one kernel, one in each group of a reach."""

    label: Label
    """What they do."""
    key: CoflowKey
    """How their ranks name them."""
    kernel: CommunicationModel
    """Kernel that runs them."""
    sm_share: float
    """Share of the rate that it reaches with SMs enough."""
    reach: int
    """Index of the groups in `Columns.reaches`."""
    number: Ints
    """Of each coflow in the step [group]."""
    amounts: Floats
    """Different numbers of bytes on links [amount] B."""
    latency: Floats
    """Of all rounds [group] s."""


class Crossings(NamedTuple):
    """Meetings of coflows with links, block by block."""

    coflow: Ints
    """Coflow [crossing]."""
    link: Ints
    """Link that it crosses [crossing]."""
    bytes: Floats
    """[crossing] B."""


@dataclass(frozen=True)
class Columns:
    """All coflows of a step, those of the first tile where there are tiles.

    A row is a group of a reach: all transfers between the same ranks over the same links.
    """

    blocks: Sequence[Block]
    """In the order in which they were added."""
    reaches: Sequence[Reach]
    """What they reach."""

    @cached_property
    def first_row(self) -> Ints:
        """Return where the rows of each reach begin, and their number [reach + 1]."""
        return starts(lengths(reach.members for reach in self.reaches))

    @cached_property
    def first_entry(self) -> Ints:
        """Return where the links of each reach begin, and their number [reach + 1]."""
        return starts(lengths(reach.links for reach in self.reaches))

    @cached_property
    def first_link(self) -> Ints:
        """Return where the links of each row begin, and their number [row + 1]."""
        return starts(joined([np.diff(reach.first) for reach in self.reaches]))

    @cached_property
    def links(self) -> Ints:
        """Return the links of all rows [entry]."""
        return joined([reach.links for reach in self.reaches])

    @cached_property
    def first_member(self) -> Ints:
        """Return where the members of each row begin, and their number [row + 1]."""
        shapes = [reach.members.shape for reach in self.reaches]
        return starts(joined([np.full(rows, members) for rows, members in shapes]))

    @cached_property
    def members(self) -> Ints:
        """Return the members of all rows [member]."""
        return joined([reach.members.ravel() for reach in self.reaches])

    @cached_property
    def reach(self) -> Ints:
        """Return the reach of each block [block]."""
        return np.array([block.reach for block in self.blocks], dtype=np.int64)

    @cached_property
    def number(self) -> Ints:
        """Return the numbers of the coflows, block by block."""
        return joined([block.number for block in self.blocks])

    @cached_property
    def label_code(self) -> Ints:
        """Return a number per label, equal where these are equal [block]."""
        return np.array(numbers([block.label for block in self.blocks]), dtype=np.int64)

    @cached_property
    def amounts(self) -> Floats:
        """Return the different numbers of bytes of all blocks, one behind another [amount] B."""
        return joined([block.amounts for block in self.blocks], np.float64)

    @cached_property
    def first_of_reach(self) -> Ints:
        """Return how many amounts the reaches before each have, and all [reach + 1]."""
        return starts(np.array([reach.amounts for reach in self.reaches], dtype=np.int64))

    @cached_property
    def which(self) -> Ints:
        """Return which amount crosses each link, numbered over all reaches [entry]."""
        which = joined([reach.which for reach in self.reaches])
        return which + np.repeat(self.first_of_reach[:-1], np.diff(self.first_entry))

    @cached_property
    def to_amount(self) -> Ints:
        """Return what leads from a number in `which` to that of `amounts` [block]."""
        counts = np.diff(self.first_of_reach)[self.reach]  # [block]
        shift: Ints = starts(counts)[:-1] - self.first_of_reach[self.reach]
        return shift

    @cached_property
    def block(self) -> Ints:
        """Return the block of each coflow [coflow]."""
        sizes = lengths(block.number for block in self.blocks)
        block = np.empty(len(self.number), dtype=np.int64)
        block[self.number] = np.repeat(np.arange(len(sizes)), sizes)
        return block

    @cached_property
    def row(self) -> Ints:
        """Return the row of each coflow [coflow]."""
        row = np.empty(len(self.number), dtype=np.int64)
        row[self.number] = spread(np.diff(self.first_row), self.reach).entry
        return row

    @cached_property
    def latency(self) -> Floats:
        """Return the latency of the rounds of each coflow [coflow] s."""
        latency = np.empty(len(self.number))
        latency[self.number] = joined([block.latency for block in self.blocks], np.float64)
        return latency

    @cached_property
    def spans(self) -> NDArray[np.bool_]:
        """Tell which coflows reach over all tiles [coflow]."""
        apart = [reach.members.shape != reach.everyone.shape for reach in self.reaches]
        of_block = np.array([apart[block.reach] for block in self.blocks], dtype=bool)
        return of_block[self.block]

    def label(self, coflow: int) -> Label:
        """Return what a coflow does."""
        block = int(self.block[coflow])
        return self.blocks[block].label

    def everyone(self, coflow: int) -> Ints:
        """Return all ranks that take part in a coflow, those in other tiles too."""
        reach = self.blocks[self.block[coflow]].reach
        everyone: Ints = self.reaches[reach].everyone[self.row[coflow] - self.first_row[reach]]
        return everyone

    def crossings(self, wanted: NDArray[np.bool_]) -> Crossings:
        """Return all meetings with some of the links. wanted: [link]."""
        # Few are wanted: found once per reach, they are looked up in each of its blocks.
        found = np.flatnonzero(wanted[self.links])  # [found] entry
        row = np.searchsorted(self.first_link, found, side="right") - 1  # [found]
        sizes = np.diff(np.searchsorted(found, self.first_entry))  # [reach]
        block, place = spread(sizes, self.reach)  # [crossing]
        # Rows and amounts of a reach stand in each of its blocks in the same order.
        to_number = starts(np.diff(self.first_row)[self.reach])[:-1] - self.first_row[self.reach]
        coflow = self.number[row[place] + to_number[block]]
        carried = self.amounts[self.which[found][place] + self.to_amount[block]]
        return Crossings(coflow, self.links[found][place], carried)

    def calls(self, rank: int) -> dict[CoflowKey, int]:
        """Return the coflows that a rank takes part in by name, but sends that it receives."""
        member = self._member_of(rank)
        row = np.searchsorted(self.first_member, member, side="right") - 1
        place = member - self.first_member[row]
        reach = np.searchsorted(self.first_row, row, side="right") - 1
        group = row - self.first_row[reach]
        called: dict[int, CoflowKey] = {}
        for at, one, position in zip(reach.tolist(), group.tolist(), place.tolist(), strict=True):
            for block in self._blocks_at[at]:
                if not (position and self.reaches[at].directed):
                    called[int(block.number[one])] = block.key
        return {key: number for number, key in sorted(called.items())}

    def _member_of(self, rank: int) -> Ints:
        """Return where a rank stands among the members of all rows, rising."""
        begin, end = np.searchsorted(self._sorted_members, [rank, rank + 1])
        member: Ints = self._by_member[begin:end]
        return member

    @cached_property
    def _by_member(self) -> Ints:
        return np.argsort(self.members, kind="stable")

    @cached_property
    def _sorted_members(self) -> Ints:
        return self.members[self._by_member]

    @cached_property
    def _blocks_at(self) -> list[list[Block]]:
        at: list[list[Block]] = [[] for _ in self.reaches]
        for block in self.blocks:
            at[block.reach].append(block)
        return at
