"""The reference executor: events by SimPy, one Python call each.

Rules. A row starts when all rows that it waits for have ended and its host has launched it; its
stream's order is among what it waits for. Hosts launch the rows of their rank in order; one that
drains its host is not launched, nor is any behind it, before what it waits for has ended. A row of
several kernels may end later than they take, where the host is not quick enough.
The compute and the side stream of a rank share its SMs: a kernel that has them keeps them to its
end, the others wait in the order in which they became ready. A coflow starts when all its members
have arrived; after its latency its bytes share the links max-min fairly with all others, no faster
than its kernel allows, which is slower while a member computes. Sends need no receiver: its buffer
is ready.

All that is due at one instant happens as one: what ends is ended and what it was awaited by made
ready, then each rank whose SMs are free gives them to what has been ready longest, to the row that
comes first in its program among those that became ready together, and at last links are shared
anew. So the order in which events of an instant come, which hangs on the last bit of sums of
times, decides nothing. See `instants`.

State lives in `_Run` and dies with it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
import simpy

from simulator.engine.hosts import hosts_of
from simulator.engine.instants import INSTANT
from simulator.fairshare import max_min_few
from simulator.program import Coflow, Program
from simulator.timeline import Timeline


def run(program: Program) -> Timeline:
    """Execute one step. Rows that wait for each other keep the end -1. Errors: EngineError if a rate is unbounded."""
    state = _Run(program)
    state.go()
    return Timeline(
        program,
        issue=np.array(state.issue),
        due=np.array(state.due_since),
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
    moving: bool = True
    """Whether it has not ended."""


_Flows = dict[_Flow, None]


@dataclass(slots=True)
class _Call:
    """One instance of a coflow before it starts."""

    rows: list[int] = field(default_factory=list)
    """Of the members that have arrived."""


class _Due(NamedTuple):
    """Something that is due, in the order in which it is done."""

    at: float
    """When [s]."""
    order: int
    """How many things were planned before it."""
    act: Callable[[], None]
    """What to do."""
    holds: Callable[[], bool]
    """Tells whether it has not been replaced since."""


class _Waiting(NamedTuple):
    """A row that waits for SMs, in the order in which they get them."""

    since: float
    """When it became ready [s]."""
    row: int
    """Among those of one instant the first of the program is the first."""


class _Run:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.env = simpy.Environment()
        self.now = 0.0
        self.planned = 0
        self.due: list[_Due] = []  # of the instant that is collected
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
        hosts = hosts_of(program)
        self.lead: list[float] = program.lead.tolist()
        self.lag: list[float] = program.lag.tolist()
        self.since: list[int] = hosts.since.tolist()
        self.before: list[float] = hosts.before.tolist()
        self.next_gate: list[int] = hosts.gate.tolist()
        # Of each rank: when its host begins, the next row that drains it, and rows behind that one
        # which wait for nothing else.
        self.host: list[float] = hosts.begin.tolist()
        self.gate: list[int] = hosts.first_gate.tolist()
        self.held: list[list[int]] = [[] for _ in range(ranks)]
        self.issue = [0.0] * rows
        self.due_since = [0.0] * rows
        self.arrive = [0.0] * rows
        self.start = [0.0] * rows
        self.end = [-1.0] * rows
        # Of each rank: the row that has its SMs, those that wait for them with the time since when,
        # and whether flows were told that it computes.
        self.on_sms = [-1] * ranks
        self.queue: list[list[_Waiting]] = [[] for _ in range(ranks)]
        self.computing = [False] * ranks
        self.unsettled: list[int] = []  # ranks whose SMs were asked for or left in this instant
        self.calls: dict[int, _Call] = {}
        # Dicts as sets that keep their order: rates are found in it, and their bits depend on it.
        self.on_link: list[_Flows] = [{} for _ in self.capacity]
        self.at_rank: list[_Flows] = [{} for _ in range(ranks)]
        self.changed: _Flows = {}  # flows that began, or whose links or ranks did, in this instant
        self.unhindered: dict[Coflow, bool] = {}
        for kind in program.coflows:
            self.unhindered[kind] = _unhindered(kind, self.capacity)

    def go(self) -> None:
        """Run to the end."""
        waits = np.diff(self.program.wait_ptr)  # [row]
        for row in np.flatnonzero(waits == 0).tolist():
            self._ready(row)
        self._settle()
        while self._collect():
            for due in self.due:
                due.act()
            self._settle()

    # Time

    def _plan(self, at: float, act: Callable[[], None], holds: Callable[[], bool]) -> None:
        """Do something at a time, unless it is replaced before."""
        due = _Due(at, self.planned, act, holds)
        self.planned += 1
        # SimPy's clock may stand at a wake-up that was replaced, a little later than ours.
        timeout = self.env.timeout(max(0.0, at - self.env.now), due)
        timeout.callbacks.append(self._note)

    def _note(self, event: simpy.Event) -> None:
        due = cast(_Due, event.value)
        if due.holds():
            self.due.append(due)

    def _collect(self) -> bool:
        """Collect all that is due at the next instant, which then is now. Return whether anything is."""
        self.due = []
        while not self.due and self.env.peek() < np.inf:
            self.env.step()
        if not self.due:
            return False
        last = self.due[0].at + INSTANT
        while self.env.peek() <= last:
            self.env.step()
        self.due.sort(key=lambda due: (due.at, due.order))
        # The latest, so that nothing takes less than its time.
        self.now = self.due[-1].at
        return True

    # Rows

    def _ready(self, row: int) -> None:
        """Let a row whose waits are over wait for its launch."""
        self.due_since[row] = self.now
        rank = self.rank[row]
        held = self.held[rank]
        insort(held, row)
        while held and held[0] <= self.gate[rank]:
            self._launch(held.pop(0), rank)

    def _launch(self, row: int, rank: int) -> None:
        """Let the host launch a row, at once where it has come so far."""
        since = self.since[row]
        begun = self.issue[since] if since >= 0 else self.host[rank]
        issue = begun + self.before[row]
        if row == self.gate[rank]:
            issue = max(issue, self.now)
            self.gate[rank] = self.next_gate[row]
        self.issue[row] = issue
        at = issue + self.lead[row]
        if at > self.now + INSTANT:
            self._plan(at, lambda: self._arrived(row), _always)
        else:
            self._arrived(row)

    def _arrived(self, row: int) -> None:
        """Let a row that is launched wait for its peers or for the SMs of its rank."""
        self.arrive[row] = self.now
        rank = self.rank[row]
        if self.coflow[row] >= 0:
            self._join(row)
        else:
            insort(self.queue[rank], _Waiting(self.now, row))
            self.unsettled.append(rank)

    def _compute(self, row: int) -> None:
        self.start[row] = self.now
        self.on_sms[self.rank[row]] = row
        end = self.now + self.seconds[row]
        # Its later kernels may have to wait for the host.
        late = self.issue[row] + self.lag[row]
        if late > end + INSTANT:
            end = late
        self._plan(end, lambda: self._computed(row), _always)

    def _computed(self, row: int) -> None:
        rank = self.rank[row]
        self.on_sms[rank] = -1
        self.unsettled.append(rank)
        self._finish(row)

    def _finish(self, row: int) -> None:
        """End a row and make ready what waited for it alone."""
        self.events += 1
        self.end[row] = self.now
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
            self.start[member] = self.now
        self._plan(self.now + kind.latency, lambda: self._open(kind, instance), _always)

    def _open(self, kind: Coflow, instance: int) -> None:
        """Begin to move bytes, after the latency."""
        flow = _Flow(kind, instance, left=kind.size, since=self.now)
        for link, _ in kind.links:
            self.on_link[link][flow] = None
        for rank in kind.members:
            self.at_rank[rank][flow] = None
        if kind.links:
            self.changed[flow] = None
        else:
            self._close(flow)

    def _close(self, flow: _Flow) -> None:
        """End a coflow for all its members, and note that others may have what it leaves of the links."""
        flow.moving = False
        for link, _ in flow.kind.links:
            users = self.on_link[link]
            del users[flow]
            self.changed.update(users)
        for rank in flow.kind.members:
            del self.at_rank[rank][flow]
        for row in self.calls.pop(flow.instance).rows:
            self._finish(row)

    def _settle(self) -> None:
        """Give out SMs and links, once all that an instant ends is ended."""
        ranks, self.unsettled = self.unsettled, []
        for rank in ranks:
            if self.on_sms[rank] < 0 and self.queue[rank]:
                self._compute(self.queue[rank].pop(0).row)
        for rank in ranks:
            busy = self.on_sms[rank] >= 0
            if busy != self.computing[rank]:
                self.computing[rank] = busy
                slowed = (flow for flow in self.at_rank[rank] if flow.kind.overlap_slowdown > 1.0)
                self.changed.update(dict.fromkeys(slowed))
        changed, self.changed = self.changed, {}
        shared: _Flows = {}
        for flow in changed:
            if flow.moving and flow not in shared:
                shared.update(dict.fromkeys(self._share(flow)))

    def _share(self, changed: _Flow) -> list[_Flow]:
        """Give new rates to a flow and to all that share links with it, directly or through others; return them."""
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
        return flows

    def _speed(self, flow: _Flow, rate: float) -> None:
        """Let a flow move at another rate from now on [B/s]."""
        elapsed = self.now - flow.since
        flow.left -= flow.rate * elapsed
        flow.since = self.now
        flow.rate = rate
        flow.version += 1
        version = flow.version
        # Rounding may leave less than nothing.
        end = self.now + max(0.0, flow.left) / rate
        self._plan(end, lambda: self._close(flow), lambda: flow.version == version)

    def _cap(self, flow: _Flow) -> float:
        """Return the fastest that a flow's kernel may go [B/s]."""
        kind = flow.kind
        # One member that computes is enough: all move at the pace of the slowest.
        slows = kind.overlap_slowdown > 1.0
        if slows and any(self.computing[rank] for rank in kind.members):
            return kind.rate / kind.overlap_slowdown
        return kind.rate

    def _component(self, flow: _Flow) -> list[_Flow]:
        """Return all flows that are connected with one over links, in a fixed order."""
        connected = {flow: None}
        frontier = [flow]
        while frontier:
            for link, _ in frontier.pop().kind.links:
                users = self.on_link[link]
                if len(users) > 1:
                    fresh = [user for user in users if user not in connected]
                    connected.update(dict.fromkeys(fresh))
                    frontier += fresh
        return list(connected)


def _always() -> bool:
    """Tell that something is never replaced."""
    return True


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
