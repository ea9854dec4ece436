"""The table of collective algorithms that steps and `simulate collective` share: a row each.

Adding one is a function (network, members, size [B]) -> `Rounds` for each op that it runs, and a
row. A row is then open to `simulate collective --algorithm`, and to a step's process groups as
`communication.{tensor,context,data,expert}.algorithm`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from simulator.collectives import (
    all_to_all,
    bruck,
    halving_doubling,
    hierarchical,
    in_network,
    pat,
    point_to_point,
    ring,
    tree,
)
from simulator.collectives.demand import Pattern
from simulator.errors import InputError

TWO_SIDED = {"LL": "nccl_ll", "LL128": "nccl_ll128", "Simple": "nccl_simple"}
"""Protocol -> row of the communication table, of rings, trees and their like."""
IN_SWITCHES = {"Simple": "nvls"}
"""The same, of what NVSwitches and the fabric's switches add up and copy."""
SWITCHES_AND_TREES = {"Simple": "nvls_tree"}
"""The same, of NVSwitches with trees between them."""
AGGREGATED = {"Simple": "nccl_simple"}
"""The same, of parallel aggregated trees, which have one protocol."""
SENDS = {"Simple": "send_recv"}
"""The same, of a send to one peer."""
GROUPED_SENDS = {"LL": "all_to_all_ll", "Simple": "all_to_all"}
"""The same, of grouped sends to all peers."""
LARGE_SENDS = {"Simple": "all_to_all"}
"""The same, of grouped sends of parts that were gathered for them."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to run collectives."""

    name: str
    """As `--algorithm` and `communication.*.algorithm` name it."""
    ops: Mapping[str, Pattern]
    """Op -> its rounds."""
    kernels: Mapping[str, str] = field(default_factory=lambda: TWO_SIDED)
    """Protocol -> row of the communication table."""
    rate: float = 1.0
    """Share of the protocol's rate that it reaches."""
    nccl: tuple[str, ...] = ()
    """Ops for which NCCL considers it."""
    estimated: str = "ring"
    """Algorithm whose estimate by NCCL decides on the protocol; nothing of sends to peers."""
    alias: str = ""
    """Another name that `--algorithm` takes."""

    def protocols(self, op: str, rows: Container[str]) -> dict[str, str]:
        """Return protocol -> row for an op, of the rows that a communication table has.

        A row for one op has that op behind its name.
        """
        found = {}
        for protocol, row in self.kernels.items():
            own = f"{row}_{op}"
            name = own if own in rows else row
            if name in rows:
                found[protocol] = name
        return found


def _passes(pattern: Pattern, all_reduce: Pattern) -> dict[str, Pattern]:
    """Return the ops of an algorithm whose scatter and gather cross the same links alike."""
    return {"all_reduce": all_reduce, "reduce_scatter": pattern, "all_gather": pattern}


_ROWS = (
    Algorithm(
        "ring",
        {**_passes(ring.one_pass, ring.all_reduce), "broadcast": ring.broadcast},
        nccl=("all_reduce", "reduce_scatter", "all_gather", "broadcast"),
    ),
    Algorithm(
        "tree",
        {"all_reduce": tree.all_reduce, "broadcast": tree.broadcast},
        rate=0.92,  # NCCL 2.28, src/graph/tuning.cc
        nccl=("all_reduce",),
        estimated="tree",
    ),
    Algorithm(
        "halving_doubling",
        _passes(halving_doubling.one_pass, halving_doubling.all_reduce),
    ),
    Algorithm(
        "hierarchical_ring",
        _passes(hierarchical.one_pass, hierarchical.all_reduce),
        alias="hierarchical",
    ),
    Algorithm(
        "nvls",
        {
            "all_reduce": in_network.all_reduce,
            "reduce_scatter": in_network.reduce_scatter,
            "all_gather": in_network.all_gather,
        },
        IN_SWITCHES,
        nccl=("all_reduce", "reduce_scatter", "all_gather"),
        estimated="nvls",
    ),
    Algorithm(
        "nvls_tree",
        {"all_reduce": in_network.tree_all_reduce},
        SWITCHES_AND_TREES,
        nccl=("all_reduce",),
        estimated="nvls_tree",
    ),
    Algorithm("sharp", {"all_reduce": in_network.sharp_all_reduce}, IN_SWITCHES),
    Algorithm(
        "pat",
        {"reduce_scatter": pat.one_pass, "all_gather": pat.one_pass},
        AGGREGATED,
        rate=0.75,  # NCCL 2.28, src/graph/tuning.cc
        nccl=("reduce_scatter", "all_gather"),
        estimated="pat",
    ),
    Algorithm(
        "pairwise",
        {"all_to_all": all_to_all.pairwise},
        GROUPED_SENDS,
        nccl=("all_to_all",),
        estimated="",
    ),
    Algorithm("hierarchical", {"all_to_all": all_to_all.hierarchical}, LARGE_SENDS),
    Algorithm("bruck", {"all_to_all": bruck.all_to_all}, LARGE_SENDS),
    Algorithm(
        "direct",
        {"send_recv": point_to_point.send_recv},
        SENDS,
        nccl=("send_recv",),
        estimated="",
    ),
)

ALGORITHMS: dict[str, Algorithm] = {row.name: row for row in _ROWS}
"""Name -> algorithm. Of equal estimates NCCL is taken to choose the first."""

# What an ideal ring's busiest link carries of the buffer: an all-reduce scatters and gathers, which
# are (n-1)/n each, whatever the algorithm does: busbw compares with a link's rate for every op.
BUS_FACTORS: dict[str, Callable[[int], float]] = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_gather": lambda n: (n - 1) / n,
    "broadcast": lambda n: 1.0,
    "all_to_all": lambda n: (n - 1) / n,
    "send_recv": lambda n: 1.0,
}
"""Op -> ranks -> busbw / algbw; nccl-tests, doc/PERFORMANCE.md.

Sizes as there: the whole buffer of one rank, of all_gather the gathered one, of reduce_scatter the
one to be scattered.
"""


def of_op(op: str) -> dict[str, Algorithm]:
    """Return the algorithms that run an op, by name."""
    return {name: row for name, row in ALGORITHMS.items() if op in row.ops}


def of_nccl(op: str) -> dict[str, Algorithm]:
    """Return the algorithms among which NCCL chooses for an op, by name."""
    return {name: row for name, row in ALGORITHMS.items() if op in row.nccl}


def open_to(op: str, algorithm: str | None) -> dict[str, Algorithm]:
    """Return the algorithms to consider, under the name that was given: the named one, or NCCL's.

    Errors: InputError on an unknown name.
    """
    if algorithm is None:
        return of_nccl(op)
    table = of_op(op)
    # A name goes before an alias: `hierarchical` is an all-to-all, and a hierarchical ring where
    # the op has no algorithm of that name.
    names = {row.alias: row for row in table.values() if row.alias} | table
    if algorithm not in names:
        raise InputError(
            f"is not an algorithm of {op}",
            key="--algorithm",
            value=algorithm,
            remedy=f"Choose from: {', '.join(table)}.",
        )
    return {algorithm: names[algorithm]}
