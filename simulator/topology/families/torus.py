"""The three-dimensional torus."""

from __future__ import annotations

import itertools
import math

from simulator.topology.cluster import Cluster
from simulator.topology.switches import (
    Switches,
    Vertex,
    check_ports,
    check_room,
    connect,
    empty,
    fill,
    full_bisection,
)


def torus_3d(cluster: Cluster) -> Switches:
    """Return a switch at every point of a grid that closes on itself, with the same nodes on each.

    A ring of two has both its cables between the same switches. Cut across the longest dimension L,
    two faces of (switches / L) rings cross: the bisection for an even L, a lower bound for an odd
    one.
    """
    dims, cables = cluster.fabric.dims, cluster.fabric.cables
    count = math.prod(dims)
    nics = -(-cluster.nodes // count) * cluster.node.nics  # of one switch
    ring = sum(2 * cables for length in dims if length > 1)
    check_ports(cluster, nics + ring, f"{nics} NICs and {ring} cables to neighbours")
    check_room(cluster, count * nics, f"a torus of {count} switches")
    points = list(itertools.product(*map(range, dims)))
    switches: list[Vertex] = [("switch", *point) for point in points]
    graph = empty()
    graph.add_nodes_from(switches)
    for point in points:
        for axis, length in enumerate(dims):
            if length > 1:
                ahead = list(point)
                ahead[axis] = (ahead[axis] + 1) % length
                connect(graph, ("switch", *point), ("switch", *ahead), cluster, cables)
    longest = max(dims)
    cut = math.inf
    if longest > 1:
        cut = 2 * (count // longest) * cables * cluster.node.nic
    even = longest % 2 == 0 and cluster.nodes % count == 0
    note = "closed form"
    if not even and count > 1:
        note = "a cut across the longest dimension, an estimate for this size"
    bisection = min(full_bisection(cluster), cut)
    return Switches(graph, fill(cluster, switches, nics), bisection, note)
