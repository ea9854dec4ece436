"""Progressive filling (Bertsekas and Gallager, Data Networks, section 6.5.2).

All rates rise together; a flow stops at its cap or when one of its links is full. `max_min` and
`max_min_few` do the same operations in the same order and return the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.errors import EngineError

Ids: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

# Links that fill within this ratio of each other fill together. Without it, equal flows on equal
# links could differ in the last bit by the order of a sum. It overfills a link by as much at most.
TOGETHER = 1 + 1e-12

UNBOUNDED = (
    "A flow crosses no link of finite capacity and has no cap, so its rate is unbounded. "
    "Give it a cap."
)

Flow: TypeAlias = Sequence[tuple[int, float]]
"""The links of a flow, each with its weight."""


class Entries(NamedTuple):
    """The links that flows use, one after another."""

    owner: Ids
    """The flow [entry]."""
    link: Ids
    """The link that it uses [entry]."""
    weight: Floats
    """How much of the flow's rate it takes [entry]."""

    def where(self, kept: Bools) -> Entries:
        """Return some of the entries. kept: whether an entry is one of them [entry]."""
        return Entries(
            owner=self.owner[kept],
            link=self.link[kept],
            weight=self.weight[kept],
        )


def max_min(capacity: Floats, flow_ptr: Ids, flow_link: Ids, weight: Floats, cap: Floats) -> Floats:
    """Return the max-min fair rate of every flow, [flow] B/s.

    capacity: [link] B/s. flow_ptr: [flow + 1], flow f uses the links
    flow_link[flow_ptr[f]:flow_ptr[f + 1]]. weight: [entry] w >= 0, of each of flow_link. cap: [flow]
    the highest rate allowed, inf for none. Errors: EngineError if a rate is unbounded.
    """
    flow = np.arange(len(cap))
    links = len(capacity)
    owner = np.repeat(flow, np.diff(flow_ptr))  # [entry]
    every = Entries(owner, flow_link, weight)
    used = every.where(weight > 0)  # entries of flows that rise
    rate = np.zeros(len(cap))  # [flow] B/s
    rising = np.ones(len(cap), dtype=bool)  # [flow]
    room = capacity.astype(float)  # what flows that stopped leave [link] B/s
    level = 0.0  # the rate of all flows that rise
    while rising.any():
        # The next event: a link is full, or a flow is at its cap.
        share = np.bincount(used.link, used.weight, links)  # of rising flows [link]
        never = np.full(links, math.inf)
        fills = np.divide(room, share, out=never, where=share > 0)  # the rate when full [link] B/s
        lowest_cap = cap[rising].min()
        level = max(level, min(fills.min(initial=math.inf), lowest_cap))
        if level == math.inf:
            raise EngineError(UNBOUNDED)
        limit = level * TOGETHER
        full = fills <= limit  # [link]
        stops = cap <= limit  # [flow]
        stops[used.owner[full[used.link]]] = True
        stops &= rising
        rate[stops] = level
        rising &= ~stops
        # What stops leaves the rest of its links to the others.
        stopped = stops[used.owner]  # [entry]
        gone = used.where(stopped)
        room -= level * np.bincount(gone.link, gone.weight, links)
        used = used.where(~stopped)
    return rate


def max_min_few(
    capacity: Sequence[float], flows: Sequence[Flow], caps: Sequence[float]
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
        fills = _fills(room, _shares(flows, rising))
        bounds = [caps[f] for f in rising]
        bounds += fills.values()
        level = max(level, min(bounds))
        if level == math.inf:
            raise EngineError(UNBOUNDED)
        limit = level * TOGETHER
        full = {link for link, fill in fills.items() if fill <= limit}
        stops = []
        for f in rising:
            if caps[f] <= limit or _crosses(flows[f], full):
                stops.append(f)
                rates[f] = level
        rising = [f for f in rising if f not in stops]
        if rising:  # the last ones leave their links to nobody
            for link, share in _shares(flows, stops).items():
                room[link] -= level * share
    return rates


def _crosses(flow: Flow, full: set[int]) -> bool:
    """Tell whether a flow uses a full link."""
    return any(weight > 0 and link in full for link, weight in flow)


def _shares(flows: Sequence[Flow], some: Sequence[int]) -> dict[int, float]:
    """Return the summed weights of some flows, link -> weight."""
    # In the order of the flows, as `bincount` sums, so that the last bit is the same.
    shares: dict[int, float] = {}
    for f in some:
        for link, weight in flows[f]:
            shares[link] = shares.get(link, 0.0) + weight
    return shares


def _fills(room: dict[int, float], shares: dict[int, float]) -> dict[int, float]:
    """Return the common rate at which each link is full, link -> rate [B/s]."""
    fills = {}
    for link, share in shares.items():
        if share > 0:
            fills[link] = room[link] / share
    return fills
