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
    points = math.prod(dims)
    each = -(-cluster.nodes // points) * cluster.node.nics
    places: list[Vertex] = [("switch", *place) for place in itertools.product(*map(range, dims))]
    ring = sum(2 * cables for length in dims if length > 1)
    check_ports(cluster, each + ring, f"{each} NICs and {ring} cables to neighbours")
    check_room(cluster, points * each, f"a torus of {points} switches")
    graph = empty()
    graph.add_nodes_from(places)
    for place in places:
        for axis, length in enumerate(dims):
            if length > 1:
                ahead = [(k + (step == axis)) % dims[step] for step, k in enumerate(place[1:])]
                connect(graph, place, ("switch", *ahead), cluster, cables)
    longest = max(dims)
    cut = 2 * (points // longest) * cables * cluster.node.nic if longest > 1 else math.inf
    even = longest % 2 == 0 and cluster.nodes % points == 0
    note = (
        "closed form"
        if even or points == 1
        else "a cut across the longest dimension, an estimate for this size"
    )
    return Switches(graph, fill(cluster, places, each), min(full_bisection(cluster), cut), note)
