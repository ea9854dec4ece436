"""Progressive filling (Bertsekas and Gallager, Data Networks, section 6.5.2).

All rates rise together; a flow stops at its cap or when one of its links is full. `max_min` and
`max_min_few` do the same operations in the same order and return the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.errors import EngineError

# Links that fill within this ratio of each other fill together. Without it, equal flows on equal
# links could differ in the last bit by the order of a sum. It overfills a link by as much at most.
TOGETHER = 1 + 1e-12

UNBOUNDED = "A flow crosses no link of finite capacity and has no cap, so its rate is unbounded. Give it a cap."


def max_min(
    capacity: NDArray[np.float64],
    flow_ptr: NDArray[np.int64],
    flow_link: NDArray[np.int64],
    weight: NDArray[np.float64],
    cap: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the max-min fair rate of every flow, [flow] B/s.

    capacity: [link] B/s. flow_ptr: [flow + 1], flow f uses the links
    flow_link[flow_ptr[f]:flow_ptr[f + 1]]. weight: [entry] w >= 0, of each of flow_link. cap: [flow]
    the highest rate allowed, inf for none. Errors: EngineError if a rate is unbounded.
    """
    owner = np.repeat(np.arange(len(cap)), np.diff(flow_ptr))
    owner, link, weight = _used(weight > 0, owner, flow_link, weight)
    rate = np.zeros(len(cap))
    rising = np.ones(len(cap), dtype=bool)
    room = capacity.astype(float)
    level = 0.0
    while rising.any():
        share = np.bincount(link, weight, len(room))  # of rising flows [link]
        # The common rate at which each link is full [link] B/s.
        fills = np.divide(room, share, out=np.full(len(room), math.inf), where=share > 0)
        level = max(level, min(fills.min(initial=math.inf), cap[rising].min()))
        if level == math.inf:
            raise EngineError(UNBOUNDED)
        stops = cap <= level * TOGETHER  # [flow]
        stops[owner[fills[link] <= level * TOGETHER]] = True
        stops &= rising
        rate[stops] = level
        rising &= ~stops
        # What stops leaves the rest of its links to the others.
        stopped = stops[owner]  # [entry]
        room -= level * np.bincount(link[stopped], weight[stopped], len(room))
        owner, link, weight = _used(~stopped, owner, link, weight)
    return rate


def _used(
    keep: NDArray[np.bool_],
    owner: NDArray[np.int64],
    link: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    return owner[keep], link[keep], weight[keep]


def max_min_few(
    capacity: Sequence[float], flows: Sequence[Sequence[tuple[int, float]]], caps: Sequence[float]
) -> list[float]:
    """Return what `max_min` returns, faster for a handful of flows.

    capacity: [link] B/s, a list (indexing an array is slow). flows: [flow] of (link, weight). caps:
    [flow] B/s. Errors: EngineError if a rate is unbounded.
    """
    rates = [0.0] * len(flows)
    rising = list(range(len(flows)))
    room = {link: capacity[link] for flow in flows for link, _ in flow}
    level = 0.0
    while rising:
        fills = _fills(room, flows, rising)
        bounds = [*fills.values(), *[caps[f] for f in rising]]
        level = max(level, min(bounds))
        if level == math.inf:
            raise EngineError(UNBOUNDED)
        limit = level * TOGETHER
        full = {link for link, fill in fills.items() if fill <= limit}
        stops = [f for f in rising if caps[f] <= limit or _crosses(flows[f], full)]
        for f in stops:
            rates[f] = level
        rising = [f for f in rising if f not in stops]
        if rising:
            for link, share in _shares(flows, stops).items():
                room[link] -= level * share
    return rates


def _crosses(flow: Sequence[tuple[int, float]], full: set[int]) -> bool:
    """Tell whether a flow uses a full link."""
    return any(weight > 0 and link in full for link, weight in flow)


def _shares(flows: Sequence[Sequence[tuple[int, float]]], some: Sequence[int]) -> dict[int, float]:
    """Return the summed weights of some flows, link -> weight."""
    shares: dict[int, float] = {}
    for f in some:
        for link, weight in flows[f]:
            shares[link] = shares.get(link, 0.0) + weight
    return shares


def _fills(
    room: dict[int, float], flows: Sequence[Sequence[tuple[int, float]]], rising: Sequence[int]
) -> dict[int, float]:
    """Return the common rate at which each link is full, link -> rate [B/s]."""
    return {link: room[link] / share for link, share in _shares(flows, rising).items() if share > 0}
