"""The rows of a timeline one by one: what each runs, for which action, and on which line it is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.ops.streams import Stream
from simulator.schedules import Action
from simulator.timeline import Timeline
from simulator.trace.groups import KERNELS

LANES = 100
"""Threads per stream: sends are unordered, so that those in flight at the same time need lines of their own."""


def thread_name(thread: int) -> str:
    """Return what a thread is called: its stream, and the number of its lane unless it is the first."""
    stream, lane = divmod(thread, LANES)
    name = Stream(stream).label
    return f"{name} {lane + 1}" if lane else name


class Rows:
    """A timeline's columns as lists, since single items of arrays are slow to read."""

    def __init__(self, timeline: Timeline) -> None:
        program = timeline.program
        self.timeline = timeline
        self.program = program
        self.rank: list[int] = program.rank.tolist()
        self.stream: list[int] = program.stream.tolist()
        self.start: list[float] = timeline.start.tolist()
        self.end: list[float] = timeline.end.tolist()
        self.arrive: list[float] = timeline.arrive.tolist()
        self._label: list[int] = program.label.tolist()
        self._coflow: list[int] = program.coflow.tolist()
        self._action: list[int] = program.action.tolist()

    def __len__(self) -> int:
        return len(self.start)

    def label(self, row: int) -> str:
        """Return the label of a row."""
        return self.program.labels[self._label[row]]

    def coflow(self, row: int) -> int:
        """Return the class of coflows of a row, -1 for what computes."""
        return self._coflow[row]

    def kernel(self, row: int) -> str:
        """Return the kind of a row's transfer, as `groups.KERNELS` calls it; empty for what computes."""
        flow = self._coflow[row]
        if flow < 0:
            return ""
        kind, _ = self.program.coflows[flow].label
        return KERNELS.get(kind, "Collective")

    def position(self, row: int) -> int:
        """Return the position of a row's action in the schedule of its rank."""
        return self.program.actions[self._action[row]][1]

    def action(self, row: int) -> Action | None:
        """Return the action of a row; None for the optimizer and what surrounds it."""
        program = self.program
        rank, position, kind = program.actions[self._action[row]]
        if kind == "update":
            return None
        order = program.schedule.ranks[program.pipeline_index(rank)]
        return order[position]

    def process(self, rank: int) -> int:
        """Return the process of a class of ranks: the first rank that it stands for."""
        return int(self.program.first_rank[rank])

    def threads(self, rows: Sequence[int]) -> dict[int, int]:
        """Return the thread of each row: its stream's, or another lane where an earlier row is still in flight."""
        lanes: dict[int, list[float]] = {}  # stream -> when each of its lanes is free again
        threads = {}
        # In order of starts, each in the first lane that is free: as few lanes as overlap at most.
        for row in sorted(rows, key=lambda row: (self.start[row], row)):
            stream = self.stream[row]
            free = lanes.setdefault(stream, [])
            lane = _first_free(free, self.start[row])
            # A slice replaces the lane's time, and appends one where the lane is new.
            free[lane : lane + 1] = [self.end[row]]
            threads[row] = stream * LANES + lane
        return threads


def _first_free(free: Sequence[float], time: float) -> int:
    """Return the first lane that is free at a time, or a new one."""
    for lane, since in enumerate(free):
        if since <= time:
            return lane
    return len(free)
