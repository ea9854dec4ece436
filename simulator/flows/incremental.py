"""Many flows, compiled: an event changes only the rates that it can change.

Each flow is bounded by a link that is full at its rate, the link's level, or by its cap. When flows
leave or join, progressive filling runs as before up to the lowest level at which one of these links
fills, or would have; flows that are slower keep their rates. Of the others, those change that hang
together with the event over full links. These are filled anew, from that level on (`refill`). A
link that was not full and now overflows is taken in, and the filling goes on from the level at
which it fills (`overflows`). In the end every flow is at its cap or on a full link on which none
is faster, and only max-min rates are so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import MachineCode
from simulator.flows.events import close, next_end, open_flows
from simulator.flows.problem import Flows
from simulator.flows.refilling import refill
from simulator.flows.settling import overflows, settle
from simulator.flows.state import INF, Floats, Ids, State, state_of
from simulator.flows.symmetry import quotient
from simulator.progress import counting

Counts = NDArray[np.int64]
OPENED, ENDED = range(2)
"""Places in `_Work.counts`."""
_SLICE = 512
"""Events after which machine code comes back, since Python sees neither Ctrl-C nor the time while it runs: less than a
second where flows are a million. Coming back is free."""


def drain(flows: Flows) -> Floats:
    """Return when each flow ends, [flow] s."""
    few, which = quotient(flows)
    if not len(few.size):
        return flows.start.copy()
    end = _ends(few)[which]  # of flows without bytes: any
    if which.min() >= 0:
        return end
    return np.where(which < 0, flows.start, end)


def _ends(flows: Flows) -> Floats:
    """Return when each flow ends, [flow] s, where all have bytes and all have weights."""
    work = _work(flows)
    run, tell = CODE.ready(), counting("flows", len(work.end))
    while work.counts[ENDED] < len(work.end):
        run(work)
        tell(int(work.counts[ENDED]))
    return work.end


class _Work(NamedTuple):
    """All that the compiled code reads and writes: it makes no array itself."""

    flows: Flows
    """The problem; ptr and link unsigned: code then needs no check for indices that count from the end."""
    state: State
    """What changes."""
    order: Ids
    """Flows by start [flow]."""
    end: Floats
    """When each flow ends, written [flow] s."""
    counts: Counts
    """How many flows have opened, and how many ended: see OPENED and ENDED."""


def _work(flows: Flows) -> _Work:
    """Return a problem with room to work in."""
    order = np.argsort(flows.start, kind="stable")
    flows = flows._replace(
        ptr=flows.ptr.astype(np.uint32),
        link=flows.link.astype(np.uint32),
    )
    end = np.zeros(len(flows.size))
    counts = np.zeros(2, dtype=np.int64)
    return _Work(flows, state_of(flows), order.astype(np.uint32), end, counts)


def _run(w: _Work) -> None:
    """Write when each flow ends, for so many events or to the end."""
    p, s, order, end = w.flows, w.state, w.order, w.end
    opened, ended, moved = w.counts[OPENED], w.counts[ENDED], 0
    for _ in range(_SLICE):
        if ended >= len(end):
            break
        now = next_end(s)
        opening = p.start[order[opened]] if opened < len(order) else INF
        if now <= opening:
            count, dirty, level = close(p, s, now, end)
            ended += count
        else:
            now = opening
            moved, suspects, low = open_flows(p, s, order[opened:], now)
            opened += moved
            dirty, level = overflows(p, s, suspects)
            level = min(level, low)
        while dirty or moved:
            dirty, moved = refill(p, s, dirty, moved, level)
            suspects = settle(p, s, dirty, moved, now)
            dirty, level = overflows(p, s, suspects)
            moved = 0
    w.counts[OPENED], w.counts[ENDED] = opened, ended


def _sample() -> _Work:
    """Return the arrays of one flow over one link."""
    one = np.ones(1)
    return _work(Flows(one, np.array([0, 1]), np.array([0]), one, one, np.zeros(1), one))


CODE = MachineCode(_run, _sample())
"""The executor's machine code."""
