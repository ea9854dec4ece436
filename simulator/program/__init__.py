"""A schedule lowered with costs and groups: ops per stream per rank, dependencies; folding.

In the order in which `lower` calls them: `timed` gives a searched schedule its times, `coflows`
lists every transfer of the cluster, or of the first of many `tiles` that are alike, as the columns
of `transfers`, `sends` finds their ways, `folding` finds the ranks that are alike (`refined` does the
refining), `rank_rows` writes down one rank of each class
(`orders` says which actions it runs, `chunks` orders an action's ops on streams, which
`chunk_columns` keeps as arrays for all blocks of the same shape, `uses` finds what they cost,
`data_parallel` and `block_traffic` add gathers and reductions; `pace` slows them where GPUs are
unequal), `laying` puts the columns together (`sheet` those of different actions, `slots` those of
all, `totals` their sums), and `quotient` keeps one coflow of each class (`firsts`: its own links).
"""

from __future__ import annotations

from simulator.ops.streams import Stream
from simulator.program.lowering import lower, lower_schedule
from simulator.program.pace import expected_paces, filling
from simulator.program.program import Coflow, Program, RankAction
from simulator.program.timed import chunk_times, schedule_of

STREAMS = tuple(stream.label for stream in Stream)
"""Names of the streams, by their number."""

__all__ = [
    "STREAMS",
    "Coflow",
    "Program",
    "RankAction",
    "chunk_times",
    "expected_paces",
    "filling",
    "lower",
    "lower_schedule",
    "schedule_of",
]
