"""The host of each class of ranks as a thread of the trace: one slice for what it launches of an action."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simulator.timeline import Timeline
from simulator.trace.events import Event, Line, duration, metadata, micro
from simulator.trace.rows import LANES, Rows

THREAD = 100 * LANES
"""Thread of the host: behind those of all streams."""


def host_events(timeline: Timeline, rank: int) -> Iterator[Event]:
    """Yield the name and the slices of one class of ranks; nothing where launching takes no time."""
    program = timeline.program
    own = np.flatnonzero((program.rank == rank) & (program.host > 0))
    if not len(own):
        return
    line = Line(int(program.first_rank[rank]), THREAD)
    yield metadata("thread_name", line, name="host")
    yield metadata("thread_sort_index", line, sort_index=-1)
    rows = Rows(timeline)
    issue = timeline.issue[own]
    done = issue + program.host[own]
    # A host goes through its rows in order, and so through its actions.
    _, first = np.unique(program.action[own], return_index=True)
    ends = np.append(first[1:], len(own))
    # A step begins with the first kernel, which was launched before.
    starts = np.maximum(0.0, issue[first])
    for begin, end, start in zip(first.tolist(), ends.tolist(), starts.tolist(), strict=True):
        stop = max(start, float(done[end - 1]))
        action = rows.action(int(own[begin]))
        yield {
            "ph": "X",
            "cat": "cpu_op",
            "name": f"launch {action or 'update'}",
            "pid": line.process,
            "tid": line.thread,
            "ts": micro(start),
            "dur": duration(start, stop),
            "args": {"launches": end - begin},
        }
