"""A schedule lowered with costs and groups: ops per stream per rank, dependencies; folding.

`coflows` lists every transfer of the cluster, `timed` gives a searched schedule its times, `folding`
finds the ranks that are alike, `chunks` orders an action's ops on streams, `rank_rows` writes down
one rank of each class, `quotient` keeps one coflow of each class, `laying` puts the columns together.
"""

from __future__ import annotations

from simulator.ops.streams import Stream
from simulator.program.lowering import lower, lower_schedule
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
    "lower",
    "lower_schedule",
    "schedule_of",
]
