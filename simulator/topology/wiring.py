"""Networks that differ in bandwidths alone: what does not depend on these is found once for all.

A sweep over a link has a network for each of its points, and the same ways and patterns in all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from simulator.topology.network import Network
from simulator.topology.routing import SINGLE_CABLES, Ahead


@dataclass(frozen=True, slots=True)
class _Wiring:
    """All of a network but its bandwidths and the speed of its GPUs."""

    content: tuple[object, ...]
    """What it is compared by."""
    network: Network = field(compare=False)
    """One that looks so."""


@lru_cache(maxsize=4)  # all groups of a step ask for it
def wired(network: Network) -> Network:
    """Return the first known network with the same links and ways, whatever its bandwidths are.

    Where traffic divides over several ways, it does so by bandwidth: such a network returns itself.
    """
    paths = network.paths
    if paths.routing in SINGLE_CABLES or not _is_forest(paths.ahead):
        return network
    columns = (
        network.latency,
        network.kind_code,
        network.gpu_up,
        network.gpu_down,
        network.nic_up,
        network.nic_down,
        network.rail,
        network.leaf,
        network.leaf_up,
        network.leaf_down,
        network.pcie,
        network.slot,
        np.array(network.switch),
        np.array(network.part),
        np.array(network.nic_links),
    )
    sizes = (network.gpus_per_node, network.nics_per_node, paths.first, len(network.capacity))
    links = tuple(tuple(neighbours.items()) for neighbours in paths.ahead)
    content = (*(column.tobytes() for column in columns), sizes, paths.routing, links)
    return _first(_Wiring(content, network))


@lru_cache(maxsize=2)
def _first(wiring: _Wiring) -> Network:
    # A wiring that equals a known one is that one to the cache, with the network that it came with.
    return wiring.network


def _is_forest(ahead: Ahead) -> bool:
    """Tell whether there is at most one way between any two switches."""
    count = len(ahead)
    if sum(map(len, ahead)) > 2 * count:
        return False
    if not all(
        len(links) == 1 and here in ahead[there]
        for here, neighbours in enumerate(ahead)
        for there, links in neighbours.items()
    ):
        return False
    trees = 0
    seen = [False] * count
    for root in range(count):
        if seen[root]:
            continue
        trees += 1
        reached = [root]
        seen[root] = True
        while reached:
            fresh = [there for there in ahead[reached.pop()] if not seen[there]]
            for there in fresh:
                seen[there] = True
            reached += fresh
    # A forest has as many links there and back as switches that are no roots.
    return sum(map(len, ahead)) == 2 * (count - trees)
