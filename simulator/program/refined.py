"""The coarsest equitable partition of ranks, links and coflows, remembered by what it is found from.

Points of a sweep over a bandwidth, a batch or a cost fold alike: nothing but equalities counts, and
these stay.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.program.program import Ints
from simulator.refinement import Classes, Colours, Incidence, classes, distinct, mix, sums

KEPT = 8
"""Graphs whose classes are remembered."""
LARGEST = 1_000_000
"""Meetings of a graph that is worth its memory: refining that many takes a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Graph:
    """What meets what, before it is refined. All coflows of a row meet the same links and ranks."""

    ranks: Colours
    """What each rank runs [rank]."""
    links: Colours
    """What each link can carry [link]."""
    flows: Colours
    """What each coflow does [coflow]."""
    row: Ints
    """Row of each coflow [coflow]."""
    on_link: Incidence
    """Which row crosses which link, with how many bytes of which coflows."""
    on_rank: Incidence
    """Which rank takes part in which row, and how."""
    rows: int
    """Number of rows."""

    @property
    def digest(self) -> bytes:
        """Return a hash of all of it."""
        total = hashlib.blake2b(digest_size=16)
        meetings = [
            column
            for each in (self.on_link, self.on_rank)
            for column in (each.flow, each.other, each.how)
        ]
        columns: list[NDArray[np.generic]] = [self.ranks, self.links, self.flows, self.row]
        for column in (*columns, *meetings):
            total.update(len(column).to_bytes(8, "little"))
            total.update(np.ascontiguousarray(column).data)
        return total.digest()


@dataclass(frozen=True, slots=True)
class Refined:
    """Classes of what a graph holds."""

    ranks: Classes
    """Of its ranks."""
    links: Classes
    """Of its links."""
    flows: Classes
    """Of its coflows."""


_known: OrderedDict[bytes, Refined] = OrderedDict()


def refined(graph: Graph) -> Refined:
    """Return the classes of a graph."""
    if len(graph.on_link.flow) > LARGEST:
        return refine(graph)
    digest = graph.digest
    # Taken out and put back behind the others, so that another thread may make room meanwhile.
    found = _known.pop(digest, None) or refine(graph)
    _known[digest] = found
    while len(_known) > KEPT:
        _known.popitem(last=False)
    return found


def refine(graph: Graph) -> Refined:
    """Return the classes of a graph by colour refinement."""
    ranks, links, flows = graph.ranks, graph.links, graph.flows
    on_link, on_rank, row, rows = graph.on_link, graph.on_rank, graph.row, graph.rows
    # A coflow is told apart by the links and ranks that it meets, these by their coflows. All
    # coflows of a row meet the same ones, so that rows are looked at in their place.
    counts: tuple[int, ...] = ()
    while counts != (counts := tuple(map(distinct, (ranks, links, flows)))):
        met_links = on_link.gather(links, rows)
        met_ranks = on_rank.gather(ranks, rows)
        flows = mix(flows + mix(met_links + met_ranks)[row])
        of_row = mix(sums(row, flows, rows))
        links = mix(links + on_link.scatter(of_row, len(links)))
        ranks = mix(ranks + on_rank.scatter(of_row, len(ranks)))
    found = Refined(classes(ranks), classes(links), classes(flows))
    for column in (*found.ranks, *found.links, *found.flows):
        column.flags.writeable = False  # all that fold alike share them
    return found
