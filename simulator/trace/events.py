"""A timeline as Chrome trace events: a process per class of ranks, a thread per stream.

The format is that of "Trace Event Format" (Google, 2016) as PyTorch's profiler writes it and
Perfetto reads it: times in microseconds; X complete events, s and f the ends of an arrow, C
counters, M names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from simulator.schedules import Kind, PipelineOverlap, Place
from simulator.timeline import Timeline
from simulator.trace.groups import Calls
from simulator.trace.rows import LANES, Rows, thread_name

Event = dict[str, Any]
"""An event as JSON."""
_SEND = re.compile(r"send ([FB])")
_NOTICED = 1e-9
"""Waiting that a trace can show [s]."""


def nanoseconds(seconds: float) -> int:
    """Return a time in the unit that traces are written to and read in."""
    return round(1e9 * seconds)


def micro(seconds: float) -> float:
    """Return microseconds with three digits, as profilers write them."""
    return nanoseconds(seconds) / 1e3


def duration(start: float, end: float) -> float:
    """Return the microseconds between two times as they are written.

    Both ends are rounded, then subtracted: were the duration rounded by itself, a slice could end a
    nanosecond after the next one starts, and Perfetto drops a slice that neither nests nor follows
    (trace_processor, SliceTracker).
    """
    return (nanoseconds(end) - nanoseconds(start)) / 1e3


class Line(NamedTuple):
    """Where an event is drawn."""

    process: int
    """The first rank of its class."""
    thread: int
    """Its stream and lane."""


class Writer:
    """Turns a timeline into events, and keeps where each row is drawn, for the arrows."""

    def __init__(self, timeline: Timeline) -> None:
        self.rows = Rows(timeline)
        self._program = timeline.program
        self._calls = Calls(timeline.program)
        self._stages = timeline.program.schedule.place()
        self._lines: dict[int, Line] = {}

    def rank(self, rank: int) -> Iterator[Event]:
        """Yield the names, kernels and transfers of one class of ranks."""
        rows = self.rows
        own = [row for row, owner in enumerate(rows.rank) if owner == rank]
        threads = rows.threads(own)
        process = rows.process(rank)
        lines = sorted(set(threads.values()))
        yield from self._names(rank, lines)
        # In the order of their starts, as profilers write them.
        for row in sorted(own, key=rows.start.__getitem__):
            self._lines[row] = Line(process, threads[row])
            yield self._slice(row, rank)

    def _names(self, rank: int, threads: list[int]) -> Iterator[Event]:
        """Yield the names of the process and of the threads of a class of ranks, and their order."""
        program = self._program
        process = self.rows.process(rank)
        count = int(program.multiplicity[rank])
        index = program.pipeline_index(rank)
        name = f"rank {process}, pipeline index {index}, stands for {count:,} ranks"
        yield metadata("process_name", Line(process, 0), name=name)
        yield metadata("process_sort_index", Line(process, 0), sort_index=rank)
        for thread in threads:
            line = Line(process, thread)
            stream = thread // LANES
            name = f"stream {stream} {thread_name(thread)}"
            yield metadata("thread_name", line, name=name)
            yield metadata("thread_sort_index", line, sort_index=thread)

    def _slice(self, row: int, rank: int) -> Event:
        """Return a kernel or a transfer as a slice of its thread."""
        rows = self.rows
        name = rows.label(row)
        arguments: Event = {
            "stream": rows.stream[row],
            "device": 0,
            "correlation": row,
            **self._action(row),
        }
        start, end = rows.start[row], rows.end[row]
        if rows.coflow(row) >= 0:
            flow = self._program.coflows[rows.coflow(row)]
            peer = self._peer(row, rank)
            call = self._calls.of(rank, flow, name, peer)
            # NCCL's prefix is how PyTorch's tools tell a collective from a kernel that computes.
            name = f"ncclDevKernel_{call.kernel} {name}"
            arguments |= call.arguments
            arrive = rows.arrive[row]
            if start - arrive > _NOTICED:
                arguments["waited for peers us"] = duration(arrive, start)
        line = self._lines[row]
        return {
            "ph": "X",
            "cat": "kernel",
            "name": name,
            "pid": line.process,
            "tid": line.thread,
            "ts": micro(start),
            "dur": duration(start, end),
            "args": arguments,
        }

    def _action(self, row: int) -> Event:
        """Return what a slice says of its action: one stage and micro-batch, or those of both halves."""
        action = self.rows.action(row)
        if action is None:
            return {"action": "update"}
        micro_batches = [micro_batch for _, micro_batch, _ in action.halves()]
        stages = [stage for _, _, stage in action.halves()]
        said: Event = {"action": str(action), "stage": stages, "micro-batch": micro_batches}
        # Numbers where there is one of each, which a viewer's queries can compare.
        if len(stages) == 1:
            said |= {"stage": stages[0], "micro-batch": micro_batches[0]}
        return said

    def _target(self, row: int) -> Place | None:
        """Return the pipeline index that a send goes to and the position of the action there; None for other rows."""
        match = _SEND.fullmatch(self.rows.label(row))
        action = self.rows.action(row)
        if match is None or action is None:
            return None
        forward = match[1] == "F"
        # Of an overlapped pair, the half whose result is sent.
        senders = (half for half in action.halves() if (half[0] == "F") == forward)
        half = next(senders, None)
        if half is None:
            return None  # another action's result, which is posted behind this one
        _, micro_batch, stage = half
        following = stage + 1 if forward else stage - 1
        # What takes a gradient is a full backward pass, or one of its input alone.
        kinds: list[Kind] = ["F"] if forward else ["B", "I"]
        for kind in kinds:
            if (kind, micro_batch, following) in self._stages:
                return self._stages[kind, micro_batch, following]
        return None

    def _peer(self, row: int, rank: int) -> int:
        """Return the rank that a send goes to, or that a receive comes from; -1 for other rows."""
        program = self._program
        flow = program.coflows[self.rows.coflow(row)]
        index = -1
        if flow.traffic == "pipeline" and len(flow.members) > 1:
            other = next(member for member in flow.members if member != rank)
            index = program.pipeline_index(other)
        elif (target := self._target(row)) is not None:
            index = target[0]
        if index < 0:
            return -1
        # Sends keep their place within a stage: each rank has one peer at every pipeline index.
        layout = program.scenario.layout
        local_rank = layout.local_rank(self.rows.process(rank))
        return layout.rank(index, local_rank)

    def arrows(self) -> Iterator[Event]:
        """Yield an arrow from every pipeline send to what waits for it, where both are drawn."""
        for number, (source, row) in enumerate(self._handovers()):
            yield self._end_of_arrow("s", number, source)
            # An arrow's head binds to the slice around it: `bp: e`.
            yield {**self._end_of_arrow("f", number, row), "bp": "e"}

    def _handovers(self) -> Iterator[tuple[int, int]]:
        """Yield the rows between which arrows are drawn: a send, and the receive or the row that takes it."""
        program = self._program
        if program.scenario.pipeline.sends is not PipelineOverlap.ALL:
            yield from self._meetings()
            return
        # -1, "no transfer", reads the last item.
        pipeline = [flow.traffic == "pipeline" for flow in program.coflows]
        is_send = np.array([*pipeline, False])  # [coflow]
        sent = is_send[program.coflow]  # [op]
        # `wait_ptr` holds where the waits of each row begin: as many copies of a row as it has waits.
        waits = np.diff(program.wait_ptr)  # [op]
        waiter = np.repeat(np.arange(len(self.rows)), waits)  # [wait] row
        for edge in np.flatnonzero(sent[program.wait]).tolist():
            source = int(program.wait[edge])
            row = int(waiter[edge])
            target = self._target(source)
            # What comes next on the send's own stream waits for it too, and takes nothing.
            takes = target is not None and self.rows.position(row) == target[1]
            is_drawn = source in self._lines and row in self._lines
            if takes and is_drawn:
                yield source, row

    def _meetings(self) -> Iterator[tuple[int, int]]:
        """Yield sends and receives that meet."""
        instance = self._program.instance.tolist()
        sent: dict[int, int] = {}  # by instance
        received: dict[int, int] = {}
        for row in self._lines:
            label = self.rows.label(row)
            if label.startswith("send "):
                sent[instance[row]] = row
            elif label.startswith("receive "):
                received[instance[row]] = row
        for number, row in sent.items():
            if number in received:
                yield row, received[number]

    def _end_of_arrow(self, phase: str, number: int, row: int) -> Event:
        line = self._lines[row]
        return {
            "ph": phase,
            "id": number,
            "cat": "pipeline",
            "name": "send",
            "pid": line.process,
            "tid": line.thread,
            "ts": micro(self.rows.start[row]),
        }


def metadata(kind: str, line: Line, **arguments: Any) -> Event:
    """Return an event that names or sorts a process or a thread."""
    return {
        "ph": "M",
        "name": kind,
        "pid": line.process,
        "tid": line.thread,
        "args": arguments,
    }
