"""The reference executor: events by SimPy, one Python call each.

Rules. A row starts when all rows that it waits for have ended; its stream's order is among them.
The compute and the side stream of a rank share its SMs: a kernel that has them keeps them to its
end, the others wait in the order in which they became ready. A coflow starts when all its members
have arrived; after its latency its bytes share the links max-min fairly with all others, no faster
than its kernel allows, which is slower while a member computes. Sends need no receiver: its buffer
is ready. Ties in time break by the order in which things were scheduled.

State lives in `_Run` and dies with it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import numpy as np
import simpy

from simulator.fairshare import max_min_few
from simulator.program import Coflow, Program
from simulator.timeline import Timeline


def run(program: Program) -> Timeline:
    """Execute one step. Rows that wait for each other keep the end -1. Errors: EngineError if a rate is unbounded."""
    state = _Run(program)
    state.go()
    return Timeline(
        program,
        arrive=np.array(state.arrive),
        start=np.array(state.start),
        end=np.array(state.end),
        executor="simpy",
        events=state.events,
    )


@dataclass(slots=True, eq=False)
class _Flow:
    """A coflow that is moving bytes."""

    kind: Coflow
    """What it is."""
    instance: int
    """Which of the calls of its kind."""
    left: float
    """Bytes of its slowest link that were left at the time `since` [B]."""
    since: float
    """When `left` was true [s]."""
    rate: float = 0.0
    """At which it has moved since [B/s]."""
    version: int = 0
    """How often its rate has changed. SimPy cannot cancel a timeout: wake-ups of older versions are ignored."""


_Flows = dict[_Flow, None]


@dataclass(slots=True)
class _Call:
    """One instance of a coflow before it starts."""

    rows: list[int] = field(default_factory=list)
    """Of the members that have arrived."""


class _Run:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.env = simpy.Environment()
        self.events = 0
        rows = len(program.rank)
        ranks = program.ranks
        # Columns as lists, which Python indexes faster than arrays.
        self.rank: list[int] = program.rank.tolist()
        self.seconds: list[float] = program.seconds.tolist()
        self.coflow: list[int] = program.coflow.tolist()
        self.instance: list[int] = program.instance.tolist()
        self.capacity: list[float] = program.capacity.tolist()
        self.waiting: list[int] = np.diff(program.wait_ptr).tolist()
        self.followers = _followers(program)
        self.arrive = [0.0] * rows
        self.start = [0.0] * rows
        self.end = [-1.0] * rows
        # Of each rank: the row that has its SMs, those that wait for them, and whether flows were
        # told that it computes.
        self.on_sms = [-1] * ranks
        self.queue: list[deque[int]] = [deque() for _ in range(ranks)]
        self.computing = [False] * ranks
        self.unsettled: list[int] = []  # ranks whose SMs were taken or left since then
        self.calls: dict[int, _Call] = {}
        # Dicts as sets that keep their order: rates are found in it, and their bits depend on it.
        self.on_link: list[_Flows] = [{} for _ in self.capacity]
        self.at_rank: list[_Flows] = [{} for _ in range(ranks)]
        self.unhindered: dict[Coflow, bool] = {}
        for kind in program.coflows:
            self.unhindered[kind] = _unhindered(kind, self.capacity)

    def go(self) -> None:
        """Run to the end."""
        waits = np.diff(self.program.wait_ptr)  # [row]
        for row in np.flatnonzero(waits == 0).tolist():
            self._ready(row)
        self._settle()
        self.env.run()

    # Rows

    def _ready(self, row: int) -> None:
        """Start a row whose waits are over, or queue it for its SMs or its peers."""
        self.arrive[row] = self.env.now
        rank = self.rank[row]
        if self.coflow[row] >= 0:
            self._join(row)
        elif self.on_sms[rank] < 0 and not self.queue[rank]:
            self._compute(row)
        else:
            self.queue[rank].append(row)

    def _compute(self, row: int) -> None:
        rank = self.rank[row]
        self.start[row] = self.env.now
        self.on_sms[rank] = row
        self.unsettled.append(rank)
        timeout = self.env.timeout(self.seconds[row], row)
        timeout.callbacks.append(self._computed)

    def _computed(self, event: simpy.Event) -> None:
        row: int = cast(int, event.value)
        rank = self.rank[row]
        self.on_sms[rank] = -1
        self.unsettled.append(rank)
        self._finish(row)
        # A row that `_finish` made ready may have taken the SMs. Else what waited longest goes first.
        if self.on_sms[rank] < 0 and self.queue[rank]:
            row = self.queue[rank].popleft()
            self._compute(row)
        self._settle()

    def _finish(self, row: int) -> None:
        """End a row and make ready what waited for it alone."""
        self.events += 1
        self.end[row] = self.env.now
        for follower in self.followers[row]:
            self.waiting[follower] -= 1
            if not self.waiting[follower]:
                self._ready(follower)

    # Coflows

    def _join(self, row: int) -> None:
        """Arrive at a coflow; the last member starts it."""
        kind = self.program.coflows[self.coflow[row]]
        instance = self.instance[row]
        call = self.calls.setdefault(instance, _Call())
        call.rows.append(row)
        if len(call.rows) < len(kind.members):
            return
        for member in call.rows:
            self.start[member] = self.env.now
        timeout = self.env.timeout(kind.latency, (kind, instance))
        timeout.callbacks.append(self._open)

    def _open(self, event: simpy.Event) -> None:
        """Begin to move bytes, after the latency."""
        kind, instance = cast(tuple[Coflow, int], event.value)
        flow = _Flow(kind, instance, left=kind.size, since=self.env.now)
        for link, _ in kind.links:
            self.on_link[link][flow] = None
        for rank in kind.members:
            self.at_rank[rank][flow] = None
        if kind.links:
            self._share([flow])
        else:
            self._close(flow)

    def _share(self, changed: list[_Flow]) -> None:
        """Give new rates to flows and to all that share links with them, directly or through others."""
        # Rates outside of the component cannot change: no link of theirs has other users now.
        flows = self._component(changed)
        caps = [self._cap(flow) for flow in flows]
        alone = len(flows) == 1
        if alone and self.unhindered[flows[0].kind]:
            rates = caps
        else:
            links = [flow.kind.links for flow in flows]
            rates = max_min_few(self.capacity, links, caps)
        for flow, rate in zip(flows, rates, strict=True):
            if rate != flow.rate:
                self._speed(flow, rate)

    def _speed(self, flow: _Flow, rate: float) -> None:
        """Let a flow move at another rate from now on [B/s]."""
        elapsed = self.env.now - flow.since
        flow.left -= flow.rate * elapsed
        flow.since = self.env.now
        flow.rate = rate
        flow.version += 1
        # Rounding may leave less than nothing, and SimPy refuses a timeout in the past.
        remaining = max(0.0, flow.left) / rate
        timeout = self.env.timeout(remaining, (flow, flow.version))
        timeout.callbacks.append(self._moved)

    def _cap(self, flow: _Flow) -> float:
        """Return the fastest that a flow's kernel may go [B/s]."""
        kind = flow.kind
        # One member that computes is enough: all move at the pace of the slowest.
        slows = kind.overlap_slowdown > 1.0
        if slows and any(self.computing[rank] for rank in kind.members):
            return kind.rate / kind.overlap_slowdown
        return kind.rate

    def _component(self, flows: list[_Flow]) -> list[_Flow]:
        """Return all flows that are connected with some over links, in a fixed order."""
        connected = dict.fromkeys(flows)
        frontier = list(flows)
        while frontier:
            for link, _ in frontier.pop().kind.links:
                users = self.on_link[link]
                if len(users) > 1:
                    fresh = [flow for flow in users if flow not in connected]
                    connected.update(dict.fromkeys(fresh))
                    frontier += fresh
        return list(connected)

    def _moved(self, event: simpy.Event) -> None:
        flow, version = cast(tuple[_Flow, int], event.value)
        if version == flow.version:
            self._close(flow)

    def _close(self, flow: _Flow) -> None:
        """End a coflow for all its members and give its share of the links to the others."""
        # Off its links first, so that the others share what it leaves, then on to what waits for it.
        flow.version += 1
        touched: _Flows = {}
        for link, _ in flow.kind.links:
            users = self.on_link[link]
            del users[flow]
            touched.update(users)
        for rank in flow.kind.members:
            del self.at_rank[rank][flow]
        if touched:
            self._share(list(touched))
        for row in self.calls.pop(flow.instance).rows:
            self._finish(row)
        self._settle()

    def _settle(self) -> None:
        """Tell the flows of ranks that began or stopped to compute, once an event's work is handed out."""
        changed: _Flows = {}
        ranks, self.unsettled = self.unsettled, []
        for rank in ranks:
            busy = self.on_sms[rank] >= 0
            if busy != self.computing[rank]:
                self.computing[rank] = busy
                changed.update(self.at_rank[rank])
        slowed = [flow for flow in changed if flow.kind.overlap_slowdown > 1.0]
        if slowed:
            self._share(slowed)


def _unhindered(kind: Coflow, capacity: list[float]) -> bool:
    """Tell whether a coflow alone on its links moves as fast as its kernel allows."""
    rate = kind.rate
    return all(weight * rate <= capacity[link] for link, weight in kind.links)


def _followers(program: Program) -> list[list[int]]:
    """Return the rows that wait for each row, in the order of the rows."""
    # The program lists what each row waits for; here a row that ends looks up who waits for it.
    rows = len(program.rank)
    waits = np.diff(program.wait_ptr)  # [row]
    waiter = np.repeat(np.arange(rows), waits)  # [wait]
    by_awaited = np.argsort(program.wait, kind="stable")  # [wait]
    waiters = waiter[by_awaited].tolist()
    counts = np.bincount(program.wait, minlength=rows)  # [row]
    ends = np.cumsum(counts).tolist()
    bounds = pairwise([0, *ends])
    return [waiters[begin:end] for begin, end in bounds]
