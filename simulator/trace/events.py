"""A timeline as Chrome trace events: a process per class of ranks, a thread per stream.

The format is that of "Trace Event Format" (Google, 2016) as PyTorch's profiler writes it and
Perfetto reads it: times in microseconds; X complete events, s and f the ends of an arrow, C
counters, M names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.program import STREAMS
from simulator.schedules import Action, Kind, Place
from simulator.timeline import Timeline
from simulator.trace.groups import KERNELS, Calls

Event = dict[str, Any]
SEND = STREAMS.index("send")
LANES = 100
"""Threads per stream: sends are unordered, so that some that are on their way at once need lines of their own."""
_SEND = re.compile(r"send ([FB])")


def micro(seconds: float) -> float:
    """Return microseconds with three digits, as profilers write them."""
    return round(1e6 * seconds, 3)


@dataclass
class Writer:
    """Turns a timeline into events. Keeps where each row is drawn, for the arrows."""

    timeline: Timeline
    place: dict[int, tuple[int, int]] = field(default_factory=dict)  # row -> process and thread

    def __post_init__(self) -> None:
        program = self.timeline.program
        self.calls = Calls(program)
        self.stages = program.schedule.place()
        self.lists: dict[str, list[int]] = {
            name: getattr(program, name).tolist()
            for name in ("rank", "stream", "label", "coflow", "action")
        }
        self.begin, self.end = self.timeline.start.tolist(), self.timeline.end.tolist()
        self.arrive = self.timeline.arrive.tolist()

    def process(self, rank: int) -> int:
        """Return the process of a class of ranks: the first rank that it stands for."""
        return int(self.timeline.program.first_rank[rank])

    def rank(self, rank: int) -> Iterator[Event]:
        """Yield the names, kernels and transfers of one class of ranks."""
        rows = [row for row, owner in enumerate(self.lists["rank"]) if owner == rank]
        threads = self.threads(rows)
        program, process = self.timeline.program, self.process(rank)
        several = f"stands for {int(program.multiplicity[rank]):,} ranks"
        name = f"rank {process}, pipeline index {program.pipeline_index(rank)}, {several}"
        yield _name("process_name", process, 0, name)
        yield {
            "ph": "M",
            "name": "process_sort_index",
            "pid": process,
            "tid": 0,
            "args": {"sort_index": rank},
        }
        for thread in sorted(set(threads.values())):
            lane = f" {thread % LANES + 1}" if thread % LANES else ""
            yield _name(
                "thread_name",
                process,
                thread,
                f"stream {thread // LANES} {STREAMS[thread // LANES]}{lane}",
            )
            yield {
                "ph": "M",
                "name": "thread_sort_index",
                "pid": process,
                "tid": thread,
                "args": {"sort_index": thread},
            }
        for row in sorted(rows, key=lambda row: self.begin[row]):
            self.place[row] = process, threads[row]
            yield from self._row(row, rank)

    def threads(self, rows: Sequence[int]) -> dict[int, int]:
        """Return the thread of each row: its stream's, or another lane where an earlier row is still under way."""
        busy: dict[int, list[float]] = {}  # stream -> when each of its lanes is free again
        threads = {}
        for row in sorted(rows, key=lambda row: (self.begin[row], row)):
            lanes = busy.setdefault(self.lists["stream"][row], [])
            lane = next(
                (place for place, end in enumerate(lanes) if end <= self.begin[row]), len(lanes)
            )
            lanes[lane : lane + 1] = [self.end[row]]
            threads[row] = self.lists["stream"][row] * LANES + lane
        return threads

    def _row(self, row: int, rank: int) -> Iterator[Event]:
        program, (process, thread) = self.timeline.program, self.place[row]
        label = self.label(row)
        arguments: Event = {
            "stream": self.lists["stream"][row],
            "device": 0,
            "correlation": row,
            **self._action(row),
        }
        name = label
        if self.lists["coflow"][row] >= 0:
            flow = program.coflows[self.lists["coflow"][row]]
            call = self.calls.of(rank, flow, label, self._peer(row, rank))
            name = f"ncclDevKernel_{call.kernel} {label}"
            arguments |= call.arguments
            waited = self.begin[row] - self.arrive[row]
            if waited > 1e-9:
                arguments["waited for peers us"] = micro(waited)
        yield {
            "ph": "X",
            "cat": "kernel",
            "name": name,
            "pid": process,
            "tid": thread,
            "ts": micro(self.begin[row]),
            "dur": micro(self.end[row] - self.begin[row]),
            "args": arguments,
        }

    def label(self, row: int) -> str:
        """Return the label of a row."""
        return self.timeline.program.labels[self.lists["label"][row]]

    def kernel(self, row: int) -> str:
        """Return the kind of a row's transfer, as `groups.KERNELS` calls it; empty for what computes."""
        flow = self.lists["coflow"][row]
        if flow < 0:
            return ""
        return KERNELS.get(self.timeline.program.coflows[flow].label[0], "Collective")

    def _act(self, row: int) -> Action | None:
        return self.act(self.lists["action"][row])

    def act(self, number: int) -> Action | None:
        """Return an action of the program; none for the optimizer and what surrounds it."""
        program = self.timeline.program
        rank, position, kind = program.actions[number]
        return (
            None
            if kind == "update"
            else program.schedule.ranks[program.pipeline_index(rank)][position]
        )

    def _action(self, row: int) -> Event:
        action = self._act(row)
        if action is None:
            return {"action": "update"}
        halves = action.halves()
        if len(halves) == 1:
            return {"action": str(action), "stage": halves[0][2], "micro-batch": halves[0][1]}
        return {
            "action": str(action),
            "stage": [half[2] for half in halves],
            "micro-batch": [half[1] for half in halves],
        }

    def _target(self, row: int) -> Place | None:
        """Return the pipeline index that a send goes to and the position of the action there; None for other rows."""
        found, action = _SEND.fullmatch(self.label(row)), self._act(row)
        if found is None or action is None:
            return None
        forward = found[1] == "F"
        micro_batch, stage = next(
            (m, s) for kind, m, s in action.halves() if (kind == "F") == forward
        )
        kinds: tuple[Kind, ...] = ("F",) if forward else ("B", "I")
        following = stage + 1 if forward else stage - 1
        return next(
            self.stages[kind, micro_batch, following]
            for kind in kinds
            if (kind, micro_batch, following) in self.stages
        )

    def _peer(self, row: int, rank: int) -> int:
        """Return the rank that a send goes to, -1 for what is no send."""
        target, layout = self._target(row), self.timeline.program.scenario.layout
        return layout.rank(target[0], layout.place(self.process(rank))) if target else -1

    def arrows(self) -> Iterator[Event]:
        """Yield an arrow from every pipeline send to what waits for it, where both are drawn."""
        program = self.timeline.program
        takers = np.repeat(np.arange(len(self.begin)), np.diff(program.wait_ptr))
        sent = np.array([*(flow.traffic == "pipeline" for flow in program.coflows), False])[
            program.coflow
        ]
        number = 0
        for edge in np.flatnonzero(sent[program.wait]).tolist():
            source, row = int(program.wait[edge]), int(takers[edge])
            target = self._target(
                source
            )  # what comes next on the send's own stream waits for it too
            given = target and program.actions[self.lists["action"][row]][1] == target[1]
            if given and source in self.place and row in self.place:
                yield from self._arrow(number, source, row)
                number += 1

    def _arrow(self, number: int, source: int, target: int) -> Iterator[Event]:
        # An arrow's head binds to the slice around it: `bp: e`.
        for phase, row, extra in (("s", source, {}), ("f", target, {"bp": "e"})):
            process, thread = self.place[row]
            yield {
                "ph": phase,
                "id": number,
                "cat": "pipeline",
                "name": "send",
                "pid": process,
                "tid": thread,
                "ts": micro(self.begin[row]),
                **extra,
            }


def _name(kind: str, process: int, thread: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}
