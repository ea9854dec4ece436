"""The oracle: every rate anew by `max_min` whenever a flow starts or ends. Simple, in numpy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simulator.fairshare import bundle, max_min, pick
from simulator.flows.problem import TOGETHER, Flows


def drain(flows: Flows) -> NDArray[np.float64]:
    """Return when each flow ends, [flow] s."""
    weight = flows.weight
    if not len(weight):
        weight = np.ones(len(flows.link))
    # Equal flows run as one, with weights times their number: first of each [bundle], and the
    # bundle of each flow [flow].
    first, which = bundle(
        flows.ptr,
        flows.link,
        weight,
        flows.size,
        flows.start,
        flows.cap,
    )
    ptr, entries = pick(flows.ptr, first)
    count = np.bincount(which, minlength=len(first))  # [bundle]
    together = np.repeat(count, np.diff(ptr))  # [entry] flows
    bundled = Flows(
        capacity=flows.capacity,
        ptr=ptr,
        link=flows.link[entries],
        weight=weight[entries] * together,
        size=flows.size[first],
        start=flows.start[first],
        cap=flows.cap[first],
    )
    return _ends(bundled)[which]


def _ends(flows: Flows) -> NDArray[np.float64]:
    """Return when each flow ends, [flow] s, from event to event."""
    end = flows.start.copy()  # [flow] s; so that a flow without bytes ends when it starts
    left = flows.size.copy()  # [flow] B
    waiting = left > 0
    running = np.zeros(len(left), dtype=bool)
    now = 0.0
    while waiting.any() or running.any():
        moving = np.flatnonzero(running)
        rate = _rates(flows, moving)  # [moving] B/s
        due = now + left[moving] / rate  # [moving] s
        close = due.min(initial=math.inf)
        starts = flows.start[waiting]  # [waiting] s
        opening = starts.min(initial=math.inf)
        then = min(close, opening)
        sent = rate * (then - now)  # [moving] B
        left[moving] = np.maximum(left[moving] - sent, 0.0)
        now = then
        if close <= opening:
            ended = moving[due <= close * TOGETHER]
            end[ended] = close
            running[ended] = False
        else:
            opened = waiting & (flows.start == opening)
            running |= opened
            waiting &= ~opened
    return end


def _rates(flows: Flows, some: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the max-min fair rates of some flows, [some] B/s."""
    ptr, entries = pick(flows.ptr, some)
    return max_min(
        flows.capacity,
        ptr,
        flows.link[entries],
        flows.weight[entries],
        flows.cap[some],
    )
