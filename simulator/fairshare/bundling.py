"""Equal flows as one: flows over the same links with the same weights and the same numbers of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


def bundle(flow_ptr: Ids, flow_link: Ids, weight: Floats, *own: Floats) -> tuple[Ids, Ids]:
    """Return the first flow of every bundle of equal flows [bundle], and the bundle of every flow [flow].

    flow_ptr, flow_link, weight: as in `max_min`; the order of a flow's links does not matter. own:
    [flow] each, what equal flows have in common besides (cap, size, start). Equal means equal bits.
    Bundles stand in the order of their first flows. Give `max_min` the bundles, with weights times
    their number of flows, for the same rates.
    """
    length = np.diff(flow_ptr)
    flow = np.repeat(np.arange(len(length)), length)
    order = np.lexsort((weight, flow_link, flow))
    link, bits = flow_link[order].astype(np.int64), weight[order].astype(np.float64).view(np.int64)
    numbers = np.column_stack(
        [length, *(np.asarray(values, dtype=np.float64).view(np.int64) for values in own)]
    )
    first, which = np.empty(0, dtype=np.int64), np.empty(len(length), dtype=np.int64)
    for size in np.unique(length):
        some = np.flatnonzero(length == size)
        entries = flow_ptr[some, None] + np.arange(size)
        rows = np.hstack([numbers[some], link[entries], bits[entries]])
        _, index, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        which[some] = len(first) + inverse.reshape(-1)
        first = np.concatenate([first, some[index]])
    rank = np.argsort(first)
    place = np.empty(len(first), dtype=np.int64)
    place[rank] = np.arange(len(first))
    return first[rank], place[which]


def pick(flow_ptr: Ids, flows: Ids) -> tuple[Ids, Ids]:
    """Return flow_ptr for some of the flows, and the entries that they have, in the order of those flows."""
    length = np.diff(flow_ptr)[flows]
    ptr = np.concatenate([[0], np.cumsum(length)])
    return ptr, np.repeat(flow_ptr[flows] - ptr[:-1], length) + np.arange(ptr[-1])
