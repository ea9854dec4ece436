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
anew, then each kernel whose transfers did something gets another speed, see `contention`. So the
order in which events of an instant come, which hangs on the last bit of sums of times, decides
nothing. See `instants`.

State lives in `_Run` and dies with it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import numpy as np
import simpy

from simulator.compute.contention import Sensitivity, speed
from simulator.engine.hosts import hosts_of
from simulator.engine.instants import INSTANT
from simulator.engine.running import Call, Due, Flow, Flows, Kernels, Waiting
from simulator.fairshare import max_min_few
from simulator.program import Coflow, Program
from simulator.progress import counting
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
        slowed=np.array(state.slowed),
        executor="simpy",
        events=state.events,
    )


class _Run:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.env = simpy.Environment()
        self.now = 0.0
        self.planned = 0
        self.due: list[Due] = []  # of the instant that is collected
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
        self.slowed = [0.0] * rows
        columns = (program.sms.tolist(), program.hbm.tolist(), program.both.tolist())
        self.sensitive = [Sensitivity(*row) for row in zip(*columns, strict=True)]
        # Of each rank: the row that has its SMs, those that wait for them with the time since when,
        # and whether flows were told that it computes.
        self.on_sms: list[Kernels | None] = [None] * ranks
        self.queue: list[list[Waiting]] = [[] for _ in range(ranks)]
        self.computing = [False] * ranks
        self.unsettled: list[int] = []  # ranks whose SMs were asked for or left in this instant
        self.calls: dict[int, Call] = {}
        # Dicts as sets that keep their order: rates are found in it, and their bits depend on it.
        self.on_link: list[Flows] = [{} for _ in self.capacity]
        self.at_rank: list[Flows] = [{} for _ in range(ranks)]
        self.disturbed: dict[int, None] = {}  # ranks whose transfers did something in this instant
        self.changed: Flows = {}  # flows that began, or whose links or ranks did, in this instant
        self.unhindered: dict[Coflow, bool] = {}
        for kind in program.coflows:
            self.unhindered[kind] = _unhindered(kind, self.capacity)

    def go(self) -> None:
        """Run to the end."""
        waits = np.diff(self.program.wait_ptr)  # [row]
        for row in np.flatnonzero(waits == 0).tolist():
            self._ready(row)
        self._settle()
        tell = counting("rows", len(self.end))
        while self._collect():
            for due in self.due:
                due.act()
            self._settle()
            tell(self.events)

    # Time

    def _plan(self, at: float, act: Callable[[], None], holds: Callable[[], bool]) -> None:
        """Do something at a time, unless it is replaced before."""
        due = Due(at, self.planned, act, holds)
        self.planned += 1
        # SimPy's clock may stand at a wake-up that was replaced, a little later than ours.
        timeout = self.env.timeout(max(0.0, at - self.env.now), due)
        timeout.callbacks.append(self._note)

    def _note(self, event: simpy.Event) -> None:
        due = cast(Due, event.value)
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
            insort(self.queue[rank], Waiting(self.now, row))
            self.unsettled.append(rank)

    def _compute(self, row: int) -> None:
        """Let a row have the SMs of its rank; its speed is found once transfers have theirs."""
        self.start[row] = self.now
        self.on_sms[self.rank[row]] = Kernels(row, left=self.seconds[row], since=self.now)

    def _pace(self, rank: int) -> None:
        """Let what a rank computes run at the speed that its transfers leave."""
        kernels = self.on_sms[rank]
        if kernels is None:
            return
        fresh = self._speed_next_to_transfers(rank, kernels.row)
        if fresh == kernels.speed:
            return
        left = kernels.left - kernels.speed * (self.now - kernels.since)
        # What only waits for its host has nothing left that could run slower.
        if left <= 0.0 and kernels.version:
            return
        kernels.left = left
        kernels.since = self.now
        kernels.speed = fresh
        kernels.done = end = self.now + left / fresh
        kernels.version += 1
        version = kernels.version
        # Its later kernels may have to wait for the host.
        late = self.issue[kernels.row] + self.lag[kernels.row]
        if late > end + INSTANT:
            end = late
        self._plan(end, lambda: self._computed(rank, kernels), lambda: kernels.version == version)

    def _speed_next_to_transfers(self, rank: int, row: int) -> float:
        """Return the speed of a row next to the transfers of its rank, relative to that alone."""
        flows = self.at_rank[rank]
        if not flows:
            return 1.0
        held = 0.0
        taken = 0.0
        for flow in flows:
            held += flow.kind.sms
            taken += flow.kind.hbm * (flow.rate / flow.kind.rate)
        return speed(self.sensitive[row], held, taken)

    def _computed(self, rank: int, kernels: Kernels) -> None:
        row = kernels.row
        self.on_sms[rank] = None
        self.unsettled.append(rank)
        # Of what no transfer has slowed, nothing may be left but rounding.
        if kernels.version > 1 or kernels.speed != 1.0:
            self.slowed[row] = max(0.0, kernels.done - self.start[row] - self.seconds[row])
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
        call = self.calls.setdefault(instance, Call())
        call.rows.append(row)
        if len(call.rows) < len(kind.members):
            return
        for member in call.rows:
            self.start[member] = self.now
        self._plan(self.now + kind.latency, lambda: self._open(kind, instance), _always)

    def _open(self, kind: Coflow, instance: int) -> None:
        """Begin to move bytes, after the latency."""
        flow = Flow(kind, instance, left=kind.size, since=self.now)
        for link, _ in kind.links:
            self.on_link[link][flow] = None
        for rank in kind.members:
            self.at_rank[rank][flow] = None
        if kind.links:
            self.changed[flow] = None
        else:
            self._close(flow)

    def _close(self, flow: Flow) -> None:
        """End a coflow for all its members, and note that others may have what it leaves of the links."""
        flow.moving = False
        for link, _ in flow.kind.links:
            users = self.on_link[link]
            del users[flow]
            self.changed.update(users)
        for rank in flow.kind.members:
            del self.at_rank[rank][flow]
        self._disturb(flow)
        for row in self.calls.pop(flow.instance).rows:
            self._finish(row)

    def _settle(self) -> None:
        """Give out SMs and links, once all that an instant ends is ended."""
        ranks, self.unsettled = self.unsettled, []
        for rank in ranks:
            if self.on_sms[rank] is None and self.queue[rank]:
                self._compute(self.queue[rank].pop(0).row)
        for rank in ranks:
            busy = self.on_sms[rank] is not None
            if busy != self.computing[rank]:
                self.computing[rank] = busy
                slowed = (flow for flow in self.at_rank[rank] if flow.kind.overlap_slowdown > 1.0)
                self.changed.update(dict.fromkeys(slowed))
        changed, self.changed = self.changed, {}
        shared: Flows = {}
        for flow in changed:
            if flow.moving and flow not in shared:
                shared.update(dict.fromkeys(self._share(flow)))
        disturbed, self.disturbed = self.disturbed, {}
        for rank in (*ranks, *disturbed):
            self._pace(rank)

    def _disturb(self, flow: Flow) -> None:
        """Note that the kernels next to a transfer may get another speed."""
        if flow.kind.sms or flow.kind.hbm:
            rows = self.calls[flow.instance].rows
            self.disturbed.update(dict.fromkeys(self.rank[row] for row in rows))

    def _share(self, changed: Flow) -> list[Flow]:
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

    def _speed(self, flow: Flow, rate: float) -> None:
        """Let a flow move at another rate from now on [B/s]."""
        elapsed = self.now - flow.since
        flow.left -= flow.rate * elapsed
        flow.since = self.now
        flow.rate = rate
        self._disturb(flow)
        flow.version += 1
        version = flow.version
        # Rounding may leave less than nothing.
        end = self.now + max(0.0, flow.left) / rate
        self._plan(end, lambda: self._close(flow), lambda: flow.version == version)

    def _cap(self, flow: Flow) -> float:
        """Return the fastest that a flow's kernel may go [B/s]."""
        kind = flow.kind
        # One member that computes is enough: all move at the pace of the slowest.
        slows = kind.overlap_slowdown > 1.0
        if slows and any(self.computing[rank] for rank in kind.members):
            return kind.rate / kind.overlap_slowdown
        return kind.rate

    def _component(self, flow: Flow) -> list[Flow]:
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
