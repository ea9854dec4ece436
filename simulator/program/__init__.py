"""A schedule lowered with costs and groups: ops per stream per rank, dependencies; folding.

`chunks` orders an action's ops on streams, `coflows` lists every transfer of
the cluster, `timed` gives a searched schedule its times, `folding` finds the ranks that are alike,
`quotient` keeps one of each, `lowering` puts the columns together.
"""

from __future__ import annotations

from simulator.program.chunks import STREAMS
from simulator.program.lowering import lower, lower_schedule
from simulator.program.program import Coflow, Program
from simulator.program.timed import chunk_times, schedule_of

__all__ = [
    "STREAMS",
    "Coflow",
    "Program",
    "chunk_times",
    "lower",
    "lower_schedule",
    "schedule_of",
]
