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

import numpy as np

from simulator.compiled import outer
from simulator.flows.events import close, next_end, open_flows
from simulator.flows.problem import Flows
from simulator.flows.refilling import refill
from simulator.flows.settling import overflows, settle
from simulator.flows.state import INF, Floats, Ids, state_of
from simulator.flows.symmetry import quotient


def drain(flows: Flows) -> Floats:
    """Return when each flow ends, [flow] s."""
    few, which = quotient(flows)
    if not len(few.size):
        return flows.start.copy()
    end = ends(few)[which]  # of flows without bytes: any
    if which.min() >= 0:
        return end
    return np.where(which < 0, flows.start, end)


def ends(flows: Flows) -> Floats:
    """Return when each flow ends, [flow] s, where all have bytes and weights are given."""
    # Unsigned: compiled code then needs no check for indices that count from the end.
    flows = flows._replace(
        ptr=flows.ptr.astype(np.uint32),
        link=flows.link.astype(np.uint32),
    )
    order = np.argsort(flows.start, kind="stable").astype(np.uint32)
    return _ends(flows, order)


@outer
def _ends(p: Flows, order: Ids) -> Floats:
    """Return when each flow ends, [flow] s. order: the flows by start."""
    s = state_of(p)
    end = np.zeros(len(p.size))
    opened, ended, moved = 0, 0, 0
    while ended < len(end):
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
    return end
