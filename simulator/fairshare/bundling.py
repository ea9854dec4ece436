"""Equal flows as one: those over the same links, with the same weights and numbers of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


def bundle(flow_ptr: Ids, flow_link: Ids, weight: Floats, *own: Floats) -> tuple[Ids, Ids]:
    """Return the first flow of each bundle of equal flows [bundle], and each flow's bundle [flow].

    flow_ptr, flow_link, weight: as in `max_min`; the order of a flow's links does not matter. own:
    [flow] each, what equal flows have in common besides (cap, size, start). Equal means equal bits.
    Bundles are in the order of their first flows. Give `max_min` the bundles, with weights times
    their number of flows, for the same rates.
    """
    length = np.diff(flow_ptr)  # links of each [flow]
    link, bits = _sorted_entries(flow_ptr, flow_link, weight)
    own_bits = [_bits(values) for values in own]
    numbers = np.column_stack([length, *own_bits])  # [flow, number]
    first = np.empty(0, dtype=np.int64)  # [bundle] flow
    which = np.empty(len(length), dtype=np.int64)  # [flow] bundle
    # Flows of as many links are rows of one matrix, of which equal ones are found at once.
    for size in np.unique(length):
        some = np.flatnonzero(length == size)
        entries = flow_ptr[some, None] + np.arange(size)  # [some, link]
        parts = (numbers[some], link[entries], bits[entries])
        rows = np.hstack(parts)  # [some, number]
        _, index, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        bundles = inverse.reshape(-1)  # numpy 2.0 kept an axis [some]
        which[some] = len(first) + bundles
        first = np.concatenate([first, some[index]])
    # Found size by size and in the order of bits; renumbered in the order of first flows.
    order = np.argsort(first)
    number = np.empty(len(first), dtype=np.int64)  # [bundle as found] bundle
    number[order] = np.arange(len(first))
    return first[order], number[which]


def _sorted_entries(flow_ptr: Ids, flow_link: Ids, weight: Floats) -> tuple[Ids, Ids]:
    """Return the links of each flow in rising order, and the bits of their weights [entry]."""
    length = np.diff(flow_ptr)
    flow = np.repeat(np.arange(len(length)), length)  # [entry]
    order = np.lexsort((weight, flow_link, flow))
    link = flow_link[order].astype(np.int64)
    return link, _bits(weight[order])


def _bits(values: Floats) -> Ids:
    """Return numbers as the integers of the same bits."""
    return np.asarray(values, dtype=np.float64).view(np.int64)


def pick(flow_ptr: Ids, flows: Ids) -> tuple[Ids, Ids]:
    """Return flow_ptr for some of the flows, and their entries, in the order of those flows."""
    lengths = np.diff(flow_ptr)
    length = lengths[flows]  # [some]
    ptr = np.concatenate([[0], np.cumsum(length)])  # [some + 1]
    shift = flow_ptr[flows] - ptr[:-1]  # from an entry's new number to its old one [some]
    number = np.arange(ptr[-1])  # [entry]
    return ptr, number + np.repeat(shift, length)
