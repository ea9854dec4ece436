"""Collectives, sends, dispatch and combine -> rounds of pairs -> seconds, or demands on the links of the cluster graph.

An algorithm is a function (network, members, size [B]) -> `Rounds` and a row of `ALGORITHMS`.
`resolve` runs its rounds pair by pair. Inside a step a collective is a coflow, `demand`: one demand
per link, paced by its slowest link.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simulator.collectives import (
    all_to_all,
    halving_doubling,
    hierarchical,
    in_network,
    point_to_point,
    ring,
    tree,
)
from simulator.collectives.choose import CANDIDATES, Choice, choices, fastest
from simulator.collectives.demand import Algorithm, Demand, Round, Rounds, demand, send
from simulator.collectives.experts import exchange, straight, without_forwarding
from simulator.collectives.hierarchical import rings
from simulator.collectives.resolve import Cost, cost, resolve
from simulator.collectives.table import (
    EXCHANGES,
    Row,
    check_ranks,
    expert_row,
    open_to,
    rows,
    straight_row,
)
from simulator.topology import Network

__all__ = [
    "ALGORITHMS",
    "BUS_FACTORS",
    "CANDIDATES",
    "COLLECTIVES",
    "EXCHANGES",
    "Algorithm",
    "Choice",
    "Cost",
    "Demand",
    "Round",
    "Rounds",
    "Row",
    "check_ranks",
    "choices",
    "cost",
    "demand",
    "exchange",
    "expert_row",
    "fastest",
    "open_to",
    "resolve",
    "rings",
    "rows",
    "send",
    "straight",
    "straight_row",
    "without_forwarding",
]

_PASS: dict[str, Algorithm] = {
    "ring": ring.one_pass,
    "halving_doubling": halving_doubling.one_pass,
    "hierarchical": hierarchical.one_pass,
}

ALGORITHMS: dict[str, dict[str, Algorithm]] = {
    "all_reduce": {
        "ring": ring.all_reduce,
        "tree": tree.all_reduce,
        "halving_doubling": halving_doubling.all_reduce,
        "hierarchical": hierarchical.all_reduce,
        "nvls": in_network.all_reduce,
        "nvls_tree": in_network.tree_all_reduce,
        "sharp": in_network.sharp_all_reduce,
    },
    "reduce_scatter": {**_PASS, "nvls": in_network.reduce_scatter},
    "all_gather": {**_PASS, "nvls": in_network.all_gather},
    "broadcast": {"ring": ring.broadcast, "tree": tree.broadcast},
    "all_to_all": {"pairwise": all_to_all.pairwise, "hierarchical": all_to_all.hierarchical},
    "send_recv": {"direct": point_to_point.send_recv},
}
"""op -> algorithm -> function."""

BUS_FACTORS: dict[str, Callable[[int], float]] = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_gather": lambda n: (n - 1) / n,
    "broadcast": lambda n: 1.0,
    "all_to_all": lambda n: (n - 1) / n,
    "send_recv": lambda n: 1.0,
}
"""op -> ranks -> busbw / algbw; nccl-tests, doc/PERFORMANCE.md. Sizes as there: the whole buffer of one rank, of
all_gather the gathered one, of reduce_scatter the one to be scattered."""

COLLECTIVES: dict[str, Callable[[Network, Sequence[int]], Demand]] = {
    "reduce_scatter": rings,
    "all_gather": rings,
}
"""name -> demand of one byte of the whole buffer, as a step runs it; scale it by the buffer."""
